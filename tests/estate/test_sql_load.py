"""What the Wipe profile's queries cost a server with many rows: the plans and times as the server itself reports them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from bench.sql_queries import DATABASE, MOST_MILLISECONDS, costs, filled, specs
from estate.servers.postgresql import PostgreSQL

# Servers of their own are started here; the fixture is asked for because it installs them.
pytestmark = [pytest.mark.estate, pytest.mark.usefixtures("postgresql")]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with filled(jobs=300_000, others=60_000) as server:
        yield server


def test_every_query_of_the_profile_is_asked_and_none_reads_a_big_table_as_a_whole(server: PostgreSQL) -> None:
    for name, spec in specs(server.dsn(DATABASE)).items():
        found = asyncio.run(costs(server, spec))
        assert [cost.plan for cost in found if cost.whole] == [], name
        assert max(cost.milliseconds for cost in found) < 10 * MOST_MILLISECONDS, name


def test_the_index_that_the_doctor_asks_for_serves_the_queues_as_well(server: PostgreSQL) -> None:
    """The practice estate's is on open jobs only; with one on all of them statuses are found from one to the next."""
    server.execute(
        "DROP INDEX jobs_open; CREATE INDEX ON jobs (queue, status, created_at); ANALYZE jobs", database=DATABASE
    )
    probes = specs(server.dsn(DATABASE))
    for name in ("wipe-queues", "wipe-retry-storm"):
        found = asyncio.run(costs(server, probes[name]))
        assert [cost.plan for cost in found if cost.whole] == [], name
    assert any("WITH RECURSIVE walked" in cost.plan for cost in asyncio.run(costs(server, probes["wipe-queues"])))


@pytest.mark.long
def test_no_query_takes_long_on_five_million_jobs_and_a_million_certificates() -> None:
    with filled(jobs=5_000_000, others=1_000_000) as server:
        for name, spec in specs(server.dsn(DATABASE)).items():
            asyncio.run(costs(server, spec))
            found = asyncio.run(costs(server, spec))
            assert [cost.plan for cost in found if cost.whole] == [], name
            assert max(cost.milliseconds for cost in found) < MOST_MILLISECONDS, name

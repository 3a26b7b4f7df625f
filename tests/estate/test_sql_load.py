"""What the SQL kinds cost a server with many rows: the plans and times as the server itself reports them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from estate.servers.postgresql import PostgreSQL
from tests.probing import probe_once
from tocsin.sdk import Probe
from tocsin_probes.event_rate import EventRate
from tocsin_probes.job_queue import JobQueue
from tocsin_probes.sql_rows import SqlRows

QUEUES = ["proofs.validated", "certificates.to_anchor", "notifications.to_send", "billing.exports", "proofs.retry"]
MOST_MILLISECONDS = 200.0

# Servers of their own are started here; the fixture is asked for because it installs them.
pytestmark = [pytest.mark.estate, pytest.mark.usefixtures("postgresql")]


def filled(jobs: int, certificates: int) -> Iterator[PostgreSQL]:
    """Mostly finished jobs, anchored certificates and old events, and a backlog beyond every cap."""
    explaining = {
        "shared_preload_libraries": "auto_explain",
        "auto_explain.log_min_duration": "0",
        "auto_explain.log_timing": "off",
        "max_wal_size": "8GB",
    }
    with PostgreSQL(settings=explaining) as server:
        server.execute(f"""
            SET auto_explain.log_min_duration = -1;
            CREATE TABLE jobs AS SELECT n AS id, (ARRAY{QUEUES})[1 + n % 5] AS queue,
                CASE WHEN n % 50 = 0 THEN 'pending' ELSE 'done' END AS status,
                now() - n * interval '1 second' AS created_at FROM generate_series(1, {jobs}) AS n;
            CREATE INDEX ON jobs (queue, status, created_at);
            CREATE TABLE certificates AS SELECT n AS id, CASE WHEN n % 100 = 0 THEN '' ELSE md5(n::text) END AS anchor_tx_hash,
                now() - n * interval '1 second' AS created_at FROM generate_series(1, {certificates}) AS n;
            CREATE INDEX ON certificates (anchor_tx_hash);
            CREATE TABLE verification_log AS SELECT now() - n * interval '1 second' AS created_at, 'RATE_LIMITED' AS result,
                'ip' || n % 100 AS ip FROM generate_series(1, {certificates}) AS n;
            CREATE INDEX ON verification_log (created_at);
            ANALYZE""")
        yield server


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    yield from filled(jobs=300_000, certificates=100_000)


async def cost(server: PostgreSQL, probe: Probe) -> tuple[str, list[float]]:
    """The plans of one run and the milliseconds of each statement, from the server's log."""
    before = len(server.log.read_bytes())
    seen = await probe_once(probe, timeout=30.0)
    assert seen.outcome.status.value in ("ok", "failed"), seen.detail
    plans = server.log.read_bytes()[before:].decode()
    durations = [float(number) for number in re.findall(r"duration: ([\d.]+) ms  plan:", plans)]
    assert durations, plans
    return plans, durations


def probes(server: PostgreSQL) -> list[Probe]:
    dsn: dict[str, Any] = {"dsn": server.dsn()}
    queue = dsn | {"waiting_statuses": "pending", "queues": [*QUEUES, "reports.monthly"]}
    query = "SELECT id, created_at FROM certificates WHERE anchor_tx_hash = '' OR anchor_tx_hash IS NULL"
    events = dsn | {"query": "SELECT * FROM verification_log", "events": "RATE_LIMITED", "source_column": "ip"}
    return [
        JobQueue(JobQueue.Settings.model_validate(queue)),
        SqlRows(SqlRows.Settings.model_validate(dsn | {"query": query, "time_column": "created_at"})),
        EventRate(EventRate.Settings.model_validate(events)),
    ]


async def test_no_statement_reads_a_whole_table_or_takes_long(server: PostgreSQL) -> None:
    for probe in probes(server):
        plans, durations = await cost(server, probe)
        assert "Seq Scan on" not in plans, plans
        assert max(durations) < MOST_MILLISECONDS, (probe.kind, durations)


@pytest.mark.long
async def test_no_statement_takes_long_on_five_million_jobs_and_a_million_certificates() -> None:
    for server in filled(jobs=5_000_000, certificates=1_000_000):
        for probe in probes(server):
            plans, durations = await cost(server, probe)
            assert "Seq Scan on" not in plans, plans
            assert max(durations) < MOST_MILLISECONDS, (probe.kind, durations)

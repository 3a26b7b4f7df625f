"""`heartbeat` and `event_rate` on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from estate.servers.postgresql import PostgreSQL
from tests.probing import Probed, RealClock, probe_once
from tocsin_probes.event_rate import EventRate
from tocsin_probes.heartbeat import Heartbeat

pytestmark = pytest.mark.estate


SCHEMA = """
    CREATE TABLE beats (at timestamptz, local timestamp);
    CREATE TABLE verification_log (created_at timestamp, result text, ip inet, certificate text);
    CREATE INDEX ON verification_log (created_at);
"""


class Tables:
    """What a platform writes down."""

    def __init__(self, server: PostgreSQL, database: str) -> None:
        self.dsn = server.dsn(database)
        self.stranger = server.dsn(database, "stranger", "stranger")
        self._server, self._database = server, database
        self.execute(SCHEMA)

    def execute(self, sql: str) -> None:
        self._server.execute(sql, database=self._database)


@pytest.fixture
def tables(postgresql: PostgreSQL, database: str) -> Iterator[Tables]:
    postgresql.create_role("stranger", "stranger")
    yield Tables(postgresql, database)
    postgresql.execute("DROP ROLE stranger")


def reasons(seen: Probed) -> set[tuple[str, str]]:
    return {(finding.reason, finding.component) for finding in seen.outcome.findings}


async def beat(server: Tables, query: str = "SELECT at FROM beats", **own: Any) -> Probed:
    usual = {"dsn": server.dsn, "query": query, "max_age": "10m"}
    return await probe_once(Heartbeat(Heartbeat.Settings.model_validate(usual | own)))


async def test_the_newest_sign_of_life_counts(tables: Tables) -> None:
    assert (await beat(tables)).verdict == ("failed", "never_seen")
    tables.execute("INSERT INTO beats VALUES (now() - interval '1 hour', (now() AT TIME ZONE 'Europe/Paris'))")
    late = await beat(tables)
    assert late.verdict == ("failed", "late")
    assert late.detail == "1h ago, the limit is 10m"
    assert (await beat(tables, max_age="2h")).verdict == ("ok", None)
    tables.execute("INSERT INTO beats VALUES (now() - interval '1 minute', NULL)")
    assert (await beat(tables)).verdict == ("ok", None)


async def test_a_sign_of_life_in_a_wrong_zone_is_unknown_rather_than_well(tables: Tables) -> None:
    tables.execute("INSERT INTO beats VALUES (NULL, now() AT TIME ZONE 'Europe/Paris')")
    query = "SELECT local FROM beats"
    assert (await beat(tables, query)).verdict == ("unknown", "in_future")
    assert (await beat(tables, query, time_zone="Europe/Paris")).verdict == ("ok", None)


async def test_a_heartbeat_query_that_cannot_run_is_unknown(tables: Tables) -> None:
    assert (await beat(tables, "SELECT at FROM absent")).verdict == ("unknown", "table_missing")
    assert (await beat(tables, "SELECT absent FROM beats")).verdict == ("unknown", "column_missing")
    assert (await beat(tables, "SELECT 1 / 0 FROM beats WHERE false")).verdict == ("unknown", "query_error")
    assert (await beat(tables, dsn=tables.stranger)).verdict == ("unknown", "credentials_rejected")


async def rate(
    server: Tables,
    memory: dict[str, Any] | None = None,
    clock: RealClock | None = None,
    timeout: float = 5.0,
    **own: Any,
) -> Probed:
    usual = {
        "dsn": server.dsn,
        "query": "SELECT * FROM verification_log",
        "events": "RATE_LIMITED, UNKNOWN_CERTIFICATE",
        "source_column": "ip",
        "identifier_column": "certificate",
        "window": "5m",
    }
    probe = EventRate(EventRate.Settings.model_validate(usual | own))
    return await probe_once(probe, timeout, memory=memory, clock=clock)


def log(server: Tables, count: int, result: str, ip: str = "'10.0.0.1'", certificate: str = "'c'") -> None:
    server.execute(f"""INSERT INTO verification_log
        SELECT (now() AT TIME ZONE 'UTC') - interval '1 minute', '{result}', {ip}::inet, {certificate}
        FROM generate_series(1, {count}) AS n""")


async def test_events_are_counted_in_the_window_by_what_they_are(tables: Tables) -> None:
    log(tables, 90, "OK")
    log(tables, 10, "RATE_LIMITED")
    tables.execute("INSERT INTO verification_log SELECT now() AT TIME ZONE 'UTC' - interval '1h', 'RATE_LIMITED'")
    seen = await rate(tables, limits={"per_minute": 2, "share": 0.1, "min_events": 5})
    assert seen.verdict == ("ok", None), seen.detail
    assert seen.measured("tocsin_events_per_minute", event="RATE_LIMITED") == 2
    assert seen.measured("tocsin_events_per_minute", event="UNKNOWN_CERTIFICATE") == 0
    assert seen.measured("tocsin_events_share") == 0.1
    assert seen.measured("tocsin_event_sources") == 1
    assert seen.attachments == ()


async def test_a_flood_of_other_events_hides_no_watched_one(tables: Tables) -> None:
    log(tables, 110_000, "OK")
    log(tables, 20_000, "RATE_LIMITED")
    seen = await rate(tables, limits={"per_minute": 100})
    assert reasons(seen) == {("rate_high", "limit")}
    assert seen.measured("tocsin_events_per_minute", event="RATE_LIMITED") == 4000
    assert (await rate(tables, limits={"share": 0.5, "min_events": 5})).verdict == ("ok", None), "a fifth at most"
    share = await rate(tables, limits={"share": 0.1, "min_events": 5})
    assert share.verdict == ("unknown", "dependency_unknown"), share.detail
    assert share.detail == "more than 100000 events: limits.share cannot be judged; shorten window"
    well = await rate(tables, limits={"per_minute": 5000})
    assert well.verdict == ("ok", None)
    assert well.detail == "20000 of at least 100000 events in the window are watched ones"
    log(tables, 90_000, "RATE_LIMITED")
    assert (await rate(tables, limits={"per_minute": 50_000})).verdict == ("unknown", "dependency_unknown")


async def test_a_quiet_log_is_well(tables: Tables) -> None:
    assert (await rate(tables, limits={"per_minute": 0, "share": 0.1})).verdict == ("ok", None)


async def test_each_pattern_of_abuse_is_told_apart(tables: Tables) -> None:
    log(tables, 100, "OK", "'10.0.9.9'")
    log(tables, 60, "UNKNOWN_CERTIFICATE", "'10.0.0.1'", "'c' || n")
    assert reasons(await rate(tables, limits={"per_minute": 10})) == {("rate_high", "limit")}
    assert reasons(await rate(tables, limits={"share": 0.3})) == {("share_high", "")}
    assert reasons(await rate(tables, limits={"source_share": 0.5})) == {("few_sources", "")}
    scan = await rate(tables, limits={"identifiers": 50})
    assert reasons(scan) == {("scan_suspected", "")}
    (sources,) = scan.attachments
    assert sources.content == b"source,events,identifiers\n10.0.0.1/32,60,60\n"
    assert "10.0.0.1" not in scan.detail
    tables.execute("TRUNCATE verification_log")
    log(tables, 60, "UNKNOWN_CERTIFICATE", "('10.0.0.' || n)")
    spread = await rate(tables, limits={"source_share": 0.5, "identifiers": 50, "per_minute": 10})
    assert reasons(spread) == {("rate_high", "limit")}
    assert spread.measured("tocsin_event_sources") == 60


async def test_a_rate_is_held_against_the_same_hour_of_earlier_weeks(tables: Tables) -> None:
    memory: dict[str, Any] = {}
    clock = RealClock()
    own = {"limits": {"times_usual": 3, "min_events": 5}}
    log(tables, 10, "RATE_LIMITED")
    for week in range(2):
        for hour in (0, 1):
            clock.offset = week * 7 * 86400 + hour * 3600
            assert (await rate(tables, memory, clock, **own)).verdict == ("ok", None)
    clock.offset = 2 * 7 * 86400
    usual = await rate(tables, memory, clock, **own)
    assert usual.verdict == ("ok", None)
    assert usual.measured("tocsin_events_usual_per_minute") == 2
    log(tables, 25, "RATE_LIMITED")
    high = await rate(tables, memory, clock, **own)
    assert reasons(high) == {("rate_high", "past")}
    assert high.detail == "7.0 a minute, usual at this hour are 2.0; from 1 sources, the busiest causes 100%"


async def test_an_event_query_that_cannot_run_is_unknown(tables: Tables) -> None:
    cases: list[tuple[dict[str, Any], str, str | None]] = [
        ({"event_column": "outcome"}, "column_missing", "set event_column"),
        ({"query": "SELECT 1 FROM absent"}, "table_missing", "set query"),
        ({"time_column": "result"}, "column_missing", None),
    ]
    for own, reason, change in cases:
        seen = await rate(tables, **own)
        assert seen.verdict == ("unknown", reason), own
        assert change is None or seen.detail.endswith(f"; {change}"), seen.detail


async def test_few_sources_and_many_are_told_apart_and_rows_without_a_source_are_none_of_them(tables: Tables) -> None:
    limits = {"source_share": 0.8, "sources": 20, "identifiers": 20, "min_events": 10}
    log(tables, 60, "RATE_LIMITED", ip="NULL", certificate="n::text")
    assert (await rate(tables, limits=limits)).verdict == ("ok", None)
    log(tables, 60, "RATE_LIMITED", ip="('10.0.0.' || n)")
    many = await rate(tables, limits=limits | {"per_minute": 1})
    assert reasons(many) == {("rate_high", "limit"), ("many_sources", "")}
    assert many.detail == "24.0 a minute, the limit is 1; from 60 sources, the busiest causes 1%"
    log(tables, 900, "RATE_LIMITED")
    assert ("few_sources", "") in reasons(await rate(tables, limits=limits))


async def test_sources_that_cannot_be_listed_in_time_leave_the_verdict(tables: Tables) -> None:
    log(tables, 60, "RATE_LIMITED")
    query = "WITH late AS MATERIALIZED (SELECT pg_sleep(1.5)) SELECT v.* FROM verification_log v, late"
    seen = await rate(tables, timeout=2.5, query=query, limits={"per_minute": 1})
    assert reasons(seen) == {("rate_high", "limit")}
    assert seen.measured("tocsin_event_sources") == 1
    assert [each.name for each in seen.attachments] == ["sources.txt"]


def test_identifiers_without_a_source_are_refused_since_all_would_look_like_one() -> None:
    settings = {"dsn": "postgresql://db/app", "query": "SELECT 1", "events": "X", "identifier_column": "certificate"}
    with pytest.raises(ValidationError, match="identifier_column needs source_column"):
        EventRate.Settings.model_validate(settings)

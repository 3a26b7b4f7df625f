"""`sql_rows` and `job_queue` on a real PostgreSQL: every reason, caused in the tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from estate.servers.postgresql import PostgreSQL
from tests.probing import Probed, RealClock, probe_once
from tocsin.config import Registry, Sources, load
from tocsin.sdk import Outcome
from tocsin_probes.job_queue import JobQueue
from tocsin_probes.sql_rows import SqlRows

pytestmark = pytest.mark.estate

QUERY = """
    SELECT id, tenant_id, status, anchor_tx_hash, created_at FROM certificates -- unanchored
    WHERE anchor_tx_hash = '' OR anchor_tx_hash IS NULL
    ORDER BY created_at DESC;
"""
SCHEMA = """
    CREATE TABLE certificates (id int, tenant_id int, status text, anchor_tx_hash text, created_at timestamptz);
    CREATE TYPE job_status AS ENUM ('pending', 'retry', 'running', 'done');
    CREATE TABLE jobs (id serial, queue text, status job_status, created_at timestamptz DEFAULT now());
    CREATE INDEX ON jobs (queue, status, created_at);
    CREATE TABLE dead_jobs (id serial, queue text, failed_at timestamp DEFAULT (now() AT TIME ZONE 'UTC'));
    CREATE ROLE reader LOGIN PASSWORD 'reader';
    GRANT SELECT ON jobs TO reader;
"""


class Tables:
    """One empty database with the tables of a platform."""

    def __init__(self, server: PostgreSQL, name: str) -> None:
        self.dsn = server.dsn(name)
        self.reader = server.dsn(name, "reader", "reader")
        self._server, self._name = server, name

    def execute(self, sql: str) -> None:
        self._server.execute(sql, database=self._name)

    async def rows(self, **settings: Any) -> Probed:
        return await probe_once(
            SqlRows(SqlRows.Settings(**{"dsn": self.dsn, "query": QUERY, "time_column": "created_at"} | settings))
        )

    async def queues(self, memory: dict[str, Any] | None = None, clock: RealClock | None = None, **own: Any) -> Probed:
        usual = {"dsn": self.dsn, "waiting_statuses": "pending, retry", "queues": "proofs.validated, proofs.retry"}
        return await probe_once(JobQueue(JobQueue.Settings(**usual | own)), memory=memory, clock=clock)


@pytest.fixture
def tables(postgresql: PostgreSQL, database: str) -> Iterator[Tables]:
    made = Tables(postgresql, database)
    made.execute(SCHEMA)
    yield made
    made.execute("DROP OWNED BY reader; DROP ROLE reader")


def reasons(outcome: Outcome) -> set[tuple[str, str]]:
    return {(finding.reason, finding.component) for finding in outcome.findings}


# sql_rows


async def test_rows_are_counted_and_aged_with_the_query_s_own_order_comment_and_semicolon(tables: Tables) -> None:
    tables.execute("""
        INSERT INTO certificates SELECT n, 1, 'CERTIFIED_NO_ANCHOR', NULLIF('', CASE n WHEN 1 THEN '' END),
        now() - n * interval '1 minute' FROM generate_series(1, 30) AS n""")
    seen = await tables.rows(limits={"rows": 30, "age": "1h"})
    assert seen.verdict == ("ok", None)
    assert seen.measured("tocsin_rows") == 30
    assert seen.measured("tocsin_rows_oldest_timestamp_seconds") == pytest.approx(RealClock().wall() - 1800, abs=5)
    assert seen.attachments == ()


async def test_rows_over_the_limit_are_too_many_and_some_are_kept_as_evidence(tables: Tables) -> None:
    tables.execute("INSERT INTO certificates SELECT n, 1, repeat('x', 999), '', now() FROM generate_series(1, 30) n")
    seen = await tables.rows(limits={"rows": 29}, sample_columns=["id", "status"])
    assert seen.verdict == ("failed", "too_many")
    (kept,) = seen.attachments
    lines = kept.content.decode().splitlines()
    assert lines[0] == "id,status"
    assert len(lines) == 21
    assert max(map(len, lines)) < 210
    assert "xxx" not in seen.detail


async def test_counting_stops_at_the_cap(tables: Tables) -> None:
    tables.execute("INSERT INTO certificates SELECT n, 1, '', '', now() FROM generate_series(1, 20000) n")
    seen = await tables.rows(limits={"rows": 5})
    assert seen.verdict == ("failed", "too_many")
    assert seen.measured("tocsin_rows") == 10_000
    assert seen.detail == "at least 10000 rows, the limit is 5"


async def test_what_the_cap_hides_is_never_ok(tables: Tables) -> None:
    tables.execute("INSERT INTO certificates SELECT n, 1, '', '', now() FROM generate_series(1, 10000) n")
    memory: dict[str, Any] = {}
    for limits in ({"age": "1h"}, {"growth": {"rows": 9, "over": "1h"}}):
        settings = {"dsn": tables.dsn, "query": "SELECT * FROM certificates", "time_column": "created_at"}
        probe = SqlRows(SqlRows.Settings.model_validate(settings | {"limits": limits}))
        for _ in range(2):
            tables.execute("INSERT INTO certificates VALUES (0, 1, '', '', now() - interval '1 year')")
            seen = await probe_once(probe, memory=memory)
            assert seen.verdict == ("unknown", "dependency_unknown"), limits
        assert {each.gauge.name for each in seen.measurements} == {"tocsin_rows"}
    assert (await tables.rows(limits={"rows": 20_000, "age": "1h"})).verdict == ("failed", "too_old")
    oldest_first = f"{QUERY.partition('ORDER')[0]} ORDER BY created_at LIMIT 9999"
    assert (await tables.rows(query=oldest_first, limits={"age": "1h"})).verdict == ("failed", "too_old")
    assert (await tables.rows()).verdict == ("ok", None)


async def test_evidence_that_cannot_be_had_leaves_the_verdict_and_says_why(tables: Tables) -> None:
    tables.execute("INSERT INTO certificates SELECT n, 1, '', '', now() FROM generate_series(1, 30) n")
    seen = await tables.rows(
        limits={"rows": 29},
        sample_columns=["id", "state"],
        beside={"absent": "SELECT 1 FROM nowhere", "all": "SELECT 1 FROM certificates"},
    )
    assert seen.verdict == ("failed", "too_many")
    assert seen.detail == "30 rows, the limit is 29, all: 30"
    assert seen.measured("tocsin_rows") == 30
    told = {each.name: each.content.decode() for each in seen.attachments}
    assert list(told) == ["rows.txt", "absent.txt"]
    assert '"state" does not exist' in told["rows.txt"]
    assert '"nowhere" does not exist' in told["absent.txt"]


async def test_evidence_that_takes_too_long_leaves_the_verdict(tables: Tables) -> None:
    tables.execute("INSERT INTO certificates SELECT n, 1, '', '', now() FROM generate_series(1, 30) n")
    query = "WITH late AS MATERIALIZED (SELECT pg_sleep(1.5)) SELECT c.* FROM certificates c, late"
    settings = {"dsn": tables.dsn, "query": query, "limits": {"rows": 29}, "sample_columns": ["id"]}
    probe = SqlRows(SqlRows.Settings.model_validate(settings | {"beside": {"more": query}}))
    seen = await probe_once(probe, 2.5)
    assert seen.verdict == ("failed", "too_many"), seen.detail
    assert [each.name for each in seen.attachments] == ["rows.txt", "more.txt"]


async def test_a_sample_column_that_does_not_exist_is_told_while_all_is_well(tables: Tables) -> None:
    seen = await tables.rows(sample_columns=["id", "state"])
    assert seen.verdict == ("unknown", "column_missing")
    assert seen.detail.endswith("; set sample_columns"), seen.detail
    well = await tables.rows(sample_columns=["id", "status"])
    assert (well.verdict, well.attachments) == (("ok", None), ())


async def test_an_old_row_is_too_old_and_no_rows_have_no_age(tables: Tables) -> None:
    empty = await tables.rows(limits={"rows": 0, "age": "1h"})
    assert empty.verdict == ("ok", None)
    assert [measurement.gauge.name for measurement in empty.measurements] == ["tocsin_rows"]
    tables.execute("INSERT INTO certificates VALUES (1, 1, '', '', now() - interval '2 hours')")
    old = await tables.rows(limits={"age": "1h"})
    assert old.verdict == ("failed", "too_old")
    assert old.detail == "the oldest row is 2h old, the limit is 1h"


async def test_the_age_of_rows_of_which_one_has_no_time_cannot_be_told(tables: Tables) -> None:
    tables.execute("INSERT INTO certificates (id, created_at) VALUES (1, NULL), (2, now())")
    seen = await tables.rows(limits={"age": "1h"})
    assert seen.verdict == ("unknown", "dependency_unknown")
    assert seen.detail == "1 of 2 rows have no created_at: limits.age cannot be judged"
    assert (await tables.rows()).verdict == ("ok", None)
    tables.execute("UPDATE certificates SET created_at = now() - interval '2 hours' WHERE id = 2")
    assert (await tables.rows(limits={"age": "1h"})).verdict == ("failed", "too_old")


def test_an_age_without_a_column_that_says_it_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"limits\.age needs time_column"):
        SqlRows.Settings.model_validate({"dsn": "postgresql://h/d", "query": "SELECT 1", "limits": {"age": "1h"}})


async def test_rows_that_must_be_there_and_are_not_are_too_few(tables: Tables) -> None:
    assert (await tables.rows(limits={"min_rows": 1})).verdict == ("failed", "too_few")


async def test_times_without_a_zone_are_read_in_the_configured_one(tables: Tables) -> None:
    for zone, reason in (("Europe/Paris", "too_old"), ("UTC", None)):
        seen = await tables.rows(
            query="SELECT (now() AT TIME ZONE 'UTC') - interval '10 minutes' AS created_at",
            time_zone=zone,
            limits={"age": "30m"},
        )
        assert seen.outcome.reason == reason, zone


async def test_unix_times_in_seconds_and_milliseconds_and_dates_are_times(tables: Tables) -> None:
    for column in ("extract(epoch FROM now())", "(extract(epoch FROM now()) * 1000)::bigint", "now()::date"):
        seen = await tables.rows(query=f"SELECT {column} AS created_at", limits={"age": "25h"})
        assert seen.verdict == ("ok", None), seen.detail
    seen = await tables.rows(query="SELECT 'yesterday' AS created_at")
    assert seen.verdict == ("failed", "unexpected_body")


async def test_a_query_that_cannot_run_is_unknown_and_says_what_the_server_said(tables: Tables) -> None:
    dividing = "SELECT 1 WHERE 1 / (random() * 0)::int = 1"
    for query in ("SELECT 1 FROM", dividing):
        seen = await tables.rows(query=query, time_column="")
        assert seen.verdict == ("unknown", "query_error"), query
    assert "division by zero" in seen.detail


async def test_a_name_in_a_query_that_does_not_exist_is_told_with_what_brought_it_in(
    tables: Tables, tmp_path: Path
) -> None:
    """As a configuration file has it: a literal name is the query's, one from a variable is the variable's."""
    query = "SELECT id, ${TIME:-created_at} AS at, ${PAYLOAD:-d.payload->>'id'} AS p FROM ${TABLE:-certificates} d"
    tables.execute("ALTER TABLE certificates ADD payload jsonb")
    for variables, reason, change in (
        ({"TABLE": "Certs"}, "table_missing", "set TABLE (query)"),
        ({"TABLE": "audit.certs"}, "table_missing", "set TABLE (query)"),
        ({"TIME": "made_at"}, "column_missing", "set TIME (query)"),
        ({"PAYLOAD": "d.body->>'id'"}, "column_missing", "set PAYLOAD (query)"),
    ):
        seen = await probe_once(_configured(tmp_path, {"dsn": tables.dsn, "query": query}, variables))
        assert seen.verdict == ("unknown", reason), seen.detail
        assert seen.detail.endswith(f"; {change}"), seen.detail
    tables.execute("ALTER TABLE certificates RENAME id TO number")
    seen = await probe_once(_configured(tmp_path, {"dsn": tables.dsn, "query": query}, {}))
    assert seen.verdict == ("unknown", "column_missing")
    assert seen.detail.endswith("; set query"), seen.detail


def _configured(folder: Path, settings: dict[str, Any], variables: dict[str, str]) -> SqlRows:
    file = folder / "tocsin.yaml"
    probe = {"kind": "sql_rows", "system": "shop", "incident": "stale"} | settings
    file.write_text(json.dumps({"version": 1, "probes": {"rows": probe}}))
    configuration = load(Sources(file, environ=variables), Registry.discover())
    return SqlRows(configuration.probes["rows"].settings)


async def test_rows_that_become_more_too_fast_are_growing_though_few(tables: Tables) -> None:
    memory: dict[str, Any] = {}
    clock = RealClock()
    verdicts = []
    for hour in range(6):
        clock.offset = hour * 3600
        count = 3 if hour < 4 else 8
        tables.execute(f"INSERT INTO certificates SELECT n, 1, '', '', now() FROM generate_series(1, {count}) n")
        settings = {"dsn": tables.dsn, "query": QUERY, "limits": {"growth": {"rows": 9, "over": "2h30m"}}}
        probe = SqlRows(SqlRows.Settings.model_validate(settings))
        verdicts.append((await probe_once(probe, memory=memory, clock=clock)).outcome)
    assert [each.reason for each in verdicts] == [None, None, None, None, "growing", "growing"]
    assert verdicts[4].detail == "11 more rows within 2h30m, the limit is 9"


async def test_a_query_that_would_write_is_refused_by_the_server(tables: Tables) -> None:
    for query in (
        "WITH gone AS (DELETE FROM certificates RETURNING 1) SELECT * FROM gone",
        "SELECT nextval('jobs_id_seq')",
    ):
        seen = await tables.rows(query=query, time_column="")
        assert seen.outcome.status.value == "unknown", (query, seen.detail)


async def test_a_role_that_may_not_read_is_unknown(tables: Tables) -> None:
    assert (await tables.rows(dsn=tables.reader)).verdict == ("unknown", "permission_denied")


# job_queue


async def test_an_empty_queue_is_well_and_measured(tables: Tables) -> None:
    seen = await tables.queues()
    assert seen.verdict == ("ok", None), seen.detail
    assert seen.measured("tocsin_queue_jobs", queue="proofs.retry", status="pending") == 0
    assert seen.measured("tocsin_queue_oldest_seconds", queue="proofs.retry") == 0


async def test_a_deep_queue_is_a_backlog_of_its_own_and_other_statuses_do_not_count(tables: Tables) -> None:
    tables.execute("""
        INSERT INTO jobs (queue, status) SELECT 'proofs.validated', 'pending' FROM generate_series(1, 8);
        INSERT INTO jobs (queue, status) SELECT 'proofs.validated', 'retry' FROM generate_series(1, 3);
        INSERT INTO jobs (queue, status) SELECT 'proofs.retry', 'done' FROM generate_series(1, 99);
        INSERT INTO jobs (queue, status) SELECT 'other', 'pending' FROM generate_series(1, 99)""")
    seen = await tables.queues(limits={"depth": 10})
    assert reasons(seen.outcome) == {("backlog", "proofs.validated")}
    assert seen.measured("tocsin_queue_jobs", queue="proofs.validated", status="retry") == 3
    assert (await tables.queues(limits={"depth": 10}, queue_limits={"proofs.validated": {"depth": 11}})).verdict == (
        "ok",
        None,
    )


async def test_an_old_job_is_a_backlog_and_one_that_is_due_later_is_not(tables: Tables) -> None:
    tables.execute(
        "INSERT INTO jobs (queue, status, created_at) VALUES ('proofs.retry', 'retry', now() + interval '1h')"
    )
    assert (await tables.queues()).verdict == ("ok", None)
    tables.execute(
        "INSERT INTO jobs (queue, status, created_at) VALUES ('proofs.retry', 'retry', now() - interval '1h')"
    )
    seen = await tables.queues(limits={"age": "30m"})
    assert reasons(seen.outcome) == {("backlog", "proofs.retry")}
    assert seen.measured("tocsin_queue_oldest_seconds", queue="proofs.retry") == pytest.approx(3600, abs=5)


async def test_jobs_that_are_scheduled_for_later_are_no_backlog_and_hide_none(tables: Tables) -> None:
    tables.execute("""
        INSERT INTO jobs (queue, status, created_at)
        SELECT 'proofs.retry', 'pending', now() + interval '1 day' FROM generate_series(1, 600)""")
    seen = await tables.queues(limits={"depth": 500})
    assert seen.verdict == ("ok", None), seen.detail
    assert seen.measured("tocsin_queue_jobs", queue="proofs.retry", status="pending") == 600
    assert seen.measured("tocsin_queue_scheduled_jobs", queue="proofs.retry") == 600
    tables.execute("INSERT INTO jobs (queue, status) SELECT 'proofs.retry', 'pending' FROM generate_series(1, 3)")
    assert (await tables.queues(limits={"depth": 2})).detail.startswith("proofs.retry: 3 jobs wait (limit 2)")


async def test_a_job_without_a_time_is_due_now(tables: Tables) -> None:
    tables.execute("INSERT INTO jobs (queue, status, created_at) VALUES ('proofs.retry', 'pending', NULL)")
    memory: dict[str, Any] = {}
    clock = RealClock()
    own = {"limits": {"depth": 0, "stalled": "10m"}}
    assert reasons((await tables.queues(memory, clock, **own)).outcome) == {("backlog", "proofs.retry")}
    clock.offset = 700
    seen = await tables.queues(memory, clock, **own)
    assert reasons(seen.outcome) == {("backlog", "proofs.retry"), ("stalled", "proofs.retry")}
    assert seen.measured("tocsin_queue_oldest_seconds", queue="proofs.retry") == 0


async def test_times_of_every_type_are_due_or_not(tables: Tables) -> None:
    for kind, at in (
        ("timestamp", "(now() AT TIME ZONE 'Asia/Tokyo') + interval '{} hours'"),
        ("date", "now()::date + {}"),
        ("bigint", "extract(epoch FROM now())::bigint + {} * 3600"),
        ("double precision", "extract(epoch FROM now()) * 1000 + {} * 3600000"),
        ("numeric", "extract(epoch FROM now()) + {} * 3600"),
    ):
        tables.execute(f"""
            CREATE TABLE tasks (queue text, status text, at {kind});
            INSERT INTO tasks VALUES ('q', 'pending', {at.format(-1)}), ('q', 'pending', {at.format(2)})""")
        seen = await tables.queues(table="tasks", time_column="at", queues="q", time_zone="Asia/Tokyo")
        assert seen.measured("tocsin_queue_scheduled_jobs", queue="q") == 1, kind
        tables.execute("DROP TABLE tasks")


async def test_jobs_that_are_taken_are_measured_a_minute(tables: Tables) -> None:
    memory: dict[str, Any] = {}
    clock = RealClock()
    tables.execute("INSERT INTO jobs (queue, status) SELECT 'proofs.retry', 'pending' FROM generate_series(1, 50)")
    assert "tocsin_queue_taken_per_minute" not in {
        m.gauge.name for m in (await tables.queues(memory, clock)).measurements
    }
    tables.execute("UPDATE jobs SET status = 'running' WHERE id <= 30")
    tables.execute("""
        INSERT INTO jobs (queue, status, created_at)
        SELECT 'proofs.retry', 'pending', now() + interval '1 minute' FROM generate_series(1, 50)""")
    clock.offset = 120
    seen = await tables.queues(memory, clock)
    assert seen.measured("tocsin_queue_taken_per_minute", queue="proofs.retry") == pytest.approx(15, abs=0.5)


@pytest.mark.parametrize(
    "index", ["(queue, status, created_at)", "(status)", "(queue, created_at) WHERE status <> 'done'", "(created_at)"]
)
async def test_statuses_that_nobody_configured_are_never_green(tables: Tables, index: str) -> None:
    """The status is a text: a name that no job has finds nothing, for ever."""
    tables.execute(f"""
        CREATE TABLE tasks (queue text, status text, created_at timestamptz);
        CREATE INDEX ON tasks {index};
        INSERT INTO tasks SELECT 'proofs.retry', CASE n % 9 WHEN 0 THEN 'ready' ELSE 'done' END, now()
        FROM generate_series(1, 99) n""")
    wrong = await tables.queues(table="tasks", waiting_statuses="queued")
    assert wrong.verdict == ("unknown", "status_unlisted")
    assert wrong.detail.endswith("; set waiting_statuses")
    assert "ready" in wrong.detail
    right = await tables.queues(table="tasks", waiting_statuses="ready")
    assert right.verdict == ("ok", None), right.detail
    listed = await tables.queues(table="tasks", waiting_statuses="queued", ended_statuses="done")
    assert listed.verdict == ("unknown", "status_unlisted")
    assert listed.detail.startswith("jobs have the status ready,")
    tables.execute("DELETE FROM tasks WHERE status = 'ready'")
    assert (await tables.queues(table="tasks", waiting_statuses="queued", ended_statuses="done")).verdict == (
        "ok",
        None,
    )


async def test_a_status_that_was_seen_once_is_right_though_nothing_waits_now(tables: Tables) -> None:
    memory: dict[str, Any] = {}
    tables.execute("INSERT INTO jobs (queue, status) VALUES ('proofs.retry', 'pending'), ('proofs.retry', 'done')")
    assert (await tables.queues(memory)).verdict == ("ok", None)
    tables.execute("UPDATE jobs SET status = 'done'")
    memory["statuses"][1] = 0
    assert (await tables.queues(memory)).verdict == ("ok", None)
    corrected = await tables.queues(memory, waiting_statuses="retry")
    assert corrected.verdict == ("unknown", "status_unlisted"), "what was seen under another setting proves nothing"


async def test_a_queue_that_nobody_takes_from_is_stalled_though_more_arrive(tables: Tables) -> None:
    memory: dict[str, Any] = {}
    clock = RealClock()
    own = {"limits": {"stalled": "10m", "age": "1d"}}
    tables.execute("INSERT INTO jobs (queue, status) SELECT 'proofs.retry', 'pending' FROM generate_series(1, 5)")
    assert (await tables.queues(memory, clock, **own)).verdict == ("ok", None)
    tables.execute("INSERT INTO jobs (queue, status) SELECT 'proofs.retry', 'pending' FROM generate_series(1, 5)")
    clock.offset = 590
    assert (await tables.queues(memory, clock, **own)).verdict == ("ok", None)
    clock.offset = 620
    seen = await tables.queues(memory, clock, **own)
    assert reasons(seen.outcome) == {("stalled", "proofs.retry")}
    tables.execute("UPDATE jobs SET status = 'running' WHERE id = 1")
    assert (await tables.queues(memory, clock, **own)).verdict == ("ok", None)
    clock.offset = 1230
    assert (await tables.queues(memory, clock, **own)).outcome.reason == "stalled"


async def test_dead_letters_are_counted_by_queue_from_a_table_or_a_query(tables: Tables) -> None:
    source = {"table": "dead_jobs", "time_column": "failed_at"}
    well = await tables.queues(waiting_statuses=(), dead_letters=source)
    assert well.verdict == ("ok", None)
    assert well.measured("tocsin_queue_dead_letters", queue="proofs.retry") == 0
    tables.execute("INSERT INTO dead_jobs (queue) VALUES ('proofs.retry'), ('proofs.retry'), ('surprise')")
    for dead in (source, {"query": "SELECT queue FROM dead_jobs -- all of them"}):
        seen = await tables.queues(dead_letters=dead)
        assert reasons(seen.outcome) == {("dead_letters", "proofs.retry"), ("dead_letters", "surprise")}
        assert seen.measured("tocsin_queue_dead_letters", queue="proofs.retry") == 2
    assert (await tables.queues(dead_letters=source, limits={"dead_letters": 2})).verdict == ("ok", None)


async def test_the_newest_dead_letter_is_measured_and_their_growth_limited(tables: Tables) -> None:
    memory: dict[str, Any] = {}
    clock = RealClock()
    own: dict[str, Any] = {
        "waiting_statuses": (),
        "dead_letters": {"table": "dead_jobs", "time_column": "failed_at"},
        "limits": {"dead_letters": 100, "growth": {"rows": 5, "over": "1h"}},
    }
    tables.execute("INSERT INTO dead_jobs (queue) SELECT 'proofs.retry' FROM generate_series(1, 50)")
    seen = await tables.queues(memory, clock, **own)
    assert seen.verdict == ("ok", None)
    newest = seen.measured("tocsin_queue_dead_letter_newest_timestamp_seconds", queue="proofs.retry")
    assert newest == pytest.approx(clock.wall(), abs=5)
    tables.execute("INSERT INTO dead_jobs (queue) SELECT 'proofs.retry' FROM generate_series(1, 6)")
    clock.offset = 1800
    grown = await tables.queues(memory, clock, **own)
    assert reasons(grown.outcome) == {("growing", "proofs.retry")}
    assert grown.detail == "proofs.retry: 6 more dead letters within 1h, the limit is 5"
    clock.offset = 6000
    assert (await tables.queues(memory, clock, **own)).verdict == ("ok", None)


async def test_without_queues_every_queue_that_waits_is_watched(tables: Tables) -> None:
    tables.execute("INSERT INTO jobs (queue, status) VALUES ('one', 'pending'), ('two', 'retry'), ('three', 'done')")
    seen = await tables.queues(queues=())
    watched = {m.label_map()["queue"] for m in seen.measurements}
    assert watched == {"one", "two"}


async def test_a_contract_that_is_not_configured_is_missing(tables: Tables) -> None:
    for own in ({"waiting_statuses": ""}, {"dead_letters": {"table": ""}}):
        assert (await tables.queues(**own)).verdict == ("unknown", "contract_missing")


async def test_what_does_not_exist_is_told_with_the_setting_that_names_it(tables: Tables) -> None:
    for own, reason, setting in (
        ({"table": "tasks"}, "table_missing", "set table"),
        ({"dead_letters": {"table": "dlq"}}, "table_missing", "set dead_letters.table"),
        ({"queue_column": "topic"}, "column_missing", "set queue_column"),
        ({"status_column": "state"}, "column_missing", "set status_column"),
        ({"time_column": "run_at"}, "column_missing", "set time_column"),
        (
            {"dead_letters": {"table": "dead_jobs", "time_column": "died"}},
            "column_missing",
            "set dead_letters.time_column",
        ),
        ({"waiting_statuses": "queued"}, "column_missing", "set waiting_statuses"),
    ):
        seen = await tables.queues(**own)
        assert seen.outcome.reason == reason, own
        assert seen.detail.endswith(setting), seen.detail


async def test_a_queue_that_must_exist_is_missing_until_it_had_a_job(tables: Tables) -> None:
    memory: dict[str, Any] = {}
    own = {"must_exist": True, "queues": ["proofs.retry"]}
    assert (await tables.queues(memory, **own)).verdict == ("failed", "queue_missing")
    tables.execute("INSERT INTO jobs (queue, status) VALUES ('proofs.retry', 'done')")
    assert (await tables.queues(memory, **own)).verdict == ("ok", None)
    tables.execute("DELETE FROM jobs")
    assert (await tables.queues(memory, **own)).verdict == ("ok", None)


async def test_the_names_and_tables_of_empty_pgmq_twins_are_never_green(tables: Tables) -> None:
    tables.execute("""
        CREATE SCHEMA pgmq;
        CREATE TABLE pgmq.q_proofs_validated (msg_id bigint, enqueued_at timestamptz);
        INSERT INTO jobs (queue, status) VALUES ('proofs.validated', 'done')""")
    named = await tables.queues(queues="proofs_validated")
    assert named.verdict == ("unknown", "wrong_queue_source")
    assert "proofs.validated" in named.detail
    table = await tables.queues(table="pgmq.q_proofs_validated")
    assert table.verdict == ("unknown", "wrong_queue_source")
    honest = await tables.queues(queues="mail_out", ended_statuses="done")
    assert honest.verdict == ("ok", None)


async def test_names_with_quotes_and_schemas_stay_names(tables: Tables) -> None:
    odd = 'work."Odd ""Jobs"" here"'
    tables.execute(f"""
        CREATE SCHEMA work;
        CREATE TABLE {odd} ("Queue" text, status text, at timestamp);
        INSERT INTO {odd} VALUES ('it''s', 'pending', now() AT TIME ZONE 'UTC')""")
    seen = await tables.queues(
        table=odd, queue_column='"Queue"', time_column="at", queues=["it's"], limits={"depth": 0}
    )
    assert reasons(seen.outcome) == {("backlog", "it's")}, seen.detail

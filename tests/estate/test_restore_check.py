"""`restore_check` on a real PostgreSQL: an old dump put back, a table that grows meanwhile, retention, a wanted restore."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from estate.install import ensure
from estate.servers.postgresql import PostgreSQL
from tests.probing import Probed, probe_once
from tocsin_probes.restore_check import RestoreCheck

pytestmark = pytest.mark.estate

SCHEMA = """
    CREATE TABLE audit_logs (seq bigserial PRIMARY KEY, created_at timestamptz NOT NULL);
    CREATE TABLE "Users" (name text);
    INSERT INTO audit_logs (created_at) SELECT '2026-11-01'::timestamptz + i * interval '1 second 7 microseconds'
      FROM generate_series(1, 100) i;
    INSERT INTO "Users" SELECT 'user' || i FROM generate_series(1, 10) i;
"""
TABLES = 'audit_logs:created_at, "Users"'


class Platform:
    """A database that is dumped and put back, and the probe with what it remembers."""

    def __init__(self, server: PostgreSQL, database: str, dump: Path) -> None:
        self.dsn = server.dsn(database)
        self._server, self._database, self._dump = server, database, dump
        self.memory: dict[str, Any] = {}

    def sql(self, text: str) -> None:
        self._server.execute(text, database=self._database)

    def save(self) -> None:
        self._run("pg_dump", "--format=custom", f"--file={self._dump}", self.dsn)

    def restore(self) -> None:
        self._run("pg_restore", "--clean", "--if-exists", f"--dbname={self.dsn}", str(self._dump))

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run([ensure("postgresql") / program, *arguments], check=True, capture_output=True, timeout=60)

    async def look(self, tables: str = TABLES, **own: Any) -> Probed:
        settings = RestoreCheck.Settings.model_validate({"dsn": self.dsn, "tables": tables} | own)
        return await probe_once(RestoreCheck(settings), memory=self.memory)


@pytest.fixture
def platform(postgresql: PostgreSQL, database: str, tmp_path: Path) -> Platform:
    found = Platform(postgresql, database, tmp_path / "dump")
    found.sql(SCHEMA)
    return found


def wrong(seen: Probed) -> list[tuple[str, str]]:
    return [(finding.reason, finding.component) for finding in seen.outcome.findings]


async def test_an_old_dump_that_is_put_back_is_told_until_the_rows_are_there_again(platform: Platform) -> None:
    platform.save()
    platform.sql("INSERT INTO audit_logs (created_at) SELECT now() FROM generate_series(1, 20)")
    assert (await platform.look()).verdict == ("ok", None)
    platform.sql("CREATE TABLE later AS SELECT * FROM audit_logs WHERE seq > 100")
    platform.restore()
    seen = await platform.look()
    assert wrong(seen) == [("rows_missing", "audit_logs"), ("older_than_seen", "audit_logs")]
    assert seen.detail.startswith("audit_logs has 100 rows, the newest of 2026-11-01 00:01:40; 20")
    assert " it had 120 rows, the newest of 20" in seen.detail
    assert seen.measured("tocsin_table_rows", table="audit_logs") == 100
    assert seen.measured("tocsin_table_seen_rows", table="audit_logs") == 120
    platform.sql("INSERT INTO audit_logs SELECT * FROM later")
    assert (await platform.look()).verdict == ("ok", None)


async def test_rows_that_come_after_an_incomplete_restore_do_not_make_up_for_the_missing_ones(
    platform: Platform,
) -> None:
    assert (await platform.look()).verdict == ("ok", None)
    platform.sql("DELETE FROM audit_logs WHERE seq BETWEEN 40 AND 49")
    platform.sql("INSERT INTO audit_logs (created_at) SELECT now() FROM generate_series(1, 50)")
    seen = await platform.look()
    assert wrong(seen) == [("rows_missing", "audit_logs")]
    assert seen.detail.endswith(", 90 of them no newer than then")
    assert (await platform.look()).verdict == ("failed", "rows_missing")


async def test_a_row_of_no_day_in_the_calendar_does_not_hide_what_is_missing(platform: Platform) -> None:
    assert (await platform.look()).verdict == ("ok", None)
    platform.sql("DELETE FROM audit_logs WHERE seq > 50")
    platform.sql("INSERT INTO audit_logs (created_at) VALUES ('infinity')")
    assert wrong(seen := await platform.look()) == [("rows_missing", "audit_logs")], seen.detail


async def test_a_table_without_a_time_is_counted(platform: Platform) -> None:
    assert (await platform.look()).detail.endswith("; Users: 10 rows")
    platform.sql("""DELETE FROM "Users" WHERE name = 'user1'""")
    assert wrong(await platform.look()) == [("rows_missing", "Users")]


async def test_what_retention_takes_is_allowed_and_more_is_not(platform: Platform) -> None:
    await platform.look(may_shrink_percent=5)
    platform.sql("DELETE FROM audit_logs WHERE seq <= 5")
    assert (await platform.look(may_shrink_percent=5)).verdict == ("ok", None)
    platform.sql("DELETE FROM audit_logs WHERE seq <= 10")
    assert (await platform.look(may_shrink_percent=5)).verdict == ("failed", "rows_missing")


async def test_another_baseline_accepts_what_is_there(platform: Platform) -> None:
    await platform.look()
    platform.sql("TRUNCATE audit_logs")
    assert wrong(await platform.look()) == [("rows_missing", "audit_logs"), ("older_than_seen", "audit_logs")]
    assert (await platform.look(baseline="OPS-17")).verdict == ("ok", None)
    platform.sql("""DELETE FROM "Users" WHERE name = 'user1'""")
    assert (await platform.look(baseline="OPS-17")).verdict == ("failed", "rows_missing")


async def test_a_column_of_text_or_of_numbers_does_too(platform: Platform) -> None:
    platform.sql("CREATE TABLE texts AS SELECT '2026-11-0' || i || 'T00:00:00Z' AS t FROM generate_series(1, 9) i")
    platform.sql("CREATE TABLE numbers AS SELECT 1700000000 + i AS t FROM generate_series(1, 9) i")
    for table in ("texts", "numbers"):
        platform.memory.clear()
        assert (await platform.look(f"{table}:t")).verdict == ("ok", None)
        assert (await platform.look(f"{table}:t")).verdict == ("ok", None)
        platform.sql(f"DELETE FROM {table} WHERE t = (SELECT min(t) FROM {table})")
        assert (await platform.look(f"{table}:t")).verdict == ("failed", "rows_missing")


async def test_what_cannot_be_counted_is_told_apart(platform: Platform, postgresql: PostgreSQL) -> None:
    assert (await platform.look("nothing")).verdict == ("failed", "table_missing")
    assert (await platform.look("audit_logs:at")).verdict == ("unknown", "query_error")
    stranger = platform.dsn.replace("postgres:estate-postgres@", "stranger:stranger@")
    assert stranger != platform.dsn
    postgresql.create_role("stranger", "stranger")
    try:
        assert (await platform.look(dsn=stranger)).verdict == ("unknown", "permission_denied")
    finally:
        postgresql.execute("DROP ROLE stranger")


@pytest.mark.parametrize("tables", ["", "a, a:b", "a b", "a:b c", "a:"])
def test_tables_are_names_each_once(tables: str) -> None:
    with pytest.raises(ValidationError):
        RestoreCheck.Settings.model_validate({"dsn": "postgresql://db/app", "tables": tables})

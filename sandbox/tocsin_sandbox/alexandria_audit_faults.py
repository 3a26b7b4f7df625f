"""Faults of Alexandria's database and its audit log: real rows edited, removed and cut off, and put back."""

from __future__ import annotations

import os
import time

from tocsin_sandbox.alexandria_audit import DATABASE, TABLE, USERS
from tocsin_sandbox.estate import Estate
from tocsin_sandbox.fault import Act, Fault

_SERVING = "api-not-serving"
_AUDIT = "audit-chain-failure"
_ROWS = "audit rows"
_OF_TENANT = f"SELECT seq FROM {TABLE} WHERE tenant_id = 'practice' ORDER BY seq"
_EARLY = f"seq IN ({_OF_TENANT} LIMIT 3 OFFSET 5)"
_LAST = f"seq IN ({_OF_TENANT} DESC LIMIT 12)"
"""More than are written between two runs: some of them have been verified."""
_THOSE = f"seq IN (SELECT seq FROM {TABLE}_kept)"
_RECENT = "created_at > now() - interval '50 hours'"


async def _stop(estate: Estate) -> None:
    await estate.alexandria_database.stop()


async def _start(estate: Estate) -> None:
    await estate.alexandria_database.start()


async def _age_backup(estate: Estate) -> None:
    two_days_ago = time.time() - 2 * 86400
    os.utime(estate.backup, (two_days_ago, two_days_ago))


async def _renew_backup(estate: Estate) -> None:
    os.utime(estate.backup)


def _tamper(rows: str, tampering: str, *, table: str = TABLE, writing: bool = True) -> Act:
    """Keeps the rows aside, then does it. A row that is written after a cut could not be taken back."""

    async def act(estate: Estate) -> None:
        await estate.audit_log.write(writing)
        keep = f"CREATE TABLE {table}_kept AS SELECT * FROM {table} WHERE {rows}"
        await estate.alexandria_database.execute_each([keep, tampering], database=DATABASE)

    return act


def _put_back(table: str = TABLE, key: str = "seq") -> Act:
    statements = (
        f"CREATE TABLE IF NOT EXISTS {table}_kept (LIKE {table})",
        f"DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table}_kept)",
        f"INSERT INTO {table} SELECT * FROM {table}_kept",
        f"DROP TABLE {table}_kept",
    )

    async def act(estate: Estate) -> None:
        await estate.alexandria_database.execute("; ".join(statements), database=DATABASE)
        await estate.audit_log.write(True)

    return act


async def _damage_sqlite(estate: Estate) -> None:
    estate.sqlite.damage()


async def _mend_sqlite(estate: Estate) -> None:
    estate.sqlite.mend()


def _fault(
    name: str, title: str, effect: str, incident: str, probe: str, reason: str, cause: Act, undo: Act,
    knob: str = "", develops: float = 0.0,
) -> Fault:  # fmt: skip
    return Fault(name, title, effect, "alexandria", incident, probe, reason, cause, undo, knob, develops)


FAULTS = (
    _fault(
        "alexandria-database-stopped", "Alexandria's PostgreSQL is down", "Its server is stopped.",
        _SERVING, "alexandria-db", "connection_refused", _stop, _start,
    ),
    _fault(
        "audit-row-edited", "Somebody has edited the audit log", "Another principal is written into three rows.",
        _AUDIT, "alexandria-audit-chain", "modified",
        _tamper(_EARLY, f"UPDATE {TABLE} SET principal = 'nobody@example.org' WHERE {_THOSE}"), _put_back(), _ROWS,
        develops=2.0,
    ),
    _fault(
        "audit-rows-deleted", "Rows are missing in the audit log", "Three rows are deleted between others.",
        _AUDIT, "alexandria-audit-chain", "gap",
        _tamper(_EARLY, f"DELETE FROM {TABLE} WHERE {_THOSE}"), _put_back(), _ROWS,
        develops=2.0,
    ),
    _fault(
        "audit-log-cut", "The end of the audit log is gone", "The twelve newest rows are deleted; none is written.",
        _AUDIT, "alexandria-audit-chain", "tail_truncated",
        _tamper(_LAST, f"DELETE FROM {TABLE} WHERE {_THOSE}", writing=False), _put_back(), _ROWS,
    ),
    _fault(
        "audit-writer-stopped", "Nothing is audited any more", "The newest row is an hour old; none is written.",
        _AUDIT, "alexandria-audit-writer", "late",
        _tamper("true", f"UPDATE {TABLE} SET created_at = created_at - interval '1 hour'", writing=False),
        _put_back(), _ROWS,
    ),
    _fault(
        "backup-too-old", "There is no fresh backup", "The backup's file was written two days ago.",
        _AUDIT, "alexandria-backup", "late", _age_backup, _renew_backup,
    ),
    _fault(
        "restore-incomplete", "An older state of the database was restored", "Half of the users are gone, the newest.",
        _AUDIT, "alexandria-restore", "rows_missing",
        _tamper(_RECENT, f"DELETE FROM {USERS} WHERE {_RECENT}", table=USERS), _put_back(USERS, "id"),
    ),
    _fault(
        "sqlite-damaged", "The platform's SQLite database is damaged", "One of its file's pages is overwritten.",
        _SERVING, "alexandria-sqlite", "corrupt", _damage_sqlite, _mend_sqlite,
    ),
)  # fmt: skip

"""`sqlite`: a database file that another process writes can be read, and is whole."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from pydantic import Field

from tocsin.sdk import (
    CommonReason,
    Outcome,
    Probe,
    ProbeContext,
    ProbeFault,
    ProbeSettings,
    ReasonEnum,
    Seconds,
    Severity,
    Status,
    Words,
)
from tocsin.sdk.faults import quoted
from tocsin.sdk.files import look_at

END_GRACE = 0.25
"""Seconds before the end of a run at which the thread has let go of the file."""
_STEPS = 1000
"""Instructions of SQLite's virtual machine between two looks at the clock: well below a millisecond."""


class Sqlite(Probe):
    """An SQLite database is there, can be read, and its structure is whole."""

    kind = "sqlite"

    class Settings(ProbeSettings):
        file: str = Field(min_length=1)
        """The database. It is opened read-only, in its own journal mode; nothing is ever written."""
        tables: Words = ()
        """Tables that must be there."""
        check: Seconds = 1.0
        """For how long ``PRAGMA quick_check`` may look at it; ``0s``: not at all. Outside WAL mode nobody can write
        meanwhile."""

    class Reason(ReasonEnum):
        MISSING = "missing", "There is no such file."
        NOT_A_DATABASE = (
            "not_a_database",
            "The file is something else than an SQLite database, is encrypted, or has nothing in it.",
        )
        LOCKED = "locked", "Another process keeps the database for itself for longer than the probe's timeout."
        CORRUPT = "corrupt", "The database's structure is damaged."
        UNRECOVERED = (
            "unrecovered",
            "A write was cut off, and nobody who may write has opened the database since.",
        )
        TABLE_MISSING = "table_missing", "A table that must be there is not."
        CHECK_UNFINISHED = (
            "check_unfinished",
            "The database was read, but is too large to be checked to the end in the time that `check` gives.",
            Severity.TICKET,
            Status.UNKNOWN,
        )

    settings: Settings

    async def run(self, ctx: ProbeContext) -> Outcome:
        left = ctx.remaining()
        deadline = time.monotonic() + left - min(END_GRACE, left / 10)
        return await look_at(ctx, self.settings.file, lambda: self._look(deadline))

    def _look(self, deadline: float) -> Outcome:
        """In a thread of its own, which ends at ``deadline`` (of the monotonic clock) unless the file system hangs."""
        reason = self.Reason
        path = Path(self.settings.file).absolute()
        if not path.exists():
            raise ProbeFault(reason.MISSING, f"{path} is not there")
        try:
            patience = max(0.0, (deadline - time.monotonic()) / 2)
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=patience)) as database:
                return self._judge(database, deadline)
        except sqlite3.Error as error:
            raise self._fault(error) from error
        except UnicodeDecodeError as error:
            # What it would say of the schema holds a name that is no text any more.
            raise ProbeFault(reason.CORRUPT, "its schema holds a name that is not UTF-8") from error

    def _judge(self, database: sqlite3.Connection, deadline: float) -> Outcome:
        database.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
        there = {name.lower() for (name,) in database.execute("SELECT name FROM sqlite_master")}
        if not there:
            return Outcome.bad(self.Reason.NOT_A_DATABASE, "there is nothing in it")
        for table in self.settings.tables:
            if table.lower() not in there:
                return Outcome.bad(self.Reason.TABLE_MISSING, f"there is no {table}", table)
        if not self.settings.check:
            return Outcome.ok("readable; its structure is not checked")
        end = min(deadline, time.monotonic() + self.settings.check)
        database.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
        try:
            (said,) = database.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                raise
            return Outcome.bad(self.Reason.CHECK_UNFINISHED, f"it takes longer than {self.settings.check:g} s")
        return Outcome.ok("whole") if said == "ok" else Outcome.bad(self.Reason.CORRUPT, quoted(said, 200))

    def _fault(self, error: sqlite3.Error) -> ProbeFault:
        """By the result code: https://www.sqlite.org/rescode.html. Extended codes have the primary one in their lower
        byte."""
        code: int = getattr(error, "sqlite_errorcode", None) or 0
        reason, shown = self.Reason, f"{error} ({getattr(error, 'sqlite_errorname', None) or 'no code'})"
        if code in (sqlite3.SQLITE_READONLY_ROLLBACK, sqlite3.SQLITE_READONLY_RECOVERY):
            return ProbeFault(reason.UNRECOVERED, shown)
        known: dict[int, ReasonEnum] = {
            sqlite3.SQLITE_BUSY: reason.LOCKED,
            sqlite3.SQLITE_LOCKED: reason.LOCKED,
            sqlite3.SQLITE_CORRUPT: reason.CORRUPT,
            sqlite3.SQLITE_NOTADB: reason.NOT_A_DATABASE,
            sqlite3.SQLITE_IOERR: CommonReason.SERVER_ERROR,
            sqlite3.SQLITE_INTERRUPT: CommonReason.TIMEOUT,
            # The file is there: what cannot be opened, or not shared with its writer, is for want of our own rights.
            sqlite3.SQLITE_CANTOPEN: CommonReason.CREDENTIALS_MISSING,
            sqlite3.SQLITE_READONLY: CommonReason.CREDENTIALS_MISSING,
            sqlite3.SQLITE_PERM: CommonReason.CREDENTIALS_MISSING,
            sqlite3.SQLITE_AUTH: CommonReason.CREDENTIALS_MISSING,
        }
        return ProbeFault(known.get(code & 0xFF, CommonReason.PROBE_ERROR), shown)

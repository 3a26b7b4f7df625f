"""`restore_check`: tables hold at least what was last seen in them, as after a restore that is complete."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, Field

from tocsin.sdk import (
    Finding,
    Gauge,
    Outcome,
    Probe,
    ProbeContext,
    ProbeSettings,
    ReasonEnum,
    Secret,
    Severity,
    Status,
    Words,
    Zone,
)
from tocsin.sdk.postgres import read_only, targets_of, unix_time
from tocsin.sdk.sql_text import quoted

_ROWS = Gauge("tocsin_table_rows", "Rows of the table.", ("table",))
_SEEN = Gauge("tocsin_table_seen_rows", "Rows that the table had when it was last found whole.", ("table",))
_NEWEST = Gauge("tocsin_table_newest_timestamp_seconds", "Time of the table's newest row.", ("table",))


class Content(NamedTuple):
    """What a table held: rows, the time of the newest one, when that was seen (both Unix seconds). ``upto``: the newest
    one's time as the database writes it, so that it is compared there, exactly."""

    rows: int
    newest: float | None
    upto: str | None
    seen_at: float


def _tables(words: tuple[str, ...]) -> tuple[str, ...]:
    for word in words:
        table, colon, column = word.partition(":")
        quoted(table)
        if colon:
            quoted(column)
    if len({word.partition(":")[0] for word in words}) < len(words):
        raise ValueError("a table is named twice")
    return words


class RestoreCheck(Probe):
    """Tables have no fewer rows, and no older newest row, than when they were last found whole."""

    kind = "restore_check"
    gauges = (_ROWS, _SEEN, _NEWEST)

    class Settings(ProbeSettings):
        dsn: Secret
        """A role that may read the tables, and needs no more: the session is read-only."""
        tables: Annotated[Words, AfterValidator(_tables), Field(min_length=1)]
        """Tables that only grow, each with the column that says when a row was written, if there is one:
        ``audit_logs:created_at, users``. Each is counted at each run. With the column, rows that have come since do
        not make up for those that are missing."""
        time_zone: Zone = "UTC"
        """Where times without a zone were written."""
        may_shrink_percent: float = Field(default=0, ge=0, le=100)
        """How many of the rows may go from one run to the next, by retention say."""
        baseline: str = ""
        """Change it, to a date or a ticket, to accept what the tables hold now: after a restore to an earlier state
        that was wanted."""

        def targets(self) -> tuple[str, ...]:
            return targets_of(self.dsn)

    class Reason(ReasonEnum):
        ROWS_MISSING = "rows_missing", "A table has fewer rows than when it was last found whole."
        OLDER_THAN_SEEN = "older_than_seen", "A table's newest row is older than one that was seen in it before."
        TABLE_MISSING = "table_missing", "A table does not exist."
        QUERY_ERROR = (
            "query_error",
            "The database cannot count a table; its columns are not those that are configured.",
            Severity.TICKET,
            Status.UNKNOWN,
        )
        PERMISSION_DENIED = (
            "permission_denied",
            "The probe's role may not read a table.",
            Severity.TICKET,
            Status.UNKNOWN,
        )

    settings: Settings

    async def run(self, ctx: ProbeContext) -> Outcome:
        reason = self.Reason
        reasons = {"42P01": reason.TABLE_MISSING, "42501": reason.PERMISSION_DENIED}
        reasons |= {"42": reason.QUERY_ERROR, "22": reason.QUERY_ERROR}
        seen = self._remembered(ctx.memory)
        findings: list[Finding] = []
        told = []
        async with read_only(ctx, self.settings.dsn, reasons, self.settings) as connection:
            for word in self.settings.tables:
                content, kept = await self._count(connection, word, seen.get(word), ctx.now())
                wrong = list(self._judge(word, content, kept, seen.get(word)))
                if not wrong:
                    seen[word] = content
                findings += wrong
                told.append(f"{_name(word)}: {_told(content)}")
                self._measure(ctx, word, content, seen[word])
        ctx.memory["baseline"] = self.settings.baseline
        ctx.memory["tables"] = {word: list(seen[word]) for word in self.settings.tables}
        return Outcome.of(findings, "; ".join(told))

    async def _count(self, connection: Any, word: str, seen: Content | None, now: float) -> tuple[Content, int]:
        """What the table holds, and how many of its rows are no newer than the newest that was seen."""
        table, _, column = word.partition(":")
        newest, kept = "NULL", "count(*)"
        if column:
            time = quoted(column)
            newest = f"max({time})"
            if seen is not None and seen.upto is not None:
                upto = seen.upto.replace("'", "''")
                kept = f"count(*) FILTER (WHERE {time} <= '{upto}' OR {time} IS NULL)"
        asked = f"count(*) AS rows, {newest} AS newest, ({newest})::text AS upto, {kept} AS kept"
        row = await connection.fetchrow(f"SELECT {asked} FROM {quoted(table)}")
        newest_at = unix_time(row["newest"], self.settings.time_zone)
        return Content(row["rows"], newest_at, row["upto"], now), row["kept"]

    def _remembered(self, memory: Mapping[str, Any]) -> dict[str, Content]:
        """By table what it held when it was last found whole; empty under another baseline."""
        if memory.get("baseline", "") != self.settings.baseline:
            return {}
        return {word: Content(*values) for word, values in memory.get("tables", {}).items()}

    def _judge(self, word: str, now: Content, kept: int, seen: Content | None) -> Iterator[Finding]:
        if seen is None:
            return
        name, told = _name(word), f"{_told(now)}; {_date(seen.seen_at)} it had {_told(seen)}"
        if kept < seen.rows * (1 - self.settings.may_shrink_percent / 100):
            missing = f", {kept} of them no newer than then" if kept != now.rows else ""
            yield Finding.of(self.Reason.ROWS_MISSING, f"{name} has {told}{missing}", name)
        if seen.newest is not None and (now.newest is None or now.newest < seen.newest):
            yield Finding.of(self.Reason.OLDER_THAN_SEEN, f"{name} has {told}", name)

    def _measure(self, ctx: ProbeContext, word: str, now: Content, seen: Content) -> None:
        ctx.measure(_ROWS, now.rows, table=_name(word))
        ctx.measure(_SEEN, seen.rows, table=_name(word))
        if now.newest is not None:
            ctx.measure(_NEWEST, now.newest, table=_name(word))


def _name(word: str) -> str:
    return re.sub(r'"', "", word.partition(":")[0])


def _told(content: Content) -> str:
    return f"{content.rows} rows" + (f", the newest of {_date(content.newest)}" if content.newest is not None else "")


def _date(at: float) -> str:
    try:
        shown = datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError):  # beyond the calendar, as infinity is
        return f"{at:g}"
    return shown.isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")

"""`sql_rows`: what a query returns, counted and aged."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tocsin.sdk import (
    CommonReason,
    Finding,
    Gauge,
    Outcome,
    Probe,
    ProbeContext,
    ProbeSettings,
    ReasonEnum,
    Seconds,
    Secret,
    Severity,
    Status,
    Words,
    Zone,
)
from tocsin.sdk.growth import GrowthLimit, grown
from tocsin.sdk.postgres import (
    COLUMN_MISSING,
    QUERY_ERROR,
    TABLE_MISSING,
    evidence,
    read_only,
    reasons_of_query,
    targets_of,
    unix_time,
)
from tocsin.sdk.quantities import format_duration
from tocsin.sdk.sql_text import Name, Select, quoted

CAP = 10_000
"""Rows counted at most; a limit above it raises the cap. Where there are as many, other limits can only be unknown."""

SAMPLE_ROWS = 20
SAMPLE_CHARACTERS = 200

_ROWS = Gauge("tocsin_rows", "Rows that the query returns, counted up to the probe's cap.")
_BESIDE = Gauge("tocsin_rows_beside", "Rows of a query beside, counted up to the probe's cap.", ("query",))
_OLDEST = Gauge("tocsin_rows_oldest_timestamp_seconds", "Time of the oldest row that the query returns.")


class RowLimits(BaseModel):
    """What is still well. ``rows``: at most so many; ``min_rows``: at least so many; ``age``: of the oldest row, by
    ``time_column``, and unknown while a row has none; ``growth``: at most so many more ``rows`` within ``over``. Age
    and growth are unknown from 10,000 rows on; a higher limit of ``rows`` lets them be judged up to there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: int | None = Field(default=None, ge=0)
    min_rows: int = Field(default=0, ge=0)
    age: Seconds | None = None
    growth: GrowthLimit | None = None


class SqlRows(Probe):
    """A read-only query returns no more, no fewer and no older rows than it should."""

    kind = "sql_rows"
    gauges = (_ROWS, _BESIDE, _OLDEST)

    class Settings(ProbeSettings):
        dsn: Secret
        """A role that may read what the probe asks for, and needs no more: the session is read-only."""
        query: Select
        """One SELECT. It becomes a subquery, so a LIMIT of its own also limits what is counted."""
        time_column: Name = ""
        """A column of the query's result: timestamp, date, or Unix time in seconds or milliseconds."""
        time_zone: Zone = "UTC"
        """Where times without a zone were written."""
        sample_columns: Words = ()
        """Columns of the query's result that are kept as evidence, 20 rows at most, when there is something wrong."""
        beside: Mapping[str, Select] = {}
        """By name, further queries whose rows are counted and shown beside, without a limit: how many of the dead
        letters may be replayed, say."""
        limits: RowLimits = RowLimits()

        @model_validator(mode="after")
        def _age_of_something(self) -> Self:
            if self.limits.age is not None and not self.time_column:
                raise ValueError("limits.age needs time_column: the column of the result that says how old a row is")
            return self

        def targets(self) -> tuple[str, ...]:
            return targets_of(self.dsn)

    class Reason(ReasonEnum):
        TOO_MANY = "too_many", "The query returns more rows than the limit."
        TOO_FEW = "too_few", "The query returns fewer rows than there must be."
        TOO_OLD = "too_old", "The oldest row that the query returns is older than the limit."
        GROWING = "growing", "The query returns more rows than earlier, by more than the limit within its time."
        TABLE_MISSING = TABLE_MISSING
        COLUMN_MISSING = COLUMN_MISSING
        QUERY_ERROR = QUERY_ERROR
        PERMISSION_DENIED = (
            "permission_denied",
            "The probe's role may not read what the query reads.",
            Severity.TICKET,
            Status.UNKNOWN,
        )

    async def run(self, ctx: ProbeContext) -> Outcome:
        settings: SqlRows.Settings = self.settings
        cap = max(CAP, (settings.limits.rows or 0) + 1, settings.limits.min_rows)
        async with read_only(ctx, settings.dsn, reasons_of_query(self.Reason), settings) as connection:
            time = quoted(settings.time_column) if settings.time_column else "NULL"
            counted = await connection.fetchrow(
                f"SELECT count(*) AS rows, count(t) AS timed, min(t) AS oldest FROM "
                f"(SELECT {time} AS t FROM (\n{settings.query}\n) AS q LIMIT {cap}) AS counted"
            )
            rows, oldest = counted["rows"], unix_time(counted["oldest"], settings.time_zone)
            findings = [*self._judge(rows, oldest, ctx.now(), cap), *self._growth(ctx, rows)]
            findings = findings or [*self._hidden(rows, cap), *self._untimed(rows, counted["timed"])]
            if settings.sample_columns and findings:
                async with evidence(ctx, connection, "rows"):
                    ctx.attach("rows.csv", await self._sample(connection), "text/csv")
            elif settings.sample_columns:
                # So that a wrong name is known before it is needed.
                await connection.execute(f"{self._sampling()} LIMIT 0")
            beside = {}
            for name, query in settings.beside.items():
                async with evidence(ctx, connection, name) if findings else nullcontext():
                    beside[name] = await self._count(connection, query)
        for name, count in beside.items():
            ctx.measure(_BESIDE, count, query=name)
        ctx.measure(_ROWS, rows)
        if oldest is not None and rows < cap:
            ctx.measure(_OLDEST, oldest)
        also = "".join(f", {name}: {count}" for name, count in beside.items())
        return Outcome.of((replace(each, detail=each.detail + also) for each in findings), f"{rows} rows{also}")

    async def _count(self, connection: Any, query: str) -> int:
        counted = f"SELECT count(*) FROM (SELECT FROM (\n{query}\n) AS q LIMIT {CAP}) AS counted"
        return int(await connection.fetchval(counted))

    def _judge(self, rows: int, oldest: float | None, now: float, cap: int) -> list[Finding]:
        limits: RowLimits = self.settings.limits
        found = []
        if limits.rows is not None and rows > limits.rows:
            shown = f"at least {rows}" if rows == cap else str(rows)
            found.append(Finding.of(self.Reason.TOO_MANY, f"{shown} rows, the limit is {limits.rows}"))
        if rows < limits.min_rows:
            found.append(Finding.of(self.Reason.TOO_FEW, f"{rows} rows, there must be {limits.min_rows}"))
        if limits.age is not None and oldest is not None and now - oldest > limits.age:
            age, limit = format_duration(round(now - oldest)), format_duration(limits.age)
            found.append(Finding.of(self.Reason.TOO_OLD, f"the oldest row is {age} old, the limit is {limit}"))
        return found

    def _growth(self, ctx: ProbeContext, rows: int) -> list[Finding]:
        limit: GrowthLimit | None = self.settings.limits.growth
        if limit is None:
            return []
        ctx.memory["rows"], more = grown(ctx.memory.get("rows", ()), rows, ctx.now(), limit.over)
        if more <= limit.rows:
            return []
        detail = f"{more} more rows within {format_duration(limit.over)}, the limit is {limit.rows}"
        return [Finding.of(self.Reason.GROWING, detail)]

    def _hidden(self, rows: int, cap: int) -> list[Finding]:
        """What cannot be told where not all rows were counted: the oldest may be another one, and more may come."""
        limits: RowLimits = self.settings.limits
        names = [name for name in ("age", "growth") if getattr(limits, name) is not None]
        if rows < cap or not names:
            return []
        detail = f"at least {rows} rows: limits.{' and limits.'.join(names)} cannot be judged beyond; set limits.rows"
        return [Finding.of(CommonReason.DEPENDENCY_UNKNOWN, detail, "cap")]

    def _untimed(self, rows: int, timed: int) -> list[Finding]:
        """Rows whose age nobody knows: any of them may be the oldest."""
        if self.settings.limits.age is None or timed == rows:
            return []
        detail = f"{rows - timed} of {rows} rows have no {self.settings.time_column}: limits.age cannot be judged"
        return [Finding.of(CommonReason.DEPENDENCY_UNKNOWN, detail, "time")]

    def _sampling(self) -> str:
        columns = [quoted(name) for name in self.settings.sample_columns]
        chosen = ", ".join(f"left({column}::text, {SAMPLE_CHARACTERS}) AS {column}" for column in columns)
        return f"SELECT {chosen} FROM (\n{self.settings.query}\n) AS q"

    async def _sample(self, connection: Any) -> str:
        rows = await connection.fetch(f"{self._sampling()} LIMIT {SAMPLE_ROWS}")
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.settings.sample_columns)
        writer.writerows(rows)
        return text.getvalue()

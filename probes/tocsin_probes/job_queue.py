"""`job_queue`: a table-backed queue, judged from the platform's own tables."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tocsin.sdk import (
    CommonReason,
    Finding,
    Gauge,
    Outcome,
    Probe,
    ProbeContext,
    ProbeFault,
    ProbeSettings,
    ReasonEnum,
    Seconds,
    Secret,
    Severity,
    Status,
    Words,
    Zone,
)
from tocsin.sdk.postgres import read_only, targets_of, unix_time
from tocsin.sdk.quantities import format_duration
from tocsin.sdk.sql_text import Name, Select, quoted

CAP = 10_000
"""Jobs counted at most for each queue and status; a depth limit above it raises the cap."""

HEAD = 20
"""How many of the oldest waiting jobs of a queue are remembered, to see whether any of them leaves."""

MAX_QUEUES = 50
"""Queues looked at when the configuration names none."""

RECHECK_SOURCE = 300.0
"""Seconds for which a queue name that was found to be right is not checked again."""

_JOBS = Gauge("tocsin_queue_jobs", "Jobs in a waiting status, counted up to the probe's cap.", ("queue", "status"))
_OLDEST = Gauge("tocsin_queue_oldest_seconds", "Age of the oldest waiting job that is due.", ("queue",))
_DEAD = Gauge("tocsin_queue_dead_letters", "Dead letters, counted up to the probe's cap.", ("queue",))


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class QueueLimits(_Part):
    """What is still well, for each queue."""

    depth: int = Field(default=1000, ge=0)
    age: Seconds = 900.0
    """Of the oldest job that is due."""
    stalled: Seconds = 900.0
    """How long jobs may wait without any of the oldest 20 leaving; longer than the longest job takes."""
    dead_letters: int = Field(default=0, ge=0)


class DeadLetters(_Part):
    """Where dead letters are: a table, or a query that returns one row for each."""

    table: Name = ""
    query: Select | None = None
    queue_column: Name = "queue"
    time_column: Name = ""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.table and self.query:
            raise ValueError("set either table or query, not both")
        return self


@dataclass(frozen=True, slots=True)
class Waiting:
    """The waiting jobs of one queue. ``due``: times of the oldest of them that are due, in order (Unix seconds)."""

    queue: str
    depth: int
    due: tuple[float, ...]


class JobQueue(Probe):
    """The jobs of a queue in a database table are taken in time and end well."""

    kind = "job_queue"
    gauges = (_JOBS, _OLDEST, _DEAD)

    class Settings(ProbeSettings):
        dsn: Secret
        """A role that may read what the probe asks for, and needs no more: the session is read-only."""
        table: Name = "jobs"
        """The platform's table of jobs, one row a job; a schema may be part of the name."""
        queue_column: Name = "queue"
        status_column: Name = "status"
        time_column: Name = "created_at"
        """When a job became due; one in the future is not waiting yet."""
        time_zone: Zone = "UTC"
        """Where times without a zone were written."""
        queues: Words = ()
        """Empty: every queue that has a waiting job."""
        waiting_statuses: Words = ()
        """Statuses of jobs that wait to be taken. Empty: only dead letters are watched."""
        must_exist: bool = False
        """Whether each of ``queues`` must have had a job at least once."""
        dead_letters: DeadLetters | None = None
        """``table`` (or ``query``), ``queue_column``, ``time_column``. Unset: dead letters are not watched here."""
        limits: QueueLimits = QueueLimits()
        queue_limits: Mapping[str, QueueLimits] = {}
        """Limits of single queues; what is not set there is taken from ``limits``."""

        def targets(self) -> tuple[str, ...]:
            return targets_of(self.dsn)

        def limits_of(self, queue: str) -> QueueLimits:
            own = self.queue_limits.get(queue)
            return self.limits.model_copy(update=own.model_dump(exclude_unset=True)) if own else self.limits

    class Reason(ReasonEnum):
        BACKLOG = "backlog", "More jobs wait, or a job waits for longer, than the limit."
        STALLED = "stalled", "Jobs wait and none of them has been taken for longer than the limit."
        DEAD_LETTERS = "dead_letters", "More jobs have been given up than the limit."
        TABLE_MISSING = "table_missing", "The table of the jobs or of the dead letters does not exist."
        COLUMN_MISSING = (
            "column_missing",
            "A column or a status that the configuration names does not exist.",
            Severity.TICKET,
            Status.UNKNOWN,
        )
        QUEUE_MISSING = "queue_missing", "A queue that must exist has never had a job.", Severity.TICKET
        WRONG_QUEUE_SOURCE = (
            "wrong_queue_source",
            "The configured names are those of empty PGMQ twins; the jobs are elsewhere.",
            Severity.TICKET,
            Status.UNKNOWN,
        )

    async def run(self, ctx: ProbeContext) -> Outcome:
        settings: JobQueue.Settings = self.settings
        dead = settings.dead_letters
        if dead is not None and not (dead.table or dead.query):
            return Outcome.bad(CommonReason.CONTRACT_MISSING, "dead_letters needs a table or a query")
        if dead is None and not settings.waiting_statuses:
            return Outcome.bad(CommonReason.CONTRACT_MISSING, "set waiting_statuses: which jobs wait is not known")
        reasons = {
            "42P01": self.Reason.TABLE_MISSING,
            "42703": self.Reason.COLUMN_MISSING,
            "22P02": self.Reason.COLUMN_MISSING,
        }
        findings: list[Finding] = []
        try:
            async with read_only(ctx, settings.dsn, reasons) as connection:
                if settings.waiting_statuses:
                    findings += await self._wrong_sources(ctx, connection)
                    if not findings:
                        findings += self._judge(ctx, await self._waiting(ctx, connection))
                        findings += await self._missing(ctx, connection)
                if dead is not None:
                    findings += await self._dead_letters(ctx, connection, dead)
        except ProbeFault as fault:
            return Outcome.of([replace(fault.finding, detail=_with_settings(fault.finding.detail, settings))])
        return Outcome.of(findings, "jobs are taken in time" if settings.waiting_statuses else "no dead letters")

    async def _waiting(self, ctx: ProbeContext, connection: Any) -> list[Waiting]:
        """One capped scan for each queue and status, which any index on either column serves."""
        settings: JobQueue.Settings = self.settings
        table, queue, status = (quoted(n) for n in (settings.table, settings.queue_column, settings.status_column))
        queues = settings.queues or await self._found_queues(connection, table, queue, status)
        pairs = [(name, state) for name in queues for state in settings.waiting_statuses]
        words = [*queues, *settings.waiting_statuses]
        cap = max(CAP, *(settings.limits_of(name).depth + 1 for name in queues)) if queues else CAP
        branches = (
            f"SELECT {index} AS pair, count(*) AS jobs, "
            f"to_json((array_agg(t ORDER BY t))[1:{HEAD}])::text AS head FROM (SELECT "
            f"{quoted(settings.time_column)} AS t FROM {table} WHERE {queue} = ${words.index(name) + 1} "
            f"AND {status} = ${len(queues) + settings.waiting_statuses.index(state) + 1} LIMIT {cap}) AS waiting"
            for index, (name, state) in enumerate(pairs)
        )
        rows = await connection.fetch(" UNION ALL ".join(branches), *words) if pairs else []
        depth: Counter[str] = Counter()
        heads: dict[str, list[float]] = {name: [] for name in queues}
        for row in rows:
            name, state = pairs[row["pair"]]
            depth[name] += row["jobs"]
            times = (unix_time(value, settings.time_zone) for value in json.loads(row["head"] or "[]"))
            heads[name] += [time for time in times if time is not None and time <= ctx.now()]
            ctx.measure(_JOBS, row["jobs"], queue=name, status=state)
        return [Waiting(name, depth[name], tuple(sorted(heads[name])[:HEAD])) for name in queues]

    async def _found_queues(self, connection: Any, table: str, queue: str, status: str) -> tuple[str, ...]:
        states = self.settings.waiting_statuses
        matches = " OR ".join(f"{status} = ${index + 1}" for index in range(len(states)))
        rows = await connection.fetch(
            f"SELECT DISTINCT name::text FROM (SELECT {queue} AS name FROM {table} WHERE {matches} LIMIT {CAP}) AS s "
            f"WHERE name IS NOT NULL ORDER BY 1 LIMIT {MAX_QUEUES}",
            *states,
        )
        return tuple(row["name"] for row in rows)

    def _judge(self, ctx: ProbeContext, waiting: Iterable[Waiting]) -> Iterator[Finding]:
        now, memory = ctx.now(), dict(ctx.memory.get("heads", {}))
        heads = {}
        for seen in waiting:
            limits = self.settings.limits_of(seen.queue)
            age = now - seen.due[0] if seen.due else 0.0
            ctx.measure(_OLDEST, age, queue=seen.queue)
            if seen.depth > limits.depth or age > limits.age:
                yield Finding.of(
                    self.Reason.BACKLOG,
                    f"{seen.queue}: {seen.depth} jobs wait (limit {limits.depth}), the oldest for "
                    f"{format_duration(round(age))} (limit {format_duration(limits.age)})",
                    seen.queue,
                )
            if not seen.due:
                continue
            since, head = watch_head(memory.get(seen.queue), seen.due, now)
            heads[seen.queue] = [since, list(head)]
            if now - since > limits.stalled:
                yield Finding.of(
                    self.Reason.STALLED,
                    f"{seen.queue}: none of the oldest jobs has left for {format_duration(round(now - since))}",
                    seen.queue,
                )
        ctx.memory["heads"] = heads

    async def _wrong_sources(self, ctx: ProbeContext, connection: Any) -> list[Finding]:
        """PGMQ names its tables ``pgmq.q_NAME`` and takes no dots in NAME; a platform that fills ``jobs`` may seed such
        twins, which stay empty. A name is wrong when it has no job but the same name with a dot has."""
        settings: JobQueue.Settings = self.settings
        if settings.table.startswith("pgmq."):
            found = await connection.fetchval(
                "SELECT relname FROM pg_class WHERE relname = 'jobs' AND relkind IN ('r', 'p')"
            )
            if found:
                detail = f"table {settings.table} is PGMQ's, but there is a table jobs; set table"
                return [Finding.of(self.Reason.WRONG_QUEUE_SOURCE, detail)]
        now, checked = ctx.now(), dict(ctx.memory.get("right_until", {}))
        findings = []
        for name in settings.queues:
            twin = name.replace("_", ".", 1)
            if "." in name or twin == name or checked.get(name, 0.0) > now:
                continue
            if not await self._ever(connection, name) and await self._ever(connection, twin):
                detail = f"{name} has no job, {twin} has: the name is that of a PGMQ twin; set queues"
                findings.append(Finding.of(self.Reason.WRONG_QUEUE_SOURCE, detail, name))
            else:
                checked[name] = now + RECHECK_SOURCE
        ctx.memory["right_until"] = {name: until for name, until in checked.items() if name in settings.queues}
        return findings

    async def _missing(self, ctx: ProbeContext, connection: Any) -> list[Finding]:
        if not self.settings.must_exist:
            return []
        seen = [name for name in ctx.memory.get("seen", []) if name in self.settings.queues]
        seen += [name for name in self.settings.queues if name not in seen and await self._ever(connection, name)]
        ctx.memory["seen"] = seen
        absent = [name for name in self.settings.queues if name not in seen]
        return [Finding.of(self.Reason.QUEUE_MISSING, f"{name} has never had a job", name) for name in absent]

    async def _ever(self, connection: Any, queue: str) -> bool:
        table, column = quoted(self.settings.table), quoted(self.settings.queue_column)
        return bool(await connection.fetchval(f"SELECT EXISTS (SELECT FROM {table} WHERE {column} = $1)", queue))

    async def _dead_letters(self, ctx: ProbeContext, connection: Any, dead: DeadLetters) -> list[Finding]:
        settings: JobQueue.Settings = self.settings
        source = f"(\n{dead.query}\n) AS q" if dead.query else quoted(dead.table)
        time = quoted(dead.time_column) if dead.time_column else "NULL"
        cap = max([CAP, *(settings.limits_of(name).dead_letters + 1 for name in settings.queues)])
        rows = await connection.fetch(
            f"SELECT name::text, count(*) AS jobs, max(t) AS newest FROM (SELECT {quoted(dead.queue_column)} AS name, "
            f"{time} AS t FROM {source} LIMIT {cap}) AS dead GROUP BY 1 ORDER BY 2 DESC LIMIT {MAX_QUEUES}"
        )
        counts = dict.fromkeys(settings.queues, 0) | {row["name"] or "": row["jobs"] for row in rows}
        newest = {row["name"] or "": unix_time(row["newest"], settings.time_zone) for row in rows}
        findings = []
        for queue, count in counts.items():
            ctx.measure(_DEAD, count, queue=queue)
            if count > settings.limits_of(queue).dead_letters:
                at = newest[queue]
                ago = f", the newest {format_duration(max(0, round(ctx.now() - at)))} ago" if at is not None else ""
                findings.append(Finding.of(self.Reason.DEAD_LETTERS, f"{queue}: {count} dead letters{ago}", queue))
        return findings


def watch_head(before: Sequence[Any] | None, due: tuple[float, ...], now: float) -> tuple[float, tuple[float, ...]]:
    """Since when none of the oldest jobs has left, and which those were.

    ``before``: what this function gave for the run before; None when nothing waited then. A job is known by its time.
    """
    if before is not None:
        since, head = float(before[0]), tuple(before[1])
        if not Counter(head) - Counter(due):
            return since, head
    return now, due


def _with_settings(detail: str, settings: JobQueue.Settings) -> str:
    """The server's message and which settings name what it complains about."""
    dead = settings.dead_letters or DeadLetters()
    named = {
        "table": settings.table,
        "queue_column": settings.queue_column,
        "status_column": settings.status_column,
        "time_column": settings.time_column,
        "dead_letters.table": dead.table,
        "dead_letters.queue_column": dead.queue_column if settings.dead_letters else "",
        "dead_letters.time_column": dead.time_column,
        "waiting_statuses": next((state for state in settings.waiting_statuses if f'"{state}"' in detail), ""),
    }
    guilty = [setting for setting, name in named.items() if name and re.search(rf"\b{re.escape(name)}\b", detail)]
    return f"{detail}; set {' or '.join(guilty)}" if guilty else detail

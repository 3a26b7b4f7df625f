"""`job_queue`: a table-backed queue, judged from the platform's own tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from tocsin.sdk.postgres import read_only, targets_of, unix_time
from tocsin.sdk.quantities import format_duration
from tocsin.sdk.sql_text import Name, Select, quoted
from tocsin_probes.job_queue.jobs import HEAD, MAX_QUEUES, SAMPLED, UNTIMED, Jobs, Waiting

CAP = SAMPLED
"""Jobs counted at most for each queue and status; a depth limit above it raises the cap."""

MAX_UNLISTED = 20
"""Statuses that are remembered, of those that do not wait."""

RECHECK = 300.0
"""Seconds for which what was found to be right about queues and statuses is not checked again."""

_JOBS = Gauge("tocsin_queue_jobs", "Jobs in a waiting status, counted up to the probe's cap.", ("queue", "status"))
_SCHEDULED = Gauge(
    "tocsin_queue_scheduled_jobs", "Of the jobs in a waiting status those that are not due yet.", ("queue",)
)
_TAKEN = Gauge(
    "tocsin_queue_taken_per_minute",
    "Jobs that were due at the run before and wait no more, a minute, without those that came and went in between.",
    ("queue",),
)
_OLDEST = Gauge("tocsin_queue_oldest_seconds", "Age of the oldest waiting job that is due.", ("queue",))
_DEAD = Gauge("tocsin_queue_dead_letters", "Dead letters, counted up to the probe's cap.", ("queue",))
_NEWEST_DEAD = Gauge(
    "tocsin_queue_dead_letter_newest_timestamp_seconds", "When the newest dead letter was given up.", ("queue",)
)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class QueueLimits(_Part):
    """What is still well, for each queue."""

    depth: int = Field(default=1000, ge=0)
    """Of the jobs that are due."""
    age: Seconds = 900.0
    """Of the oldest job that is due."""
    stalled: Seconds = 900.0
    """How long jobs may wait without any of the oldest 20 leaving; longer than the longest job takes."""
    dead_letters: int = Field(default=0, ge=0)
    growth: GrowthLimit | None = None
    """Of the dead letters, ``{rows, over}``."""


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
class Queue:
    """One queue in all its waiting statuses; the fields are those of `jobs.Waiting`, together."""

    name: str
    jobs: int
    scheduled: int
    still: int | None
    due: tuple[float, ...]

    @classmethod
    def of(cls, name: str, parts: Sequence[Waiting]) -> Self:
        still = [part.still for part in parts if part.still is not None]
        return cls(
            name,
            sum(part.jobs for part in parts),
            sum(part.scheduled for part in parts),
            sum(still) if len(still) == len(parts) else None,
            tuple(sorted(time for part in parts for time in part.due)[:HEAD]),
        )


class JobQueue(Probe):
    """The jobs of a queue in a database table are taken in time and end well."""

    kind = "job_queue"
    gauges = (_JOBS, _SCHEDULED, _TAKEN, _OLDEST, _DEAD, _NEWEST_DEAD)

    class Settings(ProbeSettings):
        dsn: Secret
        """A role that may read what the probe asks for, and needs no more: the session is read-only."""
        table: Name = "jobs"
        """The platform's table of jobs, one row a job; a schema may be part of the name."""
        queue_column: Name = "queue"
        status_column: Name = "status"
        time_column: Name = "created_at"
        """When a job became due; one in the future is not waiting yet, one without a time is due now."""
        time_zone: Zone = "UTC"
        """Where times without a zone were written."""
        queues: Words = ()
        """Empty: every queue that has a waiting job."""
        waiting_statuses: Words = ()
        """Statuses of jobs that wait to be taken. Empty: only dead letters are watched."""
        running_statuses: Words = ()
        """Statuses of jobs that are worked on."""
        ended_statuses: Words = ()
        """Statuses of jobs that are over. With it, or ``running_statuses``, a status in none of the three lists is
        ``status_unlisted``; without them only that none of ``waiting_statuses`` has been seen yet."""
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
        STATUS_UNLISTED = (
            "status_unlisted",
            "Jobs have other statuses than those that are configured, so it is not known which of them wait.",
            Severity.TICKET,
            Status.UNKNOWN,
        )
        GROWING = "growing", "More dead letters were added within the configured time than the limit."
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
            "3F000": self.Reason.TABLE_MISSING,
            "42703": self.Reason.COLUMN_MISSING,
            "42883": self.Reason.COLUMN_MISSING,
            "22P02": self.Reason.COLUMN_MISSING,
        }
        findings: list[Finding] = []
        async with read_only(ctx, settings.dsn, reasons, settings) as connection:
            jobs = Jobs(
                connection,
                table=settings.table,
                queue=settings.queue_column,
                status=settings.status_column,
                time=settings.time_column,
                zone=settings.time_zone,
            )
            if settings.waiting_statuses:
                findings += await self._wrong_sources(ctx, connection, jobs)
                if not findings:
                    findings += self._judge(ctx, await self._queues(ctx, jobs))
                    findings += await self._missing(ctx, jobs)
                    findings += await self._unlisted(ctx, jobs)
            if dead is not None:
                findings += await self._dead_letters(ctx, connection, dead)
        return Outcome.of(findings, "jobs are taken in time" if settings.waiting_statuses else "no dead letters")

    async def _queues(self, ctx: ProbeContext, jobs: Jobs) -> list[Queue]:
        settings: JobQueue.Settings = self.settings
        queues = settings.queues or await jobs.queues(settings.waiting_statuses)
        cap = max([CAP, *(settings.limits_of(name).depth + 1 for name in queues)])
        since = ctx.memory.get("counted_at", 0.0)
        found = await jobs.waiting(queues, settings.waiting_statuses, ctx.now(), since, cap)
        for part in found:
            ctx.measure(_JOBS, part.jobs + part.scheduled, queue=part.queue, status=part.status)
        seen = {part.status for part in found if part.jobs or part.scheduled}
        known = {*ctx.memory.get("statuses_seen", ())} & {*settings.waiting_statuses}
        ctx.memory["statuses_seen"] = sorted(known | seen)
        return [Queue.of(name, [part for part in found if part.queue == name]) for name in queues]

    def _judge(self, ctx: ProbeContext, queues: Iterable[Queue]) -> Iterator[Finding]:
        now, memory = ctx.now(), dict(ctx.memory.get("heads", {}))
        heads, counted = {}, {}
        for queue in queues:
            name, limits = queue.name, self.settings.limits_of(queue.name)
            age = now - queue.due[0] if queue.due and queue.due[0] != UNTIMED else 0.0
            ctx.measure(_OLDEST, age, queue=name)
            ctx.measure(_SCHEDULED, queue.scheduled, queue=name)
            self._measure_taken(ctx, queue)
            counted[name] = queue.jobs
            if queue.jobs > limits.depth or age > limits.age:
                yield Finding.of(
                    self.Reason.BACKLOG,
                    f"{name}: {queue.jobs} jobs wait (limit {limits.depth}), the oldest for "
                    f"{format_duration(round(age))} (limit {format_duration(limits.age)})",
                    name,
                )
            if not queue.due:
                continue
            since, head = watch_head(memory.get(name), queue.due, now)
            heads[name] = [since, list(head)]
            if now - since > limits.stalled:
                yield Finding.of(
                    self.Reason.STALLED,
                    f"{name}: none of the oldest jobs has left for {format_duration(round(now - since))}",
                    name,
                )
        ctx.memory["heads"] = heads
        ctx.memory["counted"], ctx.memory["counted_at"] = counted, now

    def _measure_taken(self, ctx: ProbeContext, queue: Queue) -> None:
        """From what was due at the run before; nothing at the first run, and nothing while the cap hides the rest."""
        before, seconds = ctx.memory.get("counted", {}).get(queue.name), ctx.now() - ctx.memory.get("counted_at", 0.0)
        if before is not None and before < CAP and queue.still is not None and seconds > 0:
            ctx.measure(_TAKEN, max(0, before - queue.still) / seconds * 60, queue=queue.name)

    async def _unlisted(self, ctx: ProbeContext, jobs: Jobs) -> list[Finding]:
        """A waiting status that is misspelt, or that a release renamed, finds no job and would look like peace."""
        settings: JobQueue.Settings = self.settings
        lists = {*settings.waiting_statuses, *settings.running_statuses, *settings.ended_statuses}
        told = ctx.memory.get("statuses")
        if told is None or told[0] != sorted(lists) or told[1] <= ctx.now():
            others = sorted({*await jobs.statuses(settings.ended_statuses)} - {*settings.waiting_statuses})
            told = [sorted(lists), ctx.now() + RECHECK, others[:MAX_UNLISTED]]
            ctx.memory["statuses"] = told
        elsewhere = ("running_statuses", "ended_statuses") if lists != {*settings.waiting_statuses} else ()
        unlisted = [status for status in told[2] if status not in lists]
        if not unlisted or (not elsewhere and ctx.memory.get("statuses_seen")):
            return []
        names = " or ".join(self._named(name) for name in ("waiting_statuses", *elsewhere))
        detail = f"jobs have the status {', '.join(unlisted[:5])}, which is not configured; set {names}"
        return [Finding.of(self.Reason.STATUS_UNLISTED, detail)]

    def _named(self, setting: str) -> str:
        reference = self.settings.references.get(setting)
        variables = " or ".join(name for name, _ in reference.parts) if reference is not None else ""
        return f"{variables} ({setting})" if variables else setting

    async def _wrong_sources(self, ctx: ProbeContext, connection: Any, jobs: Jobs) -> list[Finding]:
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
            if not await jobs.ever(name) and await jobs.ever(twin):
                detail = f"{name} has no job, {twin} has: the name is that of a PGMQ twin; set queues"
                findings.append(Finding.of(self.Reason.WRONG_QUEUE_SOURCE, detail, name))
            else:
                checked[name] = now + RECHECK
        ctx.memory["right_until"] = {name: until for name, until in checked.items() if name in settings.queues}
        return findings

    async def _missing(self, ctx: ProbeContext, jobs: Jobs) -> list[Finding]:
        if not self.settings.must_exist:
            return []
        seen = [name for name in ctx.memory.get("seen", []) if name in self.settings.queues]
        seen += [name for name in self.settings.queues if name not in seen and await jobs.ever(name)]
        ctx.memory["seen"] = seen
        absent = [name for name in self.settings.queues if name not in seen]
        return [Finding.of(self.Reason.QUEUE_MISSING, f"{name} has never had a job", name) for name in absent]

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
        if sum(row["jobs"] for row in rows) == cap:
            # Those beyond the cap may be newer.
            newest = {}
        findings = []
        for queue, count in counts.items():
            ctx.measure(_DEAD, count, queue=queue)
            at = newest.get(queue)
            if at is not None:
                ctx.measure(_NEWEST_DEAD, at, queue=queue)
            if count > settings.limits_of(queue).dead_letters:
                ago = f", the newest {format_duration(max(0, round(ctx.now() - at)))} ago" if at is not None else ""
                findings.append(Finding.of(self.Reason.DEAD_LETTERS, f"{queue}: {count} dead letters{ago}", queue))
        return [*findings, *self._growth(ctx, counts)]

    def _growth(self, ctx: ProbeContext, counts: Mapping[str, int]) -> list[Finding]:
        past, kept, findings = ctx.memory.get("dead", {}), {}, []
        for queue, count in counts.items():
            limit = self.settings.limits_of(queue).growth
            if limit is None:
                continue
            kept[queue], more = grown(past.get(queue, ()), count, ctx.now(), limit.over)
            if more > limit.rows:
                within = format_duration(limit.over)
                detail = f"{queue}: {more} more dead letters within {within}, the limit is {limit.rows}"
                findings.append(Finding.of(self.Reason.GROWING, detail, queue))
        ctx.memory["dead"] = kept
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

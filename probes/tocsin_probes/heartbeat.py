"""`heartbeat`: something else has run recently, by the sign of life that it leaves."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Self

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

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
    Zone,
)
from tocsin.sdk.faults import explain
from tocsin.sdk.files import look_at
from tocsin.sdk.http import HttpUrl, TlsSettings, origin, shown_url
from tocsin.sdk.postgres import (
    COLUMN_MISSING,
    QUERY_ERROR,
    TABLE_MISSING,
    read_only,
    reasons_of_query,
    targets_of,
    unix_time,
)
from tocsin.sdk.quantities import format_duration
from tocsin.sdk.sql_text import Select

MAX_LINE = 4096
"""Characters of a sample that is read, its labels included."""
HEAD_LINES = 20
CLOCK_TOLERANCE = 300.0
"""Seconds that a sign of life may lie in the future."""

_BEAT = Gauge("tocsin_heartbeat_timestamp_seconds", "When the newest sign of life was left.")


class MetricSource(BaseModel):
    """A metric in Prometheus' text format."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    url: HttpUrl
    name: str
    labels: Mapping[str, str] = {}
    """Labels that a sample must have, among others."""
    tls: TlsSettings = TlsSettings()


def _where_there_is_one(given: object) -> object:
    """Nothing for a source without an address, as an unset variable leaves it."""
    return None if isinstance(given, dict) and not given.get("url") else given


Metric = Annotated[MetricSource | None, BeforeValidator(_where_there_is_one)]


class Heartbeat(Probe):
    """A worker, a backup or a cron job has left its sign of life recently enough."""

    kind = "heartbeat"
    gauges = (_BEAT,)

    class Settings(ProbeSettings):
        max_age: Seconds
        """Of the newest sign of life."""
        dsn: Secret | None = None
        """A role that may read what the query asks for, and needs no more."""
        query: Select | None = None
        """One SELECT; the newest value of its first column is the sign of life."""
        time_zone: Zone = "UTC"
        """Where times without a zone were written."""
        file: str = ""
        """A file or folder whose time of modification is the sign of life."""
        metric: Metric = None
        """A metric whose value is a Unix time; of several samples the newest counts."""
        activity: Metric = None
        """A counter of what should leave signs of life, all samples together: for what is silent with nothing to
        do. A sign of life is then late only if this has grown since it became too old."""

        @model_validator(mode="after")
        def _one_source(self) -> Self:
            sources = [self.query, self.file, self.metric]
            # One that is there and empty is an unset variable: a contract that is missing.
            named = self.model_fields_set & {"query", "file", "metric"}
            if bool(self.dsn) != bool(self.query) or sum(map(bool, sources)) > 1 or not named:
                raise ValueError("set exactly one of: dsn and query, file, metric")
            return self

        def targets(self) -> tuple[str, ...]:
            database = targets_of(self.dsn) if self.dsn is not None else ()
            metrics = (origin(source.url) for source in (self.metric, self.activity) if source)
            return tuple(dict.fromkeys((*database, *metrics)))

    class Reason(ReasonEnum):
        LATE = "late", "The newest sign of life is older than the limit."
        NEVER_SEEN = "never_seen", "There is no sign of life at all."
        IN_FUTURE = (
            "in_future",
            "The newest sign of life lies in the future: a clock or the time zone is wrong.",
            Severity.TICKET,
            Status.UNKNOWN,
        )
        TABLE_MISSING = TABLE_MISSING
        COLUMN_MISSING = COLUMN_MISSING
        QUERY_ERROR = QUERY_ERROR

    async def run(self, ctx: ProbeContext) -> Outcome:
        settings: Heartbeat.Settings = self.settings
        # The counter before the sign: what it has counted has left its sign by then.
        count = await self._activity(ctx)
        beat = await self._newest(ctx)
        if beat is None:
            return Outcome.bad(self.Reason.NEVER_SEEN, "no sign of life")
        ctx.measure(_BEAT, beat)
        age = ctx.now() - beat
        if age < -CLOCK_TOLERANCE:
            return Outcome.bad(self.Reason.IN_FUTURE, f"{format_duration(round(-age))} ahead")
        shown = f"{format_duration(max(0, round(age)))} ago, the limit is {format_duration(settings.max_age)}"
        if settings.activity is not None:
            return self._judge_activity(ctx, beat, count, shown, late=age > settings.max_age)
        return Outcome.bad(self.Reason.LATE, shown) if age > settings.max_age else Outcome.ok(shown)

    async def _activity(self, ctx: ProbeContext) -> float | Finding:
        """What the counter stands at, or why it cannot be told."""
        source = self.settings.activity
        if source is None:
            return 0.0
        try:
            found = await _samples(ctx, source)
        except (ProbeFault, OSError) as error:
            return Finding.of(CommonReason.DEPENDENCY_UNKNOWN, f"{source.name}: {explain(error).detail}")
        if found is None:
            return Finding.of(CommonReason.DEPENDENCY_UNKNOWN, f"no metric {source.name} at {shown_url(source.url)}")
        count = float(sum(found))
        if not math.isfinite(count):
            return Finding.of(CommonReason.DEPENDENCY_UNKNOWN, f"{source.name} is {count}, not a count")
        return count

    def _judge_activity(
        self, ctx: ProbeContext, beat: float, count: float | Finding, shown: str, *, late: bool
    ) -> Outcome:
        """``memory["quiet"]``: the newest sign, where the counter stood when it became too old, when this was seen."""
        sign, stood, ran_at = [*ctx.memory.get("quiet", (None, 0.0)), 0.0][:3]
        if not late:
            if isinstance(count, float):
                ctx.memory["quiet"] = [beat, count, ctx.now()]
            return Outcome.ok(shown)
        if isinstance(count, Finding):
            return Outcome.of([Finding(count.reason, count.status, count.severity, "", f"{shown}; {count.detail}")])
        # A sign from before the last run that was not seen then has come late itself: nothing begins anew with it.
        same = sign is not None and (sign == beat or beat < ran_at - CLOCK_TOLERANCE)
        before = stood if same else count
        if count < before:
            before = 0.0  # it was started anew
        ctx.memory["quiet"] = [beat, before, ctx.now()]
        if count > before:
            return Outcome.bad(self.Reason.LATE, f"{shown}; {count - before:g} counted meanwhile")
        return Outcome.ok(f"{shown}, and there was nothing to do")

    async def _newest(self, ctx: ProbeContext) -> float | None:
        settings: Heartbeat.Settings = self.settings
        if settings.metric is not None:
            return _latest(settings.metric.name, await _samples(ctx, settings.metric) or [])
        if not settings.file and not settings.query:
            raise ProbeFault(CommonReason.CONTRACT_MISSING, "set one of: dsn and query, file, metric")
        if settings.query is None or settings.dsn is None:
            return await look_at(ctx, settings.file, lambda: _modified(settings.file))
        async with read_only(ctx, settings.dsn, reasons_of_query(self.Reason), settings) as connection:
            value = await connection.fetchval(f"SELECT max(beat) FROM (\n{settings.query}\n) AS q (beat)")
        return unix_time(value, settings.time_zone)


async def _samples(ctx: ProbeContext, source: MetricSource) -> list[float] | None:
    """The values of the matching samples; None when there is no metric of this name at all."""
    answer = (await ctx.http.fetch("GET", source.url, tls=source.tls)).expect(200)
    if answer.truncated:
        raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"more than {len(answer.body)} bytes of metrics")
    samples = await asyncio.to_thread(_parsed, answer.text(), source.name)
    if not samples:
        return None
    return [float(sample.value) for sample in samples if source.labels.items() <= sample.labels.items()]


def _parsed(text: str, name: str) -> list[Sample]:
    """The samples of one name. Of a body without any the beginning is read, to tell whether it is of this format."""
    lines = [line.lstrip(" \t") for line in text.split("\n")]
    begins = (f"{name}{{", f"{name} ", f"{name}\t", f'{{"{name}"')
    own = [line for line in lines if line.startswith(begins)]
    # The parser takes quadratic time for the labels of a line.
    chosen = own or [line for line in lines[:HEAD_LINES] if len(line) <= MAX_LINE]
    if any(len(line) > MAX_LINE for line in chosen):
        raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"a line of more than {MAX_LINE} characters of metrics")
    try:
        families = text_string_to_metric_families("\n".join(chosen) + "\n")
        return [sample for family in families for sample in family.samples if sample.name == name]
    except ValueError as error:
        raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"not Prometheus' text format: {error}") from error


def _latest(name: str, times: Sequence[float]) -> float | None:
    """The newest that is a time; None when there are none at all."""
    known = [each for each in times if math.isfinite(each)]
    if times and not known:
        raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"{name} is {times[0]}, not a time")
    return max(known, default=None)


def _modified(path: str) -> float | None:
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ProbeFault(CommonReason.CREDENTIALS_MISSING, f"cannot look at {path}: {error.strerror}") from error

"""`heartbeat`: something else has run recently, by the sign of life that it leaves."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Self

from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel, ConfigDict, model_validator

from tocsin.sdk import (
    CommonReason,
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
from tocsin.sdk.http import HttpUrl, TlsSettings, origin
from tocsin.sdk.postgres import read_only, targets_of, unix_time
from tocsin.sdk.quantities import format_duration
from tocsin.sdk.sql_text import Select

CLOCK_TOLERANCE = 300.0
"""Seconds that a sign of life may lie in the future."""

_BEAT = Gauge("tocsin_heartbeat_timestamp_seconds", "When the newest sign of life was left.")


class MetricSource(BaseModel):
    """A metric in Prometheus' text format whose value is a Unix time; of several samples the newest counts."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    url: HttpUrl
    name: str
    labels: Mapping[str, str] = {}
    """Labels that a sample must have, among others."""
    tls: TlsSettings = TlsSettings()


class Heartbeat(Probe):
    """A worker, a backup or a cron job has left its sign of life recently enough."""

    kind = "heartbeat"
    gauges = (_BEAT,)

    class Settings(ProbeSettings):
        max_age: Seconds
        """Of the newest sign of life."""
        dsn: Secret | None = None
        query: Select | None = None
        """One SELECT; the newest value of its first column is the sign of life."""
        time_zone: Zone = "UTC"
        """Where times without a zone were written."""
        file: str = ""
        """A file or folder whose time of modification is the sign of life."""
        metric: MetricSource | None = None

        @model_validator(mode="after")
        def _one_source(self) -> Self:
            if bool(self.dsn) != bool(self.query) or sum(map(bool, (self.query, self.file, self.metric))) != 1:
                raise ValueError("set exactly one of: dsn and query, file, metric")
            return self

        def targets(self) -> tuple[str, ...]:
            if self.dsn is not None:
                return targets_of(self.dsn)
            return (origin(self.metric.url),) if self.metric else ()

    class Reason(ReasonEnum):
        LATE = "late", "The newest sign of life is older than the limit."
        NEVER_SEEN = "never_seen", "There is no sign of life at all."
        IN_FUTURE = (
            "in_future",
            "The newest sign of life lies in the future: a clock or the time zone is wrong.",
            Severity.TICKET,
            Status.UNKNOWN,
        )
        QUERY_ERROR = "query_error", "The database cannot run the query.", Severity.TICKET, Status.UNKNOWN

    async def run(self, ctx: ProbeContext) -> Outcome:
        settings: Heartbeat.Settings = self.settings
        beat = await self._newest(ctx)
        if beat is None:
            return Outcome.bad(self.Reason.NEVER_SEEN, "no sign of life")
        ctx.measure(_BEAT, beat)
        age = ctx.now() - beat
        if age < -CLOCK_TOLERANCE:
            return Outcome.bad(self.Reason.IN_FUTURE, f"{format_duration(round(-age))} ahead")
        shown = f"{format_duration(max(0, round(age)))} ago, the limit is {format_duration(settings.max_age)}"
        return Outcome.bad(self.Reason.LATE, shown) if age > settings.max_age else Outcome.ok(shown)

    async def _newest(self, ctx: ProbeContext) -> float | None:
        settings: Heartbeat.Settings = self.settings
        if settings.metric is not None:
            return await self._metric(ctx, settings.metric)
        if settings.query is None or settings.dsn is None:
            return await asyncio.to_thread(_modified, settings.file)
        reasons = {
            "42501": CommonReason.CREDENTIALS_REJECTED,
            "42": self.Reason.QUERY_ERROR,
            "22": self.Reason.QUERY_ERROR,
        }
        async with read_only(ctx, settings.dsn, reasons) as connection:
            value = await connection.fetchval(f"SELECT max(beat) FROM (\n{settings.query}\n) AS q (beat)")
        return unix_time(value, settings.time_zone)

    async def _metric(self, ctx: ProbeContext, source: MetricSource) -> float | None:
        answer = (await ctx.http.fetch("GET", source.url, tls=source.tls)).expect(200)
        if answer.truncated:
            raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"more than {len(answer.body)} bytes of metrics")
        try:
            found = [
                sample.value
                for family in text_string_to_metric_families(answer.text())
                for sample in family.samples
                if sample.name == source.name and source.labels.items() <= sample.labels.items()
            ]
        except ValueError as error:
            raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"not Prometheus' text format: {error}") from error
        return max(found, default=None)


def _modified(path: str) -> float | None:
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ProbeFault(CommonReason.CREDENTIALS_MISSING, f"cannot look at {path}: {error.strerror}") from error

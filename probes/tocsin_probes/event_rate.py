"""`event_rate`: how often something happens, against limits and against its own past."""

from __future__ import annotations

import csv
import io
import json
import zoneinfo
from collections.abc import Iterator
from datetime import datetime
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
    Words,
    Zone,
)
from tocsin.sdk.postgres import (
    COLUMN_MISSING,
    QUERY_ERROR,
    TABLE_MISSING,
    evidence,
    read_only,
    reasons_of_query,
    targets_of,
)
from tocsin.sdk.sql_text import Name, Select, quoted

CAP = 100_000
"""Events of a window that are counted at most."""

TOP_SOURCES = 10

WEIGHT = 0.3
"""What the newest week counts for in the usual rate of an hour of the week; older weeks fade."""

_RATE = Gauge("tocsin_events_per_minute", "Events in the window, each minute, by what they are.", ("event",))
_SHARE = Gauge("tocsin_events_share", "Part of all events in the window that the watched ones are, 0 to 1.")
_SOURCES = Gauge("tocsin_event_sources", "Different sources of the watched events in the window.")
_USUAL = Gauge("tocsin_events_usual_per_minute", "What is usual at this hour of the week.")


class EventLimits(BaseModel):
    """What is still well; a limit that is not set does not judge."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    per_minute: float | None = Field(default=None, ge=0)
    times_usual: float | None = Field(default=None, gt=1)
    """Against what was usual at the same hour of earlier weeks, once two of them were seen."""
    share: float | None = Field(default=None, ge=0, le=1)
    source_share: float | None = Field(default=None, gt=0, le=1)
    """Part of the watched events that one source may cause."""
    sources: int | None = Field(default=None, ge=1)
    """From how many different sources the watched events may come."""
    identifiers: int | None = Field(default=None, ge=1)
    """How many different identifiers one source may ask for."""
    min_events: int = Field(default=50, ge=1)
    """Below so many events in the window shares and comparisons with the past say nothing."""


class EventRate(Probe):
    """Watched events happen no more often, and from no other pattern of sources, than is well or usual."""

    kind = "event_rate"
    gauges = (_RATE, _SHARE, _SOURCES, _USUAL)

    class Settings(ProbeSettings):
        dsn: Secret
        """A role that may read what the probe asks for, and needs no more: the session is read-only."""
        query: Select
        """One SELECT that returns one row an event, of any age; the window is applied to it from outside."""
        time_column: Name = "created_at"
        """A timestamp, with or without time zone; best with an index."""
        time_zone: Zone = "UTC"
        """Where times without a zone were written, and where the hours of the week are counted."""
        event_column: Name = "result"
        events: Words
        """The values of ``event_column`` that are watched."""
        source_column: Name = ""
        """Who caused an event, such as an address. Empty: sources are not judged."""
        identifier_column: Name = ""
        """What was asked for. Empty: scans are not judged."""
        window: Seconds = 300.0
        """How far back events are counted."""
        limits: EventLimits = EventLimits()

        @model_validator(mode="after")
        def _identifiers_of_a_source(self) -> Self:
            if self.identifier_column and not self.source_column:
                raise ValueError("identifier_column needs source_column: a scan is one source that asks for many")
            return self

        def targets(self) -> tuple[str, ...]:
            return targets_of(self.dsn)

    class Reason(ReasonEnum):
        RATE_HIGH = "rate_high", "The watched events happen more often than the limit, or than is usual at this hour."
        SHARE_HIGH = "share_high", "The watched events are a larger part of all events than the limit."
        SCAN_SUSPECTED = "scan_suspected", "One source asks for many different identifiers."
        MANY_SOURCES = "many_sources", "The watched events come from more sources than the limit.", Severity.TICKET
        FEW_SOURCES = "few_sources", "One source causes most of the watched events.", Severity.TICKET
        TABLE_MISSING = TABLE_MISSING
        COLUMN_MISSING = COLUMN_MISSING
        QUERY_ERROR = QUERY_ERROR

    async def run(self, ctx: ProbeContext) -> Outcome:
        settings: EventRate.Settings = self.settings
        async with read_only(ctx, settings.dsn, reasons_of_query(self.Reason), settings) as connection:
            # Times without a zone are compared in the session's.
            await connection.execute("SELECT set_config('TimeZone', $1, true)", settings.time_zone)
            seen = await connection.fetchrow(self._counting(False), settings.window, list(settings.events))
            if flooded := seen["total"] >= CAP:
                seen = dict(await connection.fetchrow(self._counting(True), settings.window, list(settings.events)))
                seen["total"] = CAP
            by_event = dict(zip(settings.events, json.loads(seen["by_event"]), strict=True))
            minutes = settings.window / 60
            rate = seen["watched"] / minutes
            past = Past(ctx.memory, ctx.now(), settings.time_zone)
            usual = past.usual()
            findings = list(self._judge(seen, rate, usual)) or list(self._hidden(seen))
            if findings and settings.source_column:
                async with evidence(ctx, connection, "sources"):
                    ctx.attach("sources.csv", await self._top_sources(connection, flooded), "text/csv")
        if usual is not None:
            # So that an attack does not become usual.
            usual_at_most = max(usual * (settings.limits.times_usual or 2.0), settings.limits.min_events / minutes)
            past.add(min(rate, usual_at_most))
        else:
            past.add(rate)
        for event, count in by_event.items():
            ctx.measure(_RATE, count / minutes, event=event)
        if seen["total"] and not flooded:
            ctx.measure(_SHARE, seen["watched"] / seen["total"])
        if settings.source_column:
            ctx.measure(_SOURCES, seen["sources"])
        if usual is not None:
            ctx.measure(_USUAL, usual)
        total = f"at least {CAP}" if flooded else seen["total"]
        return Outcome.of(findings, f"{seen['watched']} of {total} events in the window are watched ones")

    def _judge(self, seen: Any, rate: float, usual: float | None) -> Iterator[Finding]:
        limits, reason = self.settings.limits, self.Reason
        total, watched = seen["total"], seen["watched"]
        if limits.per_minute is not None and rate > limits.per_minute:
            detail = f"{rate:.1f} a minute, the limit is {limits.per_minute:g}{self._from(seen)}"
            yield Finding.of(reason.RATE_HIGH, detail, "limit")
        if watched >= limits.min_events:
            if limits.times_usual is not None and usual is not None and rate > usual * limits.times_usual:
                detail = f"{rate:.1f} a minute, usual at this hour are {usual:.1f}{self._from(seen)}"
                yield Finding.of(reason.RATE_HIGH, detail, "past")
            if limits.share is not None and total < CAP and watched > limits.share * total:
                yield Finding.of(
                    reason.SHARE_HIGH, f"{watched / total:.0%} of {total}, the limit is {limits.share:.0%}"
                )
            if limits.source_share is not None and seen["top_source"] > limits.source_share * watched:
                part = seen["top_source"] / watched
                yield Finding.of(reason.FEW_SOURCES, f"one of {seen['sources']} sources causes {part:.0%} of {watched}")
        if limits.sources is not None and seen["sources"] > limits.sources:
            yield Finding.of(reason.MANY_SOURCES, f"{seen['sources']} sources, the limit is {limits.sources}")
        if limits.identifiers is not None and seen["top_identifiers"] > limits.identifiers:
            detail = f"one source asked for {seen['top_identifiers']} identifiers, the limit is {limits.identifiers}"
            yield Finding.of(reason.SCAN_SUSPECTED, detail)

    def _hidden(self, seen: Any) -> Iterator[Finding]:
        """What cannot be told where not all events were counted."""
        limits = self.settings.limits
        if seen["watched"] >= CAP:
            yield Finding.of(CommonReason.DEPENDENCY_UNKNOWN, f"more than {CAP} watched events: shorten window", "cap")
        elif (
            limits.share is not None
            and seen["total"] >= CAP
            and seen["watched"] >= max(limits.min_events, limits.share * CAP)
        ):
            detail = f"more than {CAP} events: limits.share cannot be judged; shorten window"
            yield Finding.of(CommonReason.DEPENDENCY_UNKNOWN, detail, "cap")

    def _from(self, seen: Any) -> str:
        """Few sources or many: the first thing to know about a rate."""
        if not self.settings.source_column or not seen["watched"]:
            return ""
        return f"; from {seen['sources']} sources, the busiest causes {seen['top_source'] / seen['watched']:.0%}"

    def _events(self, flooded: bool) -> str:
        """``flooded``: only the watched events are looked at, because a cap of all would hide some of them."""
        settings: EventRate.Settings = self.settings
        columns = {"event": settings.event_column, "source": settings.source_column, "id": settings.identifier_column}
        chosen = ", ".join(
            f"{quoted(own)}::text AS {name}" if own else f"NULL AS {name}" for name, own in columns.items()
        )
        only = f"AND {quoted(settings.event_column)}::text = ANY($2::text[]) " if flooded else ""
        return (
            f"WITH events AS MATERIALIZED (SELECT {chosen} FROM (\n{settings.query}\n) AS q "
            f"WHERE {quoted(settings.time_column)} > now() - make_interval(secs => $1) {only}LIMIT {CAP}), "
            f"watched AS MATERIALIZED (SELECT * FROM events WHERE event = ANY($2::text[])) "
        )

    def _counting(self, flooded: bool) -> str:
        return self._events(flooded) + (
            "SELECT (SELECT count(*) FROM events) AS total, (SELECT count(*) FROM watched) AS watched, "
            "(SELECT count(DISTINCT source) FROM watched) AS sources, "
            "to_json(ARRAY(SELECT (SELECT count(*) FROM watched WHERE event = e) "
            "FROM unnest($2::text[]) WITH ORDINALITY AS w (e, n) ORDER BY n))::text AS by_event, "
            "coalesce((SELECT count(*) AS n FROM watched WHERE source IS NOT NULL GROUP BY source "
            "ORDER BY n DESC LIMIT 1), 0) AS top_source, "
            "coalesce((SELECT count(DISTINCT id) AS n FROM watched WHERE source IS NOT NULL "
            "GROUP BY source ORDER BY n DESC LIMIT 1), 0) AS top_identifiers"
        )

    async def _top_sources(self, connection: Any, flooded: bool) -> str:
        rows = await connection.fetch(
            self._events(flooded)
            + "SELECT left(source, 100) AS source, count(*) AS events, count(DISTINCT id) AS identifiers "
            f"FROM watched GROUP BY 1 ORDER BY 2 DESC LIMIT {TOP_SOURCES}",
            self.settings.window,
            list(self.settings.events),
        )
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("source", "events", "identifiers"))
        writer.writerows(rows)
        return text.getvalue()


class Past:
    """The usual rate of each of the week's 168 hours, in the probe's memory.

    ``memory["hour"]``: ``[hour since 1970, sum of its rates, how many]``. ``memory["week"]``: by hour of the week
    ``[usual rate, weeks seen]``. An hour counts when it is over.
    """

    def __init__(self, memory: Any, now: float, zone: str) -> None:
        self._memory = memory
        self._hour = int(now // 3600)
        self._zone = zoneinfo.ZoneInfo(zone)

    def usual(self) -> float | None:
        """Events a minute; None before two weeks of this hour were seen."""
        rate, weeks = self._memory.get("week", {}).get(self._slot(self._hour), (0.0, 0))
        return rate if weeks >= 2 else None

    def add(self, rate: float) -> None:
        """One run's rate. Closes the hour before when it is over."""
        hour, total, runs = self._memory.get("hour", (self._hour, 0.0, 0))
        if hour != self._hour and runs:
            week = dict(self._memory.get("week", {}))
            slot = self._slot(hour)
            known, weeks = week.get(slot, (0.0, 0))
            mean = total / runs
            week[slot] = [mean if not weeks else known + WEIGHT * (mean - known), weeks + 1]
            self._memory["week"] = week
            total, runs = 0.0, 0
        self._memory["hour"] = [self._hour, total + rate, runs + 1]

    def _slot(self, hour: int) -> str:
        local = datetime.fromtimestamp(hour * 3600, self._zone)
        return str(local.weekday() * 24 + local.hour)

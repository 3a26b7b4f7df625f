"""What the status page says, computed from a snapshot: pure, no HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from tocsin.board import RunRecord
from tocsin.exposing.documents import runbook_path
from tocsin.model import Entry, ProbeState, Severity, Status
from tocsin.sdk.quantities import format_duration

STRIP_RUNS = 30
STRIP_STEP = 5
STRIP_WIDTH = STRIP_RUNS * STRIP_STEP


class Light(StrEnum):
    """How a probe is shown: the confirmed status, and what it asks of the reader. Worst first."""

    PAGE = "page"
    TICKET = "ticket"
    FAILED = "failed"
    """Failed and not alerting: an effect that waits for its cause, or a maintenance window."""
    UNKNOWN = "unknown"
    NEVER = "never"
    OK = "ok"

    @property
    def rank(self) -> int:
        return list(Light).index(self)


@dataclass(frozen=True, slots=True)
class Moment:
    """A time for people: how long ago, and the exact one for the tooltip and for machines."""

    ago: str
    iso: str


@dataclass(frozen=True, slots=True)
class Strip:
    """The latest runs as a picture: for each status an SVG path of strokes, newest on the right, in a box of
    `STRIP_WIDTH` by 18. Those of unknown are half as high, so that the picture does not speak by colour alone."""

    paths: tuple[tuple[str, str], ...]
    words: str


@dataclass(frozen=True, slots=True)
class Row:
    """One probe on the status page. ``used``: the share of its timeout that the latest run took, 0 to 1.

    ``latched``: it failed, cannot tell now, and alerts until it is proven ok.
    """

    name: str
    kind: str
    light: Light
    word: str
    latched: bool
    severity: str | None
    reason: str | None
    more_findings: int
    detail: str
    runbook: str
    caused_by: str | None
    confirming: str | None
    since: Moment | None
    last_run: Moment | None
    overdue: bool
    duration: str | None
    timeout: str
    used: float
    strip: Strip


@dataclass(frozen=True, slots=True)
class Group:
    """The probes of one incident of one system, worst first."""

    system: str
    incident: str
    runbook: str
    light: Light
    rows: tuple[Row, ...]
    totals: tuple[tuple[Light, int], ...]


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole status page. ``headline`` is what matters, ``rest`` the other probes in the same words."""

    headline: str
    rest: str
    light: Light
    groups: tuple[Group, ...]


def overview(
    entries: Mapping[str, Entry], recent: Callable[[str], Iterable[RunRecord]], now: float, *, alive: bool = True
) -> Overview:
    """The status page for this snapshot. ``alive``: whether the scheduler lives; if not, all of this is old."""
    by_incident: dict[tuple[str, str], list[Row]] = {}
    for name, entry in entries.items():
        key = (entry.spec.system, entry.spec.incident)
        by_incident.setdefault(key, []).append(row(entry, recent(name), now))
    groups = sorted(
        (_group(system, incident, rows) for (system, incident), rows in by_incident.items()),
        key=lambda group: (group.light.rank, group.system, group.incident),
    )
    rows = [line for group in groups for line in group.rows]
    counts = {light: sum(line.light is light for line in rows) for light in Light}
    overdue = sum(line.overdue for line in rows)
    worst = min((line.light for line in rows), key=lambda light: light.rank, default=Light.NEVER)
    headline, rest = verdict(counts, overdue)
    if not alive:
        headline, rest = "Nothing is known now", f"Last known: {headline}{f', {rest}' if rest else ''}"
    if not alive or overdue:
        worst = min(worst, Light.UNKNOWN, key=lambda light: light.rank)
    return Overview(headline, rest, worst, tuple(groups))


def verdict(counts: Mapping[Light, int], overdue: int = 0) -> tuple[str, str]:
    """A headline in plain words, what asks for somebody or else the worst, and the rest in a second line.

    It never says that all is well while something is not known to be: ``overdue`` probes are not.
    """
    total = sum(counts.values())
    if total == 0:
        return "No probe is configured", ""
    if counts[Light.OK] == total and not overdue:
        return f"All {total} probes are ok" if total > 1 else "The one probe is ok", ""
    said = {
        Light.PAGE: ("{} page", "{} pages"),
        Light.TICKET: ("{} ticket", "{} tickets"),
        Light.FAILED: ("{} failed without alerting",) * 2,
        Light.UNKNOWN: ("{} cannot tell",) * 2,
        Light.NEVER: ("{} has not run yet", "{} have not run yet"),
        Light.OK: ("{} ok",) * 2,
    }
    parts = [said[light][count != 1].format(count) for light in Light if (count := counts[light])]
    loud = sum(counts[light] > 0 for light in (Light.PAGE, Light.TICKET))
    if overdue:
        parts.insert(loud, f"{overdue} overdue")
    return ", ".join(parts[: max(1, loud)]), ", ".join(parts[max(1, loud) :])


def entry_light(entry: Entry) -> Light:
    """How this probe is shown. An alert that is latched shows as such also while the latest runs cannot tell."""
    state = entry.state
    if state.alerting:
        return Light.PAGE if (state.severity or entry.spec.severity) is Severity.PAGE else Light.TICKET
    if state.last_run_at is None:
        return Light.NEVER
    return Light(state.status)


def row(entry: Entry, recent: Iterable[RunRecord], now: float) -> Row:
    """One probe as a line."""
    spec, state, run = entry.spec, entry.state, entry.run
    light = entry_light(entry)
    bad = state.status is not Status.OK
    reason = state.reason if bad else None
    return Row(
        name=spec.name,
        kind=spec.kind,
        light=light,
        word="not run yet" if light is Light.NEVER else state.status.value,
        latched=state.alerting and state.status is Status.UNKNOWN,
        severity=light.value if light in (Light.PAGE, Light.TICKET) else None,
        reason=reason,
        more_findings=max(0, len(state.findings) - 1) if bad else 0,
        detail=state.detail if state.last_run_at is not None else "",
        runbook=runbook_path(spec, reason),
        caused_by=state.caused_by,
        confirming=_confirming(entry),
        since=moment(state.since, now),
        last_run=moment(state.last_run_at, now),
        overdue=state.last_run_at is not None and now - state.last_run_at > 3 * spec.every + spec.timeout,
        duration=_short(run.duration_seconds) if run else None,
        timeout=format_duration(spec.timeout),
        used=min(1.0, run.duration_seconds / spec.timeout) if run and spec.timeout > 0 else 0.0,
        strip=strip(recent),
    )


def strip(recent: Iterable[RunRecord]) -> Strip:
    """The picture of the latest `STRIP_RUNS` runs, given oldest first."""
    statuses = [record.status for record in recent][-STRIP_RUNS:]
    start = STRIP_WIDTH - len(statuses) * STRIP_STEP
    strokes: dict[Status, list[str]] = {}
    for position, status in enumerate(statuses):
        top = 9 if status is Status.UNKNOWN else 1
        strokes.setdefault(status, []).append(f"M{start + position * STRIP_STEP + 2} 17V{top}")
    counted = ", ".join(f"{len(strokes[status])} {status}" for status in Status if status in strokes)
    return Strip(
        tuple((status.value, "".join(path)) for status, path in strokes.items()),
        f"latest {len(statuses)} runs: {counted}" if statuses else "no runs yet",
    )


def _confirming(entry: Entry) -> str | None:
    """How far the next change of status is confirmed, while the latest run disagrees with it."""
    state, spec = entry.state, entry.spec
    if state.last_status is None or state.last_status is state.status:
        return None
    if state.last_status is Status.OK:
        return f"ok {_of(state.ok_streak, spec.successes_to_recover)}"
    if state.last_status is Status.FAILED:
        return f"failed {_of(state.failed_streak, spec.failures_to_fail)}"
    return "latest run could not tell"


def _of(streak: int, needed: int) -> str:
    return f"{min(streak, needed)} of {needed}"


def _group(system: str, incident: str, rows: list[Row]) -> Group:
    ordered = tuple(sorted(rows, key=lambda row: (row.light.rank, row.name)))
    totals = tuple((light, count) for light in Light if (count := sum(row.light is light for row in ordered)))
    return Group(system, incident, f"{system}/{incident}", ordered[0].light, ordered, totals)


def dependents(entries: Mapping[str, Entry], name: str) -> list[str]:
    """The probes that name this one as what they depend on."""
    return sorted(other for other, entry in entries.items() if name in entry.spec.depends_on)


def moment(at: float | None, now: float) -> Moment | None:
    """A time as people say it; None stays None."""
    if at is None:
        return None
    iso = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return Moment(ago(now - at), iso)


def ago(seconds: float) -> str:
    """``just now``, ``42 s``, ``5 min``, ``3 h 20 min``, ``4 d``: two units at most, and none that do not matter."""
    whole = int(max(0.0, seconds))
    if whole < 2:
        return "just now"
    if whole < 120:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes < 60:
        return f"{minutes} min"
    if hours < 24:
        rest = minutes % 60
        return f"{hours} h {rest} min" if rest and hours < 10 else f"{hours} h"
    rest = hours % 24
    return f"{days} d {rest} h" if rest and days < 3 else f"{days} d"


def _short(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def streak(state: ProbeState) -> str:
    """The streaks that are not zero, for the probe's page."""
    named = (("failed", state.failed_streak), ("ok", state.ok_streak), ("unknown", state.unknown_streak))
    return ", ".join(f"{count} × {name}" for name, count in named if count) or "none"

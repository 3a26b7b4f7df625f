"""Whether what rang was right: pure, from notifications to verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tocsin.model import Severity
from tocsin.paging.drills.catalogue import Drill


@dataclass(frozen=True, slots=True)
class Ringing:
    """One alert inside a notification. ``section``: its runbook link from ``SYSTEM/`` on."""

    alert: str
    section: str
    severity: str
    firing: bool = True


@dataclass(frozen=True, slots=True)
class Notification:
    """What reached a receiver (``page``, ``ticket``, ``drill``) at one time (Unix seconds), for one incident."""

    receiver: str
    at: float
    firing: bool
    group: tuple[str, str]
    alerts: tuple[Ringing, ...]

    @property
    def sections(self) -> tuple[str, ...]:
        return tuple(sorted({alert.section for alert in self.alerts if alert.firing}))


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a drill went. ``page_seconds``: from fault to page; ``resolve_seconds``: from repair to resolve; None when
    that did not come, or was not to come."""

    drill: Drill
    problems: tuple[str, ...]
    page_seconds: float | None = None
    resolve_seconds: float | None = None

    @property
    def passed(self) -> bool:
        return not self.problems


@dataclass(frozen=True, slots=True)
class Times:
    """When the faults of a batch were caused and undone, in Unix seconds; by name, because each takes its time."""

    caused: dict[str, float]
    undone: dict[str, float]


Receivers = Mapping[Severity, str]

ROUTED: Receivers = {Severity.PAGE: "page", Severity.TICKET: "ticket"}
"""Where alerts come by the reference routing."""

DRILLED: Receivers = {Severity.PAGE: "drill", Severity.TICKET: "drill"}
"""Where they come from a platform whose alerts carry ``drill="true"``."""


def judge(
    drills: Sequence[Drill], heard: Iterable[Notification], times: Times, receivers: Receivers = ROUTED
) -> list[Verdict]:
    """One verdict a drill, for drills of different incidents that ran at once. What belongs to none is held against
    all of them, where it comes to a receiver at which they listen: their own, and that of pages."""
    rang = sorted(heard, key=lambda item: item.at)
    mine = {drill.group: drill for drill in drills}
    return [
        _verdict(
            drill,
            [item for item in rang if item.group == drill.group],
            [item for item in rang if item.group not in mine],
            times,
            receivers,
        )
        for drill in drills
    ]


def _verdict(
    drill: Drill, rang: list[Notification], strays: list[Notification], times: Times, receivers: Receivers
) -> Verdict:
    caused, undone = times.caused[drill.name], times.undone[drill.name]
    pages = any(expected.severity is Severity.PAGE for expected in drill.expected)
    receiver = receivers[Severity.PAGE if pages or not drill.expected else Severity.TICKET]
    # Whatever is drilled, and wherever its own page comes: nobody is to be woken.
    listened = {receiver, receivers[Severity.PAGE], ROUTED[Severity.PAGE]}
    firing = [item for item in rang if item.firing and item.receiver in listened]
    also = [
        f"{'/'.join(item.group)} rang too, at {', '.join(item.sections)}"
        for item in strays
        if item.firing and item.receiver in listened
    ]
    if not drill.expected:
        return Verdict(drill, tuple([f"rang at {', '.join(item.sections)}" for item in firing] + also))
    problems = list(also)
    first = next((item for item in firing if item.receiver == receiver), None)
    if first is None:
        problems.append(f"no {receiver} came within {drill.within:g} s")
        problems += [f"a {item.receiver} came, at {', '.join(item.sections)}" for item in firing]
        return Verdict(drill, tuple(problems))
    problems += _differences(drill, first)
    problems += [
        f"a second {item.receiver} came, at {', '.join(item.sections)}"
        for item in firing
        if item != first and not _shrinks(first, item, undone)
    ]
    took = max(0.0, first.at - caused)
    if took > drill.within:
        problems.append(f"the {receiver} came after {took:.0f} s, not within {drill.within:g} s")
    resolved = next(
        (item for item in rang if not item.firing and item.receiver == receiver and item.at >= undone), None
    )
    if resolved is None:
        problems.append("it did not resolve after the repair")
    if any(not item.firing and item.at < undone for item in rang):
        problems.append("it resolved before the repair")
    if resolved is not None and any(item.at > resolved.at for item in firing):
        problems.append("it came again after it had resolved")
    return Verdict(drill, tuple(problems), took, None if resolved is None else resolved.at - undone)


def _shrinks(first: Notification, later: Notification, undone: float) -> bool:
    """Whether it only says, after the repair, that some of the alerts are gone already."""
    still = [alert.alert for alert in later.alerts if alert.firing]
    before = [alert.alert for alert in first.alerts if alert.firing]
    return later.at >= undone and len(still) < len(before) and set(still) <= set(before)


def _differences(drill: Drill, first: Notification) -> list[str]:
    wanted = {(item.alert, item.section, str(item.severity)) for item in drill.expected}
    came = {(item.alert, item.section, item.severity) for item in first.alerts if item.firing}
    return [f"missing: {' '.join(item)}" for item in sorted(wanted - came)] + [
        f"not expected: {' '.join(item)}" for item in sorted(came - wanted)
    ]

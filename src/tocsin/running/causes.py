"""Who alerts: the latch over the graph of causes and effects. Pure.

A confirmed failure starts to alert unless something holds it back:

1. A dependency, direct or not, is bad: then this one is an effect and records the root-most of them as its cause.
   Bad is: alerting, or confirmed failed and not found ok since, or its latest run failed and the next one will tell,
   or it recovers from a cause of its own (3). Unknown is not a cause.
   A dependency that is worth a ticket explains no page. Dependencies that only ever fail without being confirmed are
   waited for no longer than they would have taken to confirm it; one that recovers, for as long as that should take.
2. A dependency has not been looked at since this failure was known, or since a restart. The wait is bounded: by the
   timeout of the dependency and `GRACE_SECONDS`. When the failure is confirmed it is asked again, because a fault may
   come piece by piece; that answer is waited for no longer than `GRACE_SECONDS`, nor than a part of the interval, so
   that what is ok now and then is heard before it is.
3. Its cause has recovered, and it has not failed ``failures_to_fail`` times since: what recovers takes its effects
   along, a little later. This wait is bounded too, so that an effect that flaps from then on is heard.
4. A maintenance window is open.

Suppress the start, never the end: what alerts goes on until a confirmed ok. A ticket that becomes a page is a start.
A page also takes ``failures_to_fail`` failed runs of page severity in a row, whatever the ticket has been through.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import NamedTuple

from tocsin.model import ProbeSpec, ProbeState, Severity, Status
from tocsin.running.confirmation import NO_FAILURE
from tocsin.running.graph import Graph
from tocsin.running.maintenance import open_until

GRACE_SECONDS = 5.0
"""What a run may take beyond its timeout: to be scheduled, to get its permits, to be recorded."""

LONGEST_STEP_SECONDS = 300.0
"""The longest interval that counts when something is waited for: what depends on a probe that runs each hour, and is
not retried because it is costly, is not to be silent for hours."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is to be known and done about one probe now.

    ``check``: dependencies that should run at once. ``again``: this probe should run at once.
    ``review_at``: when to judge again even if no run ends before (Unix seconds); None when only a run can change it.
    """

    state: ProbeState
    check: tuple[str, ...] = ()
    again: bool = False
    review_at: float | None = None


class _Holds(NamedTuple):
    """Until when (Unix seconds) a bad dependency explains a failure; ``suspected``: it has never been confirmed."""

    until: float
    suspected: bool = False


def judge(name: str, graph: Graph, states: Mapping[str, ProbeState], now: float, up_since: float = 0.0) -> Judgement:
    """The judgement on ``name`` at ``now``, given what is known about all probes.

    ``up_since``: when this process began to look (Unix seconds). Nothing starts on what dependencies said before, and
    waiting times count from then at the earliest.
    """
    spec, state = graph.specs[name], states[name]
    if not in_question(state):
        return Judgement(_undisturbed(state))
    level = Severity.PAGE if state.page_streak else Severity.TICKET
    stale = _stale(name, graph, states, now, up_since)
    check = tuple(stale)
    bad = _bad(name, graph, states, level, now, up_since)
    proven = any(holds.until == inf for holds in bad.values())
    enough = inf if proven or not bad else _enough(bad, graph, failing_since(state), up_since)
    if bad and now < enough:
        held = replace(
            state,
            caused_by=_root(bad, graph, states),
            # A wait that is over is taken back only for what somebody is paged for: whatever takes turns ends it.
            waiting_since=None if any(_pages(states[name]) for name in bad) else state.waiting_since,
        )
        next_at = None if proven else min(enough, *(holds.until for holds in bad.values()))
        return Judgement(held, check, review_at=next_at)
    if (cause := state.caused_by) is not None:
        state = replace(state, caused_by=None)
        # A cause that is still worth a ticket has not recovered: this failure has become worse than it explains.
        recovered = cause not in _bad(name, graph, states, Severity.TICKET, now, up_since)
        if state.waiting_since is None and recovered:
            # Failures while the cause was bad say nothing about now.
            state = replace(state, waiting_since=now, **NO_FAILURE)
            return Judgement(state, again=True)

    if state.status is not Status.FAILED or not state.failed_streak:
        return Judgement(state, check)
    holds = [*stale.values(), *_recovery_hold(spec, state, now, up_since)]
    if (end := open_until(spec.maintenance, now)) is not None:
        holds.append(end)
    if holds:
        return Judgement(state, check, review_at=min(holds))
    severity = Severity.PAGE if state.page_streak >= spec.failures_to_fail else Severity.TICKET
    if severity is not level and _bad(name, graph, states, severity, now, up_since):
        # Not a page yet, and as a ticket it is explained.
        return Judgement(state, check)
    return Judgement(_started(state, severity, now), check)


def in_question(state: ProbeState) -> bool:
    """Whether alerting could start or rise: there is a failure that is not told yet, or a wait for one."""
    waiting = state.waiting_since is not None and state.last_status is not Status.OK
    if state.alerting:
        return state.severity is not Severity.PAGE and (state.page_streak > 0 or waiting)
    return state.status is Status.FAILED or state.failed_streak > 0 or waiting


def failing_since(state: ProbeState) -> float | None:
    """From when on there is this failure; None without one. A dependency says something about it from then on."""
    return state.first_page_at if state.page_streak else state.first_failure_at


def asks_since(state: ProbeState) -> float | None:
    """From when on dependencies must have been looked at for this failure to be judged: since it was known, and since
    it was confirmed."""
    since = failing_since(state)
    confirmed = (at for at in (state.confirmed_at, state.page_confirmed_at) if at is not None)
    return None if since is None else max((since, *confirmed))


def wants_retry(state: ProbeState, spec: ProbeSpec) -> bool:
    """Whether the next run should come after ``retry_every``: a failure, or its rise to a page, is half confirmed."""
    if state.last_status is not Status.FAILED or not in_question(state):
        return False
    confirmed = state.status is Status.FAILED and state.waiting_since is None
    if not confirmed:
        return state.failed_streak < spec.failures_to_fail
    return state.caused_by is None and 0 < state.page_streak < spec.failures_to_fail


def _pages(state: ProbeState) -> bool:
    return state.alerting and state.severity is Severity.PAGE


def _undisturbed(state: ProbeState) -> ProbeState:
    if state.caused_by is None and state.waiting_since is None:
        return state
    return replace(state, caused_by=None, waiting_since=None)


def _started(state: ProbeState, severity: Severity, now: float) -> ProbeState:
    if not state.alerting:
        return replace(state, alerting=True, alerting_since=now, severity=severity, waiting_since=None)
    rises = severity is Severity.PAGE
    return replace(state, severity=severity, waiting_since=None) if rises else state


def _bad(
    name: str, graph: Graph, states: Mapping[str, ProbeState], level: Severity, now: float, up_since: float
) -> dict[str, _Holds]:
    """The bad dependencies that explain a failure worth ``level``."""
    found = {
        dependency: _holds(graph.specs[dependency], states[dependency], level, now, up_since)
        for dependency in graph.dependencies(name)
    }
    return {dependency: holds for dependency, holds in found.items() if holds is not None}


def _enough(bad: Mapping[str, _Holds], graph: Graph, since: float | None, up_since: float) -> float:
    """When they have been waited for long enough: the last one should have recovered, and what the others are
    suspected of would have been confirmed, had it been there since the failure."""
    if since is None:
        return inf

    def proof_due(spec: ProbeSpec) -> float:
        return max(since, up_since) + spec.failures_to_fail * (_step(spec) + spec.timeout) + GRACE_SECONDS

    return max(proof_due(graph.specs[name]) if holds.suspected else holds.until for name, holds in bad.items())


def _stale(
    name: str,
    graph: Graph,
    states: Mapping[str, ProbeState],
    now: float,
    up_since: float,
) -> dict[str, float]:
    """The dependencies without a result as fresh as the question and this process, and when the wait for each ends.

    A clock that was set back ends the wait: nothing would look fresh for as long as it lost.
    """
    since, asked = failing_since(states[name]), asks_since(states[name])
    if since is None or asked is None or now < asked:
        return {}
    since, asked = max(since, up_since), max(asked, up_since)
    stale = {}
    for dependency in graph.dependencies(name):
        looked_at = states[dependency].last_run_at
        if looked_at is not None and looked_at >= asked:
            continue
        until = asked + min(GRACE_SECONDS, graph.specs[name].every / 4)
        if looked_at is None or looked_at < since:
            # It has not answered even once.
            until = max(until, since + graph.specs[dependency].timeout + GRACE_SECONDS)
        if now < until:
            stale[dependency] = until
    return stale


def _holds(spec: ProbeSpec, state: ProbeState, level: Severity, now: float, up_since: float) -> _Holds | None:
    """Whether ``state`` explains a failure worth ``level``: for ever, until it should have recovered or its next run
    is overdue, or not."""
    confirmed = state.alerting or state.status is Status.FAILED
    severity = state.severity if state.alerting else state.findings[0].severity if state.findings else None
    if state.page_streak >= spec.failures_to_fail:
        # Whatever is latched or held back: it is worth a page.
        severity = Severity.PAGE
    if confirmed and (level is Severity.TICKET or severity is not Severity.TICKET):
        # Without a streak it is only not proven well yet: what it has still to recover from is over.
        proven = state.alerting or state.failed_streak > 0
        until = inf if proven else _recovers_until(spec, state, now, up_since)
        if until is not None:
            return _Holds(until)
    if state.last_status is not Status.FAILED or state.last_run_at is None:
        return None
    overdue = state.last_run_at + _step(spec) + spec.timeout + GRACE_SECONDS
    explains = level is Severity.TICKET or state.page_streak > 0
    return _Holds(overdue, suspected=True) if explains and now < overdue else None


def _root(bad: Mapping[str, _Holds], graph: Graph, states: Mapping[str, ProbeState]) -> str:
    """The bad dependency that no other one explains: alerting before confirmed before suspected, then by name."""
    roots = [name for name in bad if not any(dependency in bad for dependency in graph.dependencies(name))]

    def order(name: str) -> tuple[bool, bool, str]:
        return (not states[name].alerting, states[name].status is not Status.FAILED, name)

    return min(roots or bad, key=order)


def _step(spec: ProbeSpec) -> float:
    """How long a run of it is waited for, in seconds."""
    return min(spec.every, LONGEST_STEP_SECONDS)


def _recovery_hold(spec: ProbeSpec, state: ProbeState, now: float, up_since: float) -> list[float]:
    until = _recovers_until(spec, state, now, up_since)
    return [until] if until is not None and state.failed_streak < spec.failures_to_fail else []


def _recovers_until(spec: ProbeSpec, state: ProbeState, now: float, up_since: float) -> float | None:
    """When a probe whose cause has recovered should have too; None when that is past, or nothing is waited for."""
    if state.waiting_since is None:
        return None
    steps = spec.failures_to_fail + spec.successes_to_recover
    until = max(state.waiting_since, up_since) + steps * _step(spec)
    return until if state.waiting_since <= now < until else None

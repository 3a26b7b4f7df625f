"""What a run changes in what is known about its probe: streaks, and the status that they confirm. Pure.

A run is one observation; a status is what enough of them agree on:

* ``failed`` after ``failures_to_fail`` failed runs. An unknown run in between neither counts nor starts over, because
  not being able to look proves nothing; an ok run starts over.
* ``ok`` after ``successes_to_recover`` ok runs in a row; at once when it is the first thing known about a probe.
* ``unknown`` after ``failures_to_fail`` unknown runs in a row.

What it means for alerting, given the dependencies, is for `tocsin.running.causes`. Only a confirmed ok ends an alert,
and that happens here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from tocsin.model import ProbeSpec, ProbeState, Run, Severity, Status

LEARNED_WITHIN_SECONDS = 1.0
"""What may pass between the end of a run and its news."""


NO_FAILURE: Mapping[str, Any] = {
    "failed_streak": 0,
    "first_failure_at": None,
    "confirmed_at": None,
    "page_streak": 0,
    "first_page_at": None,
    "page_confirmed_at": None,
}
"""The fields of a state that count failures, when there are none."""


class _Streak(NamedTuple):
    """Failed runs in a row: how many, when the first ended, and the one that confirmed the failure."""

    length: int = 0
    first_at: float | None = None
    confirmed_at: float | None = None

    def longer(self, ended_at: float, needed: int, anew: bool) -> _Streak:
        """With one more run. ``anew``: what was confirmed before has been in doubt since."""
        length = self.length + 1
        confirmed_at = ended_at if anew or self.confirmed_at is None else self.confirmed_at
        return _Streak(length, self.first_at if self.length else ended_at, confirmed_at if length >= needed else None)


def advance(state: ProbeState, run: Run, spec: ProbeSpec) -> ProbeState:
    """The state after ``run``. Alerting may end here; it never starts here."""
    ended_at = run.started_at + run.duration_seconds
    changes = _counted(state, run, ended_at, spec)
    status = _confirmed(state, changes, spec)
    if status is not state.status or (state.since is None and _is_settled(changes, spec)):
        changes.update(status=status, since=ended_at)
    if status is run.outcome.status:
        changes.update(findings=run.outcome.findings, detail=run.outcome.detail)
    if status is Status.OK and state.alerting:
        changes.update(alerting=False, alerting_since=None, severity=None)
    return replace(state, **changes)


def _counted(state: ProbeState, run: Run, ended_at: float, spec: ProbeSpec) -> dict[str, Any]:
    """The fields that count and date runs, as they are after this one."""
    status = run.outcome.status
    seen: dict[str, Any] = {"last_run_at": run.started_at, "last_status": status}
    if status is Status.OK:
        return {
            **seen,
            "last_ok_at": run.started_at,
            "ok_streak": state.ok_streak + 1,
            "unknown_streak": 0,
            **NO_FAILURE,
        }
    if status is Status.UNKNOWN:
        return {**seen, "ok_streak": 0, "unknown_streak": state.unknown_streak + 1}
    if state.waiting_since is not None and run.started_at < state.waiting_since <= ended_at + LEARNED_WITHIN_SECONDS:
        # Begun while its cause was bad and heard of after: it says nothing about now.
        return {**seen, "ok_streak": 0, "unknown_streak": 0, "failed_streak": state.failed_streak}
    needed, anew = spec.failures_to_fail, state.status is not Status.FAILED
    failed = _Streak(state.failed_streak, state.first_failure_at, state.confirmed_at).longer(ended_at, needed, anew)
    page = _Streak()
    if run.outcome.severity is Severity.PAGE:
        page = _Streak(state.page_streak, state.first_page_at, state.page_confirmed_at).longer(ended_at, needed, anew)
    return {
        **seen,
        "ok_streak": 0,
        "unknown_streak": 0,
        "failed_streak": failed.length,
        "first_failure_at": failed.first_at,
        "confirmed_at": failed.confirmed_at,
        "page_streak": page.length,
        "first_page_at": page.first_at,
        "page_confirmed_at": page.confirmed_at,
    }


def _confirmed(state: ProbeState, counted: Mapping[str, Any], spec: ProbeSpec) -> Status:
    match counted["last_status"]:
        case Status.OK if counted["ok_streak"] >= spec.successes_to_recover or _is_first_news(state):
            return Status.OK
        case Status.FAILED if counted["failed_streak"] >= spec.failures_to_fail:
            return Status.FAILED
        case Status.UNKNOWN if counted["unknown_streak"] >= spec.failures_to_fail:
            return Status.UNKNOWN
    return state.status


def _is_first_news(state: ProbeState) -> bool:
    return state.since is None and state.failed_streak == 0 and not state.alerting


def _is_settled(counted: Mapping[str, Any], spec: ProbeSpec) -> bool:
    """Whether the unknown that every probe begins with has become one that was found."""
    return counted["last_status"] is Status.UNKNOWN and counted["unknown_streak"] >= spec.failures_to_fail

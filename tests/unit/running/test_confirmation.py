"""What a sequence of runs confirms."""

from __future__ import annotations

import pytest

from tocsin.model import Finding, Outcome, ProbeSpec, ProbeState, Run, Severity, Status
from tocsin.running.confirmation import advance

SPEC = ProbeSpec("p", "k", "s", "i", None, failures_to_fail=2, successes_to_recover=2)
CODES = {
    "o": Outcome.ok("fine"),
    "F": Outcome.of([Finding("down", Status.FAILED, Severity.PAGE)]),
    "L": Outcome.of([Finding("low", Status.FAILED, Severity.TICKET)]),
    "u": Outcome.of([Finding("probe_error", Status.UNKNOWN, Severity.TICKET)]),
}
KNOWN_OK = ProbeState(status=Status.OK, since=1.0, ok_streak=5, last_run_at=1.0, last_status=Status.OK)


def after(runs: str, state: ProbeState = KNOWN_OK, spec: ProbeSpec = SPEC) -> ProbeState:
    """The state after these runs, ten seconds apart from 100 on, each taking one second."""
    for number, code in enumerate(runs):
        state = advance(state, Run("p", CODES[code], 100.0 + 10 * number, 1.0, "t", "r"), spec)
    return state


@pytest.mark.parametrize(
    ("runs", "status"),
    [
        ("F", "ok"),
        ("FF", "failed"),
        ("FoF", "ok"),
        ("FuF", "failed"),
        ("FuuF", "failed"),
        ("uFu", "ok"),
        ("u", "ok"),
        ("uu", "unknown"),
        ("uou", "ok"),
        ("FFo", "failed"),
        ("FFoo", "ok"),
        ("FFouo", "failed"),
        ("FFoFo", "failed"),
        ("FFu", "failed"),
        ("FFuu", "unknown"),
        ("FFuuo", "unknown"),
        ("FFuuoo", "ok"),
        ("FFuuF", "failed"),
        ("uuo", "unknown"),
        ("uuF", "unknown"),
        ("uuFF", "failed"),
    ],
)
def test_a_status_is_confirmed_by_enough_runs_that_agree(runs: str, status: str) -> None:
    assert after(runs).status == status


@pytest.mark.parametrize(
    ("runs", "status", "reason"),
    [
        ("", "unknown", None),
        ("o", "ok", None),
        ("F", "unknown", None),
        ("Fo", "unknown", None),
        ("Foo", "ok", None),
        ("FF", "failed", "down"),
        ("u", "unknown", "probe_error"),
        ("uo", "ok", None),
    ],
)
def test_a_new_probe_is_green_at_its_first_ok_and_red_only_when_confirmed(
    runs: str, status: str, reason: str | None
) -> None:
    state = after(runs, ProbeState())
    assert (state.status, state.reason) == (status, reason)


@pytest.mark.parametrize(
    ("runs", "reason"),
    [("FF", "down"), ("FFL", "low"), ("FFLF", "down"), ("FFo", "down"), ("FFu", "down"), ("F", None)],
)
def test_the_reason_follows_the_latest_run_that_agrees_with_the_status(runs: str, reason: str | None) -> None:
    assert after(runs).reason == reason


def test_a_status_dates_from_the_end_of_the_run_that_confirmed_it() -> None:
    assert after("FF").since == 111.0
    assert after("FFF").since == 111.0
    assert after("FFoo").since == 131.0
    assert after("uu", ProbeState()).since == 111.0


def test_a_failure_dates_from_the_end_of_the_first_failed_run_of_its_streak() -> None:
    assert after("F").first_failure_at == 101.0
    assert after("FuF").first_failure_at == 101.0
    assert after("FoF").first_failure_at == 121.0
    assert after("Fo").first_failure_at is None


def test_a_failure_is_confirmed_at_the_end_of_the_run_that_does_it_and_again_once_it_was_in_doubt() -> None:
    assert after("F").confirmed_at is None
    assert after("FuF").confirmed_at == 121.0
    assert after("FuFF").confirmed_at == 121.0
    assert after("FFuF").confirmed_at == 111.0
    assert after("FFuuF").confirmed_at == 141.0
    assert after("FFo").confirmed_at is None
    assert (after("LF").confirmed_at, after("LF").page_confirmed_at) == (111.0, None)
    assert (after("LFF").confirmed_at, after("LFF").page_confirmed_at) == (111.0, 121.0)
    assert after("LFFL").page_confirmed_at is None


def test_page_failures_are_counted_by_themselves() -> None:
    assert (after("LLL").page_streak, after("LLL").first_page_at) == (0, None)
    assert (after("LLF").page_streak, after("LLF").first_page_at) == (1, 121.0)
    assert (after("FuF").page_streak, after("FuF").first_page_at) == (2, 101.0)
    assert (after("FFL").page_streak, after("FFL").first_page_at) == (0, None)


ALERTING = ProbeState(
    status=Status.FAILED, since=1.0, alerting=True, alerting_since=1.0, severity=Severity.PAGE, last_run_at=1.0
)


@pytest.mark.parametrize(
    ("runs", "alerting"), [("o", True), ("ou", True), ("ouo", True), ("uuuu", True), ("uuo", True), ("oo", False)]
)
def test_only_a_confirmed_ok_ends_an_alert(runs: str, alerting: bool) -> None:
    state = after(runs, ALERTING)
    assert state.alerting is alerting
    assert (state.severity is not None) is alerting


def test_the_latest_run_and_the_latest_ok_run_are_dated_by_their_start() -> None:
    state = after("ooF")
    assert (state.last_run_at, state.last_ok_at, state.last_status) == (120.0, 110.0, Status.FAILED)

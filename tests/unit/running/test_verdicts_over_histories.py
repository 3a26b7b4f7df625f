"""Causes, effects and the latch, over random graphs and random histories."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.board.codec import decode_state, encode_state
from tocsin.model import Finding, MaintenanceWindow, Outcome, ProbeSpec, ProbeState, Run, Severity, Status
from tocsin.running.causes import GRACE_SECONDS, in_question
from tocsin.running.graph import Graph
from tocsin.running.verdicts import Consequences, Verdicts

START = 1_700_000_000.0
EVERY, TIMEOUT, RETRY = 30.0, 5.0, 5.0

OUTCOMES = {
    "ok": Outcome.ok(),
    "page": Outcome.of([Finding("down", Status.FAILED, Severity.PAGE)]),
    "ticket": Outcome.of([Finding("low", Status.FAILED, Severity.TICKET)]),
    "unknown": Outcome.of([Finding("probe_error", Status.UNKNOWN, Severity.TICKET)]),
}


RANKS = [(False, None), (True, Severity.TICKET), (True, Severity.PAGE)]


@dataclass(frozen=True)
class Step:
    """``pause`` seconds, then a run of the probe with this number; without an outcome only a review."""

    probe: int
    outcome: str | None
    pause: float
    took: float


@st.composite
def graphs(draw: st.DrawFn) -> list[ProbeSpec]:
    count = draw(st.integers(1, 6))
    specs = []
    for number in range(count):
        earlier = [f"p{other}" for other in range(number)]
        depends_on = tuple(draw(st.lists(st.sampled_from(earlier), unique=True, max_size=3))) if earlier else ()
        specs.append(
            ProbeSpec(
                name=f"p{number}",
                kind="k",
                system="s",
                incident="i",
                settings=None,
                every=EVERY,
                timeout=TIMEOUT,
                retry_every=RETRY,
                failures_to_fail=draw(st.integers(1, 3)),
                successes_to_recover=draw(st.integers(1, 3)),
                depends_on=depends_on,
                maintenance=draw(
                    st.sampled_from([(), (), (), (MaintenanceWindow(START + 60, START + draw(st.integers(61, 400))),)])
                ),
            )
        )
    return specs


def histories(outcomes: Sequence[str | None]) -> st.SearchStrategy[list[Step]]:
    step = st.builds(
        Step,
        probe=st.integers(0, 5),
        outcome=st.sampled_from(outcomes),
        pause=st.sampled_from([0.0, 0.1, 1.0, 5.0, 12.0, 40.0]),
        took=st.sampled_from([0.0, 0.01, 5.0]),
    )
    return st.lists(step, max_size=60)


class World:
    """A daemon without clocks and sockets: runs come in, states come out, a restart may happen at any point."""

    def __init__(self, specs: Sequence[ProbeSpec]) -> None:
        self.specs = {spec.name: spec for spec in specs}
        self.graph = Graph(specs)
        self.now = START
        self.verdicts = Verdicts(START)
        self.verdicts.configure(self.graph, lambda _: ProbeState())
        self.reviews: dict[str, float] = {}
        self.confirmed_at: dict[tuple[str, Severity], float] = {}

    @property
    def states(self) -> dict[str, ProbeState]:
        return self.verdicts.states

    def take(self, step: Step) -> str:
        name = f"p{step.probe % len(self.specs)}"
        self.now += step.pause + step.took
        if step.outcome is None:
            consequences = self.verdicts.review(name, self.now)
        else:
            before = self.states[name]
            run = Run(name, OUTCOMES[step.outcome], self.now - step.took, step.took, "t", "r")
            consequences = self.verdicts.learn(run, self.now)
            self._remember(name, before, self.states[name])
        self._note(consequences)
        return name

    def _remember(self, name: str, before: ProbeState, after: ProbeState) -> None:
        """When a failure, or one of page severity, was confirmed by the run that has just ended."""
        needed = self.specs[name].failures_to_fail
        streaks = {
            Severity.TICKET: (before.failed_streak, after.failed_streak),
            Severity.PAGE: (before.page_streak, after.page_streak),
        }
        for severity, (was, now) in streaks.items():
            if now >= needed and now > was and (was < needed or before.status is not Status.FAILED):
                self.confirmed_at[name, severity] = self.now

    def review_until(self, moment: float) -> None:
        """Judges again what was to be judged again before ``moment``, as the scheduler's timers do."""
        while due := [(at, name) for name, at in self.reviews.items() if at <= moment]:
            at, name = min(due)
            del self.reviews[name]
            self.now = max(self.now, at)
            self._note(self.verdicts.review(name, self.now))

    def _note(self, consequences: Consequences) -> None:
        for name, at in consequences.review.items():
            self.reviews.pop(name, None)
            if at is not None:
                self.reviews[name] = at

    def restart(self, *, up_since: float) -> None:
        states = {name: decode_state(encode_state(state)) for name, state in self.states.items()}
        self.verdicts = Verdicts(up_since)
        self.verdicts.configure(self.graph, states.__getitem__)

    def bad_dependencies(self, name: str, before: dict[str, ProbeState]) -> list[str]:
        """Told independently of the code under test: bad, and worth as much as what ``name`` would start."""
        level = self.states[name].severity
        bad = [other for other in ancestors(name, self.specs) if self.is_bad(other, level)]
        if any(is_proven(self.states[other], level) for other in bad) or self.now < self.proof_due(name, bad):
            return bad
        return [other for other in bad if self.recovers(other) and self.shown_by_recovery(other, level)]

    def is_bad(self, name: str, level: Severity | None) -> bool:
        """Whether it explains a failure of this level: a page is explained by nothing less than a page."""
        state = self.states[name]
        shown = list(_proven(state))
        if self.recovers(name):
            shown.append(state.findings[0].severity)
        if state.last_status is Status.FAILED:
            assert state.last_run_at is not None
            if self.now < state.last_run_at + EVERY + TIMEOUT + GRACE_SECONDS:
                shown.append(Severity.PAGE if state.page_streak else Severity.TICKET)
        return bool(shown) if level is Severity.TICKET else Severity.PAGE in shown

    def recovers(self, name: str) -> bool:
        """Whether it is still failed, and should be well soon: its own cause has recovered."""
        state, spec = self.states[name], self.specs[name]
        if state.status is not Status.FAILED or state.alerting or state.waiting_since is None:
            return False
        patience = (spec.failures_to_fail + spec.successes_to_recover) * EVERY
        return self.now < max(state.waiting_since, self.verdicts.up_since) + patience

    def shown_by_recovery(self, name: str, level: Severity | None) -> bool:
        return level is Severity.TICKET or self.states[name].findings[0].severity is Severity.PAGE

    def proof_due(self, name: str, suspects: Iterable[str]) -> float:
        """When the suspected would have been confirmed if they had been bad for as long as ``name`` fails."""
        longest = max((self.specs[other].failures_to_fail for other in suspects), default=0)
        return max(self.failing_since(name), self.verdicts.up_since) + longest * (EVERY + TIMEOUT) + GRACE_SECONDS

    def failing_since(self, name: str) -> float:
        state = self.states[name]
        since = state.first_page_at if state.severity is Severity.PAGE else state.first_failure_at
        assert since is not None
        return since

    def not_looked_at(self, name: str) -> list[str]:
        """The dependencies whose latest run began before the failure was known, or confirmed, while there is time to
        wait."""
        state = self.states[name]
        # What fails as a page is asked about as a page, also when it is told as a ticket so far.
        severity, known_at = state.severity, state.first_page_at if state.page_streak else state.first_failure_at
        assert severity is not None
        assert known_at is not None
        since = max(known_at, self.verdicts.up_since)
        confirmed_at = max(self.confirmed_at[name, severity], self.verdicts.up_since)
        looked_at = {each: self.states[each].last_run_at or 0.0 for each in ancestors(name, self.specs)}
        return [
            each
            for each, at in looked_at.items()
            if (at < since and self.now < since + TIMEOUT + GRACE_SECONDS)
            or (at < confirmed_at and self.now < confirmed_at + min(GRACE_SECONDS, EVERY / 4))
        ]


def ancestors(name: str, specs: dict[str, ProbeSpec]) -> set[str]:
    direct = set(specs[name].depends_on)
    return direct | {far for near in direct for far in ancestors(near, specs)}


def is_proven(state: ProbeState, level: Severity | None) -> bool:
    """Whether it explains a failure of this level by what is confirmed."""
    shown = _proven(state)
    return bool(shown) if level is Severity.TICKET else Severity.PAGE in shown


def _proven(state: ProbeState) -> list[Severity | None]:
    if state.alerting:
        return [state.severity]
    return [state.findings[0].severity] if state.status is Status.FAILED and state.failed_streak else []


def rose(before: ProbeState, after: ProbeState) -> bool:
    """Whether an alert started, or a ticket became a page."""
    return (after.alerting and not before.alerting) or (
        after.severity is Severity.PAGE and before.severity is not Severity.PAGE
    )


def check_step(world: World, before: dict[str, ProbeState], actor: str, outcome: str | None) -> None:
    for name, after in world.states.items():
        was = before[name]
        if rose(was, after):
            assert after.status is Status.FAILED
            assert not world.bad_dependencies(name, before), f"{name} started while its cause is bad"
            assert not world.not_looked_at(name), f"{name} started before its dependencies were looked at"
            assert not any(window.start <= world.now < window.end for window in world.specs[name].maintenance)
        if was.alerting and not after.alerting:
            assert (name, outcome) == (actor, "ok")
            assert after.status is Status.OK
            assert after.ok_streak >= world.specs[name].successes_to_recover
        if was.severity is Severity.PAGE and after.alerting:
            assert after.severity is Severity.PAGE
        if after.severity is Severity.PAGE and was.severity is not Severity.PAGE:
            assert after.page_streak >= world.specs[name].failures_to_fail
        assert after.alerting == (after.severity is not None) == (after.alerting_since is not None)
        if after.status is Status.OK:
            assert not after.alerting
        if after.caused_by is not None:
            assert after.caused_by in ancestors(name, world.specs)
            assert after.severity is not Severity.PAGE


def examine(specs: list[ProbeSpec], history: list[Step], restarts: set[int]) -> None:
    """Every promise, along one history."""
    world, restarting, late = World(specs), World(specs), World(specs)
    for number, step in enumerate(history):
        before = dict(world.states)
        actor = world.take(step)
        check_step(world, before, actor, step.outcome)
        if number in restarts:
            restarting.restart(up_since=START)
        restarting.take(step)
        assert restarting.states == world.states, "a restart changed something"
        if number in restarts:
            late.restart(up_since=late.now)
        before = dict(late.states)
        actor = late.take(step)
        check_step(late, before, actor, step.outcome)
        for name, state in late.states.items():
            assert not rose(world.states[name], state), f"{name} alerts earlier after a restart"

    # A restart may delay a start. What there is in the end is the same, or less by what changed during the delay: a
    # cause came that explains it, it could not be told any more, or it became a ticket.
    ends = quiet(world, history)
    for name, end in quiet(late, history).items():
        cause = late.states[name].caused_by
        explained = cause is not None and late.states[cause].alerting
        untold = late.states[name].last_status is Status.UNKNOWN
        lessened = end == (True, Severity.TICKET) and not late.states[name].page_streak
        lower = RANKS.index(end) < RANKS.index(ends[name])
        assert end == ends[name] or (lower and (explained or untold or lessened)), name

    # A restart that takes its time starts nothing and ends nothing by itself.
    before = dict(world.states)
    world.restart(up_since=world.now + 3600)
    world.now += 3600
    assert world.states == before
    for name in world.specs:
        world.verdicts.review(name, world.now)
        if rose(before[name], world.states[name]):
            assert not ancestors(name, world.specs), "it started before its dependencies could be looked at"

    # Tickets all over explain tickets; what becomes worse than its causes is heard, and only it as a page.
    all_well(world)
    victim = f"p{len(specs) - 1}"
    for code in ["ticket"] * 4 + ["page"] * 12:
        for number in range(len(specs)):
            world.take(Step(number, code if f"p{number}" == victim else "ticket", 5.0, 0.01))
    assert world.states[victim].severity is Severity.PAGE
    all_well(world)

    # One probe stays bad while all others are well: it is heard, and only it.
    for _ in range(12):
        for number in range(len(specs)):
            world.take(Step(number, "page" if f"p{number}" == victim else "ok", 5.0, 0.01))
    assert {name for name, state in world.states.items() if state.alerting} == {victim}
    assert world.states[victim].severity is Severity.PAGE
    assert world.states[victim].caused_by is None

    all_well(world)
    peel(world)


def quiet(world: World, history: list[Step]) -> dict[str, tuple[bool, Severity | None]]:
    """What alerts, and how, when each probe goes on as it was in its latest run."""
    latest = {step.probe % len(world.specs): step.outcome for step in history if step.outcome is not None}
    for _ in range(20):
        for number in range(len(world.specs)):
            due = world.now + EVERY / len(world.specs)
            world.review_until(due)
            world.take(Step(number, latest.get(number, "ok"), due - world.now, 0.0))
    return {name: (state.alerting, state.severity) for name, state in world.states.items()}


def all_well(world: World) -> None:
    """All are confirmed ok, and nothing is left of what was."""
    for _ in range(3):
        for number in range(len(world.specs)):
            world.take(Step(number, "ok", 5.0, 0.01))
    for state in world.states.values():
        assert state.status is Status.OK
        assert not state.alerting
        assert (state.caused_by, state.waiting_since, state.severity) == (None, None, None)
        assert not in_question(state)


def peel(world: World) -> None:
    """All are bad; then they recover from the root causes up. Those alert that nothing bad explains, each in turn."""
    failing = set(world.specs)
    while failing:
        for _ in range(12):
            for number in reversed(range(len(world.specs))):
                world.take(Step(number, "page" if f"p{number}" in failing else "ok", 5.0, 0.01))
        roots = {name for name in failing if not ancestors(name, world.specs) & failing}
        assert {name for name, state in world.states.items() if state.alerting} == roots
        for name in failing - roots:
            assert world.states[name].caused_by in roots
        failing -= roots


PLAIN = ("ok", "page", "page")
ALL = ("ok", "page", "page", "ticket", "unknown", None)


@settings(max_examples=60, deadline=None)
@given(graphs(), histories(PLAIN), st.sets(st.integers(0, 59), max_size=5))
def test_pages_over_random_graphs_keep_every_promise(
    specs: list[ProbeSpec], history: list[Step], restarts: set[int]
) -> None:
    examine(specs, history, restarts)


@settings(max_examples=60, deadline=None)
@given(graphs(), histories(ALL), st.sets(st.integers(0, 59), max_size=5))
def test_pages_tickets_and_unknowns_over_random_graphs_keep_every_promise(
    specs: list[ProbeSpec], history: list[Step], restarts: set[int]
) -> None:
    examine(specs, history, restarts)


def paging(world: World) -> set[str]:
    return {name for name, state in world.states.items() if state.severity is Severity.PAGE}


def hear(specs: list[ProbeSpec], history: list[Step], meanwhile: list[str]) -> set[str]:
    """After any history one probe fails at each run, the others as ``meanwhile`` says: who pages at any time.

    What the others are they are for four runs: a failure that comes with every run and goes with the next is told by
    the retries, which are not part of this world.
    """
    world = World(specs)
    for step in history:
        world.take(step)
    world.now += 1000
    victim = f"p{len(specs) - 1}"
    heard: set[str] = set()
    for turn in range(40):
        for number in range(len(specs)):
            due = world.now + 5.0
            code = "page" if f"p{number}" == victim else meanwhile[(turn // 4 * len(specs) + number) % len(meanwhile)]
            world.review_until(due)
            heard |= paging(world)
            world.take(Step(number, code, max(0.0, due - world.now), 0.0))
            heard |= paging(world)
    return heard & ({victim} | ancestors(victim, world.specs))


@settings(max_examples=40, deadline=None)
@given(graphs(), histories(ALL), st.lists(st.sampled_from(["ok", "ticket", "unknown"]), min_size=1, max_size=40))
def test_a_page_failure_is_heard_whatever_its_dependencies_do_short_of_a_page(
    specs: list[ProbeSpec], history: list[Step], meanwhile: list[str]
) -> None:
    assert hear(specs, history, meanwhile)


@settings(max_examples=40, deadline=None)
@given(
    graphs(), histories(ALL), st.lists(st.sampled_from(["ok", "page", "ticket", "unknown"]), min_size=1, max_size=40)
)
def test_a_page_failure_is_heard_as_its_own_or_as_its_causes(
    specs: list[ProbeSpec], history: list[Step], meanwhile: list[str]
) -> None:
    assert hear(specs, history, meanwhile)


@pytest.mark.long
@pytest.mark.timeout(3000)
@settings(max_examples=10_000, deadline=None)
@given(graphs(), histories(ALL), st.sets(st.integers(0, 59), max_size=5))
def test_ten_thousand_histories_keep_every_promise(
    specs: list[ProbeSpec], history: list[Step], restarts: set[int]
) -> None:
    examine(specs, history, restarts)

"""What is known about all probes, and what follows from a run: for its own probe, and for those that it explains.

No clock, no I/O: the scheduler tells the time and does what `Consequences` say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tocsin.model import ProbeState, Run
from tocsin.running.causes import asks_since, in_question, judge, wants_retry
from tocsin.running.confirmation import advance
from tocsin.running.graph import Graph


@dataclass(slots=True)
class Consequences:
    """What a run, or the passing of time, leads to.

    ``changed``: new states by probe. ``check``: dependencies that need a run started at this time or later.
    ``again``: probes to run at once. ``retry``: probes to run after their ``retry_every``.
    ``review``: when to judge a probe again without a run (Unix seconds); None takes an earlier such date back.
    """

    changed: dict[str, ProbeState] = field(default_factory=dict)
    check: dict[str, float] = field(default_factory=dict)
    again: list[str] = field(default_factory=list)
    retry: list[str] = field(default_factory=list)
    review: dict[str, float | None] = field(default_factory=dict)


class Verdicts:
    """The states of all probes that run here, and the graph between them."""

    def __init__(self, up_since: float) -> None:
        self.graph = Graph(())
        self.states: dict[str, ProbeState] = {}
        self.up_since = up_since
        """When this process began to look, or its clock jumped; waits for others count from then at the earliest."""
        self._in_question: set[str] = set()

    def configure(self, graph: Graph, restore: Callable[[str], ProbeState]) -> None:
        """Takes up another set of probes; those that stay keep their state, new ones get what ``restore`` says.

        A probe of the same name and another kind is a new one.
        """
        kept = {
            name: state
            for name, state in self.states.items()
            if name in graph.specs and graph.specs[name].kind == self.graph.specs[name].kind
        }
        self.graph = graph
        self.states = {name: kept[name] if name in kept else restore(name) for name in graph.specs}
        self._in_question = {name for name, state in self.states.items() if in_question(state)}

    def learn(self, run: Run, now: float) -> Consequences:
        """A run is over. Its probe has to be one of ours."""
        name = run.probe
        spec = self.graph.specs[name]
        consequences = Consequences()
        self._put(name, advance(self.states[name], run, spec), consequences)
        self._judge(name, now, consequences)
        if wants_retry(self.states[name], spec):
            consequences.retry.append(name)
        for effect in self.graph.effects(name):
            if effect in self._in_question:
                self._judge(effect, now, consequences)
        return consequences

    def review(self, name: str, now: float) -> Consequences:
        """Time has passed, or the configuration has changed."""
        consequences = Consequences()
        if name in self._in_question:
            self._judge(name, now, consequences)
        return consequences

    def in_question(self) -> tuple[str, ...]:
        """The probes whose alert could start without a run of their own."""
        return tuple(sorted(self._in_question))

    def _judge(self, name: str, now: float, consequences: Consequences) -> None:
        judgement = judge(name, self.graph, self.states, now, self.up_since)
        self._put(name, judgement.state, consequences)
        since = asks_since(judgement.state)
        for dependency in judgement.check:
            consequences.check[dependency] = max(since or now, consequences.check.get(dependency, 0.0))
        if judgement.again:
            consequences.again.append(name)
        consequences.review[name] = judgement.review_at

    def _put(self, name: str, state: ProbeState, consequences: Consequences) -> None:
        if state != self.states[name]:
            self.states[name] = state
            consequences.changed[name] = state
        if in_question(state):
            self._in_question.add(name)
        else:
            self._in_question.discard(name)

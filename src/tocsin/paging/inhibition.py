"""Alertmanager's inhibit_rules out of ``depends_on``: the second net behind the daemon's own ``caused_by``.

While an alert on a cause fires, those on its effects, direct or not, wait; a ticket never holds back a page. Rules are
scoped by cluster and environment, and a drill holds back nothing but drills. Facts: Alertmanager's documentation,
"Configuration", <inhibit_rule>: labels in ``equal`` that both alerts lack count as equal.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tocsin.config.dependencies import find_cycles
from tocsin.model import ProbeSpec, Severity
from tocsin.paging.promql import parse
from tocsin.paging.rulefiles import ALERTING, Rule
from tocsin.running.graph import Graph

SCOPE = ("cluster", "environment", "drill")


class CycleError(ValueError):
    """Probes explain one another in a circle: their alerts would hold back one another for ever."""


@dataclass(frozen=True, slots=True)
class Inhibition:
    """Each of ``causes`` explains all of ``effects``; both sorted by name."""

    causes: tuple[str, ...]
    effects: tuple[str, ...]


def inhibitions(specs: Iterable[ProbeSpec]) -> list[Inhibition]:
    """What explains what, causes with the same effects together. Raises `CycleError`."""
    graph = Graph(specs)
    if cycles := find_cycles({name: spec.depends_on for name, spec in graph.specs.items()}):
        raise CycleError(f"the probes explain one another in a circle: {' → '.join((*cycles[0], cycles[0][0]))}")
    causes: dict[tuple[str, ...], list[str]] = {}
    for name in sorted(graph.specs):
        if effects := tuple(sorted(graph.effects(name))):
            causes.setdefault(effects, []).append(name)
    return [Inhibition(tuple(names), effects) for effects, names in causes.items()]


def beside_the_point(rules: Iterable[Rule]) -> list[str]:
    """The alerts that carry a probe's name without saying that its target is bad: overdue, skipped, cannot tell."""
    found = []
    for rule in rules:
        expression = parse(rule.expr)
        metrics = {selector.metric for selector in expression.selectors}
        if not rule.alert or metrics & ALERTING:
            continue
        if "probe" in (expression.kept or ()) or (
            expression.kept is None and any(metric.startswith(("tocsin_probe_", "tocsin:probe_")) for metric in metrics)
        ):
            found.append(rule.alert)
    return sorted(found)


def render(found: Sequence[Inhibition], others: Iterable[str] = ()) -> str:
    """``inhibit_rules`` in YAML. ``others``: alerts that are `beside_the_point`; they neither hold back nor wait."""
    if not found:
        return "inhibit_rules: []\n"
    beside = sorted(others)
    real = ["*real"] if beside else []
    lines = ["inhibit_rules:"]
    for inhibition in found:
        causes, effects = _probes(inhibition.causes), _probes(inhibition.effects)
        for severity in Severity:
            level = f'severity="{severity}"'
            # A page holds back whatever follows from it, a ticket only tickets.
            target = [effects, *([level] if severity is Severity.TICKET else []), *real]
            lines += [
                f"  - source_matchers: {_flow([causes, level, *real])}",
                f"    target_matchers: {_flow(target)}",
                f"    equal: [{', '.join(SCOPE)}]",
            ]
    text = "\n".join(lines) + "\n"
    # Written out where it stands first: the same matcher is in every rule.
    return text.replace("*real", f"&real 'alertname!~{_quoted('|'.join(beside))}'", 1)


def _probes(names: Sequence[str]) -> str:
    return f'probe="{names[0]}"' if len(names) == 1 else f"probe=~{_quoted('|'.join(names))}"


def _quoted(text: str) -> str:
    return json.dumps(text)


def _flow(matchers: Sequence[str]) -> str:
    return "[" + ", ".join(matcher if matcher == "*real" else f"'{matcher}'" for matcher in matchers) + "]"

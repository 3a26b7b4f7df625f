"""Checks on ``depends_on`` over all probes: every name exists, and no probe explains itself."""

from __future__ import annotations

from collections.abc import Mapping, Set

from tocsin.config.document import Located
from tocsin.config.errors import MAX_HINTS, Problem, nearest


def check_dependencies(
    graph: Mapping[str, tuple[str, ...]], declared: Set[str], written: Mapping[str, Located]
) -> list[Problem]:
    """``graph``: probe → what it depends on. ``declared``: every name, also of probes that are switched off.

    Problems stand at the ``depends_on`` concerned. A cycle is told once, from its first name in alphabetical order.
    """
    problems: list[Problem] = []
    for name, dependencies in graph.items():
        for unknown in (dependency for dependency in dependencies if dependency not in declared):
            if not _is_written(written[name], unknown):
                message = "a variable gives a name that no probe has"
                problems.append(_problem(written[name], name, message, "its value is not shown"))
                continue
            hint = nearest(unknown, declared - {name}) if len(problems) < MAX_HINTS else ""
            problems.append(_problem(written[name], name, f"there is no probe `{unknown}`", hint))
    for cycle in find_cycles(graph):
        message = f"the probes explain one another in a circle: {' → '.join((*cycle, cycle[0]))}"
        problems.append(_problem(written[cycle[0]], cycle[0], message, "a cause cannot be its own effect"))
    return problems


def find_cycles(graph: Mapping[str, tuple[str, ...]]) -> list[tuple[str, ...]]:
    """One cycle out of every knot of the graph, each starting at its alphabetically first name, in that order."""
    done: set[str] = set()
    cycles: set[tuple[str, ...]] = set()
    for start in sorted(graph):
        path: list[str] = []
        pending = [iter((start,))]
        while pending:
            name = next(pending[-1], None)
            if name is None:
                pending.pop()
                if path:
                    done.add(path.pop())
            elif name in path:
                cycle = path[path.index(name) :]
                first = cycle.index(min(cycle))
                cycles.add((*cycle[first:], *cycle[:first]))
            elif name in graph and name not in done:
                path.append(name)
                pending.append(iter(graph[name]))
    return sorted(cycles)


def _is_written(written: Located, dependency: str) -> bool:
    """Whether the name stands in the file as it is, so that telling it tells no value of a variable."""
    given = written.mapping.get("depends_on")
    return given is not None and isinstance(given.value, list) and any(item.value == dependency for item in given.value)


def _problem(written: Located, name: str, message: str, hint: str) -> Problem:
    place = written.mapping.get("depends_on", written).place
    return Problem(place.origin.name, place.line, f"probes.{name}.depends_on", message, hint)

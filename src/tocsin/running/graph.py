"""Which probe explains which: the graph of ``depends_on``, closed over. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tocsin.model import ProbeSpec


class Graph:
    """The probes that run here and their dependencies, direct or not.

    A name that nobody configured, or that is switched off, is left out: nothing will ever be known about it.
    """

    def __init__(self, specs: Iterable[ProbeSpec]) -> None:
        self.specs: Mapping[str, ProbeSpec] = {spec.name: spec for spec in specs}
        self._dependencies = {name: self._closure(name) for name in self.specs}
        effects: dict[str, list[str]] = {}
        for name, dependencies in self._dependencies.items():
            for dependency in dependencies:
                effects.setdefault(dependency, []).append(name)
        self._effects = {name: tuple(found) for name, found in effects.items()}

    def dependencies(self, name: str) -> tuple[str, ...]:
        """All that may explain a failure of ``name``: nearest first, itself never included."""
        return self._dependencies[name]

    def effects(self, name: str) -> tuple[str, ...]:
        """All whose failure ``name`` may explain."""
        return self._effects.get(name, ())

    def in_order(self, names: Iterable[str]) -> tuple[str, ...]:
        """These probes and all that may explain them: every one after what it depends on, otherwise as given."""
        order: dict[str, None] = {}
        entered: set[str] = set()

        def visit(name: str) -> None:
            if name in self.specs and name not in entered:
                entered.add(name)
                for dependency in self.specs[name].depends_on:
                    visit(dependency)
                order[name] = None

        for name in names:
            visit(name)
        return tuple(order)

    def _closure(self, name: str) -> tuple[str, ...]:
        found: dict[str, None] = {}
        frontier = [name]
        while frontier:
            following = [dependency for known in frontier for dependency in self.specs[known].depends_on]
            frontier = [d for d in dict.fromkeys(following) if d in self.specs and d not in found and d != name]
            found.update(dict.fromkeys(frontier))
        return tuple(found)

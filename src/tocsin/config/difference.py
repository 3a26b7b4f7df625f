"""What changes from one configuration to the next, probe by probe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tocsin.model import ProbeSpec


@dataclass(frozen=True, slots=True)
class Difference:
    """Names of probes, sorted. The four parts share none; with ``removed`` left out they are the new configuration."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def diff(old: Mapping[str, ProbeSpec], new: Mapping[str, ProbeSpec]) -> Difference:
    """A probe is unchanged when its specs are equal but for the line they were written on.

    A secret that is read from a file is the same secret while the file is rotated.
    """
    both = sorted(old.keys() & new.keys())
    same = {name for name in both if replace(old[name], source="") == replace(new[name], source="")}
    return Difference(
        added=tuple(sorted(new.keys() - old.keys())),
        removed=tuple(sorted(old.keys() - new.keys())),
        changed=tuple(name for name in both if name not in same),
        unchanged=tuple(name for name in both if name in same),
    )

"""How much load may be put on what is watched: the whole daemon, any dependency, and named ones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


@dataclass(frozen=True, slots=True)
class Cap:
    """What one dependency may be asked to bear: requests or connections at a time, and begun per minute."""

    concurrency: int
    requests_per_minute: int


@dataclass(frozen=True, slots=True)
class Caps:
    """All caps. ``runs``: probe runs at a time in the whole daemon. ``overrides``: (pattern, cap) by dependency."""

    runs: int = 100
    default: Cap = Cap(concurrency=4, requests_per_minute=300)
    overrides: tuple[tuple[str, Cap], ...] = ()

    def of(self, dependency: str) -> Cap:
        """The cap of ``scheme://host:port``: the longest pattern that matches it, else the default."""
        matching = [(len(pattern), cap) for pattern, cap in self.overrides if fnmatchcase(dependency, pattern)]
        return max(matching, key=lambda match: match[0])[1] if matching else self.default


def _pattern(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9+.*-]+://\S+", text):
        raise ValueError("not a dependency; write scheme://host:port, where * stands for anything")
    return text


class CapSettings(BaseModel):
    """``{concurrency: 4, requests_per_minute: 300}``; what is left out comes from the default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    concurrency: Annotated[int, Field(ge=1, le=1000)] | None = None
    requests_per_minute: Annotated[int, Field(ge=1, le=60_000)] | None = None

    def over(self, base: Cap) -> Cap:
        return Cap(self.concurrency or base.concurrency, self.requests_per_minute or base.requests_per_minute)


class CapsSettings(BaseModel):
    """The ``caps`` of a document: ``runs``, ``default``, and ``dependencies`` by ``scheme://host:port`` pattern."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    runs: Annotated[int, Field(ge=1, le=10_000)] = Caps().runs
    default: CapSettings = CapSettings()
    dependencies: dict[Annotated[str, AfterValidator(_pattern)], CapSettings] = {}

    def caps(self) -> Caps:
        default = self.default.over(Caps().default)
        overrides = tuple((pattern, cap.over(default)) for pattern, cap in sorted(self.dependencies.items()))
        return Caps(self.runs, default, overrides)

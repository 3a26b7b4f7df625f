"""What the walk last knew of a chain, read from its mark by others who want to compare."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tocsin.sdk.state_files import read_if_there
from tocsin_chain.recall import unsealed
from tocsin_chain.vault import KeyMissing, SealBroken, load_key


@dataclass(frozen=True, slots=True)
class Verdict:
    """``breaks``: those that are open. ``full_walk_at``: when the last full walk ended, None when none has."""

    breaks: tuple[str, ...]
    full_walk_at: float | None

    @property
    def whole(self) -> bool:
        """Whether a full walk has ended and nothing is open."""
        return not self.breaks and self.full_walk_at is not None

    def __str__(self) -> str:
        return ", ".join(self.breaks) or "no break"


def last_verdict(folder: Path, probe: str) -> Verdict | None:
    """The verdict of a `hash_chain` probe, from its mark at the usual place; None when that cannot be trusted."""
    try:
        text = read_if_there(folder / f"{probe}.mark")
        if text is None:
            return None
        marks = unsealed(load_key(folder / "key"), probe, text)
    except (KeyMissing, SealBroken, OSError):
        return None
    kinds = tuple(sorted({item.found.kind.value for item in marks.open}))
    return Verdict(kinds, marks.full_walk_at)

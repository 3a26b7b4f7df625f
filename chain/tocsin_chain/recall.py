"""Which remembered state to trust: the mark, held against its second witness. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from tocsin_chain.marks import Marks, from_json, to_json
from tocsin_chain.vault import OwnKey, SealBroken, seal, unseal

PURPOSE = "chain mark"


class Doubt(StrEnum):
    """Why what is remembered cannot simply be trusted."""

    MISSING = "missing"
    """No mark, a broken one, or mark and witness contradict each other: reason ``mark_missing``."""
    ROLLED_BACK = "rolled_back"
    """The mark is an older one of the same writer than the witness holds: reason ``rolled_back``."""
    UNWITNESSED = "unwitnessed"
    """The witness cannot be asked now: reason ``dependency_unknown``."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """``marks``: what to judge the chains by, None when nothing can be trusted. ``write_witness``: it lags behind."""

    marks: Marks | None
    doubt: Doubt | None = None
    detail: str = ""
    write_witness: bool = False


class WitnessUnreachable(Exception):
    """The second witness could not be asked; this says nothing about what it holds."""


def sealed(key: OwnKey, marks: Marks) -> bytes:
    """The file of a mark, and what the witness holds."""
    return seal(key, f"{PURPOSE} {marks.probe}", to_json(marks))


def unsealed(key: OwnKey, probe: str, text: bytes) -> Marks:
    """Raises `SealBroken` for anything that is not a mark of this probe made with this key."""
    value = unseal(key, f"{PURPOSE} {probe}", text)
    try:
        return from_json(value)
    except (KeyError, TypeError, ValueError) as error:
        raise SealBroken(f"not a mark of this version: {error}") from error


def recall(
    key: OwnKey,
    probe: str,
    mark: bytes | None,
    witness: bytes | WitnessUnreachable | None,
    *,
    has_witness: bool,
    writer: str,
) -> Recalled:
    """The state to go by. ``mark``, ``witness``: the stored texts, None when there are none. ``writer``: this state
    folder's name; only its own generations can tell that its mark was put back."""
    if mark is None:
        return Recalled(None, Doubt.MISSING, "there is no high-water mark; this is never taken for a first run")
    try:
        own = unsealed(key, probe, mark)
    except SealBroken as error:
        return Recalled(None, Doubt.MISSING, f"the high-water mark {error}")
    if not has_witness:
        return Recalled(own)
    if isinstance(witness, WitnessUnreachable):
        return Recalled(own, Doubt.UNWITNESSED, f"the second witness cannot be asked: {witness}")
    if witness is None:
        if own.witnessed:
            return Recalled(own, Doubt.MISSING, "the second witness is gone")
        return Recalled(own, write_witness=True)
    try:
        other = unsealed(key, probe, witness)
    except SealBroken as error:
        return Recalled(own, Doubt.MISSING, f"the second witness {error}")
    return _compare(own, other, writer)


def _compare(own: Marks, other: Marks, writer: str) -> Recalled:
    writers = set(own.generations) | set(other.generations)
    ahead = [name for name in writers if own.generations.get(name, 0) > other.generations.get(name, 0)]
    behind = [name for name in writers if own.generations.get(name, 0) < other.generations.get(name, 0)]
    if writer in behind and not ahead:
        lost = other.generations[writer] - own.generations.get(writer, 0)
        return Recalled(other, Doubt.ROLLED_BACK, f"the mark is {lost} generations older than its second witness")
    if ahead and behind:
        return Recalled(own, Doubt.MISSING, "mark and second witness were written apart and contradict each other")
    if behind:
        return Recalled(other)
    if ahead:
        return Recalled(own, write_witness=True)
    if to_json(own) != to_json(other):
        return Recalled(own, Doubt.MISSING, "mark and second witness disagree")
    return Recalled(own)


def next_generation(marks: Marks, writer: str, now: float) -> Marks:
    """The same state as a new generation of this writer, ready to be written."""
    generations = {**marks.generations, writer: marks.generations.get(writer, 0) + 1}
    return replace(marks, writer=writer, generations=generations, written_at=now)

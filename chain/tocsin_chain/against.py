"""A chain as it is now, held against what is remembered of it: a mark, or a value that was anchored elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tocsin_chain.breaks import Break, BreakKind
from tocsin_chain.fragments import Key
from tocsin_chain.marks import ChainMark, Point

HEAD_GONE = "the verified first row is gone"


@dataclass(frozen=True, slots=True)
class Sight:
    """What has to be looked at in the table to judge a mark.

    ``head``: the last row's key; None for an empty chain. ``first``: the first row's key and MAC. ``first_good``:
    whether that row verifies; None when unknown.
    ``at_mark``: the MAC stored at the mark's key; None when no row is there. ``mark_good``: whether that row
    verifies; None when unknown. ``after``, ``after_previous``: the first row beyond the mark's key.
    ``after_known``: ``after_previous`` is the genesis value or the MAC of a row before the mark's key.
    ``moved``: the mark's MAC is stored at another key. ``kept``: the checkpoints that are still as they were;
    ``differing``: those at whose key another MAC is stored.
    """

    head: Key | None
    first: tuple[Key, bytes] | None = None
    first_good: bool | None = None
    at_mark: bytes | None = None
    mark_good: bool | None = None
    after: Key | None = None
    after_previous: bytes | None = None
    after_known: bool = False
    moved: bool = False
    kept: Sequence[Point] = ()
    differing: Sequence[Point] = ()


def judge(mark: ChainMark, sight: Sight, *, restored: bool, linkage_told: bool) -> Break | None:
    """The break that only the mark shows; None when the table agrees with it.

    ``restored``: the database is another one, or an earlier state of it, by its identity.
    ``linkage_told``: a full walk's linkage is judged too and tells of holes and moved rows by itself.
    """
    head = mark.head
    if sight.at_mark == head.mac:
        return None
    if sight.at_mark is not None:
        if sight.after_previous == head.mac:
            return _break(BreakKind.MODIFIED, head.key, head.key, 1, head, "the stored MAC is not the verified one")
        if sight.moved:
            return None if linkage_told else _break(BreakKind.REORDERED, head.key, head.key, 1, head)
        if sight.mark_good is False:
            return None if linkage_told else _break(BreakKind.MODIFIED, head.key, head.key, 1, head)
        kind = BreakKind.ROLLED_BACK if restored else BreakKind.FORKED
        return _break(kind, _diverged(mark, sight), head.key, 0, head, "another history than the verified one")
    if sight.after is None:
        kind = BreakKind.ROLLED_BACK if restored or sight.differing else BreakKind.TAIL_TRUNCATED
        if kind is BreakKind.TAIL_TRUNCATED and sight.moved:
            kind = BreakKind.REORDERED
        missing = _missing(mark, sight)
        return _break(kind, missing, head.key, 0, head, f"verified up to {head.rows} rows")
    if sight.after_known:
        note = "the chain was continued from an older row than the verified one"
        return _break(BreakKind.ROLLED_BACK, _missing(mark, sight), head.key, 0, head, note)
    if linkage_told:
        return None
    if sight.moved:
        return _break(BreakKind.REORDERED, head.key, head.key, 1, head, "the verified row stands elsewhere")
    return _break(BreakKind.GAP, sight.after, sight.after, 0, head, "the verified row is gone")


def judge_head(mark: ChainMark, sight: Sight, *, pruned: bool) -> Break | None:
    """Rows missing at the start that linkage cannot see, because the new first row was made to look like one; or
    rows put before it, which leave the mark itself undisputed."""
    if sight.first is None or pruned or sight.first[0] == mark.first.key:
        return None
    first = sight.first[0]
    if sight.first_good is False:
        return Break(BreakKind.MODIFIED, first, first, 1)
    if first < mark.first.key:
        return Break(BreakKind.FORKED, first, first, 1)
    return Break(BreakKind.HEAD_TRUNCATED, first, first, 0, note=HEAD_GONE)


def pruned_lawfully(mark: ChainMark | None, first: Point | None, removed: int, cutoff: float, slack: float) -> bool:
    """Whether a missing head is what the declared retention removes.

    ``first``: the first row left, with its time. ``removed``: how many of the mark's rows are gone.
    ``cutoff``: rows older than this (Unix seconds) are pruned; ``slack``: seconds by which clocks may differ.
    A quiet chain may have a young first row although all that was removed was old: then every row that is remembered
    and still too young must be left.
    """
    if first is not None and first.time is not None and first.time <= cutoff + slack:
        return True
    if mark is None:
        return False
    young = mark.young
    protected = young is not None and young.time is not None and young.time > cutoff + slack
    if young is not None and protected and (first is None or first.key > young.key):
        return False
    points = sorted((*mark.checkpoints, mark.head), key=lambda point: point.rows)
    too_young = [point for point in points if point.time is None or point.time > cutoff + slack]
    return not too_young or removed < too_young[0].rows


def _diverged(mark: ChainMark, sight: Sight) -> Key:
    """The first verified row that is known to be different now: a checkpoint, or the mark itself."""
    return min((point.key for point in sight.differing), default=mark.head.key)


def _missing(mark: ChainMark, sight: Sight) -> Key:
    """The first place where verified rows are missing, as exactly as the rest of the chain tells."""
    if sight.head is None:
        return mark.first.key
    differing = [point.key for point in sight.differing]
    if differing:
        return min(differing)
    kept_keys = {point.key for point in sight.kept}
    lost = [point.key for point in (*mark.checkpoints, mark.head) if point.key not in kept_keys]
    if sight.after is None and len(sight.head) == 1 and isinstance(sight.head[0], int):
        return (sight.head[0] + 1,)
    return min(lost, default=mark.head.key)


def _break(kind: BreakKind, first: Key, last: Key, rows: int, head: Point, note: str = "") -> Break:
    return Break(kind, first, last, rows, None, head.time, note=note)

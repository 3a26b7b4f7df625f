"""The whole judgement over rows in memory: what the walk does in a database, without one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from tocsin_chain.against import Sight, judge, judge_head, pruned_lawfully
from tocsin_chain.breaks import Break, BreakKind, Place, classify
from tocsin_chain.fragments import Row, scan
from tocsin_chain.marks import ChainMark, Point


def inspect_rows(
    rows: Sequence[Row],
    genesis: bytes,
    *,
    mark: ChainMark | None = None,
    restored: bool = False,
    anchor: Point | None = None,
    cutoff: float | None = None,
) -> list[Break]:
    """All breaks of one chain. ``cutoff``: declared retention removes rows older than this (Unix seconds)."""
    summary = scan(rows)
    index = places_of(rows)
    known = mark.head.mac if mark is not None else anchor.mac if anchor is not None else None
    trusted = next((place.ordinal for place in index.get(known, ())), None) if known is not None else None
    pruned = False
    if cutoff is not None:
        first = Point(rows[0].key, rows[0].mac, 0, rows[0].time) if rows else None
        removed = mark.head.rows - sum(row.key <= mark.head.key for row in rows) if mark is not None else 0
        pruned = pruned_lawfully(mark, first, removed, cutoff, 0.0)
    found = classify(summary, index, genesis, trusted=trusted, pruned=pruned)
    if pruned and not rows:
        return found
    told = _against(mark, rows, genesis, restored, pruned) if mark is not None else []
    if anchor is not None and not told:
        told = _against(ChainMark(anchor, anchor), rows, genesis, restored, pruned=True)
    return merged(found, told)


def merged(found: list[Break], extra: Sequence[Break]) -> list[Break]:
    """Breaks of linkage and of a mark without telling one edit twice."""
    kept = list(found)
    for item in extra:
        if item.kind is BreakKind.MODIFIED:
            kept = [other for other in kept if not (other.kind is BreakKind.GAP and other.before == item.first)]
        if item.kind is BreakKind.HEAD_TRUNCATED and any(
            other.first == item.first
            and other.kind in (BreakKind.HEAD_TRUNCATED, BreakKind.MODIFIED, BreakKind.REORDERED)
            for other in kept
        ):
            continue
        if not any((other.kind, other.first) == (item.kind, item.first) for other in kept):
            kept.append(item)
    return kept


def places_of(rows: Sequence[Row]) -> dict[bytes, list[Place]]:
    """Every MAC and where it is stored."""
    places: dict[bytes, list[Place]] = defaultdict(list)
    for ordinal, row in enumerate(rows):
        after = rows[ordinal + 1].key if ordinal + 1 < len(rows) else None
        places[row.mac].append(Place(ordinal, row.key, after))
    return dict(places)


def sight_of(mark: ChainMark, rows: Sequence[Row], genesis: bytes) -> Sight:
    """What `judge` needs, from rows in memory."""
    by_key = {row.key: row for row in rows}
    at = by_key.get(mark.head.key)
    after = next((row for row in rows if row.key > mark.head.key), None)
    older = {row.mac for row in rows if row.key < mark.head.key}
    return Sight(
        head=rows[-1].key if rows else None,
        first=(rows[0].key, rows[0].mac) if rows else None,
        first_good=rows[0].good if rows else None,
        at_mark=at.mac if at else None,
        mark_good=at.good if at else None,
        after=after.key if after else None,
        after_previous=after.previous if after else None,
        after_known=after is not None and (after.previous == genesis or after.previous in older),
        moved=any(row.mac == mark.head.mac and row.key != mark.head.key for row in rows),
        kept=[point for point in mark.checkpoints if point.key in by_key and by_key[point.key].mac == point.mac],
        differing=[point for point in mark.checkpoints if point.key in by_key and by_key[point.key].mac != point.mac],
    )


def _against(mark: ChainMark, rows: Sequence[Row], genesis: bytes, restored: bool, pruned: bool) -> list[Break]:
    sight = sight_of(mark, rows, genesis)
    told = (judge(mark, sight, restored=restored, linkage_told=True), judge_head(mark, sight, pruned=pruned))
    return [item for item in told if item is not None]

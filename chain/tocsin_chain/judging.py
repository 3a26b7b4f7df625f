"""From what was read to breaks, asking the database for what the summaries do not hold."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tocsin.sdk import ProbeFault
from tocsin_chain.against import Sight, judge, judge_head, pruned_lawfully
from tocsin_chain.breaks import Break, BreakKind, Place, classify, wanted
from tocsin_chain.fragments import Fragment, Key, Row, Summary, join
from tocsin_chain.marks import ChainMark, Identity, Point
from tocsin_chain.settings import HashChainSettings, decoded
from tocsin_chain.source import Source

PAST = 1 << 40
"""Ordinal space that a verified past takes in front of new rows; only the order of ordinals matters."""

_CONFLICTS = (BreakKind.TAIL_TRUNCATED, BreakKind.ROLLED_BACK, BreakKind.FORKED, BreakKind.REORDERED, BreakKind.GAP)


async def breaks_of(source: Source, chain: str, summary: Summary, *, trusted: Key | None, pruned: bool) -> list[Break]:
    """The breaks of one chain that was read from its first row. Inside a snapshot."""
    index = await _index(source, chain, summary)
    at = None
    if trusted is not None:
        holder = next((one for one in summary.fragments if one.first <= trusted <= one.last), None)
        at = holder.start if holder is not None else None
    return await asyncio.to_thread(classify, summary, index, source.genesis, trusted=at, pruned=pruned)


async def breaks_since(source: Source, chain: str, mark: ChainMark, new: Summary) -> list[Break]:
    """The breaks among new rows behind a verified past; the past itself is one fragment. Inside a snapshot."""
    cursor = mark.cursor
    past = Fragment(
        0, PAST, mark.first.key, cursor.key, source.genesis, mark.first.mac, cursor.mac, mark.first.time, cursor.time
    )
    whole = join(Summary(PAST, (past,)), new)
    if whole.intact:
        return []
    index = await _index(source, chain, whole, past)
    return await asyncio.to_thread(classify, whole, index, source.genesis, trusted=PAST - 1)


async def _index(
    source: Source, chain: str, summary: Summary, past: Fragment | None = None
) -> dict[bytes, Sequence[Place]]:
    """Places of the MACs that matter. A key becomes an ordinal by the fragment that holds it."""
    macs = [mac for mac in wanted(summary) if mac and mac != source.genesis]
    if not macs:
        return {}
    only = chain if source.layout.partition else None
    try:
        found = await source.places(only, macs)
    except ProbeFault:
        found = {}
    index: dict[bytes, Sequence[Place]] = {}
    for mac, places in found.items():
        kept = []
        for key, after in places:
            ordinal = await _ordinal(source, only, summary, past, key)
            if ordinal is not None:
                kept.append(Place(ordinal, key, after))
        index[mac] = sorted(kept, key=lambda place: place.ordinal)
    return index


async def _ordinal(source: Source, chain: str | None, summary: Summary, past: Fragment | None, key: Key) -> int | None:
    """The ordinal of the row at ``key``. Inside the past any ordinal before its end will do."""
    if past is not None and key <= past.last:
        return past.end if key == past.last else past.end - 1
    holder = next((one for one in summary.fragments if one.first <= key <= one.last and one is not past), None)
    if holder is None:
        return None
    if key == holder.last:
        return holder.end
    if key == holder.first and (past is None or holder.start > past.end):
        return holder.start
    first = holder.first if past is None or holder.start else past.last
    offset = await source.count(chain, first, key) - 1
    return (holder.start if past is None or holder.start else past.end) + offset


async def sight_of(source: Source, chain: str, mark: ChainMark) -> Sight:
    """What the table shows of a mark. Inside a snapshot."""
    only = chain if source.layout.partition else None
    encoding = source.reading.mac_encoding
    last = await source.stored(chain=only, descending=True, limit=1)
    first = await source.stored(chain=only, limit=1)
    points = [mark.head, *mark.checkpoints]
    there = {row.key: row for row in await source.stored(chain=only, keys=[point.key for point in points])}
    at = there.get(mark.head.key)
    after = await source.stored(chain=only, above=mark.head.key, limit=1)
    after_row = source.row(after[0]) if after else None
    moved, after_known = False, after_row is not None and after_row.previous == source.genesis
    if at is None or decoded(at.mac, encoding) != mark.head.mac:
        macs = [mark.head.mac, *([after_row.previous] if after_row and after_row.previous else [])]
        try:
            places = await source.places(only, macs)
        except ProbeFault:
            places = {}
        moved = any(key != mark.head.key for key, _ in places.get(mark.head.mac, []))
        if after_row is not None:
            after_known = after_known or any(key < mark.head.key for key, _ in places.get(after_row.previous, []))
    stored = {key: decoded(row.mac, encoding) for key, row in there.items()}
    return Sight(
        head=last[0].key if last else None,
        first=(first[0].key, decoded(first[0].mac, encoding)) if first else None,
        first_good=source.row(first[0]).good if first else None,
        at_mark=stored.get(mark.head.key),
        mark_good=source.row(at).good if at is not None else None,
        after=after_row.key if after_row else None,
        after_previous=after_row.previous if after_row else None,
        after_known=after_known,
        moved=moved,
        kept=[point for point in mark.checkpoints if stored.get(point.key) == point.mac],
        differing=[point for point in mark.checkpoints if point.key in stored and stored[point.key] != point.mac],
    )


async def head_pruned(
    source: Source, settings: HashChainSettings, chain: str, mark: ChainMark | None, first: Row | None, now: float
) -> bool:
    """Whether the declared retention explains that the chain does not begin where it did. Inside a snapshot."""
    if settings.retention is None:
        return False
    only = chain if source.layout.partition else None
    removed = 0
    if mark is not None:
        left = await source.count(only, mark.first.key, mark.head.key)
        removed = max(0, mark.head.rows - left)
    point = Point(first.key, first.mac, 0, first.time) if first is not None else None
    return pruned_lawfully(mark, point, removed, now - settings.retention.max_age, settings.retention.slack)


def against_mark(
    mark: ChainMark, sight: Sight, before: Identity, now: Identity, *, pruned: bool, rolled: bool
) -> Break | None:
    """The break that the mark shows in an incremental run, where linkage does not tell of holes at the mark."""
    restored = rolled or now.restored_since(before)
    found = judge(mark, sight, restored=restored, linkage_told=False)
    return found or judge_head(mark, sight, pruned=pruned)


def told_by_mark(found: Break) -> bool:
    """Whether only what is remembered shows a break: the rows around it may be whole."""
    return bool(found.note) and (disputes_mark(found) or found.kind is BreakKind.HEAD_TRUNCATED)


def disputes_mark(found: Break) -> bool:
    """Whether a break takes away the row that the mark stands for, so that the mark must stay where it is."""
    return found.kind in _CONFLICTS

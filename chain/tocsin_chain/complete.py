"""What a finished full walk means for what is remembered: breaks found, breaks repaired, first marks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tocsin_chain.fragments import Row, Summary
from tocsin_chain.increment import is_accepted, whole_again
from tocsin_chain.judging import breaks_of, head_pruned, told_by_mark
from tocsin_chain.marks import MAX_OPEN, ChainMark, Marks, OpenBreak, Point
from tocsin_chain.settings import HashChainSettings
from tocsin_chain.source import Source
from tocsin_chain.walk import Progress


async def complete(
    source: Source, settings: HashChainSettings, marks: Marks, walk: Progress, now: float
) -> tuple[Marks, list[OpenBreak]]:
    """The state after a walk has reached its end, and the breaks that only it has found."""
    found: list[OpenBreak] = []
    walked: dict[tuple[object, ...], OpenBreak] = {}
    for chain, summary in walk.summaries.items():
        async with source.snapshot(60.0):
            for item in await _judged(source, settings, marks, chain, summary, now):
                walked[item.identity] = item
    known = {item.identity: item for item in marks.open}
    kept = []
    for item in marks.open:
        if item.identity in walked or told_by_mark(item.found) or item.since >= walk.started_at:
            kept.append(item)
    told = {(item.chain, item.found.kind) for item in kept if item.found.note}
    for identity, item in walked.items():
        if identity not in known and (item.chain, item.found.kind) not in told and len(kept) < MAX_OPEN:
            kept.append(item)
            found.append(item)
    return replace(marks, open=tuple(kept), full_walk_at=now), found


async def first_marks(
    source: Source, settings: HashChainSettings, walk: Progress, now: float
) -> tuple[Mapping[str, ChainMark], list[OpenBreak]]:
    """What a bootstrap found: a mark for each chain, and the breaks that are there already."""
    chains: dict[str, ChainMark] = {}
    found: list[OpenBreak] = []
    empty = Marks("", "")
    for chain, summary in walk.summaries.items():
        head, first = summary.fragments[-1], summary.fragments[0]
        chains[chain] = ChainMark(
            Point(first.first, first.first_mac, 1, first.first_time),
            Point(head.last, head.last_mac, summary.rows, head.last_time),
        )
        async with source.snapshot(60.0):
            found += await _judged(source, settings, empty, chain, summary, now)
    return chains, found


async def _judged(
    source: Source, settings: HashChainSettings, marks: Marks, chain: str, summary: Summary, now: float
) -> list[OpenBreak]:
    mark = marks.chains.get(chain)
    first = summary.fragments[0]
    pruned = False
    if first.previous != source.genesis and settings.retention is not None:
        row = Row(first.first, first.previous, first.first_mac, None, True, first.first_time)
        pruned = await head_pruned(source, settings, chain, mark, row, now)
    trusted = mark.head.key if mark is not None and mark.resume is None else None
    breaks = await breaks_of(source, chain, summary, trusted=trusted, pruned=pruned)
    found = [OpenBreak(chain, item, now) for item in breaks if not await is_accepted(source, marks, chain, item)]
    if settings.replica_dsn is None:
        return found
    # A replica that caught up while it was walked seems to lack rows; the primary knows.
    return [item for item in found if not await whole_again(source, item)]

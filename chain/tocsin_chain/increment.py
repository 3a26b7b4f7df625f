"""The incremental walk: what is new since the last run, whether the mark still stands, whether open breaks remain.

Its cost is that of the new rows, of one look at each mark's row (a bounded number a run) and of the open breaks.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tocsin_chain.breaks import Break, BreakKind
from tocsin_chain.fragments import Builder, Key, Row, Summary
from tocsin_chain.judging import (
    against_mark,
    breaks_of,
    breaks_since,
    disputes_mark,
    head_pruned,
    sight_of,
    told_by_mark,
)
from tocsin_chain.marks import MAX_OPEN, ChainMark, Identity, Marks, OpenBreak, Point
from tocsin_chain.settings import HashChainSettings, decoded
from tocsin_chain.source import Source, Stored, identity_of

PAGE = 2000
"""New rows that are read and judged at a time."""

MARKS_PER_RUN = 500
RECHECKED_PER_RUN = 20
RECHECK_ROWS = 5000
FINGERPRINT_ROWS = 1000


@dataclass(slots=True)
class Increment:
    """What one incremental run did. ``marks``: the new state. ``fresh``: breaks that were not known before.
    ``heads``: the last key that was seen of each chain. ``behind``: there are more new rows than the run had time
    for. ``checked``: rows that were verified."""

    marks: Marks
    fresh: list[OpenBreak] = field(default_factory=list)
    heads: dict[str, Key] = field(default_factory=dict)
    behind: bool = False
    checked: int = 0
    identity: Identity = field(default_factory=Identity)


async def increment(
    source: Source,
    settings: HashChainSettings,
    marks: Marks,
    *,
    now: float,
    rolled: bool,
    seconds: float,
    turn: int,
    held: dict[str, float],
) -> Increment:
    """One run. ``rolled``: the mark itself was found to be an older one. ``turn``: counts runs, so that marks and
    open breaks take turns where there are too many for one. ``held``: since when a chain's suspicious rows wait for a
    transaction in flight; kept by the caller between runs. Raises `ProbeFault`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    run = _Run(source, settings, Increment(marks), now, rolled, deadline, held)
    await run.new_rows(turn)
    await run.suspicious()
    await run.recheck(turn)
    await run.first_young(turn)
    run.finish()
    return run.done


@dataclass(frozen=True, slots=True)
class _Page:
    """Rows of one read, and between which transaction ids some may still be in flight. ``full``: there are more."""

    rows: Sequence[Stored] = ()
    low: int = 0
    high: int = 0
    full: bool = False


class _Run:
    def __init__(
        self,
        source: Source,
        settings: HashChainSettings,
        done: Increment,
        now: float,
        rolled: bool,
        deadline: float,
        held: dict[str, float],
    ) -> None:
        self.held = held
        self.source = source
        self.settings = settings
        self.done = done
        self.now = now
        self.rolled = rolled
        self.deadline = deadline
        self.chains = dict(done.marks.chains)
        self.open = {item.identity: item for item in done.marks.open}
        self.suspects: set[str] = set()
        self.scanned = done.marks.scanned
        self.horizon = done.marks.horizon

    def _left(self) -> float:
        return self.deadline - asyncio.get_running_loop().time()

    async def new_rows(self, turn: int) -> None:
        """Reads behind the cursors and moves them on where all is well; looks at the rows that marks stand for.

        The first look at everything is one snapshot: on a quiet table there is no other.
        """
        source = self.source
        start = self.scanned
        if not source.layout.partition:
            mark = self.chains.get("")
            start = mark.cursor.key if mark else None
        names = self._turn(sorted(self.done.marks.chains), MARKS_PER_RUN, turn)
        before = self.done.marks.chains
        keys = sorted({point.key for name in names for point in (before[name].first, before[name].head)})
        heads: dict[str, Key] = {}
        page = _Page()
        async with source.snapshot():
            self.done.identity = await identity_of(source.connection)
            if source.layout.by_chain:
                heads = await source.heads()
            else:
                page = await self._page(None, start)
            marked = await source.stored(keys=keys) if keys else []
        if source.layout.by_chain:
            await self._grown(heads, turn)
        else:
            await self._pages(None, start, page)
        self._known_marks(names, marked)

    async def _grown(self, heads: Mapping[str, Key], turn: int) -> None:
        """Reads the chains whose last row is not the one that was verified last; the others cost nothing."""
        self.done.heads |= heads
        names = sorted(heads)
        begin = turn % max(1, len(names))
        for chain in [*names[begin:], *names[:begin]]:
            mark = self.chains.get(chain)
            if mark is not None and mark.cursor.key == heads[chain]:
                continue
            if self._left() < 0:
                self.done.behind = True
                return
            await self._pages(chain, mark.cursor.key if mark else None)

    async def _page(self, chain: str | None, above: Key | None) -> _Page:
        """The next rows, not torn apart where several have the same key. Inside a snapshot."""
        low, high = await self.source.horizon()
        rows = await self.source.stored(chain=chain, above=above, limit=PAGE)
        full = len(rows) == PAGE
        if full:
            rows = [row for row in rows if row.key != rows[-1].key] or rows
        return _Page(rows, low, high, full)

    async def _pages(self, chain: str | None, above: Key | None, page: _Page | None = None) -> None:
        while True:
            if page is None:
                async with self.source.snapshot():
                    page = await self._page(chain, above)
            await self._take(page.rows)
            if page.rows and chain is None:
                self._scan_on(page.rows[-1].key, page.low, page.high)
            if not page.full:
                return
            above = page.rows[-1].key
            if self._left() < 0:
                self.done.behind = True
                return
            page = None

    @staticmethod
    def _turn(names: list[str], count: int, turn: int) -> list[str]:
        """Some of the names, each time others."""
        begin = (turn * count) % max(1, len(names))
        return [*names[begin:], *names[:begin]][:count]

    def _scan_on(self, last: Key, low: int, high: int) -> None:
        """Moves the start of the next scan up to where no late commit of another chain can turn up any more."""
        if self.horizon is not None and self.horizon[1] <= low:
            self.scanned = self.horizon[0]
            self.horizon = None
        if self.horizon is None:
            self.horizon = (last, high)

    async def _take(self, rows: Sequence[Stored]) -> None:
        by_chain: dict[str, list[Stored]] = defaultdict(list)
        for row in rows:
            mark = self.chains.get(row.chain)
            self.done.heads[row.chain] = row.key
            if mark is None or row.key > mark.cursor.key:
                by_chain[row.chain].append(row)
        for chain, news in by_chain.items():
            if chain in self.suspects:
                continue
            summary = await asyncio.to_thread(_summary, self.source, news)
            self.done.checked += summary.rows
            mark = self.chains.get(chain)
            expected = mark.cursor.mac if mark else self.source.genesis
            if summary.intact and summary.fragments[0].previous == expected:
                self._move(chain, mark, summary)
            else:
                self.suspects.add(chain)

    def _move(self, chain: str, mark: ChainMark | None, summary: Summary) -> None:
        head = summary.fragments[-1]
        rows = summary.rows + (mark.cursor.rows if mark else 0)
        point = Point(head.last, head.last_mac, rows, head.last_time)
        if mark is None:
            first = summary.fragments[0]
            start = Point(first.first, first.first_mac, 1, first.first_time)
            self.chains[chain] = ChainMark(start, point)
        else:
            self.chains[chain] = mark.advanced(point)

    def _known_marks(self, names: Sequence[str], stored: Sequence[Stored]) -> None:
        """Are the rows that the marks stand for still there, and the same?"""
        before = self.done.marks.chains
        there = {(row.chain, row.key): row for row in stored}
        for name in names:
            mark = before[name]
            self.done.heads.setdefault(name, mark.cursor.key)
            head, first = there.get((name, mark.head.key)), there.get((name, mark.first.key))
            if (
                head is None
                or not self._same(head, mark.head)
                or mark.resume is not None
                or first is None
                or not self._same(first, mark.first)
                or self.source.row(head).good is False
            ):
                self.suspects.add(name)

    def _same(self, row: Stored, point: Point) -> bool:
        return decoded(row.mac, self.source.reading.mac_encoding) == point.mac

    async def suspicious(self) -> None:
        """Looks again, and closely, at every chain in which something is not as it should be."""
        if not self.suspects:
            return
        known = {item.chain for item in self.open.values()}
        if self.suspects - known:
            await asyncio.sleep(max(0.0, min(self.settings.settle, self._left() / 4)))
        for chain in sorted(self.suspects):
            async with self.source.snapshot():
                await self._judge(chain)

    async def _judge(self, chain: str) -> None:
        source, mark = self.source, self.chains.get(chain)
        only = chain if source.layout.partition else None
        low, high = await source.horizon()
        above = mark.cursor.key if mark else None
        stored = await source.stored(chain=only, above=above, limit=PAGE)
        settled = self._settled(chain, stored, low, high)
        summary = await asyncio.to_thread(_summary, source, settled)
        if stored:
            self.done.heads[chain] = stored[-1].key
        if mark is None:
            await self._new_chain(chain, summary, settled)
            return
        sight = await sight_of(source, chain, mark)
        if sight.head is not None:
            self.done.heads[chain] = sight.head
        first = await source.stored(chain=only, limit=1)
        pruned = False
        if not first or decoded(first[0].mac, source.reading.mac_encoding) != mark.first.mac:
            first_row = source.row(first[0]) if first else None
            if first_row is None or first_row.key > mark.first.key:
                pruned = await head_pruned(source, self.settings, chain, mark, first_row, self.now)
            if not first and pruned:
                return
            if first_row is not None and pruned:
                mark = replace(mark, first=Point(first_row.key, first_row.mac, 1, first_row.time))
                self.chains[chain] = mark
        identity = self.done.marks.identity
        # A restored database writes on, and some day is ahead of where it was: what was rolled back stays so.
        rolled = self.rolled or any(
            item.chain == chain and item.found.kind is BreakKind.ROLLED_BACK for item in self.open.values()
        )
        found = against_mark(mark, sight, identity, self.done.identity, pruned=pruned, rolled=rolled)
        if found is not None and disputes_mark(found) and found.first >= mark.first.key:
            await self._dispute(chain, mark, found, only)
            return
        if mark.resume is not None:
            # The rows that the mark stands for are back: nothing is in dispute any more.
            mark = replace(mark, resume=None)
            self.chains[chain] = mark
            self._close(chain, disputes=True)
            stored = await source.stored(chain=only, above=mark.head.key, limit=PAGE)
            settled = self._settled(chain, stored, low, high)
            summary = await asyncio.to_thread(_summary, source, settled)
        breaks = [] if found is None else [found]
        head_row = await source.stored(chain=only, keys=[mark.head.key])
        if head_row and source.row(head_row[0]).good is False and not breaks and not self._told(chain, mark.head.key):
            breaks.append(Break(BreakKind.MODIFIED, mark.head.key, mark.head.key, 1, mark.head.time, mark.head.time))
        if summary.rows:
            breaks += await breaks_since(source, chain, mark, summary)
            self._move(chain, mark, summary)
        for item in breaks:
            await self._open(chain, item)

    def _settled(self, chain: str, rows: Sequence[Stored], low: int, high: int) -> Sequence[Stored]:
        """The rows that no transaction in flight can explain any more; all of them when that was waited for long
        enough, so that nobody can blind the walk by leaving a transaction open."""
        settled = _settled(rows, low, high)
        if len(settled) == len(rows):
            self.held.pop(chain, None)
            return rows
        since = self.held.setdefault(chain, self.now)
        return rows if self.now - since >= self.settings.in_flight else settled

    async def _new_chain(self, chain: str, summary: Summary, rows: Sequence[Stored]) -> None:
        """A chain that was never seen: it must begin at the genesis value."""
        if not rows:
            return
        first = self.source.row(rows[0])
        pruned = await head_pruned(self.source, self.settings, chain, None, first, self.now)
        for item in await breaks_of(self.source, chain, summary, trusted=None, pruned=pruned):
            await self._open(chain, item)
        self._move(chain, None, summary)

    async def _dispute(self, chain: str, mark: ChainMark, found: Break, only: str | None) -> None:
        """The mark stays where it is; verification of new rows goes on from the head as it is now."""
        last = await self.source.stored(chain=only, descending=True, limit=1)
        if mark.resume is None:
            resume = mark.head
            if last:
                resume = Point(last[0].key, decoded(last[0].mac, self.source.reading.mac_encoding), mark.head.rows)
            mark = replace(mark, resume=resume)
            self.chains[chain] = mark
        elif last and last[0].key < mark.resume.key:
            shrunk = decoded(last[0].mac, self.source.reading.mac_encoding)
            self.chains[chain] = replace(mark, resume=Point(last[0].key, shrunk, mark.head.rows))
        else:
            stored = await self.source.stored(chain=only, above=mark.resume.key, limit=PAGE)
            summary = await asyncio.to_thread(_summary, self.source, stored)
            if summary.rows:
                for item in await breaks_since(self.source, chain, mark, summary):
                    await self._open(chain, item)
                self._move(chain, mark, summary)
        disputed = [item for item in self.open.values() if item.chain == chain and item.found.note]
        if disputed and disputes_mark(disputed[0].found):
            if disputed[0].found.kind is found.kind:
                return
            self._close(chain, disputes=True)
        await self._open(chain, found)

    def _told(self, chain: str, key: Key) -> bool:
        """Whether an open break already says that the row at ``key`` is modified."""
        return any(
            item.chain == chain and item.found.kind is BreakKind.MODIFIED and item.found.first <= key <= item.found.last
            for item in self.open.values()
        )

    def _close(self, chain: str, *, disputes: bool) -> None:
        for identity, item in list(self.open.items()):
            if item.chain == chain and disputes and disputes_mark(item.found) and item.found.note:
                del self.open[identity]

    async def _open(self, chain: str, found: Break) -> None:
        item = OpenBreak(chain, found, self.now)
        if item.identity in self.open or len(self.open) >= MAX_OPEN:
            return
        if await is_accepted(self.source, self.done.marks, chain, found):
            return
        self.open[item.identity] = item
        self.done.fresh.append(item)

    async def recheck(self, turn: int) -> None:
        """Drops open breaks whose rows are whole again, so that a repair is seen within a run."""
        fresh = {item.identity for item in self.done.fresh}
        old = [item for identity, item in self.open.items() if identity not in fresh]
        old = [item for item in old if not (disputes_mark(item.found) and item.found.note)]
        begin = (turn * RECHECKED_PER_RUN) % max(1, len(old))
        for item in [*old[begin:], *old[:begin]][:RECHECKED_PER_RUN]:
            if self._left() < 0:
                return
            async with self.source.snapshot():
                if await self._repaired(item):
                    del self.open[item.identity]

    async def _repaired(self, item: OpenBreak) -> bool:
        mark = self.chains.get(item.chain)
        if mark is None or not told_by_mark(item.found):
            return await whole_again(self.source, item)
        first = await self.source.stored(keys=[mark.first.key])
        return any(row.chain == item.chain and self._same(row, mark.first) for row in first)

    async def first_young(self, turn: int) -> None:
        """Remembers, for a few chains a run, the first row that the declared retention may not take yet."""
        retention = self.settings.retention
        if retention is None or not self.source.layout.time:
            return
        names = [name for name, mark in self.chains.items() if mark.resume is None]
        for name in self._turn(names, RECHECKED_PER_RUN, turn):
            only = name if self.source.layout.partition else None
            async with self.source.snapshot():
                found = await self.source.stored(chain=only, since=self.now - retention.max_age, limit=1)
            point = None
            if found:
                mac = decoded(found[0].mac, self.source.reading.mac_encoding)
                point = Point(found[0].key, mac, 0, found[0].time)
            self.chains[name] = replace(self.chains[name], young=point)

    def finish(self) -> None:
        disputed = any(mark.resume is not None for mark in self.chains.values())
        kept = self.done.marks.identity
        self.done.marks = replace(
            self.done.marks,
            chains=self.chains,
            open=tuple(self.open.values()),
            scanned=self.scanned,
            horizon=self.horizon,
            identity=kept if disputed else self.done.identity,
        )


async def whole_again(source: Source, item: OpenBreak) -> bool:
    """Whether the rows around a break verify now, and follow one another. Inside a snapshot."""
    rows = await _around(source, item.chain, item.found, RECHECK_ROWS)
    summary = await asyncio.to_thread(_of_rows, [source.row(row) for row in rows])
    if not rows:
        return False
    if not summary.intact:
        return False
    begins = summary.fragments[0].previous == source.genesis
    return begins or rows[0].key < item.found.first


async def fingerprint(source: Source, chain: str, found: Break) -> str:
    """A digest of the rows around a break, by which an accepted one is known again. Inside a snapshot."""
    digest = hashlib.sha256()
    for row in await _around(source, chain, found, FINGERPRINT_ROWS):
        encoding = source.reading.mac_encoding
        good = source.row(row).good
        parts = (
            repr(row.key).encode(),
            decoded(row.previous, encoding),
            decoded(row.mac, encoding),
            repr(good).encode(),
        )
        digest.update(b"".join(len(part).to_bytes(4, "big") + part for part in parts))
    return digest.hexdigest()


async def is_accepted(source: Source, marks: Marks, chain: str, found: Break) -> bool:
    """Whether exactly this break was accepted. Inside a snapshot."""
    candidates = [
        item for item in marks.accepted if (item.chain, item.kind, item.first) == (chain, found.kind, found.first)
    ]
    if not candidates:
        return False
    print_now = await fingerprint(source, chain, found)
    return any(item.fingerprint == print_now for item in candidates)


async def _around(source: Source, chain: str, found: Break, limit: int) -> list[Stored]:
    """The row before a break, its rows, and the one behind it."""
    only = chain if source.layout.partition else None
    before = await source.stored(chain=only, below=found.first, descending=True, limit=1)
    rows = await source.stored(chain=only, above=found.first, upto=found.last, inclusive=True, limit=limit)
    after = await source.stored(chain=only, above=found.last, limit=1)
    return [*before, *rows, *after]


def _settled(rows: Sequence[Stored], low: int, high: int) -> list[Stored]:
    """The rows before the first one whose transaction may not be visible to all: what is behind is in flight.

    ``xmin`` of a row has 32 bits; whether it lies between two 64-bit ids is told by the difference.
    """
    kept = []
    for row in rows:
        if (row.transaction - low) % (1 << 32) < high - low:
            break
        kept.append(row)
    return kept


def _summary(source: Source, rows: Sequence[Stored]) -> Summary:
    builder = Builder()
    for row in rows:
        builder.add(source.row(row))
    return builder.result()


def _of_rows(rows: Sequence[Row]) -> Summary:
    builder = Builder()
    for row in rows:
        builder.add(row)
    return builder.result()

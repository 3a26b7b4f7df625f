"""The full walk: every row from the first to the head as it was at the start, in segments, resumable at any of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tocsin_chain.fragments import BadRun, Fragment, Key, Summary, join
from tocsin_chain.marks import key_from, key_json
from tocsin_chain.segments import Segment
from tocsin_chain.source import PACK_ROWS, Source, number

Verify = Callable[[Segment], Awaitable[dict[str, Summary]]]

MAX_SPARSENESS = 16
"""Keys to a row up to which segments are cut by arithmetic; beyond it each boundary is looked up in the index."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a full walk has come. ``bound``: the last key at its start, None for an empty table. ``queue``: chains
    that are still to be read, one after the other; empty when they are read interleaved. ``position``: everything up
    to here is in ``summaries``. ``span``: keys that hold about one chunk of rows. ``estimate``: rows in all, about."""

    started_at: float
    bound: Key | None
    queue: tuple[str, ...] = ()
    by_chain: bool = False
    position: Key | None = None
    span: int = 0
    summaries: dict[str, Summary] = field(default_factory=dict)
    rows: int = 0
    estimate: int = 0
    ended: bool = False
    chain_bound: Key | None = None
    """Where the chain that is being read ended when it was begun."""

    @property
    def done(self) -> bool:
        return self.ended or self.bound is None


async def begin(source: Source, now: float, chunk: int) -> Progress:
    """A walk that starts at the first row."""
    async with source.snapshot():
        bound = await source.end(None, last=True) if not source.layout.by_chain else None
        heads = await source.heads() if source.layout.by_chain else {}
        if heads:
            bound = max(heads.values())
    estimate = max(source.layout.rows, 0)
    return Progress(now, bound, tuple(heads), source.layout.by_chain, None, chunk, {}, 0, estimate)


async def advance(
    source: Source,
    progress: Progress,
    verify: Verify,
    *,
    chunk: int,
    parallel: int,
    go_on: Callable[[Progress], Awaitable[bool]],
) -> Progress:
    """Walks on until the end, or until ``go_on`` says no; it is asked after each segment. Segments are verified
    ``parallel`` at a time and joined in order. Raises `ProbeFault`; then nothing since the last answer is lost but
    the segments in flight."""
    planner = _Planner(source, progress, chunk)
    waiting: list[tuple[Segment, asyncio.Task[dict[str, Summary]]]] = []
    try:
        while True:
            while len(waiting) < parallel and (segment := await planner.next()) is not None:
                waiting.append((segment, asyncio.ensure_future(verify(segment))))
            if not waiting:
                return progress
            segment, task = waiting[0]
            found = await task
            waiting.pop(0)
            progress = _joined(progress, segment, found)
            planner.learn(segment, sum(summary.rows for summary in found.values()))
            progress = replace(progress, span=planner.span, chain_bound=planner.chain_bound or None)
            if progress.done or not await go_on(progress):
                return progress
    finally:
        for _, task in waiting:
            task.cancel()
        await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)


class _Planner:
    """Cuts what is left into segments of about ``chunk`` rows."""

    def __init__(self, source: Source, progress: Progress, chunk: int) -> None:
        self.source = source
        self.chunk = chunk
        self.bound = progress.bound
        self.by_chain = progress.by_chain
        self.queue = list(progress.queue)
        self.position = progress.position
        self.span = max(progress.span, chunk)
        self.ended = progress.done
        self.sparse = False
        self.chain_bound: Key = progress.chain_bound or progress.bound or ()

    async def next(self) -> Segment | None:
        if self.ended or self.bound is None:
            return None
        chain = self.queue[0] if self.by_chain else None
        if self.position is None:
            await self._enter(chain)
        above, bound = self.position, self.chain_bound
        sparse = self.sparse or not self.source.layout.integer
        if not sparse:
            assert above is not None
            upto: Key = (min(number(above) + self.span, number(bound)),)
        else:
            async with self.source.snapshot():
                upto = await self.source.boundary(chain, above, bound, self.chunk)
        self.position = upto
        last = upto == bound
        if last:
            if self.by_chain:
                self.queue.pop(0)
            self.ended = not self.queue
            self.position = None
        return Segment(chain, above, upto, max(1, self.span * PACK_ROWS // self.chunk), last, sparse)

    async def _enter(self, chain: str | None) -> None:
        """Where a chain begins and ends; interleaved ones begin and end together."""
        assert self.bound is not None
        async with self.source.snapshot():
            first = await self.source.end(chain, last=False)
            last = await self.source.end(chain, last=True) if self.by_chain else self.bound
        self.chain_bound = min(last or self.bound, self.bound)
        if self.source.layout.integer:
            self.position = (number(first) - 1,) if first is not None else (number(self.chain_bound) - 1,)

    def learn(self, segment: Segment, rows: int) -> None:
        """Sequences have holes: a segment that held few rows makes the next ones longer, up to where it is better to
        ask for the boundary."""
        if not self.source.layout.integer:
            return
        if segment.sparse and segment.above is not None:
            width = number(segment.upto) - number(segment.above)
            self.sparse = width > MAX_SPARSENESS * max(rows, 1)
        elif rows < self.chunk // 2:
            self.sparse = self.span >= MAX_SPARSENESS * self.chunk
            self.span = min(2 * self.span, MAX_SPARSENESS * self.chunk)
        elif rows > 2 * self.chunk:
            self.span = max(self.span // 2, 1)


def _joined(progress: Progress, segment: Segment, found: dict[str, Summary]) -> Progress:
    summaries = dict(progress.summaries)
    for chain, summary in found.items():
        summaries[chain] = join(summaries.get(chain, Summary()), summary)
    rows = progress.rows + sum(summary.rows for summary in found.values())
    progress = replace(progress, summaries=summaries, rows=rows)
    if not segment.last:
        return replace(progress, position=segment.upto)
    return replace(progress, position=None, queue=progress.queue[1:], ended=not progress.queue[1:])


def progress_json(progress: Progress) -> dict[str, Any]:
    return {
        "started_at": progress.started_at,
        "bound": None if progress.bound is None else key_json(progress.bound),
        "queue": list(progress.queue),
        "by_chain": progress.by_chain,
        "position": None if progress.position is None else key_json(progress.position),
        "span": progress.span,
        "summaries": {chain: summary_json(summary) for chain, summary in progress.summaries.items()},
        "rows": progress.rows,
        "estimate": progress.estimate,
        "ended": progress.ended,
        "chain_bound": None if progress.chain_bound is None else key_json(progress.chain_bound),
    }


def progress_from(value: dict[str, Any]) -> Progress:
    """Raises `KeyError`, `TypeError` or `ValueError` for anything that `progress_json` did not make."""
    bound, position, chain_bound = value["bound"], value["position"], value["chain_bound"]
    return Progress(
        value["started_at"],
        None if bound is None else key_from(bound),
        tuple(value["queue"]),
        value["by_chain"],
        None if position is None else key_from(position),
        value["span"],
        {chain: summary_from(summary) for chain, summary in value["summaries"].items()},
        value["rows"],
        value["estimate"],
        value["ended"],
        None if chain_bound is None else key_from(chain_bound),
    )


def summary_json(summary: Summary) -> list[Any]:
    fragments = [
        [
            one.start,
            one.rows,
            key_json(one.first),
            key_json(one.last),
            one.previous.hex(),
            one.first_mac.hex(),
            one.last_mac.hex(),
            one.first_time,
            one.last_time,
        ]
        for one in summary.fragments
    ]
    bad = [
        [run.start, run.rows, key_json(run.first), key_json(run.last), run.unknown_key, run.first_time, run.last_time]
        for run in summary.bad
    ]
    return [summary.rows, fragments, bad, summary.overflow]


def summary_from(value: list[Any]) -> Summary:
    rows, fragments, bad, overflow = value
    return Summary(
        rows,
        tuple(
            Fragment(
                start,
                count,
                key_from(first),
                key_from(last),
                bytes.fromhex(previous),
                bytes.fromhex(first_mac),
                bytes.fromhex(last_mac),
                first_time,
                last_time,
            )
            for start, count, first, last, previous, first_mac, last_mac, first_time, last_time in fragments
        ),
        tuple(
            BadRun(start, count, key_from(first), key_from(last), unknown, first_time, last_time)
            for start, count, first, last, unknown, first_time, last_time in bad
        ),
        overflow,
    )

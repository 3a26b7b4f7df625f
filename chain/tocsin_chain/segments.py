"""One stretch of the table, verified: packs first, row by row where a pack does not fit. Also in worker processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from threading import Thread
from time import monotonic

import uvloop

from tocsin.model import CommonReason, Finding, ReasonInfo
from tocsin.sdk import ProbeFault
from tocsin.sdk.faults import explain
from tocsin_chain.forms import PreviousPlace
from tocsin_chain.fragments import Builder, Key, Summary, join
from tocsin_chain.layout import Layout
from tocsin_chain.packs import Pack, verify_pack
from tocsin_chain.reading import Reading
from tocsin_chain.source import PACK_ROWS, Source, open_source

CONNECT_SECONDS = 5.0
IDLE_SECONDS = 4.0
"""A worker's session that is not used for so long ends, on the server's side, between the slices of a walk."""

PAGE = 5000
"""Rows that are read at a time when they are looked at one by one."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows with ``above`` < key <= ``upto``; of one chain, or of all. ``span``: keys that a pack covers. ``last``:
    nothing of it comes behind. ``sparse``: few keys have rows, so packs are not cut by keys."""

    chain: str | None
    above: Key | None
    upto: Key
    span: int = PACK_ROWS
    last: bool = False
    sparse: bool = False


async def verify_segment(source: Source, segment: Segment) -> dict[str, Summary]:
    """The summary of each chain's rows in a segment. Raises `ProbeFault`."""
    if source.ring is not None and not source.layout.payload:
        return await read_one_by_one(source, segment)
    place = source.form.previous if source.form else PreviousPlace.NONE
    found: dict[str, list[Summary | Pack]] = {}

    def take(pack: Pack) -> None:
        summary = verify_pack(pack, source.ring, place, source.zero_is_genesis)
        parts = found.setdefault(pack.chain, [])
        if summary is not None and parts and isinstance(parts[-1], Summary):
            parts[-1] = join(parts[-1], summary)
        else:
            parts.append(pack.emptied() if summary is None else summary)

    try:
        async with source.snapshot():
            step = None if segment.sparse else segment.span
            await source.packs(segment.chain, segment.above, segment.upto, step, take)
    except ProbeFault as fault:
        if fault.finding.reason != CommonReason.UNEXPECTED_BODY:
            raise
        # A MAC that is not even hex or base64 makes the server refuse the whole stretch.
        return await read_one_by_one(source, segment)
    result = {}
    for chain, parts in found.items():
        whole = Summary()
        for part in parts:
            whole = join(whole, part if isinstance(part, Summary) else await _again(source, part))
        result[chain] = whole
    return result


async def read_one_by_one(source: Source, segment: Segment) -> dict[str, Summary]:
    """The same as `verify_segment`, without packs."""
    builders: dict[str, Builder] = {}
    above = segment.above
    while True:
        async with source.snapshot():
            upto = await source.boundary(segment.chain, above, segment.upto, PAGE)
            rows = await source.stored(chain=segment.chain, above=above, upto=upto)
        for stored in rows:
            builders.setdefault(stored.chain, Builder()).add(source.row(stored))
        if upto == segment.upto:
            return {chain: builder.result() for chain, builder in builders.items()}
        above = upto
        await asyncio.sleep(0)


async def _again(source: Source, pack: Pack) -> Summary:
    """The rows of a pack, one by one."""
    chain = pack.chain if source.layout.partition else None
    async with source.snapshot():
        rows = await source.stored(chain=chain, above=pack.first, upto=pack.last, inclusive=True)
    builder = Builder()
    for stored in rows:
        builder.add(source.row(stored))
    return builder.result()


class Workers:
    """Processes that verify segments, each with a session of its own, so that neither driver nor MACs take time from
    the event loop. They start when the first segment comes; `close` ends them. ``yielding``: they let everything
    else on this machine go first."""

    def __init__(self, reading: Reading, layout: Layout, count: int, *, yielding: bool = True) -> None:
        self._pool = ProcessPoolExecutor(
            count,
            mp_context=_forking(),
            initializer=_start,
            initargs=(reading, layout, yielding),
        )
        self.count = count

    async def verify(self, segment: Segment) -> dict[str, Summary]:
        """Raises `ProbeFault` as `verify_segment` does, and when a worker ended; then the pool is of no more use."""
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._pool, _verify, segment)
        except BrokenExecutor as error:
            raise ProbeFault(CommonReason.PROBE_ERROR, "a process that verifies was ended from outside") from error
        if isinstance(answer, Finding):
            fault = ProbeFault(ReasonInfo(answer.reason, "", answer.severity, answer.status), answer.detail)
            raise fault
        return answer

    def close(self) -> None:
        """Ends the processes without waiting for what they do; they hold nothing but a read-only session."""
        processes = list((self._pool._processes or {}).values())
        for process in processes:
            process.kill()
        self._pool.shutdown(wait=bool(processes), cancel_futures=True)


def _forking() -> BaseContext:
    """Workers are forks of one process that has loaded this module and does nothing else: to load it for each walk
    would cost more than most walks. It ends with this process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


@dataclass(slots=True)
class _Worker:
    loop: asyncio.AbstractEventLoop
    reading: Reading
    layout: Layout
    source: Source | None = None
    used_at: float = 0.0


_workers: list[_Worker] = []
"""This process's worker; empty in the parent."""


def _start(reading: Reading, layout: Layout, yielding: bool) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if yielding:
        with suppress(OSError):
            os.nice(5)
    Thread(target=_end_with_parent, daemon=True).start()
    _workers.append(_Worker(uvloop.new_event_loop(), reading, layout))


def _end_with_parent() -> None:
    """A parent that was killed cannot tell its workers to end, and the pool's queue would keep them waiting."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(0)


def _verify(segment: Segment) -> dict[str, Summary] | Finding:
    worker = _workers[0]
    try:
        return worker.loop.run_until_complete(_verify_with(worker, segment))
    except Exception as error:  # noqa: BLE001 - an exception with its context cannot be sent; its finding can
        worker.source = None
        return explain(error)


async def _verify_with(worker: _Worker, segment: Segment) -> dict[str, Summary]:
    if worker.source is not None and monotonic() - worker.used_at > IDLE_SECONDS / 2:
        await worker.source.close()
        worker.source = None
    if worker.source is None:
        worker.source = await open_source(worker.reading, timeout=CONNECT_SECONDS, layout=worker.layout)
        await worker.source.end_when_idle(IDLE_SECONDS)
    try:
        found = await verify_segment(worker.source, segment)
    except BaseException:
        await worker.source.close()
        raise
    worker.used_at = monotonic()
    return found

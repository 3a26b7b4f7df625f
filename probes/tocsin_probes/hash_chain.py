"""`hash_chain`: every row of an audit chain is the one that was written, in its place, and none is missing."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

from tocsin.sdk import CommonReason, Finding, Gauge, Outcome, Probe, ProbeContext, ProbeFault
from tocsin.sdk.faults import explain
from tocsin.sdk.postgres import targets_of
from tocsin_chain.anchor import anchored_break
from tocsin_chain.capture import CaptureFailed, capture
from tocsin_chain.complete import complete
from tocsin_chain.fragments import Key
from tocsin_chain.increment import Increment, increment
from tocsin_chain.layout import Layout
from tocsin_chain.marks import Marks, OpenBreak, key_text, sequence
from tocsin_chain.memory import Memory
from tocsin_chain.reasons import ChainReason
from tocsin_chain.recall import Doubt, Recalled, sealed
from tocsin_chain.segments import Workers
from tocsin_chain.settings import HashChainSettings
from tocsin_chain.source import Source, open_source
from tocsin_chain.walk import Progress, advance, begin

_HEAD = Gauge("tocsin_audit_chain_head_sequence", "Sequence of the newest row of the chain.", ("chain",))
_VERIFIED = Gauge("tocsin_audit_chain_verified_sequence", "Sequence of the newest verified row.", ("chain",))
_BREAK = Gauge("tocsin_audit_chain_break_sequence", "First affected sequence of the oldest open break.", ("chain",))
_BREAKS = Gauge("tocsin_audit_chain_open_breaks", "Breaks that are neither repaired nor accepted.", ("chain", "kind"))
_ROWS = Gauge("tocsin_audit_chain_rows", "Rows of the chain up to the newest verified one.", ("chain",))
_WALKED = Gauge("tocsin_audit_chain_full_walk_timestamp_seconds", "When the last full walk from the start ended.")
_WALKING = Gauge("tocsin_audit_chain_full_walk_rows", "Rows that the full walk now under way has verified.")

MAX_CHAINS_MEASURED = 200
"""How many chains have gauges of their own; those with breaks come first."""

MAX_FINDINGS = 50
LEAST_PATIENCE = 3600.0
"""Seconds that a full walk may always take before it is called late."""

CAPTURES_PER_RUN = 3
SAVE_EVERY = 1.0
"""Seconds of walking that may have to be done again after a crash."""

KEEP_WORKERS = 60.0
"""Seconds to the next full walk for which the processes that verify are kept: starting one costs most of a second."""

_RESERVE = 0.15
"""Share of a run that is kept back for writing the mark."""


class HashChain(Probe):
    """An HMAC-chained table is whole: nothing changed, missing, moved or added, up to the newest row."""

    kind = "hash_chain"
    Settings = HashChainSettings
    Reason = ChainReason
    gauges = (_HEAD, _VERIFIED, _BREAK, _BREAKS, _ROWS, _WALKED, _WALKING)
    costly = True

    def __init__(self, settings: HashChainSettings) -> None:
        super().__init__(settings)
        self._layout: Layout | None = None
        self._workers: Workers | None = None
        self._turn = 0
        self._held: dict[str, float] = {}
        # Bundles by break. The mark remembers them, too, but not while it is in doubt itself, nor what an anchor shows.
        self._captured: dict[tuple[object, ...], str] = {}

    async def run(self, ctx: ProbeContext) -> Outcome:
        memory = Memory(self.settings, ctx.probe)
        recalled = await memory.recall(ctx)
        if recalled.marks is None or recalled.doubt is Doubt.MISSING:
            detail = f"{recalled.detail}; see `tocsin chain status`, and `tocsin chain bootstrap` for a first run"
            return Outcome.bad(ChainReason.MARK_MISSING, detail)
        async with contextlib.AsyncExitStack() as stack:
            for target in self.settings.targets():
                await stack.enter_async_context(ctx.permits.request(target))
            source = await self._open(ctx)
            stack.push_async_callback(source.close)
            return await self._walk(ctx, memory, recalled, recalled.marks, source)

    async def close(self) -> None:
        self._end_workers()

    def _end_workers(self) -> None:
        if self._workers is not None:
            self._workers.close()
            self._workers = None

    async def _open(self, ctx: ProbeContext) -> Source:
        try:
            reading = self.settings.reading(f"tocsin/{ctx.probe}")
        except (OSError, ValueError) as error:
            raise ProbeFault(CommonReason.CREDENTIALS_MISSING, f"a secret cannot be used: {error}") from error
        timeout = ctx.remaining() / 2
        source = await open_source(reading, timeout=timeout, settings=self.settings, layout=self._layout)
        self._layout = source.layout
        return source

    async def _walk(
        self, ctx: ProbeContext, memory: Memory, recalled: Recalled, before: Marks, source: Source
    ) -> Outcome:
        rolled = recalled.doubt is Doubt.ROLLED_BACK
        self._turn += 1
        budget = ctx.remaining() * (1 - _RESERVE)
        try:
            done = await increment(
                source,
                self.settings,
                before,
                now=ctx.now(),
                rolled=rolled,
                seconds=budget / 2,
                turn=self._turn,
                held=self._held,
            )
        except ProbeFault:
            # The table may have another shape by now; the next run asks again.
            self._layout = None
            self._end_workers()
            raise
        marks, fresh = done.marks, list(done.fresh)
        anchored, anchor_finding = await self._anchor(ctx, marks, source)
        findings: list[Finding | None] = [anchor_finding]
        walk, walk_finding = await self._full_walk(ctx, memory, marks, source)
        findings.append(walk_finding)
        if walk is not None and walk.done:
            marks, found = await complete(source, self.settings, marks, walk, ctx.now())
            fresh += found
        elif self._late(marks, ctx.now()):
            findings.append(Finding.of(ChainReason.WALK_LATE, "the full walk does not come to its end"))
        told, capture_finding = await self._capture(
            ctx, memory, replace(marks, open=marks.open + anchored), done, source
        )
        marks = replace(marks, open=told.open[: len(marks.open)])
        findings.append(capture_finding)
        findings += [self._told(item) for item in told.open[:MAX_FINDINGS]]
        if rolled:
            findings.append(Finding.of(ChainReason.ROLLED_BACK, recalled.detail, "mark"))
        else:
            findings.append(await self._save(ctx, memory, recalled, before, marks))
        if walk is not None and walk.done:
            if self.settings.full_walk.every > KEEP_WORKERS:
                self._end_workers()
            memory.save_walk(None)
        self._measure(ctx, told, done.heads, walk)
        checked = f"{done.checked} new rows verified"
        return Outcome.of(filter(None, findings), f"{checked}, more to come" if done.behind else checked)

    async def _full_walk(
        self, ctx: ProbeContext, memory: Memory, marks: Marks, source: Source
    ) -> tuple[Progress | None, Finding | None]:
        """Advances the background walk by one slice when one is due; a fault of it is a finding, not the run's end."""
        options = self.settings.full_walk
        walk = memory.load_walk()
        due = marks.full_walk_at is None or ctx.now() - marks.full_walk_at >= options.every
        if walk is None and not due:
            return None, None
        loop = asyncio.get_running_loop()
        until = loop.time() + ctx.remaining() * options.share
        started, rows_before = loop.time(), walk.rows if walk else 0
        try:
            if walk is None:
                walk = await begin(source, ctx.now(), options.chunk)
            if self._workers is None:
                reading = self.settings.reading(f"tocsin/{ctx.probe}/walk", replica=True)
                self._workers = Workers(reading, source.layout, options.workers)

            saved = loop.time()

            async def go_on(progress: Progress) -> bool:
                nonlocal saved
                if loop.time() >= saved + SAVE_EVERY:
                    await asyncio.to_thread(memory.save_walk, progress)
                    saved = loop.time()
                due_at = started + (progress.rows - rows_before) / options.rows_per_second
                await asyncio.sleep(max(0.0, min(due_at, until) - loop.time()))
                async with source.snapshot():
                    busy = await source.active_sessions() > options.pause_active
                return not busy and loop.time() < until

            async with contextlib.AsyncExitStack() as stack:
                # Each worker has a session of its own, which counts against the cap on the database.
                walked = targets_of(self.settings.replica_dsn or self.settings.dsn)
                for target in walked * self._workers.count:
                    await stack.enter_async_context(ctx.permits.request(target))
                walk = await asyncio.wait_for(
                    advance(
                        source,
                        walk,
                        self._workers.verify,
                        chunk=options.chunk,
                        parallel=self._workers.count,
                        go_on=go_on,
                    ),
                    max(0.1, ctx.remaining() * 0.8),
                )
                await asyncio.to_thread(memory.save_walk, walk)
        except TimeoutError:
            return memory.load_walk(), None
        except (ProbeFault, OSError) as error:
            self._end_workers()
            finding = explain(error)
            return memory.load_walk(), None if finding.reason == CommonReason.THROTTLED else finding
        return walk, None

    def _late(self, marks: Marks, now: float) -> bool:
        patience = max(2 * self.settings.full_walk.every, LEAST_PATIENCE)
        return marks.full_walk_at is not None and now - marks.full_walk_at > patience

    async def _capture(
        self, ctx: ProbeContext, memory: Memory, marks: Marks, done: Increment, source: Source
    ) -> tuple[Marks, Finding | None]:
        """Evidence of breaks that have none yet, a few a run."""
        kept: list[OpenBreak] = []
        finding, taken = None, 0
        for item in marks.open:
            name = item.evidence or self._captured.get(item.identity, "")
            if name or taken >= CAPTURES_PER_RUN:
                kept.append(replace(item, evidence=name))
                continue
            taken += 1
            try:
                bundle = await capture(
                    source,
                    self.settings,
                    memory.places.evidence,
                    memory.key(),
                    item,
                    marks.chains.get(item.chain),
                    done.identity,
                    ctx.now(),
                )
                kept.append(replace(item, evidence=bundle.name))
                manifest = (memory.places.evidence / bundle.name / "manifest.json").read_bytes()
                ctx.attach(f"{bundle.name}/manifest.json", manifest, "application/json")
            except (CaptureFailed, ProbeFault, OSError) as error:
                finding = Finding.of(ChainReason.EVIDENCE_FAILED, str(error), item.chain)
                kept.append(item)
        self._captured = {item.identity: item.evidence for item in kept if item.evidence}
        return replace(marks, open=tuple(kept)), finding

    async def _save(
        self, ctx: ProbeContext, memory: Memory, recalled: Recalled, before: Marks, marks: Marks
    ) -> Finding | None:
        """Writes what is new; a witness that cannot be written or asked leaves this run undecided."""
        unwitnessed = recalled.detail if recalled.doubt is Doubt.UNWITNESSED else ""
        if replace(marks, identity=before.identity) != before:
            try:
                _, problem = await memory.save(ctx, marks, ctx.now())
            except OSError as error:
                return Finding.of(ChainReason.MARK_MISSING, f"the high-water mark cannot be written: {error}")
            unwitnessed = unwitnessed or problem
        elif recalled.write_witness:
            unwitnessed = await memory.testify(ctx, sealed(memory.key(), before))
        if not unwitnessed:
            return None
        return Finding.of(CommonReason.DEPENDENCY_UNKNOWN, f"the second witness: {unwitnessed}", "witness")

    async def _anchor(
        self, ctx: ProbeContext, marks: Marks, source: Source
    ) -> tuple[tuple[OpenBreak, ...], Finding | None]:
        """The break that only the anchored value shows; it lasts until the platform anchors anew."""
        anchor = self.settings.anchor
        if anchor is None:
            return (), None
        try:
            async with source.snapshot():
                found = await anchored_break(ctx, anchor, source, retention=self.settings.retention is not None)
        except ProbeFault as fault:
            return (), Finding.of(CommonReason.DEPENDENCY_UNKNOWN, f"the anchored value: {fault}", "anchor")
        known = {(item.chain, item.found.kind) for item in marks.open}
        if found is None or (anchor.chain, found.kind) in known:
            return (), None
        return (OpenBreak(anchor.chain, found, ctx.now()),), None

    def _told(self, item: OpenBreak) -> Finding:
        found = item.found
        where = key_text(found.first)
        if found.last != found.first:
            where += f" to {key_text(found.last)}"
        rows = f", {found.rows} rows" if found.rows else ""
        note = f"; {found.note}" if found.note else ""
        kept = f"; evidence {item.evidence}" if item.evidence else ""
        return Finding.of(
            ChainReason(found.kind.value),
            f"{found.kind} at {where}{rows}{note}{kept}",
            item.chain or self.settings.table,
        )

    def _measure(self, ctx: ProbeContext, marks: Marks, heads: dict[str, Key], walk: Progress | None) -> None:
        broken = {item.chain for item in marks.open}
        names = sorted(marks.chains, key=lambda name: (name not in broken, name))
        for name in names[:MAX_CHAINS_MEASURED]:
            mark = marks.chains[name]
            ctx.measure(_HEAD, sequence(heads.get(name, mark.cursor.key)), chain=name)
            ctx.measure(_VERIFIED, sequence(mark.head.key), chain=name)
            ctx.measure(_ROWS, mark.head.rows, chain=name)
        counted: dict[tuple[str, str], int] = {}
        for item in marks.open:
            place = (item.chain, item.found.kind.value)
            counted[place] = counted.get(place, 0) + 1
        for (chain, kind), count in counted.items():
            ctx.measure(_BREAKS, count, chain=chain, kind=kind)
        for chain in sorted(broken)[:MAX_CHAINS_MEASURED]:
            first = min(sequence(item.found.first) for item in marks.open if item.chain == chain)
            ctx.measure(_BREAK, first, chain=chain)
        if marks.full_walk_at is not None:
            ctx.measure(_WALKED, marks.full_walk_at)
        if walk is not None and not walk.done:
            ctx.measure(_WALKING, walk.rows)

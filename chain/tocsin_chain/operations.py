"""What an operator does to a chain's memory: begin it, accept what happened, walk it through, look at it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from tocsin.sdk import ProbeContext
from tocsin_chain import acceptlog
from tocsin_chain.capture import verify_bundle
from tocsin_chain.complete import complete, first_marks
from tocsin_chain.increment import fingerprint
from tocsin_chain.infer import Sample
from tocsin_chain.judging import disputes_mark
from tocsin_chain.marks import Accepted, ChainMark, Marks, OpenBreak, Point, key_json, key_text
from tocsin_chain.memory import Memory
from tocsin_chain.recall import Doubt, Recalled, WitnessUnreachable, unsealed
from tocsin_chain.segments import Workers
from tocsin_chain.settings import HashChainSettings, decoded
from tocsin_chain.source import Source, as_text, identity_of, open_source, plain_value
from tocsin_chain.vault import create_key
from tocsin_chain.walk import Progress, advance, begin

CONNECT_SECONDS = 10.0

Report = Callable[[Progress], None]


class Refused(Exception):
    """An operation was not done. The text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class SignOff:
    """Who accepts what happened, and on what ground. ``approval``: the reference of the written sign-off.
    ``backup``: the identity of a backup taken immediately before."""

    operator: str
    reason: str
    ticket: str
    approval: str = ""
    backup: str = ""

    def record(self) -> dict[str, Any]:
        return {
            "operator": self.operator,
            "reason": self.reason,
            "ticket": self.ticket,
            "sign_off": self.approval,
            "backup": self.backup,
        }


@asynccontextmanager
async def session(settings: HashChainSettings, probe: str) -> AsyncIterator[Source]:
    """A source for one operation. Raises `ProbeFault`, `OSError` and `ValueError`."""
    source = await open_source(settings.reading(f"tocsin/{probe}/cli"), timeout=CONNECT_SECONDS, settings=settings)
    try:
        yield source
    finally:
        await source.close()


async def walk_all(
    source: Source,
    settings: HashChainSettings,
    probe: str,
    now: float,
    *,
    workers: int,
    report: Report | None = None,
    memory: Memory | None = None,
    pool: Workers | None = None,
) -> Progress:
    """A full walk, as fast as it goes. With a ``memory`` it takes up where it was stopped. ``pool``: verifies with
    these processes and leaves them open. Raises `ProbeFault`."""
    progress = memory.load_walk() if memory is not None else None
    if progress is None:
        progress = await begin(source, now, settings.full_walk.chunk)
    own = pool is None
    if pool is None:
        pool = Workers(settings.reading(f"tocsin/{probe}/walk", replica=True), source.layout, workers, yielding=False)
    saved = asyncio.get_running_loop().time()

    async def go_on(reached: Progress) -> bool:
        nonlocal saved
        if report is not None:
            report(reached)
        if memory is not None and asyncio.get_running_loop().time() - saved > 1.0:
            await asyncio.to_thread(memory.save_walk, reached)
            saved = asyncio.get_running_loop().time()
        return True

    try:
        return await advance(
            source, progress, pool.verify, chunk=settings.full_walk.chunk, parallel=pool.count + 1, go_on=go_on
        )
    finally:
        if own:
            pool.close()


async def bootstrap(
    ctx: ProbeContext,
    settings: HashChainSettings,
    *,
    workers: int = 2,
    report: Report | None = None,
    known_broken: SignOff | None = None,
) -> tuple[Marks, list[OpenBreak]]:
    """Walks the chains through and makes the first mark of them. A chain that is broken already is only taken as it
    is with a sign-off, and that is recorded. Raises `Refused`, and what `session` raises."""
    memory = Memory(settings, ctx.probe)
    if memory.places.mark.exists():
        raise Refused(
            f"{memory.places.mark} exists: this chain was bootstrapped already. After a legitimate reset use "
            "`tocsin chain accept`"
        )
    if memory.witness is not None:
        held = await _witnessed(memory, ctx)
        if held is not None:
            raise Refused(
                "the second witness holds a mark of this chain, so this is no first run. If the state folder was lost, "
                "use `tocsin chain bootstrap --from-witness`"
            )
    key = create_key(memory.places.key)
    async with session(settings, ctx.probe) as source:
        walk = await walk_all(source, settings, ctx.probe, ctx.now(), workers=workers, report=report)
        chains, found = await first_marks(source, settings, walk, ctx.now())
        if found and known_broken is None:
            listed = "; ".join(_said(item) for item in found[:10])
            raise Refused(
                f"the chain is broken already: {listed}. If every row is said to be modified, the canonical form or "
                "the key is wrong: try `tocsin chain infer`. To begin all the same, give --reason and --ticket"
            )
        async with source.snapshot():
            identity = await identity_of(source.connection)
        marks = Marks(
            probe=ctx.probe,
            writer=memory.writer(),
            chains=chains,
            identity=identity,
            scanned=walk.bound,
            full_walk_at=ctx.now(),
        )
        signed = known_broken or SignOff("", "bootstrap", "")
        marks = await _record(memory, key, ctx, source, marks, found, "bootstrap", signed)
    marks, problem = await memory.save(ctx, marks, ctx.now())
    if problem:
        raise Refused(f"the mark is written, but not its second witness: {problem}; the next run tries again")
    return marks, found


async def bootstrap_from_witness(ctx: ProbeContext, settings: HashChainSettings) -> Marks:
    """Takes over the mark that the second witness holds, for a new or lost state folder. Raises `Refused`."""
    memory = Memory(settings, ctx.probe)
    if memory.places.mark.exists():
        raise Refused(f"{memory.places.mark} exists; move it away if the witness shall take its place")
    held = await _witnessed(memory, ctx)
    if held is None:
        raise Refused("there is no second witness, or it holds nothing")
    marks = unsealed(memory.key(), ctx.probe, held)
    marks, problem = await memory.save(ctx, marks, ctx.now())
    if problem:
        raise Refused(f"the second witness cannot be written: {problem}")
    return marks


async def accept(
    ctx: ProbeContext,
    settings: HashChainSettings,
    sign_off: SignOff,
    *,
    chains: Sequence[str] = (),
    rebaseline: bool = False,
    workers: int = 2,
    report: Report | None = None,
) -> list[OpenBreak]:
    """Records that open breaks were legitimate, and makes the chain whole again from here on. Raises `Refused` when
    what must be there before is not: a capture of each break, a written sign-off, a fresh backup."""
    for name, value in (
        ("--reason", sign_off.reason),
        ("--ticket", sign_off.ticket),
        ("--sign-off", sign_off.approval),
        ("--backup", sign_off.backup),
    ):
        if not value.strip():
            raise Refused(
                f"{name} is missing: nothing is accepted without a reason, a ticket, the reference of the "
                "written compliance sign-off, and the identity of a backup taken just now"
            )
    memory = Memory(settings, ctx.probe)
    recalled = await memory.recall(ctx)
    if recalled.marks is None or recalled.doubt is Doubt.MISSING:
        return await _rebaseline(ctx, settings, memory, recalled, sign_off, rebaseline, workers, report)
    key, marks = memory.key(), recalled.marks
    accepted = [item for item in marks.open if not chains or item.chain in chains]
    if not accepted and recalled.doubt is not Doubt.ROLLED_BACK:
        raise Refused("no break is open; `tocsin chain status` shows what is known")
    for item in accepted:
        bundle = memory.places.evidence / item.evidence
        problems = verify_bundle(bundle, key) if item.evidence else ["there is none"]
        if problems:
            raise Refused(
                f"the capture of {_said(item)} does not stand ({'; '.join(problems)}). Let the probe run, or "
                "`tocsin chain export`, before anything is accepted"
            )
    async with session(settings, ctx.probe) as source:
        marks = await _record(memory, key, ctx, source, marks, accepted, "accept", sign_off)
        moved = dict(marks.chains)
        for chain in {item.chain for item in accepted}:
            disputed = any(disputes_mark(item.found) and item.found.note for item in accepted if item.chain == chain)
            async with source.snapshot():
                renewed = await _renewed(source, chain, moved.get(chain), disputed)
            if renewed is None:
                moved.pop(chain, None)
            else:
                moved[chain] = renewed
        async with source.snapshot():
            identity = await identity_of(source.connection)
    gone = {item.identity for item in accepted}
    marks = replace(
        marks,
        chains=moved,
        open=tuple(item for item in marks.open if item.identity not in gone),
        identity=identity,
    )
    await memory.save(ctx, marks, ctx.now())
    memory.save_walk(None)
    return accepted


async def walk(
    ctx: ProbeContext, settings: HashChainSettings, *, workers: int = 2, report: Report | None = None
) -> tuple[Progress, list[OpenBreak], list[OpenBreak]]:
    """A full walk now: how far it came, all open breaks, and those that are new. The mark's state is updated when
    there is one that can be trusted."""
    memory = Memory(settings, ctx.probe)
    recalled = await memory.recall(ctx)
    async with session(settings, ctx.probe) as source:
        trusted = recalled.marks if recalled.doubt is None else None
        progress = await walk_all(
            source, settings, ctx.probe, ctx.now(), workers=workers, report=report, memory=memory if trusted else None
        )
        if trusted is None:
            _, found = await first_marks(source, settings, progress, ctx.now())
            return progress, found, found
        marks, fresh = await complete(source, settings, trusted, progress, ctx.now())
    await memory.save(ctx, marks, ctx.now())
    memory.save_walk(None)
    return progress, list(marks.open), fresh


async def _rebaseline(
    ctx: ProbeContext,
    settings: HashChainSettings,
    memory: Memory,
    recalled: Recalled,
    sign_off: SignOff,
    wanted: bool,
    workers: int,
    report: Report | None,
) -> list[OpenBreak]:
    if not wanted:
        raise Refused(
            f"{recalled.detail}. Restore the mark from a backup, or take it from the witness "
            "(`tocsin chain bootstrap --from-witness`); as the last resort give --rebaseline: what was verified before "
            "can then no longer be proven, and that is recorded"
        )
    key = create_key(memory.places.key)
    async with session(settings, ctx.probe) as source:
        progress = await walk_all(source, settings, ctx.probe, ctx.now(), workers=workers, report=report)
        found_chains, found = await first_marks(source, settings, progress, ctx.now())
        async with source.snapshot():
            identity = await identity_of(source.connection)
        generations = dict(recalled.marks.generations) if recalled.marks else {}
        marks = Marks(
            ctx.probe,
            memory.writer(),
            generations,
            found_chains,
            tuple(found),
            identity=identity,
            scanned=progress.bound,
            full_walk_at=ctx.now(),
        )
        if memory.places.accepted.exists():
            try:
                acceptlog.verify(memory.places.accepted, key)
            except acceptlog.LogBroken:
                damaged = memory.places.accepted.with_name(f"{memory.places.accepted.name}.damaged.{int(ctx.now())}")
                memory.places.accepted.rename(damaged)
        marks = await _record(memory, key, ctx, source, marks, [], "rebaseline", sign_off)
    held = await _witnessed(memory, ctx)
    if held is not None:
        try:
            known = unsealed(key, ctx.probe, held).generations
        except ValueError:
            known = {}
        merged = {
            name: max(known.get(name, 0), marks.generations.get(name, 0)) for name in {*known, *marks.generations}
        }
        marks = replace(marks, generations=merged)
    await memory.save(ctx, marks, ctx.now())
    memory.save_walk(None)
    return found


async def _record(
    memory: Memory,
    key: Any,
    ctx: ProbeContext,
    source: Source,
    marks: Marks,
    items: Sequence[OpenBreak],
    action: str,
    sign_off: SignOff,
) -> Marks:
    """Writes the record first, so that nothing is ever accepted without one."""
    taken = []
    for item in items:
        async with source.snapshot():
            taken.append((item, await fingerprint(source, item.chain, item.found)))
    state = acceptlog.append(
        memory.places.accepted,
        key,
        {
            "action": action,
            "at": ctx.now(),
            "probe": ctx.probe,
            **sign_off.record(),
            "breaks": [
                {
                    "chain": item.chain,
                    "kind": item.found.kind.value,
                    "first": key_json(item.found.first),
                    "last": key_json(item.found.last),
                    "evidence": item.evidence,
                    "fingerprint": digest,
                }
                for item, digest in taken
            ],
            "marks": {name: [key_json(mark.head.key), mark.head.mac.hex()] for name, mark in marks.chains.items()},
        },
    )
    new = tuple(
        Accepted(item.chain, item.found.kind, item.found.first, digest, state.records) for item, digest in taken
    )
    return replace(marks, accepted=(*marks.accepted, *new), accept_records=state.records, accept_head=state.head)


async def _renewed(source: Source, chain: str, mark: ChainMark | None, disputed: bool) -> ChainMark | None:
    """A mark of the chain as it is now; None when it is empty. Inside a snapshot."""
    only = chain if source.layout.partition else None
    encoding = source.reading.mac_encoding
    first = await source.stored(chain=only, limit=1)
    last = await source.stored(chain=only, descending=True, limit=1)
    if not first:
        return None
    begin_at = Point(first[0].key, decoded(first[0].mac, encoding), 1, first[0].time)
    if mark is not None and not disputed:
        return replace(mark, first=begin_at)
    rows = await source.count(only, first[0].key, last[0].key)
    return ChainMark(begin_at, Point(last[0].key, decoded(last[0].mac, encoding), rows, last[0].time))


async def _witnessed(memory: Memory, ctx: ProbeContext) -> bytes | None:
    if memory.witness is None:
        return None
    try:
        return await memory.witness.read(ctx)
    except WitnessUnreachable as error:
        raise Refused(f"the second witness cannot be asked: {error}") from error


def _said(item: OpenBreak) -> str:
    return f"{item.found.kind} at {item.chain + ' ' if item.chain else ''}{key_text(item.found.first)}"


async def samples(settings: HashChainSettings, probe: str, rows: int, columns: Sequence[str]) -> list[Sample]:
    """Rows to infer a form from, without the first of a chain, whose previous value is special. Raises `ProbeFault`."""
    plain = settings.model_copy(update={"mode": "linkage", "payload": None, "keys": (), "key_id_column": ""})
    async with session(plain, probe) as source, source.snapshot() as connection:
        order = ", ".join(source.layout.order)
        query = f"SELECT t.* FROM {source.layout.table} t ORDER BY {order} DESC LIMIT {10 * rows}"
        records = await connection.fetch(query)
    taken: list[Sample] = []
    for record in records:
        row = dict(record)
        previous, mac = row.pop(settings.previous_column), row.pop(settings.mac_column)
        text = as_text(previous, settings.mac_encoding)
        raw = decoded(previous, settings.mac_encoding)
        if not raw.strip(b"\0") or len(taken) == rows:
            continue
        chosen = {name: plain_value(row[name]) for name in (columns or row) if name in row}
        taken.append(Sample(chosen, raw, text, decoded(mac, settings.mac_encoding)))
    return taken

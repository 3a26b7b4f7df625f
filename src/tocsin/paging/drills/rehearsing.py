"""A batch of drills from fault to resolve: cause, hear, wait for what else may come, undo, hear again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tocsin.paging.drills.catalogue import Drill
from tocsin.paging.drills.judging import Notification, Receivers, Times, Verdict, judge

POLL = 0.2


class Stage(Protocol):
    """What is broken and healed."""

    by_hand: bool
    """Whether somebody is asked to do it: how long that takes is not the page's."""

    async def well(self, drills: Sequence[Drill]) -> str:
        """Why these cannot begin yet; empty when nothing that they drill is bad already."""

    async def cause(self, drill: Drill) -> None:
        """Break it. Raises `StageError`."""

    async def undo(self, drill: Drill) -> None:
        """Heal it. Raises `StageError`."""


class Bell(Protocol):
    """Where it rings."""

    receivers: Receivers
    """Where pages and tickets come."""
    settle_seconds: float
    """Two group intervals: what else was to come has come by then."""

    async def heard(self, since: float) -> list[Notification]:
        """What came since then (Unix seconds)."""


class StageError(Exception):
    """Something could not be broken or healed; the message says what and why."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds to wait for a healthy start and for the resolve."""

    well: float = 90.0
    resolve: float = 120.0


async def rehearse(
    drills: Sequence[Drill], stage: Stage, bell: Bell, tell: Callable[[str], None], patience: Patience | None = None
) -> list[Verdict]:
    """Verdicts of drills that run at once. What was caused is always undone. Raises `StageError`."""
    patience = patience or Patience()
    tell("waiting until everything is well")
    await _until_well(drills, stage, patience.well)
    since = time.time()
    times = Times({}, {})
    names = ", ".join(drill.name for drill in drills)
    try:
        tell(f"causing {names}")
        for drill in drills:
            times.caused[drill.name] = time.time()
            await stage.cause(drill)
            if stage.by_hand:
                times.caused[drill.name] = time.time()
        tell(f"{names}: waiting for the page")
        await _until(lambda: _all_rang(drills, bell, since), max(drill.within for drill in drills))
        tell(f"{names}: listening for anything else")
        await asyncio.sleep(bell.settle_seconds)
    finally:
        tell(f"undoing {names}")
        for drill in drills:
            await stage.undo(drill)
            times.undone[drill.name] = time.time()
    rang = {item.group for item in await bell.heard(since) if item.firing}
    tell(f"{names}: waiting for the resolve")
    await _until(lambda: _all_resolved(rang, bell, since), patience.resolve)
    await asyncio.sleep(bell.settle_seconds)
    return judge(drills, await bell.heard(since), times, bell.receivers)


async def _until_well(drills: Sequence[Drill], stage: Stage, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while why := await stage.well(drills):
        if time.monotonic() > deadline:
            raise StageError(f"nothing is drilled while something is bad already: {why}")
        await asyncio.sleep(POLL)


async def _all_rang(drills: Sequence[Drill], bell: Bell, since: float) -> bool:
    rang = {item.group for item in await bell.heard(since) if item.firing}
    # Where nothing may ring, waiting for nothing takes the whole time.
    return all(drill.expected and drill.group in rang for drill in drills)


async def _all_resolved(rang: set[tuple[str, str]], bell: Bell, since: float) -> bool:
    return rang <= {item.group for item in await bell.heard(since) if not item.firing}


async def _until(condition: Callable[[], Awaitable[bool]], seconds: float) -> bool:
    """Whether an asynchronous condition held in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if await condition():
            return True
        await asyncio.sleep(POLL)
    return False

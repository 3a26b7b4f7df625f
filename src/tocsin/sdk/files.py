"""Looks at files that a probe is about, in a thread: a file system may hang, and keeps the thread until it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from tocsin.model import CommonReason
from tocsin.sdk.faults import ProbeFault

if TYPE_CHECKING:
    from tocsin.sdk.context import ProbeContext

_T = TypeVar("_T")

_looking: set[tuple[str, str]] = set()
"""By probe and path, the looks whose threads are at work, those of runs that have ended included. By name, because a
reload makes probes anew."""


async def look_at(
    ctx: ProbeContext, path: str, look: Callable[[], _T], hanging: CommonReason = CommonReason.TIMEOUT
) -> _T:
    """What ``look`` gives of the file at ``path``, or raises; one at a time for each probe and path.

    Raises `ProbeFault` with the reason ``hanging`` while the look of an earlier run has not returned: one more would
    only wait beside it, and in the end there would be no thread for any other probe. A file that is what the probe is
    about times out as that run did; one that it only needs lets it not tell (dependency_unknown).
    """
    key = (ctx.probe, path)
    if key in _looking:
        detail = f"an earlier look at {path} has not returned: its file system hangs"
        raise ProbeFault(hanging, detail)

    def work() -> _T:
        # Here, because one that is called off before it has a thread never begins.
        _looking.add(key)
        try:
            return look()
        finally:
            _looking.discard(key)

    return await asyncio.to_thread(work)

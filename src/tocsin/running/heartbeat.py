"""Whether the probing loop turns: a stamp that it renews, and a thread that looks at the stamp from outside."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from bisect import bisect_left
from dataclasses import dataclass, field
from types import FrameType

import structlog

from tocsin.sdk.context import Clock

BEAT_SECONDS = 0.5
MAX_STACK_FRAMES = 40


class Heartbeat:
    """Stamped by the probing loop each `BEAT_SECONDS`, read from any thread.

    ``stamp``: the wall clock at the latest beat, in Unix seconds. ``lag_seconds``: how much later than asked the loop
    has turned, in total since the start.
    """

    def __init__(self, clock: Clock, stall_after: float = 2.0) -> None:
        self._clock = clock
        self._stall_after = stall_after
        self._beat_at = clock.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self.stamp = clock.wall()
        self.lag_seconds = 0.0
        self.thread_id: int | None = None

    def start(self) -> None:
        """Begins to beat on the running loop."""
        self.thread_id = threading.get_ident()
        self._beat_at = self._clock.monotonic()
        self._schedule(asyncio.get_running_loop())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def age(self) -> float:
        """Seconds since the latest beat, on the monotonic clock."""
        return self._clock.monotonic() - self._beat_at

    def stalled(self) -> bool:
        """Whether the loop has not turned for longer than it may. This is what liveness means."""
        return self.age() > self._stall_after

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(BEAT_SECONDS, self._beat, loop)

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        now = self._clock.monotonic()
        self.lag_seconds += max(0.0, now - self._beat_at - BEAT_SECONDS)
        self._beat_at = now
        self.stamp = self._clock.wall()
        self._schedule(loop)


class Watchdog:
    """A thread that logs where the probing loop is stuck, once for each time it is."""

    def __init__(self, heartbeat: Heartbeat, look_every: float = 0.25) -> None:
        self._heartbeat = heartbeat
        self._look_every = look_every
        self._stop = threading.Event()
        self._told = False
        self._log = structlog.get_logger("tocsin.watchdog")
        self._thread = threading.Thread(target=self._watch, name="tocsin-watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and waits for it; a moment at most."""
        self._stop.set()
        self._thread.join(timeout=2.0)

    def look(self) -> None:
        """One look. Logs when a blockage begins and when it is over."""
        stalled = self._heartbeat.stalled()
        if stalled and not self._told:
            self._log.error(
                "the probing loop is blocked; a probe kind does blocking work on it",
                seconds=round(self._heartbeat.age(), 3),
                stack=stack_of(self._heartbeat.thread_id),
            )
        elif self._told and not stalled:
            self._log.warning("the probing loop turns again")
        self._told = stalled

    def _watch(self) -> None:
        while not self._stop.wait(self._look_every):
            self.look()


def stack_of(thread_id: int | None) -> str:
    """The Python stack of a thread, innermost frame last; no values of variables, which may be secrets."""
    frame: FrameType | None = sys._current_frames().get(thread_id or 0)
    if frame is None:
        return "the thread has ended"
    return "".join(traceback.format_stack(frame, limit=MAX_STACK_FRAMES)).rstrip()


@dataclass(slots=True)
class Lateness:
    """How late runs started: a histogram that the probing loop fills and any thread may read."""

    bounds: tuple[float, ...] = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
    counts: list[int] = field(default_factory=list)
    total_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total_seconds += seconds

    def cumulative(self) -> list[tuple[float, int]]:
        """(upper bound in seconds, how many were at most that late), as Prometheus counts; the last is infinity."""
        pairs, running = [], 0
        for bound, count in zip((*self.bounds, float("inf")), tuple(self.counts), strict=True):
            running += count
            pairs.append((bound, running))
        return pairs

"""One probe on the schedule: its timers, the run in flight, and what is wanted of it next."""

from __future__ import annotations

import asyncio

from tocsin.model import Run
from tocsin.running.active import ActiveProbe


class Slot:
    """Belongs to the `tocsin.running.scheduler.Scheduler`, which alone changes it."""

    __slots__ = (
        "active", "again", "due_at", "due_on", "extra", "extra_on", "is_extra", "lane", "latest", "leaked",
        "review", "settling", "started_at", "started_on", "task", "tick",
    )  # fmt: skip

    def __init__(self, active: ActiveProbe) -> None:
        self.active = active
        self.tick: asyncio.TimerHandle | None = None
        self.due_at = 0.0
        """The next tick of the grid, on the wall clock."""
        self.due_on = 0.0
        """The same on the monotonic clock."""
        self.extra: asyncio.TimerHandle | None = None
        """The next run off the grid: a retry, or because another probe needs to know."""
        self.extra_on = 0.0
        self.review: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None
        self.is_extra = False
        self.settling = False
        """The run is over and is being recorded."""
        self.started_at = 0.0
        self.started_on = float("-inf")
        self.again = False
        """Another run is wanted as soon as the one in flight is over."""
        self.leaked: asyncio.Task[object] | None = None
        self.lane = asyncio.Lock()
        self.latest: Run | None = None

    def is_stuck(self) -> bool:
        return self.leaked is not None and not self.leaked.done()

    def cancel_timers(self) -> None:
        for timer in (self.tick, self.extra, self.review):
            if timer is not None:
                timer.cancel()
        self.tick = self.extra = self.review = None

"""The caps on what is done to one dependency at a time and per minute, and on runs at a time in all.

A run takes its permits before its deadline starts to count: one of the daemon's runs, and one place and one request
at each dependency that its settings name. Its first request to such a dependency uses those, and gives the place back
when it ends; each further request takes its own. So a kind that asks for no permits is still counted once a run, and
one that asks for several in a row never waits for a place that it holds itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager

from tocsin.config.caps import Caps
from tocsin.model import CommonReason
from tocsin.sdk.context import Clock
from tocsin.sdk.faults import ProbeFault

CONCURRENCY = "concurrency"
RATE = "rate"
MANY_GATES = 1000
"""With so many, those that are as new are forgotten: targets may lead to ever other ones."""


class NoPermit(Exception):
    """No permit came free in time. ``cause``: ``concurrency`` or ``rate``; ``dependency``: which cap it was."""

    def __init__(self, cause: str, dependency: str) -> None:
        super().__init__(f"{cause} of {dependency}")
        self.cause = cause
        self.dependency = dependency


class Bucket:
    """A token bucket that lets at most ``per_minute`` through in any 60 seconds.

    A quarter of them may come at once; the rest is refilled evenly over the minute.
    """

    def __init__(self, per_minute: int, now: float) -> None:
        self._size = max(1.0, per_minute / 4)
        self._per_second = max(per_minute - self._size, 0.5) / 60.0
        self._tokens = self._size
        self._at = now

    def take(self, now: float) -> bool:
        """Takes one token if there is one."""
        self._tokens = min(self._size, self._tokens + max(0.0, now - self._at) * self._per_second)
        self._at = now
        # A token that was waited for must not be missed by a rounding error.
        if self._tokens < 1.0 - 1e-9:
            return False
        self._tokens -= 1.0
        return True

    def is_full(self, now: float) -> bool:
        """Whether nothing is missing any more of what was taken."""
        return self._tokens + (now - self._at) * self._per_second >= self._size

    def wait(self) -> float:
        """Seconds from the last `take` until there is a token."""
        return max(0.0, 1.0 - self._tokens) / self._per_second


class Gate:
    """The cap of one dependency: places, requests a minute, and a queue in order of arrival."""

    def __init__(self, name: str, places: int, bucket: Bucket | None, clock: Clock) -> None:
        self.name = name
        self._places = self._free = places
        self._bucket = bucket
        self._clock = clock
        self._queue: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def enter(self, until: float) -> None:
        """Takes a place and a request, by ``until`` (monotonic seconds) at the latest. Raises `NoPermit`."""
        if not self._queue and self._admit():
            return
        waiter = asyncio.get_running_loop().create_future()
        self._queue.append(waiter)
        self._arm()
        try:
            async with asyncio.timeout(max(0.0, until - self._clock.monotonic())):
                await waiter
        except TimeoutError:
            if waiter.done() and not waiter.cancelled():
                return
            raise NoPermit(RATE if self._free else CONCURRENCY, self.name) from None
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.leave()
            raise
        finally:
            if waiter in self._queue:
                self._queue.remove(waiter)
                self._serve()

    def leave(self) -> None:
        """Gives a place back."""
        self._free += 1
        self._serve()

    def is_as_new(self) -> bool:
        """Whether nobody is here or waits, and the requests of the minute are all there again."""
        is_full = self._bucket is None or self._bucket.is_full(self._clock.monotonic())
        return is_full and not self._queue and self._free == self._places

    def _admit(self) -> bool:
        if not self._free or (self._bucket is not None and not self._bucket.take(self._clock.monotonic())):
            return False
        self._free -= 1
        return True

    def _serve(self) -> None:
        while self._queue:
            if self._queue[0].done():
                self._queue.popleft()
            elif self._admit():
                self._queue.popleft().set_result(None)
            else:
                self._arm()
                return

    def _arm(self) -> None:
        if self._timer is None and self._free and self._bucket is not None:
            delay = max(self._bucket.wait(), 0.001)
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._serve()


class PermitPool:
    """All gates. Belongs to one event loop."""

    def __init__(self, caps: Caps, clock: Clock) -> None:
        self.clock = clock
        self._caps = caps
        self._runs = Gate("runs", caps.runs, None, clock)
        self._gates: dict[str, Gate] = {}

    def configure(self, caps: Caps) -> None:
        """Puts other caps into force, for what begins from now on."""
        if caps != self._caps:
            self._caps = caps
            self._runs = Gate("runs", caps.runs, None, self.clock)
            self._gates = {}

    @asynccontextmanager
    async def run(self, dependencies: Iterable[str], until: float, patience: float) -> AsyncIterator[RunPermits]:
        """The permits of one run, held while it lasts. Raises `NoPermit` when they do not come free by ``until``.

        ``until``: monotonic seconds. ``patience``: how many seconds its further requests may wait, all together.
        """
        held: dict[str, Gate] = {}
        runs = self._runs
        try:
            for dependency in sorted(set(dependencies)):
                gate = self.gate(dependency)
                await gate.enter(until)
                held[dependency] = gate
            # Last, so that a queue at one dependency does not use up what the probes of others need.
            await runs.enter(until)
            try:
                yield RunPermits(self, held, patience)
            finally:
                runs.leave()
        finally:
            # Taken out: what the run left behind must not find a place here that is given back already.
            while held:
                held.popitem()[1].leave()

    def gate(self, dependency: str) -> Gate:
        """The gate of ``scheme://host:port``."""
        gate = self._gates.get(dependency)
        if gate is None:
            if len(self._gates) >= MANY_GATES:
                self._gates = {name: kept for name, kept in self._gates.items() if not kept.is_as_new()}
            cap = self._caps.of(dependency)
            bucket = Bucket(cap.requests_per_minute, self.clock.monotonic())
            gate = self._gates[dependency] = Gate(dependency, cap.concurrency, bucket, self.clock)
        return gate


class RunPermits:
    """What the clients of one run ask (`tocsin.sdk.context.Permits`), and how long they waited for it."""

    def __init__(self, pool: PermitPool, held: dict[str, Gate], patience: float) -> None:
        self._pool = pool
        self._held = held
        self._patience = patience
        self._waited = 0.0
        self._waiting = 0
        self._since = 0.0

    @asynccontextmanager
    async def request(self, dependency: str) -> AsyncIterator[None]:
        """One place at ``dependency`` for the duration of a connection or request.

        Raises `ProbeFault` with ``throttled`` when none comes free within the patience of this run.
        """
        gate = self._held.pop(dependency, None)
        if gate is None:
            gate = self._pool.gate(dependency)
            with self._waits():
                try:
                    await gate.enter(self._pool.clock.monotonic() + self._patience - self._waited)
                except NoPermit as refusal:
                    detail = f"no permit for {dependency} in time: the cap on its {refusal.cause} is reached"
                    raise ProbeFault(CommonReason.THROTTLED, detail) from None
        try:
            yield
        finally:
            gate.leave()

    def waited(self) -> float:
        """Seconds spent waiting so far; waits that overlap count once."""
        running = self._pool.clock.monotonic() - self._since if self._waiting else 0.0
        return self._waited + running

    @contextmanager
    def _waits(self) -> Iterator[None]:
        if not self._waiting:
            self._since = self._pool.clock.monotonic()
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._waited += self._pool.clock.monotonic() - self._since

"""Control targets: what must be reachable for a network failure to be the target's, not our own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from math import inf
from types import MappingProxyType

import structlog

from tocsin.config import ControlTarget
from tocsin.model import CommonReason, Finding, Outcome, Status
from tocsin.sdk.context import Clock
from tocsin.sdk.http import HttpClient

NETWORK_REASONS = frozenset(
    {
        CommonReason.TIMEOUT.value,
        CommonReason.DNS_FAILURE.value,
        CommonReason.CONNECTION_REFUSED.value,
        CommonReason.CONNECTION_RESET.value,
    }
)
"""Reasons that our own network may be to blame for."""

_LATE_SECONDS = 0.05
"""By how much a timeout may be late before the event loop is known to have been held up."""


RECENTLY_SECONDS = 3.0
"""How long what another target answered shows that our network works."""
WATCH_SECONDS = 60.0
PROVEN_SECONDS = 86_400.0
"""How long a target that has answered is one that exists."""
KEEP_SECONDS = 3600.0
"""How old what is kept of that may become."""


class Controls:
    """Tells whether our own network is out of order, by asking all control targets at once.

    ``quorum``: how many must be unreachable for that; all of them when None. One answer is used for
    ``keep`` seconds, and runs that ask meanwhile share it, so that an outage costs each target one request a second.

    A target that has not answered for a day, or ever, is no control: it may not exist, and would excuse every failure.
    When each answered (URL: Unix seconds) is given to ``remember`` and was ``remembered`` by the process before,
    because one may be started in the middle of an outage. Only who looks once, and pages nobody, takes them on
    ``trust``. Nor is our network out of order while targets elsewhere answer.
    """

    def __init__(
        self,
        targets: Iterable[ControlTarget],
        http: HttpClient,
        clock: Clock,
        *,
        quorum: int | None = None,
        trust: bool = False,
        timeout: float = 0.4,
        keep: float = 1.0,
        reach: Callable[[ControlTarget], Awaitable[object]] | None = None,
        remembered: Mapping[str, float] = MappingProxyType({}),
        remember: Callable[[Mapping[str, float]], None] = lambda _: None,
    ) -> None:
        self._targets = tuple(targets)
        self._http = http
        self._clock = clock
        self._quorum = quorum
        self._trust = trust
        self._timeout = timeout
        self._keep = keep
        self._reach = reach or self._contact
        self._asking: asyncio.Task[tuple[ControlTarget, ...]] | None = None
        self._unreachable: tuple[ControlTarget, ...] = ()
        self._asked_at: float | None = None
        self._remember = remember
        self._answered_at = dict(remembered)
        self._kept_at: Mapping[str, float] = remembered
        self._silent: frozenset[ControlTarget] = frozenset()
        self._exchanged_at = float("-inf")
        self._log = structlog.get_logger("tocsin.controls")

    def configure(self, targets: Iterable[ControlTarget]) -> None:
        """Puts other targets in the place of those there are; a check that is under way begins anew with these."""
        self._targets = tuple(targets)
        self._asked_at = None

    async def judge(self, outcome: Outcome, *, began: float = inf, elsewhere: bool = False) -> Outcome:
        """``outcome``, or unknown/local_network when all that failed is the network and so do the control targets.

        ``began``: when the run did (monotonic seconds). ``elsewhere``: its target is not on this machine.
        """
        now = self._clock.monotonic()
        failed = [finding for finding in outcome.findings if finding.status is Status.FAILED]
        if not failed or not all(finding.reason in NETWORK_REASONS for finding in failed):
            if elsewhere and outcome.status is not Status.UNKNOWN:
                self._exchanged_at = now
            return outcome
        if not self._targets or self._exchanged_at > min(began, now - RECENTLY_SECONDS):
            return outcome
        silent = await self.unreachable()
        proven = [target for target in self._targets if self._trust or self._is_proven(target)]
        unreachable = [target for target in silent if target in proven]
        if not proven or len(unreachable) < min(self._quorum or len(proven), len(proven)):
            return outcome
        names = ", ".join(target.url for target in unreachable)
        detail = f"{outcome.reason}, but the control targets cannot be reached either ({names})"
        return Outcome.of([Finding.of(CommonReason.LOCAL_NETWORK, detail)])

    async def watch(self) -> None:
        """Asks the control targets now and then, so that it is known which can be relied on, and told which cannot.
        Ends when it is cancelled."""
        while True:
            silent = frozenset(await self.unreachable())
            await self._keep_in_mind()
            for target in silent - self._silent:
                excuse = (
                    "an outage is our own while it is silent" if self._is_proven(target) else "it excuses no failure"
                )
                self._log.warning("a control target does not answer", target=target.url, meaning=excuse)
            self._silent = silent
            await asyncio.sleep(WATCH_SECONDS)

    def _is_proven(self, target: ControlTarget) -> bool:
        return self._clock.wall() - self._answered_at.get(target.url, -inf) < PROVEN_SECONDS

    async def _keep_in_mind(self) -> None:
        """Writes down what answered, now and then: an hour more or less does not matter."""
        urls = {target.url for target in self._targets}
        known = {url: at for url, at in self._answered_at.items() if url in urls}
        if all(at - self._kept_at.get(url, -inf) < KEEP_SECONDS for url, at in known.items()):
            return
        self._kept_at = known
        try:
            await asyncio.to_thread(self._remember, known)
        except OSError as error:
            self._log.warning("which control targets answered cannot be kept", error=str(error))

    async def unreachable(self) -> tuple[ControlTarget, ...]:
        """The control targets that do not answer now."""
        now = self._clock.monotonic()
        if self._asked_at is None or now - self._asked_at > self._keep:
            if self._asking is None:
                self._asking = asyncio.get_running_loop().create_task(self._ask(), name="control targets")
            return await asyncio.shield(self._asking)
        return self._unreachable

    async def close(self) -> None:
        """Ends a check that is under way."""
        if (asking := self._asking) is not None:
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking

    async def _ask(self) -> tuple[ControlTarget, ...]:
        try:
            targets: tuple[ControlTarget, ...] | None = None
            while targets is not self._targets:
                targets = self._targets
                answers = await asyncio.gather(*map(self._is_reachable, targets))
            pairs = zip(targets, answers, strict=True)
            self._unreachable = tuple(target for target, reachable in pairs if not reachable)
            now = self._clock.wall()
            self._answered_at |= {target.url: now for target in targets if target not in self._unreachable}
            self._asked_at = self._clock.monotonic()
            return self._unreachable
        finally:
            self._asking = None

    async def _is_reachable(self, target: ControlTarget) -> bool:
        loop = asyncio.get_running_loop()
        for _ in range(2):
            began = loop.time()
            try:
                async with asyncio.timeout(self._timeout):
                    await self._reach(target)
            except TimeoutError:
                if loop.time() - began < self._timeout + _LATE_SECONDS:
                    return False
                # We were held up ourselves, which says nothing about the network: once more.
            except Exception:  # noqa: BLE001 - whatever kept it from answering, it did not
                return False
            else:
                return True
        return True  # held up again: no excuse for what failed

    async def _contact(self, target: ControlTarget) -> None:
        if target.scheme in ("http", "https"):
            await self._http.fetch("GET", target.url, max_bytes=1)
        elif target.scheme == "dns":
            await asyncio.get_running_loop().getaddrinfo(target.host, None)
        else:
            _, writer = await asyncio.open_connection(target.host, target.port)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

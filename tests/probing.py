"""One run of a probe, as the engine's runner does it, for the tests of the kinds."""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import uvloop

from tocsin.model import Attachment, Measurement, Outcome
from tocsin.sdk import HttpClient, Probe, ProbeContext
from tocsin.sdk.faults import explain

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
REQUEST_ID = "probe-0001"


class RealClock:
    """The machine's clocks, with an offset that a test may move: ``clock.offset += 3600`` is an hour later."""

    def __init__(self, offset: float = 0.0) -> None:
        self.offset = offset

    def wall(self) -> float:
        return time.time() + self.offset

    def monotonic(self) -> float:
        return time.monotonic()


class FreePermits:
    """No cap; ``asked`` lists the dependencies that permits were asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    @asynccontextmanager
    async def request(self, dependency: str) -> AsyncIterator[None]:
        self.asked.append(dependency)
        yield


@dataclass(frozen=True)
class Probed:
    """What one run left: the outcome, its measurements and attachments, and how long it took."""

    outcome: Outcome
    measurements: tuple[Measurement, ...]
    attachments: tuple[Attachment, ...]
    duration_seconds: float

    @property
    def verdict(self) -> tuple[str, str | None]:
        """Status and reason, for short assertions: ``("failed", "server_error")``, ``("ok", None)``."""
        return (self.outcome.status.value, self.outcome.reason)

    @property
    def detail(self) -> str:
        return self.outcome.detail

    def measured(self, name: str, **labels: str) -> float:
        """The only sample of a gauge whose labels include ``labels``."""
        found = [
            measurement.value
            for measurement in self.measurements
            if measurement.gauge.name == name and labels.items() <= measurement.label_map().items()
        ]
        assert len(found) == 1, f"{name}{labels}: {found} among {self.measurements}"
        return found[0]


async def first(
    look: Callable[[], Awaitable[Probed]], wanted: Callable[[Probed], bool], what: str, seconds: float = 30
) -> Probed:
    """The first run that is as wanted: for what reaches the probe a little after it was done."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        probed = await look()
        if wanted(probed):
            return probed
        await asyncio.sleep(0.02)
    raise AssertionError(f"waited {seconds:g} s for {what}; the last was {probed.verdict}: {probed.detail}")


async def probe_once(
    probe: Probe,
    timeout: float = 5.0,
    *,
    memory: MutableMapping[str, Any] | None = None,
    clock: RealClock | None = None,
    permits: FreePermits | None = None,
    http: HttpClient | None = None,
    vantage: str = "",
    name: str = "the-probe",
) -> Probed:
    """Runs ``probe`` once under ``timeout`` seconds. Never raises what the probe raises: it is explained.

    Give the same ``memory`` to each run of a probe that remembers. Without ``http`` a client of its own is opened
    and closed.
    """
    clock = clock or RealClock()
    client = http or HttpClient.open()
    ctx = ProbeContext(
        probe=name,
        system="the-system",
        incident="the-incident",
        vantage=vantage,
        timeout=timeout,
        clock=clock,
        http=client,
        permits=permits or FreePermits(),
        trace_id=TRACE_ID,
        span_id=SPAN_ID,
        request_id=REQUEST_ID,
        memory={} if memory is None else memory,
    )
    started = time.monotonic()
    try:
        async with asyncio.timeout(timeout):
            outcome = await probe.run(ctx)
    except Exception as error:  # noqa: BLE001 - the runner's job: whatever a kind raises becomes a reason
        outcome = Outcome.of([explain(error, probe.unauthorized)])
    finally:
        duration = time.monotonic() - started
        if http is None:
            await client.close()
    return Probed(outcome, tuple(ctx.measurements), tuple(ctx.attachments), duration)


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs an async test on asyncio's own loop and on uvloop, which the daemon runs on: their errors differ."""

    @functools.wraps(test)
    def run(new_loop: Callable[[], asyncio.AbstractEventLoop], **arguments: Any) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(test(**arguments))

    signature = inspect.signature(test)
    loop = inspect.Parameter("new_loop", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = signature.replace(parameters=[loop, *signature.parameters.values()])  # type: ignore[attr-defined]
    loops = [asyncio.new_event_loop, uvloop.new_event_loop]
    parametrized: Callable[..., None] = pytest.mark.parametrize("new_loop", loops, ids=["asyncio", "uvloop"])(run)
    return parametrized

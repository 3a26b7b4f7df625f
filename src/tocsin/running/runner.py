"""One run of one probe, from its permits to its outcome. The daemon and ``tocsin probe`` share this code."""

from __future__ import annotations

import asyncio
import copy
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tocsin.model import CommonReason, Outcome, Run
from tocsin.model.redaction import one_line
from tocsin.running.active import ActiveProbe
from tocsin.running.conclusion import conclude
from tocsin.running.controls import Controls
from tocsin.running.permits import PermitPool, RunPermits
from tocsin.running.run_log import RunLog
from tocsin.sdk import HttpClient, Probe, ProbeContext
from tocsin.sdk.context import Clock
from tocsin.sdk.quantities import format_duration

CANCEL_GRACE_SECONDS = 0.25
"""How long a run may take to clean up after its deadline before it is abandoned."""
HELD_UP_SECONDS = 0.25
"""By how much a deadline may be late before the event loop is known to have stood still."""
_HELD_UP = "the probing loop stood still twice, so that this run says nothing about its target"
_SHORTEST_WAIT = 0.005


@dataclass(frozen=True, slots=True)
class Finished:
    """A run and what it left: the probe's memory, and the task that ignored its deadline, if any."""

    run: Run
    memory: Mapping[str, Any]
    leaked: asyncio.Task[object] | None = None


class Runner:
    """Runs probes, any number at a time within the caps. Belongs to one event loop."""

    def __init__(
        self,
        *,
        clock: Clock,
        http: HttpClient,
        permits: PermitPool,
        controls: Controls | None = None,
        grace: float = CANCEL_GRACE_SECONDS,
    ) -> None:
        self.clock = clock
        self.permits = permits
        self._http = http
        self._controls = controls
        self._grace = grace
        self.leaked: set[asyncio.Task[object]] = set()
        """Runs that ignored their cancellation and have not ended yet."""

    async def run(self, active: ActiveProbe, memory: Mapping[str, Any], until: float = math.inf) -> Finished:
        """One run. Never raises what the probe raises: whatever happens in there becomes an outcome.

        ``memory``: what the probe remembers; it gets a copy. ``until``: when to give up on permits (monotonic
        seconds); raises `tocsin.running.permits.NoPermit` then. Waiting for permits does not count against the
        timeout.
        """
        if active.probe is None:
            return self._not_run(active, memory)
        spec = active.spec
        async with self.permits.run(active.targets, until, patience=max(0.0, spec.every - spec.timeout)) as granted:
            return await self._attempt(active, active.probe, memory, granted)

    def _not_run(self, active: ActiveProbe, memory: Mapping[str, Any]) -> Finished:
        spec = active.spec
        if spec.off_because:
            outcome = Outcome.ok(spec.off_because)
        elif spec.missing:
            lacking = ", ".join(map(str, spec.missing))
            outcome = Outcome.bad(CommonReason.CONTRACT_MISSING, one_line(f"not configured: {lacking}"))
        else:
            outcome = Outcome.bad(CommonReason.PROBE_ERROR, one_line(active.redactor().text(active.broken)))
        trace_id, request_id = _identifiers()
        outcome = outcome.graded(spec.severity, spec.severities)
        return Finished(Run(spec.name, outcome, self.clock.wall(), 0.0, trace_id, request_id), memory)

    async def _attempt(
        self, active: ActiveProbe, probe: Probe, memory: Mapping[str, Any], granted: RunPermits
    ) -> Finished:
        spec = active.spec
        trace_id, request_id = _identifiers()
        ctx = _RunContext(
            probe=spec.name,
            system=spec.system,
            incident=spec.incident,
            vantage=spec.vantage,
            timeout=spec.timeout,
            clock=self.clock,
            http=self._http,
            permits=granted,
            trace_id=trace_id,
            span_id=trace_id[16:],
            request_id=request_id,
            memory=copy.deepcopy(dict(memory)) if memory else {},
            log=RunLog(active, trace_id, request_id),
            conceal=active.conceal,
        )
        started_at, started = self.clock.wall(), self.clock.monotonic()
        task = asyncio.get_running_loop().create_task(_contained(probe, ctx), name=f"run of {spec.name}")
        try:
            late = await self._until_deadline(task, ctx)
            if late is None:
                ended = self.clock.monotonic()
                result = task.result() if not task.cancelled() else asyncio.CancelledError("the run cancelled itself")
                left = conclude(active, probe, ctx, result, memory)
                outcome = await self._judged(left.outcome, active, started)
            else:
                # At the same time, so that a run is over soon after its deadline.
                outcome, ended = await asyncio.gather(self._judged(late, active, started), self._end(task))
                left = conclude(active, probe, ctx, outcome, memory)
        finally:
            if not task.done():
                self._abandon(task)
        run = Run(
            probe=spec.name,
            outcome=outcome.graded(spec.severity, spec.severities),
            started_at=started_at,
            duration_seconds=ended - started,
            trace_id=trace_id,
            request_id=request_id,
            measurements=left.measurements,
            attachments=left.attachments,
        )
        return Finished(run, left.memory, None if task.done() else task)

    async def _until_deadline(self, task: asyncio.Task[object], ctx: _RunContext) -> Outcome | None:
        """None when the task ended by itself in time, else the outcome of a run that did not."""
        was_held_up = False
        try:
            while (left := ctx.remaining()) > 0.0:
                # A wait for a permit moves the deadline, so it is looked at again when it is reached.
                asked = self.clock.monotonic()
                done, _ = await asyncio.wait({task}, timeout=max(left, _SHORTEST_WAIT))
                if done:
                    return None
                if self.clock.monotonic() - asked - left > HELD_UP_SECONDS:
                    # The loop stood still, and with it the run, whatever its target did: it gets its time anew, once.
                    if was_held_up:
                        return Outcome.bad(CommonReason.PROBE_ERROR, _HELD_UP)
                    was_held_up = True
                    ctx.begin_anew()
        except asyncio.CancelledError:
            await self._end(task)
            raise
        return Outcome.bad(CommonReason.TIMEOUT, f"no complete answer within {format_duration(ctx.timeout)}")

    async def _end(self, task: asyncio.Task[object]) -> float:
        """Tells the task to end and gives it a moment; when it had, in monotonic seconds."""
        task.cancel()
        await asyncio.wait({task}, timeout=self._grace)
        return self.clock.monotonic()

    async def _judged(self, outcome: Outcome, active: ActiveProbe, began: float) -> Outcome:
        if self._controls is None:
            return outcome
        return await self._controls.judge(outcome, began=began, elsewhere=active.is_elsewhere)

    def _abandon(self, task: asyncio.Task[object]) -> None:
        self.leaked.add(task)
        task.add_done_callback(self.leaked.discard)


class _RunContext(ProbeContext):
    """Waiting for permits stops the clock of the deadline."""

    permits: RunPermits

    def remaining(self) -> float:
        return max(0.0, self._deadline + self.permits.waited() - self.clock.monotonic())

    def begin_anew(self) -> None:
        """From now on it has its whole timeout."""
        self._deadline = self.clock.monotonic() + self.timeout - self.permits.waited()


async def _contained(probe: Probe, ctx: ProbeContext) -> object:
    """The outcome, or whatever was raised, as a value: a `SystemExit` out of a task would end the whole loop."""
    try:
        return await probe.run(ctx)
    except BaseException as error:  # noqa: BLE001
        return error


def _identifiers() -> tuple[str, str]:
    """A trace id and a request id, the same 128 random bits in two spellings, so that either finds the run."""
    trace_id = f"{random.getrandbits(128):032x}"
    parts = (trace_id[:8], trace_id[8:12], trace_id[12:16], trace_id[16:20], trace_id[20:])
    return trace_id, "-".join(parts)

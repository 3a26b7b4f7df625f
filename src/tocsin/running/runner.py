"""One run of one probe, from its permits to its outcome. The daemon and ``tocsin probe`` share this code."""

from __future__ import annotations

import asyncio
import copy
import math
import random
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog

from tocsin.model import CommonReason, Finding, Measurement, Outcome, Run, Status
from tocsin.model.redaction import NOTHING_SECRET, Redactor, one_line
from tocsin.running.active import ActiveProbe
from tocsin.running.controls import Controls
from tocsin.running.permits import PermitPool, RunPermits
from tocsin.running.run_log import RunLog
from tocsin.sdk import HttpClient, Probe, ProbeContext
from tocsin.sdk.context import Clock
from tocsin.sdk.faults import explain
from tocsin.sdk.quantities import format_duration

CANCEL_GRACE_SECONDS = 0.25
"""How long a run may take to clean up after its deadline before it is abandoned."""
MAX_MEASUREMENTS = 1000
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
        self._log = structlog.get_logger("tocsin.runner")
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
            unset = ", ".join(f"{missing.variable} ({missing.setting})" for missing in spec.missing)
            outcome = Outcome.bad(CommonReason.CONTRACT_MISSING, f"not configured: {unset}")
        else:
            outcome = Outcome.bad(CommonReason.PROBE_ERROR, one_line(active.redactor().text(active.broken)))
        trace_id, request_id = _identifiers()
        outcome = outcome.graded(spec.severity, dict(spec.severities))
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
        )
        started_at, started = self.clock.wall(), self.clock.monotonic()
        task = asyncio.get_running_loop().create_task(_contained(probe, ctx), name=f"run of {spec.name}")
        try:
            in_time = await self._within_deadline(task, ctx)
        finally:
            if not task.done():
                self._abandon(task)
        outcome = self._outcome(active, probe, task, ctx) if in_time else _timeout(spec.timeout)
        duration = self.clock.monotonic() - started
        if outcome.findings:
            if self._controls is not None:
                outcome = await self._controls.judge(outcome)
            outcome = outcome.graded(spec.severity, dict(spec.severities))
        leaked = None if task.done() else task
        run = Run(
            probe=spec.name,
            outcome=outcome,
            started_at=started_at,
            duration_seconds=duration,
            trace_id=trace_id,
            request_id=request_id,
            measurements=self._measurements(active, ctx.measurements),
            attachments=tuple(ctx.attachments),
        )
        remembered = copy.deepcopy(ctx.memory) if leaked else ctx.memory
        return Finished(_redacted(run, active), _without_secrets(remembered, active), leaked)

    async def _within_deadline(self, task: asyncio.Task[object], ctx: ProbeContext) -> bool:
        """Whether the task ended by itself in time. Afterwards it has been told to end, and had time to."""
        try:
            while (left := ctx.remaining()) > 0.0:
                # A wait for a permit moves the deadline, so it is looked at again when it is reached.
                done, _ = await asyncio.wait({task}, timeout=max(left, _SHORTEST_WAIT))
                if done:
                    return True
        except asyncio.CancelledError:
            await self._cancel(task)
            raise
        await self._cancel(task)
        return False

    async def _cancel(self, task: asyncio.Task[object]) -> None:
        task.cancel()
        await asyncio.wait({task}, timeout=self._grace)

    def _abandon(self, task: asyncio.Task[object]) -> None:
        self.leaked.add(task)
        task.add_done_callback(self.leaked.discard)

    def _outcome(self, active: ActiveProbe, probe: Probe, task: asyncio.Task[object], ctx: ProbeContext) -> Outcome:
        result = task.result() if not task.cancelled() else asyncio.CancelledError("the run cancelled itself")
        if isinstance(result, BaseException):
            finding = explain(result, probe.unauthorized)
            if finding.reason == CommonReason.PROBE_ERROR:
                self._tell_bug(active, result)
            outcome = Outcome.of([finding])
        elif isinstance(result, Outcome):
            outcome = result
        else:
            return _bug(f"run() returned {type(result).__name__}, not an Outcome")
        for finding in outcome.findings:
            if finding.reason not in active.reasons:
                return _bug(f"gave the reason {finding.reason!r}, which its kind does not declare")
            if finding.status is Status.OK:
                return _bug(f"gave the reason {finding.reason!r} with the status ok")
        return outcome

    def _tell_bug(self, active: ActiveProbe, error: BaseException) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "nowhere"
        if active.first_time(f"{type(error).__name__} at {where}"):
            text = "".join(traceback.format_exception(error))
            self._log.error(
                "a probe failed in a way it did not foresee; this is a bug in its kind",
                probe=active.spec.name,
                kind=active.spec.kind,
                exception=active.redactor().text(text),
            )

    def _measurements(self, active: ActiveProbe, measured: Iterable[Measurement]) -> tuple[Measurement, ...]:
        """What can be exported: declared gauges, finite values, the latest of each label set, a bounded number."""
        kept: dict[tuple[str, tuple[str, ...]], Measurement] = {}
        for measurement in measured:
            name = measurement.gauge.name
            if name not in active.gauges:
                self._tell_dropped(active, name, "its kind does not declare this gauge")
            elif not math.isfinite(measurement.value):
                self._tell_dropped(active, name, f"{measurement.value} is not a measurement")
            elif len(kept) >= MAX_MEASUREMENTS:
                self._tell_dropped(active, name, f"more than {MAX_MEASUREMENTS} measurements in one run")
            else:
                kept[name, measurement.labels] = measurement
        return tuple(kept.values())

    def _tell_dropped(self, active: ActiveProbe, gauge: str, why: str) -> None:
        if active.first_time(f"dropped {gauge}: {why}"):
            self._log.warning("a measurement is dropped", probe=active.spec.name, gauge=gauge, because=why)


class _RunContext(ProbeContext):
    """Waiting for permits stops the clock of the deadline."""

    permits: RunPermits

    def remaining(self) -> float:
        return max(0.0, self._deadline + self.permits.waited() - self.clock.monotonic())


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


def _timeout(seconds: float) -> Outcome:
    return Outcome.bad(CommonReason.TIMEOUT, f"no complete answer within {format_duration(seconds)}")


def _bug(detail: str) -> Outcome:
    return Outcome.bad(CommonReason.PROBE_ERROR, detail)


def _redacted(run: Run, active: ActiveProbe) -> Run:
    """``run`` as it may be shown: no secret of its probe in it, details short and on one line."""
    outcome = run.outcome
    if not (outcome.detail or outcome.findings or run.attachments or run.measurements):
        return run
    redactor = active.redactor()
    return replace(
        run,
        outcome=_clean(outcome, redactor),
        measurements=tuple(_masked(measurement, redactor) for measurement in run.measurements),
        attachments=tuple(
            replace(attachment, content=redactor.data(attachment.content)) for attachment in run.attachments
        ),
    )


def _without_secrets(memory: Mapping[str, Any], active: ActiveProbe) -> Mapping[str, Any]:
    """What a probe remembers is written to the disk; what a target said, say, is quoted in there."""

    def masked(value: Any) -> Any:
        match value:
            case str():
                return redactor.text(value)
            case dict():
                return {name: masked(inner) for name, inner in value.items()}
            case list() | tuple():
                return [masked(inner) for inner in value]
        return value

    redactor = active.redactor() if memory else NOTHING_SECRET
    return {name: masked(value) for name, value in memory.items()} if redactor != NOTHING_SECRET else memory


def _clean(outcome: Outcome, redactor: Redactor) -> Outcome:
    def clean(finding: Finding) -> Finding:
        return replace(
            finding,
            detail=one_line(redactor.text(finding.detail)),
            component=one_line(redactor.text(finding.component), 100),
        )

    return Outcome(tuple(map(clean, outcome.findings)), one_line(redactor.text(outcome.detail)))


def _masked(measurement: Measurement, redactor: Redactor) -> Measurement:
    labels = tuple(one_line(redactor.text(label), 200) for label in measurement.labels)
    return measurement if labels == measurement.labels else replace(measurement, labels=labels)

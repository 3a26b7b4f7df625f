"""When each probe runs, and what is done with what its runs say. One scheduler, one event loop, one timer a probe."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from tocsin.model import ProbeSpec, ProbeState, Run, Status
from tocsin.running.active import ActiveProbe
from tocsin.running.causes import GRACE_SECONDS
from tocsin.running.graph import Graph
from tocsin.running.grid import fraction, next_due
from tocsin.running.heartbeat import Lateness
from tocsin.running.permits import NoPermit
from tocsin.running.recorder import Recorder
from tocsin.running.runner import Finished, Runner
from tocsin.running.slot import Slot
from tocsin.running.verdicts import Consequences, Verdicts
from tocsin.sdk import Probe

OVERRUN = "overrun"
LATE = "late"
SPACING_SECONDS = 1.0
"""Least time between the starts of two runs of a probe that are not on its grid, however many probes ask for them;
also the time over which the effects of one cause are spread when it recovers."""
HANDOVER_SECONDS = 0.05
"""How long before the next tick a run that still waits for its permits gives up, so that the next one finds it gone."""
PUNCTUAL_SECONDS = 60.0
"""By how much at most, and by a tenth of its interval, a run may have begun late for the next tick to be in time."""
CATCH_UP_SECONDS = 60.0
"""How long at most, spread over all, a run waits that was missed while the process stood still."""
CLOCK_JUMP_SECONDS = 5.0
STOP_SECONDS = 2.0
"""How long what is being recorded may take, and what was cancelled to end."""
LAST_SECONDS = 0.25
CLOSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Changes:
    """What a new configuration changed, by name."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class Scheduler:
    """Runs every probe on its grid, one run of it at a time, and more often when there is doubt.

    ``first_run_within``: seconds within which the first run of a probe takes place even if its grid is wider.
    """

    def __init__(
        self,
        *,
        runner: Runner,
        recorder: Recorder,
        kinds: Mapping[str, type[Probe]],
        first_run_within: float | None = None,
    ) -> None:
        self.lateness = Lateness()
        self._runner = runner
        self._recorder = recorder
        self._kinds = kinds
        self._clock = runner.clock
        self._first_run_within = first_run_within
        self._slots: dict[str, Slot] = {}
        self._verdicts = Verdicts(self._clock.wall())
        self._clock_offset = self._clock.wall() - self._clock.monotonic()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._log = structlog.get_logger("tocsin.scheduler")

    # ── configuration ───────────────────────────────────────────────────────────────────────────────────────────

    async def apply(self, specs: Iterable[ProbeSpec]) -> Changes:
        """Makes ``specs`` the probes that run. Call it on the probing loop, after the recorder knows them.

        The change is made at once, between two steps of the loop. Probes that stay keep instance, phase and state;
        returns when what went has been ended and closed.
        """
        wanted = {spec.name: spec for spec in specs}
        is_first = not self._slots
        removed = [name for name in self._slots if name not in wanted]
        retired = [self._remove(name) for name in removed]
        added, changed = [], []
        for name, spec in wanted.items():
            slot = self._slots.get(name)
            if slot is None:
                added.append(name)
                self._slots[name] = Slot(ActiveProbe.install(spec, self._kinds))
            elif not slot.active.is_unchanged(spec):
                changed.append(name)
                if (gone := self._change(slot, spec)) is not None:
                    retired.append(gone)
        self._verdicts.configure(Graph(wanted.values()), self._recorder.state)
        for name in added:
            self._begin(self._slots[name])
        for name in self._verdicts.in_question():
            if not is_first:
                self._review(name)
            elif self._rests(self._slots[name], self._clock.wall()):
                # After a start nothing is judged before something has been looked at; this one will not be for long.
                self._review_in(self._slots[name], (self._first_run_within or 0.0) + GRACE_SECONDS)
        await asyncio.gather(*(self._retire(active, task) for active, task in retired))
        return Changes(tuple(added), tuple(changed), tuple(removed))

    def _remove(self, name: str) -> tuple[ActiveProbe, asyncio.Task[None] | None]:
        slot = self._slots.pop(name)
        slot.cancel_timers()
        return slot.active, slot.task

    def _change(self, slot: Slot, spec: ProbeSpec) -> tuple[ActiveProbe, asyncio.Task[None] | None] | None:
        before = slot.active
        if before.runs_alike(spec):
            slot.active = before.respecified(spec)
            retired = None
        else:
            slot.active = ActiveProbe.install(spec, self._kinds)
            # What the former instance left behind is no reason to hold the new one back.
            slot.leaked = None
            # A run that is over is recorded to its end: what it said of the target is not unsaid.
            retired = (before, None if slot.settling else slot.task)
        if (before.spec.every, before.spec.jitter) != (spec.every, spec.jitter) or retired is not None:
            slot.due_at = 0.0
            self._begin(slot)
        return retired

    async def _retire(self, active: ActiveProbe, task: asyncio.Task[None] | None) -> None:
        if task is not None:
            task.cancel()
            await asyncio.wait({task}, timeout=CLOSE_SECONDS)
        closing = asyncio.get_running_loop().create_task(active.close(), name=f"end of {active.spec.name}")
        # Not awaited: one that ignores its cancellation must hold up nobody.
        await asyncio.wait({closing}, timeout=CLOSE_SECONDS)
        if (error := closing.result() if closing.done() else TimeoutError("it takes too long")) is not None:
            closing.cancel()
            self._log.error("a probe could not be closed", probe=active.spec.name, exc_info=error)

    # ── the grid ────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, slot: Slot) -> None:
        self._arm(slot)
        if self._first_run_within is not None:
            delay = fraction(slot.active.spec.name) * self._first_run_within
            if self._clock.monotonic() + delay < slot.due_on:
                self._soon(slot, delay)

    def _arm(self, slot: Slot) -> None:
        """Sets the timer for the next tick of the grid."""
        spec = slot.active.spec
        wall, now = self._clock.wall(), self._clock.monotonic()
        self._note_jump(wall, now)
        # The timer may fire a little before the wall clock gets there; that tick is not due a second time.
        early = 0.0 < slot.due_at - wall < spec.every / 2
        slot.due_at = next_due(spec.name, spec.every, slot.due_at if early else wall, spec.jitter)
        while self._rests(slot, slot.due_at + min(spec.every / 10, PUNCTUAL_SECONDS) + spec.jitter):
            slot.due_at = next_due(spec.name, spec.every, slot.due_at, spec.jitter)
        delay = slot.due_at - wall
        slot.due_on = now + delay
        if slot.tick is not None:
            slot.tick.cancel()
        slot.tick = asyncio.get_running_loop().call_later(delay, self._tick, slot)

    def _tick(self, slot: Slot) -> None:
        name, every = slot.active.spec.name, slot.active.spec.every
        late = max(0.0, self._clock.monotonic() - slot.due_on)
        self._arm(slot)
        if slot.is_stuck() or (slot.task is not None and not slot.is_extra):
            self._skip(name, OVERRUN)
        elif slot.task is not None:
            # A retry is in flight and answers for this tick, too.
            return
        else:
            self.lateness.observe(late)
            if late > max(1.0, min(every / 4, 5.0)):
                # The whole process stood still. To run all that was missed now would be a burst.
                self._skip(name, LATE)
                if slot.due_on - self._clock.monotonic() > CATCH_UP_SECONDS:
                    self._soon(slot, fraction(name) * CATCH_UP_SECONDS)
            else:
                self._launch(slot, is_extra=False)

    def _rests(self, slot: Slot, at: float) -> bool:
        """Whether a run at this time (Unix seconds) is none for a costly probe: whoever wants to know, and whatever
        has been restarted, it never runs more often than its ``every``."""
        spec = slot.active.spec
        latest = self._verdicts.states[spec.name].last_run_at
        return spec.costly and latest is not None and latest <= at < latest + spec.every

    def _note_jump(self, wall: float, monotonic: float) -> None:
        offset = wall - monotonic
        if abs(offset - self._clock_offset) > CLOCK_JUMP_SECONDS:
            self._log.warning("the wall clock jumped", seconds=round(offset - self._clock_offset, 3))
            self._verdicts.up_since = wall
        self._clock_offset = offset

    def _skip(self, name: str, cause: str) -> None:
        self._log.debug("run skipped", probe=name, cause=cause)
        self._recorder.skipped(name, cause)

    # ── runs off the grid ───────────────────────────────────────────────────────────────────────────────────────

    def _soon(self, slot: Slot, delay: float) -> None:
        """A run in ``delay`` seconds, or earlier if one is wanted earlier already; none while a costly probe rests."""
        if self._rests(slot, self._clock.wall() + delay):
            return
        on = self._clock.monotonic() + delay
        if slot.extra is not None:
            if slot.extra_on <= on:
                return
            slot.extra.cancel()
        slot.extra_on = on
        slot.extra = asyncio.get_running_loop().call_later(delay, self._extra, slot)

    def _extra(self, slot: Slot) -> None:
        slot.extra = None
        if slot.task is not None:
            slot.again = True
        elif not slot.is_stuck():
            self._launch(slot, is_extra=True)

    def _look_at(self, slot: Slot, since: float) -> None:
        """Makes sure of a run that starts at ``since`` or later, without hurrying one that has just started."""
        if slot.task is None:
            spacing = min(SPACING_SECONDS, slot.active.spec.retry_every)
            self._soon(slot, max(0.0, slot.started_on + spacing - self._clock.monotonic()))
        elif slot.started_at < since:
            slot.again = True

    async def run_now(self, name: str) -> Run | None:
        """Runs a probe now, or waits for the run in flight. None when no run was possible. Raises `KeyError`."""
        slot = self._slots[name]
        before = slot.latest
        if slot.task is None and not slot.is_stuck():
            self._launch(slot, is_extra=True)
        if slot.task is not None:
            await asyncio.wait({slot.task})
        return slot.latest if slot.latest is not before else None

    # ── one run ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _launch(self, slot: Slot, *, is_extra: bool) -> None:
        if self._stopping:
            return
        if slot.extra is not None:
            slot.extra.cancel()
            slot.extra = None
        slot.is_extra = is_extra
        slot.again = False
        slot.started_at, slot.started_on = self._clock.wall(), self._clock.monotonic()
        slot.task = self._spawn(self._perform(slot, slot.active), slot.active.spec.name)

    async def _perform(self, slot: Slot, active: ActiveProbe) -> None:
        name = active.spec.name
        try:
            finished = await self._runner.run(active, self._recorder.memory(name), slot.due_on - HANDOVER_SECONDS)
            if self._slots.get(name) is slot and slot.active.probe is active.probe:
                slot.leaked = finished.leaked
                slot.settling = True
                await self._settle(slot, finished)
        except NoPermit as refusal:
            self._skip(name, refusal.cause)
        finally:
            slot.settling = False
            slot.task = None
            if self._slots.get(name) is slot and not self._stopping:
                if slot.is_extra and slot.active.spec.costly:
                    # The tick that was next may have become too early.
                    slot.due_at = 0.0
                    self._arm(slot)
                if slot.again:
                    slot.again = False
                    self._look_at(slot, self._clock.wall())

    async def _settle(self, slot: Slot, finished: Finished) -> None:
        run = finished.run
        before = self._verdicts.states[run.probe]
        consequences = self._verdicts.learn(run, self._clock.wall())
        after = self._verdicts.states[run.probe]
        consequences.changed.pop(run.probe, None)
        self._follow_up(consequences)
        slot.latest = run.without_attachments()  # they are for the record
        async with slot.lane:
            await self._recorder.record(run, after, finished.memory)
        self._tell(run, before, after, finished)

    def _follow_up(self, consequences: Consequences) -> None:
        """Does what is to be done because of what was learned."""
        slots, now = self._slots, self._clock.wall()
        for name, state in consequences.changed.items():
            self._log.info(
                "probe changed without a run",
                probe=name,
                status=state.status.value,
                reason=state.reason,
                alerting=state.alerting,
                caused_by=state.caused_by,
            )
            self._spawn(self._revise(slots[name], name), f"revision of {name}")
        for name, since in consequences.check.items():
            self._look_at(slots[name], since)
        for name in consequences.again:
            self._soon(slots[name], fraction(name) * min(SPACING_SECONDS, slots[name].active.spec.retry_every))
        for name in consequences.retry:
            self._soon(slots[name], slots[name].active.spec.retry_every)
        for name, at in consequences.review.items():
            self._review_in(slots[name], None if at is None else max(0.0, at - now))

    def _review_in(self, slot: Slot, delay: float | None) -> None:
        if slot.review is not None:
            slot.review.cancel()
            slot.review = None
        if delay is not None:
            slot.review = asyncio.get_running_loop().call_later(delay, self._review, slot.active.spec.name)

    def _review(self, name: str) -> None:
        self._follow_up(self._verdicts.review(name, self._clock.wall()))

    async def _revise(self, slot: Slot, name: str) -> None:
        async with slot.lane:
            # As it is now: a run of its own may have been recorded since this revision was called for.
            if self._slots.get(name) is slot:
                await self._recorder.revise(name, self._verdicts.states[name])

    def _tell(self, run: Run, before: ProbeState, after: ProbeState, finished: Finished) -> None:
        """One event a run, and only at debug unless something changed that people are told about."""
        told = (before.status, before.reason, before.alerting, before.caused_by)
        is_first_ok = before.since is None and after.status is Status.OK
        changed = told != (after.status, after.reason, after.alerting, after.caused_by) and not is_first_ok
        (self._log.info if changed else self._log.debug)(
            "probe changed" if changed else "probe ran",
            probe=run.probe,
            outcome=run.outcome.status.value,
            reason=run.outcome.reason,
            detail=run.outcome.detail,
            status=after.status.value,
            alerting=after.alerting,
            caused_by=after.caused_by,
            seconds=round(run.duration_seconds, 4),
            trace_id=run.trace_id,
            request_id=run.request_id,
        )
        if finished.leaked is not None:
            self._log.error(
                "a run ignored its deadline and its cancellation; its probe waits until it has ended",
                probe=run.probe,
                trace_id=run.trace_id,
                request_id=run.request_id,
            )

    # ── life and death ──────────────────────────────────────────────────────────────────────────────────────────

    def due_at(self, name: str) -> float | None:
        """When the probe runs next on its grid, in Unix seconds; None when it is not on it. From any thread."""
        slot = self._slots.get(name)
        return slot.due_at if slot is not None else None

    def names(self) -> tuple[str, ...]:
        return tuple(self._slots)

    async def stop(self) -> None:
        """Ends everything within `STOP_SECONDS`, `LAST_SECONDS` and `CLOSE_SECONDS`. Runs in flight are cancelled and
        not recorded; what is being recorded is recorded. What ignores cancellation is left behind and named in the log.
        """
        self._stopping = True
        for slot in self._slots.values():
            slot.cancel_timers()
            if slot.task is not None and not slot.settling:
                slot.task.cancel()
        leaked = set(self._runner.leaked)
        for leak in leaked:
            leak.cancel()
        if self._tasks or leaked:
            await asyncio.wait({*self._tasks, *leaked}, timeout=STOP_SECONDS)
        left: set[asyncio.Task[Any]] = {*self._tasks, *self._runner.leaked}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=LAST_SECONDS)
        if stubborn := sorted(task.get_name() for task in left if not task.done()):
            self._log.error("tasks do not end; they are left behind", tasks=stubborn)
        await asyncio.gather(*(self._retire(slot.active, None) for slot in self._slots.values()))

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """A guarded task: when it ends with an exception, that is logged at once."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        with suppress(asyncio.CancelledError):
            if (error := task.exception()) is not None:
                self._log.error("a task of the scheduler failed", task=task.get_name(), exc_info=error)

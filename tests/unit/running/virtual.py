"""What the tests of the running room share: a clock on the loop's virtual time, a recorder in memory, odd probes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, cast

from tocsin.config.caps import Cap, Caps
from tocsin.model import Gauge, Outcome, ProbeSpec, ProbeState, ReasonEnum, Run
from tocsin.running.controls import Controls
from tocsin.running.permits import PermitPool
from tocsin.running.runner import Runner
from tocsin.running.scheduler import Scheduler
from tocsin.sdk import HttpClient, Probe, ProbeContext, ProbeSettings, Secret

EPOCH = 1_795_478_400.0
FREE = Caps(runs=1000, default=Cap(1000, 60_000))


class LoopClock:
    """The loop's time as both clocks; ``jump`` moves the wall clock alone."""

    def __init__(self) -> None:
        self.jump = 0.0

    def wall(self) -> float:
        return EPOCH + asyncio.get_running_loop().time() + self.jump

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


class Scripted(Probe):
    """Does what the test gave under its name, or is ok."""

    kind = "scripted"
    gauges = (Gauge("tocsin_things", "Things.", ("thing",)),)
    script: dict[str, Callable[[ProbeContext], Awaitable[object]]]
    closed: list[str]

    class Settings(ProbeSettings):
        flavour: str = ""
        target: str = ""
        password: Secret = Secret("")

        def targets(self) -> tuple[str, ...]:
            return (self.target,) if self.target else ()

    class Reason(ReasonEnum):
        BROKEN = "broken", "It is broken."

    name = ""

    async def run(self, ctx: ProbeContext) -> Outcome:
        self.name = ctx.probe
        action = self.script.get(ctx.probe)
        return cast("Outcome", await action(ctx)) if action else Outcome.ok()

    async def close(self) -> None:
        self.closed.append(self.name)


def kind() -> type[Scripted]:
    """A fresh kind, so that tests share no script."""
    return type("Scripted", (Scripted,), {"script": {}, "closed": []})


def spec(name: str = "p", *, flavour: str = "", target: str = "", password: str = "", **changes: Any) -> ProbeSpec:
    settings = Scripted.Settings(flavour=flavour, target=target, password=Secret(password))
    common: dict[str, Any] = {"every": 30.0, "timeout": 5.0, "retry_every": 5.0}
    return ProbeSpec(name, "scripted", "s", "i", settings, **{**common, **changes})


class Memory:
    """A recorder that keeps everything in lists."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.states: dict[str, ProbeState] = {}
        self.memories: dict[str, Mapping[str, Any]] = {}
        self.skips: list[tuple[str, str]] = []
        self.revised: list[tuple[str, ProbeState]] = []
        self.pause = 0.0

    def state(self, probe: str) -> ProbeState:
        return self.states.get(probe, ProbeState())

    def memory(self, probe: str) -> Mapping[str, Any]:
        return self.memories.get(probe, {})

    async def record(self, run: Run, state: ProbeState, memory: Mapping[str, Any]) -> None:
        if self.pause:
            await asyncio.sleep(self.pause)
        self.runs.append(run)
        self.states[run.probe] = state
        self.memories[run.probe] = memory

    async def revise(self, probe: str, state: ProbeState) -> None:
        self.states[probe] = state
        self.revised.append((probe, state))

    def skipped(self, probe: str, cause: str) -> None:
        self.skips.append((probe, cause))

    def started(self, probe: str) -> list[float]:
        """When the runs of a probe started, in seconds of the test."""
        return [round(run.started_at - EPOCH, 3) for run in self.runs if run.probe == probe]


NO_HTTP = cast("HttpClient", None)


def runner(clock: LoopClock, caps: Caps = FREE, controls: Controls | None = None) -> Runner:
    return Runner(clock=clock, http=NO_HTTP, permits=PermitPool(caps, clock), controls=controls)


class Bench:
    """A scheduler with its surroundings. ``async with`` stops it."""

    def __init__(self, caps: Caps = FREE, first_run_within: float | None = None) -> None:
        self.clock = LoopClock()
        self.kind = kind()
        self.script = self.kind.script
        self.recorder = Memory()
        self.runner = runner(self.clock, caps)
        self.scheduler = Scheduler(
            runner=self.runner,
            recorder=self.recorder,
            kinds={"scripted": self.kind},
            first_run_within=first_run_within,
        )

    async def __aenter__(self) -> Bench:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.scheduler.stop()
        for name in self.recorder.states.keys() & set(self.scheduler.names()):
            assert self.recorder.states[name] == self.scheduler._verdicts.states[name], (
                "an older state was recorded last"
            )


def answers(*codes: Outcome) -> Callable[[ProbeContext], Awaitable[object]]:
    """These outcomes one after another; the last one for ever."""
    following: Iterator[Outcome] = iter(codes)
    latest = codes[-1]

    async def answer(ctx: ProbeContext) -> object:
        return next(following, latest)

    return answer

"""When probes run, in virtual time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest
import structlog

from tests.unit.running.virtual import EPOCH, Bench, answers, spec
from tocsin.config.caps import Cap, Caps
from tocsin.model import CommonReason, MaintenanceWindow, Outcome, ProbeSpec, ProbeState, Status
from tocsin.running.grid import next_due
from tocsin.running.scheduler import Changes
from tocsin.sdk import ProbeContext

pytestmark = pytest.mark.looptime

BAD = Outcome.bad(CommonReason.SERVER_ERROR)
OK = Outcome.ok()


def grid(probe: ProbeSpec, until: float) -> list[float]:
    """The due times of a probe in the first seconds of the test."""
    dues = [next_due(probe.name, probe.every, EPOCH, probe.jitter)]
    while (due := next_due(probe.name, probe.every, dues[-1], probe.jitter)) < EPOCH + until:
        dues.append(due)
    return [round(due - EPOCH, 3) for due in dues]


async def test_probes_run_on_their_grids_from_the_first_interval_on() -> None:
    specs = [spec(f"p{number}") for number in range(50)]
    async with Bench() as bench:
        await bench.scheduler.apply(specs)
        await asyncio.sleep(100)
        for probe in specs:
            assert bench.recorder.started(probe.name) == pytest.approx(grid(probe, 100), abs=0.002)
            assert bench.recorder.started(probe.name)[0] <= 30
    assert bench.recorder.skips == []
    assert bench.scheduler.lateness.cumulative()[0][1] == len(bench.recorder.runs)


async def test_jitter_moves_due_times_and_the_same_ones_after_a_restart() -> None:
    probe = spec(jitter=10.0)
    async with Bench() as bench:
        await bench.scheduler.apply([probe])
        await asyncio.sleep(200)
        assert bench.recorder.started("p") == pytest.approx(grid(probe, 200), abs=0.002)


async def test_a_first_run_may_be_asked_for_earlier_than_the_grid_has_it() -> None:
    async with Bench(first_run_within=10.0) as bench:
        await bench.scheduler.apply([spec(f"p{number}", every=3600.0) for number in range(20)])
        await asyncio.sleep(10)
        first = {run.probe: run.started_at - EPOCH for run in bench.recorder.runs}
        assert len(first) == 20
        assert len({round(at, 1) for at in first.values()}) > 10


async def test_a_failure_is_retried_until_it_is_confirmed_and_then_left_to_the_grid() -> None:
    probe = spec(failures_to_fail=3)
    async with Bench() as bench:
        bench.script["p"] = answers(BAD)
        await bench.scheduler.apply([probe])
        first = grid(probe, 30)[0]
        await asyncio.sleep(first + 29)
        assert bench.recorder.started("p") == pytest.approx([first, first + 5, first + 10], abs=0.01)
        assert bench.recorder.states["p"].alerting
        await asyncio.sleep(30)
        assert len(bench.recorder.runs) == 4


async def test_a_single_failure_changes_nothing_and_the_grid_stays() -> None:
    async with Bench() as bench:
        bench.script["p"] = answers(OK, BAD, OK)
        await bench.scheduler.apply([spec()])
        await asyncio.sleep(100)
        first, second, third = grid(spec(), 100)[:3]
        assert bench.recorder.started("p")[:4] == pytest.approx([first, second, second + 5, third], abs=0.01)
        assert bench.recorder.states["p"].status is Status.OK


async def test_runs_of_one_probe_never_overlap_and_a_retry_in_flight_answers_for_its_tick() -> None:
    running = 0
    most = 0

    async def slow(ctx: ProbeContext) -> Outcome:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await asyncio.sleep(60)
        finally:
            running -= 1
        return OK

    async with Bench() as bench:
        bench.script["p"] = slow
        await bench.scheduler.apply([spec(every=7.0, timeout=6.0)])
        for _ in range(20):
            await bench.scheduler.run_now("p")
        await asyncio.sleep(100)
        assert most == 1
        assert bench.recorder.skips == []


async def test_a_probe_that_ignores_cancellation_is_skipped_until_it_ends_and_disturbs_nobody() -> None:
    release = asyncio.Event()

    async def stubborn(ctx: ProbeContext) -> Outcome:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return OK

    async with Bench() as bench:
        bench.script["stubborn"] = stubborn
        await bench.scheduler.apply([spec("stubborn"), spec("other")])
        with structlog.testing.capture_logs() as logs:
            await asyncio.sleep(100)
        assert [run.outcome.reason for run in bench.recorder.runs if run.probe == "stubborn"] == ["timeout"]
        assert set(bench.recorder.skips) == {("stubborn", "overrun")}
        assert len(bench.recorder.skips) == len(grid(spec("stubborn"), 100)) - 1
        assert bench.recorder.started("other") == pytest.approx(grid(spec("other"), 100), abs=0.002)
        assert len(bench.runner.leaked) == 1
        assert [entry["probe"] for entry in logs if "ignored its deadline" in entry["event"]] == ["stubborn"]
        release.set()
        await asyncio.sleep(40)
        assert bench.runner.leaked == set()
        assert bench.recorder.runs[-1].probe in ("stubborn", "other")
        assert bench.recorder.started("stubborn")[-1] > 100


async def test_a_run_that_ignores_cancellation_does_not_hold_back_what_replaces_its_probe() -> None:
    release = asyncio.Event()

    async def stubborn(ctx: ProbeContext) -> Outcome:
        while not release.is_set():
            with suppress(asyncio.CancelledError):
                await release.wait()
        return OK

    async with Bench() as bench:
        bench.script["p"] = stubborn
        await bench.scheduler.apply([spec(flavour="a")])
        await asyncio.sleep(50)
        stuck = bench.scheduler._slots["p"].is_stuck()
        bench.script["p"] = answers(OK)
        await bench.scheduler.apply([spec(flavour="b")])
        await asyncio.sleep(35)
        latest = bench.recorder.runs[-1].outcome
        release.set()
        assert (stuck, latest) == (True, OK)


class Oddity(BaseException):
    pass


@pytest.mark.parametrize(
    "error", [SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit(), Oddity()], ids=repr
)
async def test_a_probe_that_raises_anything_disturbs_nobody(error: BaseException) -> None:
    async def raising(ctx: ProbeContext) -> Outcome:
        await asyncio.sleep(0)
        raise error

    async with Bench() as bench:
        bench.script["bad"] = raising
        await bench.scheduler.apply([spec("bad"), spec("good")])
        await asyncio.sleep(100)
        assert bench.recorder.started("good") == pytest.approx(grid(spec("good"), 100), abs=0.002)
        assert len(bench.recorder.started("bad")) == len(grid(spec("bad"), 100))
        assert bench.recorder.states["bad"].reason == "probe_error"


async def test_a_probe_that_cancels_its_own_task_is_an_error_of_the_probe() -> None:
    async def cancelling(ctx: ProbeContext) -> Outcome:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(1)
        return OK

    async with Bench() as bench:
        bench.script["p"] = cancelling
        await bench.scheduler.apply([spec()])
        await asyncio.sleep(65)
        assert {run.outcome.reason for run in bench.recorder.runs} == {"probe_error"}
        assert len(bench.recorder.runs) >= 2


async def test_a_first_failure_runs_the_dependencies_at_once_and_the_cause_alone_alerts() -> None:
    async with Bench() as bench:
        specs = [
            spec("db", every=600.0),
            spec("keycloak", every=600.0, depends_on=("db",)),
            spec("realm", depends_on=("keycloak",)),
        ]
        await bench.scheduler.apply(specs)
        await asyncio.sleep(700)
        for name in ("db", "keycloak", "realm"):
            bench.script[name] = answers(BAD)
        before = len(bench.recorder.runs)
        await asyncio.sleep(60)
        after = bench.recorder.runs[before:]
        assert after[0].probe == "realm"
        asked = {run.probe: run.started_at - after[0].started_at for run in reversed(after)}
        assert asked["db"] < 0.1
        assert asked["keycloak"] < 0.1
        states = bench.recorder.states
        assert {name for name, state in states.items() if state.alerting} == {"db"}
        assert states["realm"].caused_by == states["keycloak"].caused_by == "db"
        assert states["db"].alerting_since is not None
        assert states["db"].alerting_since - after[0].started_at < 6


async def test_when_the_cause_recovers_its_effects_are_run_at_once_and_stay_silent() -> None:
    async with Bench() as bench:
        specs = [spec("db"), spec("realm", every=600.0, depends_on=("db",))]
        bench.script.update(db=answers(BAD), realm=answers(BAD))
        await bench.scheduler.apply(specs)
        await asyncio.sleep(700)
        assert bench.recorder.states["realm"].caused_by == "db"
        bench.script.update(db=answers(OK), realm=answers(BAD, OK))
        await asyncio.sleep(90)
        recovered_at = bench.recorder.states["db"].since
        assert recovered_at is not None
        again = [at for at in bench.recorder.started("realm") if at > recovered_at - EPOCH]
        assert again[0] - (recovered_at - EPOCH) <= 1.0
        assert again[1] - again[0] == pytest.approx(5.0, abs=0.01)
        assert not any(state.alerting for _, state in bench.recorder.revised)
        assert not bench.recorder.states["realm"].alerting


async def test_effects_are_revised_once_for_each_change_and_it_is_logged() -> None:
    async with Bench() as bench:
        await bench.scheduler.apply([spec("db"), spec("realm", every=600.0, depends_on=("db",))])
        bench.script.update(db=answers(BAD), realm=answers(BAD))
        with structlog.testing.capture_logs() as logs:
            await asyncio.sleep(900)
        assert bench.recorder.states["realm"].caused_by == "db"
        bench.script["db"] = answers(OK)
        with structlog.testing.capture_logs() as logs:
            await asyncio.sleep(90)
        revisions = [entry for entry in logs if entry["event"] == "probe changed without a run"]
        # Its cause has recovered; then what it depends on was looked at again.
        assert [(entry["probe"], entry["alerting"], entry["caused_by"], entry["log_level"]) for entry in revisions] == [
            ("realm", False, None, "info"),
            ("realm", True, None, "info"),
        ]
        assert len(bench.recorder.revised) <= 3


async def test_a_dependency_is_not_run_more_often_than_once_a_second_however_many_ask() -> None:
    async with Bench() as bench:
        effects = [spec(f"e{number}", depends_on=("db",)) for number in range(300)]
        await bench.scheduler.apply([spec("db"), *effects])
        await asyncio.sleep(60)
        for effect in effects:
            bench.script[effect.name] = answers(BAD)
        before = len(bench.recorder.started("db"))
        await asyncio.sleep(30)
        assert len(bench.recorder.started("db")) - before <= 33


async def test_a_dependency_that_hangs_delays_an_alert_by_its_timeout_and_grace_at_most() -> None:
    async with Bench() as bench:
        specs = [spec("db", every=600.0), spec("realm", depends_on=("db",))]
        await bench.scheduler.apply(specs)
        await asyncio.sleep(700)

        async def stuck(ctx: ProbeContext) -> Outcome:
            while True:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    if bench.scheduler._stopping:
                        raise

        # The run hangs for ever, so nothing is known of the database, not even that it timed out.
        bench.runner._grace = 1e9
        bench.script.update(db=stuck, realm=answers(BAD))
        before = len(bench.recorder.runs)
        await asyncio.sleep(60)
        first = bench.recorder.runs[before].started_at
        state = bench.recorder.states["realm"]
        assert state.alerting
        assert state.alerting_since is not None
        assert state.alerting_since - first == pytest.approx(10.0, abs=0.1)


async def test_an_alert_held_by_maintenance_starts_when_the_window_ends() -> None:
    window = MaintenanceWindow(EPOCH, EPOCH + 1000)
    async with Bench() as bench:
        bench.script["p"] = answers(BAD)
        await bench.scheduler.apply([spec(every=900.0, maintenance=(window,))])
        await asyncio.sleep(999)
        assert bench.recorder.states["p"].status is Status.FAILED
        assert not bench.recorder.states["p"].alerting
        await asyncio.sleep(2)
        assert bench.recorder.states["p"].alerting_since == pytest.approx(EPOCH + 1000, abs=0.01)


async def test_a_reload_keeps_phase_state_and_instance_of_what_did_not_change() -> None:
    async with Bench() as bench:
        specs = [spec(f"p{number}", flavour="a") for number in range(200)]
        await bench.scheduler.apply(specs)
        await asyncio.sleep(45)
        instances = {name: bench.scheduler._slots[name].active.probe for name in bench.scheduler.names()}
        dues = {name: bench.scheduler.due_at(name) for name in bench.scheduler.names()}
        changed = [spec(f"p{number}", flavour="b") for number in range(50)]
        moved = [replace(probe, source="elsewhere.yaml:7") for probe in specs[50:]]
        assert await bench.scheduler.apply([*changed, *moved]) == Changes(
            changed=tuple(probe.name for probe in changed)
        )
        for probe in moved:
            assert bench.scheduler._slots[probe.name].active.probe is instances[probe.name]
            assert bench.scheduler.due_at(probe.name) == dues[probe.name]
        for probe in changed:
            assert bench.scheduler._slots[probe.name].active.probe is not instances[probe.name]
        assert sorted(bench.kind.closed) == sorted(probe.name for probe in changed)
        await asyncio.sleep(100)
        for probe in specs:
            assert bench.recorder.started(probe.name) == pytest.approx(grid(probe, 145), abs=0.002)


async def test_a_change_beside_the_settings_keeps_the_instance() -> None:
    async with Bench() as bench:
        await bench.scheduler.apply([spec()])
        instance = bench.scheduler._slots["p"].active.probe
        changes = await bench.scheduler.apply([spec(failures_to_fail=5)])
        assert changes.changed == ("p",)
        assert bench.scheduler._slots["p"].active.probe is instance
        assert bench.kind.closed == []


async def test_probes_that_go_are_ended_and_closed_and_their_results_dropped() -> None:
    async def slow(ctx: ProbeContext) -> Outcome:
        await asyncio.sleep(4)
        return OK

    async with Bench() as bench:
        bench.script["p"] = slow
        await bench.scheduler.apply([spec(), spec("q")])
        await asyncio.sleep(grid(spec(), 30)[0] + 1)
        runs = len(bench.recorder.runs)
        changes = await bench.scheduler.apply([spec("q")])
        assert changes == Changes(removed=("p",))
        assert bench.kind.closed == ["p"]
        await asyncio.sleep(60)
        assert [run.probe for run in bench.recorder.runs[runs:]].count("p") == 0


async def test_a_dependency_that_is_taken_out_releases_its_effects_at_once() -> None:
    async with Bench() as bench:
        bench.script.update(db=answers(BAD), realm=answers(BAD))
        realm = spec("realm", every=600.0, depends_on=("db",))
        await bench.scheduler.apply([spec("db"), realm])
        await asyncio.sleep(700)
        assert bench.recorder.states["realm"].caused_by == "db"
        await bench.scheduler.apply([realm])
        await asyncio.sleep(10)
        assert bench.recorder.states["realm"].alerting


async def test_a_run_that_finds_no_permit_before_the_next_one_is_due_is_skipped() -> None:
    async def slow(ctx: ProbeContext) -> Outcome:
        await asyncio.sleep(25)
        return OK

    async with Bench(Caps(1, Cap(1000, 60_000))) as bench:
        for name in ("a", "b", "c"):
            bench.script[name] = slow
        await bench.scheduler.apply([spec(name, timeout=29.0) for name in ("a", "b", "c")])
        await asyncio.sleep(300)
        assert [cause for _, cause in bench.recorder.skips].count("concurrency") >= 5
        assert 10 <= len(bench.recorder.runs) <= 12


async def test_a_rate_cap_skips_runs_with_its_cause() -> None:
    async with Bench(Caps(100, Cap(10, 4))) as bench:
        await bench.scheduler.apply([spec(f"p{number}", target="tcp://db:1") for number in range(6)])
        await asyncio.sleep(300)
        assert {cause for _, cause in bench.recorder.skips} == {"rate"}
        assert len(bench.recorder.runs) <= 21


async def test_a_clock_that_jumps_causes_no_burst() -> None:
    async with Bench() as bench:
        specs = [spec(f"p{number}") for number in range(100)]
        await bench.scheduler.apply(specs)
        await asyncio.sleep(61)
        for jump in (8 * 3600.0 + 11, -3600.0, 0.4, -0.4):
            bench.clock.jump += jump
            for _ in range(3):
                before = len(bench.recorder.runs)
                await asyncio.sleep(30)
                # A shifted grid brings each probe forward once, by less than an interval.
                assert 70 <= len(bench.recorder.runs) - before <= 170
            runs_by_second = [round(run.started_at) for run in bench.recorder.runs]
            assert max(map(runs_by_second.count, set(runs_by_second))) <= 20


async def test_what_was_missed_while_the_process_stood_still_is_skipped_not_caught_up() -> None:
    async with Bench() as bench:
        await bench.scheduler.apply([spec(f"p{number}") for number in range(100)])
        await asyncio.sleep(61)
        before = len(bench.recorder.runs)
        stopped = 600.0
        monotonic = bench.clock.monotonic
        bench.clock.monotonic = lambda: monotonic() + stopped  # type: ignore[method-assign]
        bench.clock.jump += stopped
        for slot in bench.scheduler._slots.values():
            assert slot.tick is not None
            slot.tick.cancel()
            bench.scheduler._tick(slot)
        await asyncio.sleep(0.01)
        assert len(bench.recorder.runs) - before == 0
        assert bench.recorder.skips.count(("p1", "late")) == 1
        assert bench.scheduler.lateness.counts[-1] == 100
        await asyncio.sleep(30.1)
        assert len(bench.recorder.runs) - before >= 99


async def test_a_run_that_was_missed_and_would_come_again_in_an_hour_is_made_up_for() -> None:
    hourly = [spec(f"p{number}", every=3600.0) for number in range(20)]
    async with Bench() as bench:
        await bench.scheduler.apply(hourly)
        await asyncio.sleep(1)
        monotonic = bench.clock.monotonic
        bench.clock.monotonic = lambda: monotonic() + 4000.0  # type: ignore[method-assign]
        bench.clock.jump += 4000.0
        for slot in bench.scheduler._slots.values():
            assert slot.tick is not None
            slot.tick.cancel()
            bench.scheduler._tick(slot)
        await asyncio.sleep(61)
        assert {run.probe for run in bench.recorder.runs} == {probe.name for probe in hourly}
        seconds = [int(run.started_at) for run in bench.recorder.runs]
        assert max(map(seconds.count, set(seconds))) <= 5


async def test_running_on_demand_gives_the_run_and_joins_one_in_flight() -> None:
    async def slow(ctx: ProbeContext) -> Outcome:
        await asyncio.sleep(2)
        return OK

    async with Bench() as bench:
        bench.script["p"] = slow
        await bench.scheduler.apply([spec(every=3600.0)])
        first, second = await asyncio.gather(bench.scheduler.run_now("p"), bench.scheduler.run_now("p"))
        assert first is not None
        assert first is second
        assert len(bench.recorder.runs) == 1


async def test_a_recorder_that_raises_stops_nothing_and_is_logged() -> None:
    async with Bench() as bench:
        bench.recorder.record = lambda *_: (_ for _ in ()).throw(OSError("disk"))  # type: ignore[method-assign]
        await bench.scheduler.apply([spec()])
        with structlog.testing.capture_logs() as logs:
            await asyncio.sleep(100)
        failures = [entry for entry in logs if entry["log_level"] == "error"]
        assert len(failures) == len(grid(spec(), 100))
        assert failures[0]["task"] == "p"


async def test_the_latest_state_is_recorded_last_however_runs_and_revisions_meet() -> None:
    async with Bench() as bench:
        specs = [spec("db"), *(spec(f"e{number}", every=7.0, depends_on=("db",)) for number in range(20))]
        bench.recorder.pause = 1.5
        bench.script["db"] = answers(OK, BAD, BAD, BAD, OK, OK, BAD, OK)
        for number in range(20):
            bench.script[f"e{number}"] = answers(*(BAD if tick % (number + 2) else OK for tick in range(100)))
        await bench.scheduler.apply(specs)
        await asyncio.sleep(400)
        assert bench.recorder.revised


async def test_memory_travels_from_run_to_run() -> None:
    async def counting(ctx: ProbeContext) -> Outcome:
        ctx.memory["runs"] = ctx.memory.get("runs", 0) + 1
        return OK

    async with Bench() as bench:
        bench.script["p"] = counting
        await bench.scheduler.apply([spec()])
        await asyncio.sleep(100)
        assert bench.recorder.memories["p"] == {"runs": len(bench.recorder.runs)}


async def test_only_a_change_is_logged_above_debug() -> None:
    async with Bench() as bench:
        bench.script["p"] = answers(OK, OK, OK, BAD)
        await bench.scheduler.apply([spec()])
        with structlog.testing.capture_logs() as logs:
            await asyncio.sleep(160)
        told = [entry for entry in logs if entry["log_level"] == "info"]
        assert [(entry["status"], entry["reason"], entry["alerting"]) for entry in told] == [
            ("failed", "server_error", True),
        ]
        assert all(len(entry["trace_id"]) == 32 and entry["request_id"] for entry in told)


async def test_stopping_ends_everything_within_five_seconds() -> None:
    release = asyncio.Event()

    async def slow(ctx: ProbeContext) -> Outcome:
        await asyncio.sleep(3600)
        return OK

    async def stubborn(ctx: ProbeContext) -> Outcome:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return OK

    bench = Bench()
    bench.script.update({f"p{number}": slow for number in range(20)})
    bench.script["stubborn"] = stubborn
    specs = [spec(f"p{number}", timeout=29.0) for number in range(20)]
    await bench.scheduler.apply([*specs, spec("stubborn")])
    await asyncio.sleep(40)
    started = asyncio.get_running_loop().time()
    with structlog.testing.capture_logs() as logs:
        await bench.scheduler.stop()
    assert asyncio.get_running_loop().time() - started < 5
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert {task.get_name() for task in left} == {"run of stubborn"}
    assert [entry["tasks"] for entry in logs if "tasks" in entry] == [["run of stubborn"]]
    assert len(bench.kind.closed) == 21
    runs = len(bench.recorder.runs)
    release.set()
    await asyncio.sleep(100)
    assert len(bench.recorder.runs) == runs
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_run_is_told_after_it_is_recorded_so_that_a_log_can_cost_no_result() -> None:
    async with Bench() as bench:
        bench.script["p"] = answers(BAD)
        bench.recorder.pause = 1.0
        await bench.scheduler.apply([spec(failures_to_fail=1)])
        with structlog.testing.capture_logs() as told:
            running = asyncio.ensure_future(bench.scheduler.run_now("p"))
            await asyncio.sleep(0.5)
            assert "probe changed" not in [line["event"] for line in told]
            await running
        assert "probe changed" in [line["event"] for line in told]


COSTLY = spec("costly", every=3600.0, timeout=30.0, costly=True)


async def test_a_costly_probe_is_confirmed_by_the_runs_of_its_grid() -> None:
    async with Bench() as bench:
        bench.script["costly"] = answers(OK, BAD)
        await bench.scheduler.apply([COSTLY])
        due = grid(COSTLY, 5 * 3600)
        await asyncio.sleep(due[1] + 600)
        assert not bench.recorder.states["costly"].alerting
        await asyncio.sleep(3600)
        assert bench.recorder.states["costly"].alerting
        await asyncio.sleep(3600)
        assert bench.recorder.started("costly") == pytest.approx(due[:4], abs=0.01)


async def test_a_costly_cause_is_not_hurried_and_its_effect_is_heard_all_the_same() -> None:
    effect = spec("effect", depends_on=("costly",))
    first = grid(COSTLY, 3600)[0]
    assert first > 240
    async with Bench() as bench:
        bench.recorder.states["costly"] = ProbeState(last_run_at=EPOCH + first - 3600)
        bench.script["effect"] = answers(OK, BAD)
        await bench.scheduler.apply([COSTLY, effect])
        await asyncio.sleep(240)
        assert bench.recorder.started("costly") == []
        assert bench.recorder.states["effect"].alerting


async def test_a_costly_probe_rests_after_an_early_first_run_and_says_when_it_runs_next() -> None:
    async with Bench(first_run_within=10.0) as bench:
        await bench.scheduler.apply([COSTLY])
        await asyncio.sleep(10)
        first = bench.recorder.started("costly")[0]
        due = [moment for moment in grid(COSTLY, 4 * 3600) if moment > first + 3600]
        assert bench.scheduler.due_at("costly") == pytest.approx(EPOCH + due[0])
        await asyncio.sleep(due[1])
        assert bench.recorder.started("costly") == pytest.approx([first, *due[:2]], abs=0.01)
        assert bench.recorder.skips == []


async def test_a_restart_runs_no_costly_probe_before_its_time() -> None:
    due = grid(COSTLY, 3 * 3600)
    async with Bench(first_run_within=10.0) as before:
        before.recorder.states["costly"] = ProbeState(last_run_at=EPOCH + due[0] - 3600)
        await before.scheduler.apply([COSTLY])
        await asyncio.sleep(due[0] + 60)
    for _ in range(5):
        async with Bench(first_run_within=10.0) as after:
            after.recorder = after.scheduler._recorder = before.recorder
            await after.scheduler.apply([COSTLY])
            await asyncio.sleep(60)
    async with Bench(first_run_within=10.0) as after:
        after.recorder = after.scheduler._recorder = before.recorder
        await after.scheduler.apply([COSTLY])
        await asyncio.sleep(3600)
    assert before.recorder.started("costly") == pytest.approx(due[:2], abs=0.01)


async def test_a_costly_probe_whose_failure_was_held_back_is_heard_after_a_restart_though_it_rests() -> None:
    window = MaintenanceWindow(EPOCH - 900, EPOCH + 300)
    held = ProbeState(
        status=Status.FAILED,
        since=EPOCH - 800,
        last_status=Status.FAILED,
        last_run_at=EPOCH - 10,
        failed_streak=2,
        first_failure_at=EPOCH - 800,
        confirmed_at=EPOCH - 10,
    )
    async with Bench(first_run_within=10.0) as bench:
        bench.recorder.states["costly"] = held
        await bench.scheduler.apply([replace(COSTLY, maintenance=(window,))])
        await asyncio.sleep(299)
        assert not bench.recorder.states["costly"].alerting
        await asyncio.sleep(2)
        assert bench.recorder.states["costly"].alerting_since == pytest.approx(EPOCH + 300, abs=0.01)
        assert bench.recorder.runs == []

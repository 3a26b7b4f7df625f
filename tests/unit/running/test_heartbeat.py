"""The heartbeat of the probing loop, and the thread that watches it."""

from __future__ import annotations

import asyncio
import threading

import pytest
import structlog

from tests.unit.running.virtual import EPOCH, LoopClock
from tocsin.running.heartbeat import Heartbeat, Lateness, Watchdog, stack_of


class HandClock:
    def __init__(self) -> None:
        self.now = 100.0

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@pytest.mark.looptime
async def test_the_stamp_follows_the_clock_while_the_loop_turns() -> None:
    heartbeat = Heartbeat(LoopClock())
    heartbeat.start()
    await asyncio.sleep(10.1)
    heartbeat.stop()
    assert heartbeat.stamp == EPOCH + 10.0
    assert heartbeat.lag_seconds == pytest.approx(0.0)
    assert not heartbeat.stalled()
    await asyncio.sleep(3)
    assert heartbeat.stalled()


@pytest.mark.looptime
async def test_the_time_that_the_loop_lost_is_added_up() -> None:
    clock = LoopClock()
    heartbeat = Heartbeat(clock)
    heartbeat.start()
    await asyncio.sleep(1.0)
    lost = [0.0, 3.0, 0.0]
    clock.monotonic = lambda: asyncio.get_running_loop().time() + sum(lost[:2])  # type: ignore[method-assign]
    await asyncio.sleep(2.0)
    heartbeat.stop()
    assert heartbeat.lag_seconds == pytest.approx(3.0)


async def test_a_blocked_loop_is_logged_once_with_its_stack_and_again_when_it_is_over() -> None:
    clock = HandClock()
    heartbeat = Heartbeat(clock, stall_after=2.0)
    heartbeat.start()
    watchdog = Watchdog(heartbeat)
    with structlog.testing.capture_logs() as logs:
        watchdog.look()
        clock.now += 2.5
        assert heartbeat.stalled()
        watchdog.look()
        watchdog.look()
        heartbeat._beat(asyncio.get_running_loop())
        watchdog.look()
    heartbeat.stop()
    assert [entry["log_level"] for entry in logs] == ["error", "warning"]
    assert logs[0]["seconds"] == 2.5
    assert "test_a_blocked_loop_is_logged_once" in logs[0]["stack"]
    assert heartbeat.lag_seconds == 2.0


async def test_the_watchdog_sees_from_its_own_thread_what_blocks_the_loop() -> None:
    clock = HandClock()
    heartbeat = Heartbeat(clock)
    heartbeat.start()
    watchdog = Watchdog(heartbeat, look_every=0.001)
    said = threading.Event()
    seen: list[str] = []

    def log(event: str, **fields: object) -> None:
        seen.append(str(fields.get("stack")))
        said.set()

    watchdog._log.error = log
    watchdog.start()

    def block_the_loop() -> None:
        clock.now += 10
        assert said.wait(5)

    block_the_loop()
    watchdog.stop()
    heartbeat.stop()
    assert "block_the_loop" in seen[0]
    assert not watchdog._thread.is_alive()


def test_a_thread_that_has_ended_has_no_stack() -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    assert stack_of(None) == "the thread has ended"


def test_lateness_is_counted_in_cumulative_buckets() -> None:
    lateness = Lateness(bounds=(0.01, 0.1))
    for seconds in (0.0, 0.01, 0.05, 7.0):
        lateness.observe(seconds)
    assert lateness.cumulative() == [(0.01, 2), (0.1, 3), (float("inf"), 4)]
    assert lateness.total_seconds == pytest.approx(7.06)

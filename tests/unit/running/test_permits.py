"""Caps on load."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.running.virtual import LoopClock
from tocsin.config.caps import Cap, Caps
from tocsin.running.permits import MANY_GATES, Bucket, NoPermit, PermitPool

pytestmark = pytest.mark.looptime
DB = "postgresql://db:5432"


def pool(runs: int = 100, concurrency: int = 100, per_minute: int = 60_000) -> PermitPool:
    return PermitPool(Caps(runs, Cap(concurrency, per_minute)), LoopClock())


def now() -> float:
    return asyncio.get_running_loop().time()


async def hold(permits: PermitPool, seconds: float, until: float = 1000.0, target: str = DB) -> float:
    """Takes the permits of a run and keeps them; when it got them."""
    async with permits.run([target], until, 10.0):
        started = now()
        await asyncio.sleep(seconds)
        return started


async def test_no_more_runs_at_a_time_than_the_cap_and_in_order_of_arrival() -> None:
    permits = pool(runs=2)
    started = await asyncio.gather(*(hold(permits, 10, target=f"tcp://t:{number}") for number in range(5)))
    assert started == [0, 0, 10, 10, 20]


async def test_no_more_runs_at_one_dependency_than_its_cap() -> None:
    permits = PermitPool(Caps(100, Cap(100, 60_000), ((f"{DB}*", Cap(1, 60_000)),)), LoopClock())
    started = await asyncio.gather(*(hold(permits, 10) for _ in range(3)), hold(permits, 10, target="tcp://other:1"))
    assert started == [0, 10, 20, 0]


async def test_a_queue_at_one_dependency_holds_up_no_run_at_another() -> None:
    permits = pool(runs=2, concurrency=1)
    queue = [asyncio.create_task(hold(permits, 10)) for _ in range(5)]
    await asyncio.sleep(1)
    assert await hold(permits, 1, target="tcp://other:1") == 1
    await asyncio.gather(*queue)


async def test_a_run_that_gets_no_place_in_time_is_refused_with_the_cause() -> None:
    permits = pool(concurrency=1)
    holder = asyncio.create_task(hold(permits, 60))
    await asyncio.sleep(0)
    with pytest.raises(NoPermit) as refusal:
        await hold(permits, 1, until=30)
    assert (refusal.value.cause, refusal.value.dependency, now()) == ("concurrency", DB, 30)
    await holder
    assert await hold(permits, 1) == 60


async def test_a_run_that_gets_no_request_in_time_is_refused_with_the_cause() -> None:
    permits = pool(per_minute=1)
    await hold(permits, 0)
    with pytest.raises(NoPermit) as refusal:
        await hold(permits, 1, until=30)
    assert (refusal.value.cause, now()) == ("rate", 30)


async def test_requests_are_let_through_evenly_once_the_burst_is_used_up() -> None:
    permits = pool(per_minute=60)
    started = await asyncio.gather(*(hold(permits, 0) for _ in range(20)))
    assert started[:15] == [0] * 15
    assert [later - earlier for earlier, later in pairwise(started[15:])] == pytest.approx([4 / 3] * 4, abs=0.01)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 300), st.lists(st.floats(0, 3), min_size=10, max_size=400))
def test_no_sixty_seconds_see_more_than_the_cap(per_minute: int, pauses: list[float]) -> None:
    bucket, at, taken = Bucket(per_minute, 0.0), 0.0, []
    for pause in pauses:
        at += pause
        while bucket.take(at):
            taken.append(at)
    for first in taken:
        assert len([moment for moment in taken if first <= moment < first + 60.0]) <= per_minute


async def test_the_place_of_a_run_serves_its_first_request_and_is_free_again_afterwards() -> None:
    permits = pool(concurrency=1)
    async with permits.run([DB], 1000, 10) as granted:
        for _ in range(3):
            async with granted.request(DB):
                await asyncio.sleep(1)
        assert await hold(permits, 0) == 3
        assert granted.waited() == 0


async def test_four_runs_with_requests_in_a_row_do_not_wait_for_one_another_for_ever() -> None:
    permits = pool(concurrency=4)

    async def run() -> None:
        async with permits.run([DB], 1000, 10) as granted:
            for _ in range(3):
                async with granted.request(DB):
                    await asyncio.sleep(1)

    await asyncio.gather(*(run() for _ in range(8)))
    assert now() == 6


async def test_waits_that_overlap_count_once() -> None:
    permits = pool(concurrency=1)
    holder = asyncio.create_task(hold(permits, 4))
    await asyncio.sleep(0)

    async with permits.run([], 1000, 100) as granted:

        async def ask() -> None:
            async with granted.request(DB):
                await asyncio.sleep(1)

        await asyncio.gather(ask(), ask())
        assert granted.waited() == 5
    await holder


async def test_a_cancelled_wait_loses_no_place() -> None:
    permits = pool(concurrency=1)
    holder = asyncio.create_task(hold(permits, 5))
    waiters = [asyncio.create_task(hold(permits, 5)) for _ in range(3)]
    await asyncio.sleep(1)
    waiters[0].cancel()
    await asyncio.gather(holder, waiters[0], return_exceptions=True)
    waiters[1].cancel()
    await asyncio.gather(waiters[1], return_exceptions=True)
    assert await waiters[2] == 5
    assert await hold(permits, 0) == 10


async def test_new_caps_hold_for_what_begins_afterwards() -> None:
    permits = pool(concurrency=1)
    holder = asyncio.create_task(hold(permits, 50))
    await asyncio.sleep(0)
    permits.configure(Caps(100, Cap(2, 60_000)))
    assert await hold(permits, 0) == 0
    await holder


async def test_a_request_after_the_end_of_its_run_gives_back_only_the_place_that_it_takes() -> None:
    permits = pool(concurrency=1)
    async with permits.run([DB], 1000, 10) as granted:
        pass
    async with granted.request(DB):
        pass
    started = await asyncio.gather(*(hold(permits, 10) for _ in range(3)))
    assert started == [0, 10, 20]


async def test_gates_of_dependencies_that_are_long_gone_are_forgotten_and_their_caps_are_kept() -> None:
    permits = pool(concurrency=1, per_minute=60)
    holder = asyncio.create_task(hold(permits, 1000, target="tcp://held:1"))
    await hold(permits, 0, target="tcp://used:1")
    for number in range(3 * MANY_GATES):
        permits.gate(f"tcp://t:{number}")
    used = permits.gate("tcp://used:1")
    assert len(permits._gates) <= MANY_GATES + 1
    assert not used.is_as_new()
    with pytest.raises(NoPermit):
        await hold(permits, 0, until=now() + 1, target="tcp://held:1")
    await asyncio.sleep(60)
    for number in range(MANY_GATES):
        permits.gate(f"tcp://u:{number}")
    assert permits.gate("tcp://used:1") is not used
    await holder

"""Fails a test that leaves an asyncio task, a thread or a child process behind.

What a fixture of a wider scope started is not the test's: it is there when the test begins.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

_PATIENCE = 10.0
"""Seconds in which what has been told to end may do so."""

_POOLS = ("asyncio_", "tocsin-render_", "tocsin-scrape_")
"""Pools of a loop, and of a server that several tests share, start their threads when they are first needed."""


def pytest_itemcollected(item: pytest.Item) -> None:
    """Asks asynchronous tests, and only those, for a look at their loop; the first fixture is the last to go."""
    if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.function):
        item.fixturenames.insert(0, "_no_task_is_left")


@pytest.fixture
async def _no_task_is_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)  # for callbacks of what has just ended
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, f"tasks are left behind: {sorted(task.get_name() for task in left)}"


@pytest.fixture(autouse=True)
def _nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    threads, children = set(threading.enumerate()), _children()
    yield
    if request.node.get_closest_marker("estate") is not None:
        # Real servers outlive tests, and come back as other processes when a test has killed them.
        return
    deadline = time.monotonic() + _PATIENCE
    while (left := _left(threads, children)) and time.monotonic() < deadline:
        gc.collect()  # gRPC's poller ends when the last of its channels is collected
        time.sleep(0.01)
    assert not left, f"left behind: {', '.join(left)}"


def _left(threads: set[threading.Thread], children: set[int]) -> list[str]:
    started = [thread.name for thread in threading.enumerate() if thread not in threads]
    running = [name for name in started if not name.startswith(_POOLS)]
    return [f"thread {name}" for name in running] + [f"process {child}" for child in _children() - children]


def _children() -> set[int]:
    """The processes that this one has started and not waited for. proc_pid_task(5): ``children``."""
    lists = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    found: set[int] = set()
    for each in lists:
        try:
            found.update(map(int, each.read_text().split()))
        except (FileNotFoundError, ProcessLookupError):
            continue  # the thread has ended
    return {child for child in found if not _is_guard(child)}


def _is_guard(child: int) -> bool:
    """The one process that is to outlive its test: it ends what a killed test run leaves (`estate.guard`)."""
    try:
        return b"estate.guard" in Path(f"/proc/{child}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return True  # it has ended meanwhile

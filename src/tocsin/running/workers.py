"""Threads for work that would block the probing loop: name resolution, CPU-heavy walks, files."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

DEFAULT_THREADS = 32
"""Enough that a resolver which takes seconds for each of a few dead names does not hold up the others."""


def install_workers(loop: asyncio.AbstractEventLoop, threads: int = DEFAULT_THREADS) -> ThreadPoolExecutor:
    """Makes a bounded pool the loop's default for `asyncio.to_thread` and name resolution.

    End it with ``shutdown(wait=False, cancel_futures=True)``: a thread stuck in a system call cannot be ended.
    """
    workers = ThreadPoolExecutor(threads, thread_name_prefix="tocsin-worker")
    loop.set_default_executor(workers)
    return workers

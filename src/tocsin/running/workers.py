"""Threads for work that would block the probing loop: name resolution, CPU-heavy walks, files."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

DEFAULT_THREADS = 32
"""Enough that a resolver which takes seconds for each of a few dead names does not hold up the others."""


def install_workers(loop: asyncio.AbstractEventLoop, threads: int = DEFAULT_THREADS) -> ThreadPoolExecutor:
    """Makes a bounded pool the loop's default for `asyncio.to_thread`, and gives name resolution as many threads.

    asyncio resolves names in that pool. uvloop leaves it to libuv, whose own pool has four threads unless the variable
    says otherwise when it is first used: https://docs.libuv.org/en/v1.x/threadpool.html.

    End it with ``shutdown(wait=False, cancel_futures=True)``: a thread stuck in a system call cannot be ended.
    """
    os.environ.setdefault("UV_THREADPOOL_SIZE", str(threads))
    workers = ThreadPoolExecutor(threads, thread_name_prefix="tocsin-worker")
    loop.set_default_executor(workers)
    return workers

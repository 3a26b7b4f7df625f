"""How many threads resolve names, on the loop that the daemon uses."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio, re, uvloop
from tocsin.running import install_workers

async def main():
    loop = asyncio.get_running_loop()
    install_workers(loop, 7)
    await loop.getaddrinfo("localhost", 80)
    print(re.search(r"Threads:\\s+(\\d+)", open("/proc/self/status").read())[1])

uvloop.run(main())
"""


def test_a_few_dead_names_do_not_hold_up_the_others_on_uvloop() -> None:
    environment = {"PATH": ""}
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True, env=environment
    )
    # The main thread, and a thread for each of the names that are resolved at a time.
    assert int(found.stdout) == 1 + 7

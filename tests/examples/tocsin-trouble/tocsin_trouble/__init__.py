"""A probe kind that misbehaves on purpose."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Literal

from tocsin.sdk import Outcome, Probe, ProbeContext, ProbeSettings, ReasonEnum


class Settings(ProbeSettings):
    way: Literal["block", "ignore_cancellation", "exit", "raise", "leak_tasks", "hang_in_thread"]
    """How it misbehaves."""

    while_exists: str = ""
    """A file: while it exists the probe misbehaves, otherwise it is ok. Empty: always."""


class Reason(ReasonEnum):
    NEVER = "never", "It never gives this."


class Trouble(Probe):
    """Misbehaves on purpose."""

    kind = "trouble"
    Settings = Settings
    Reason = Reason

    async def run(self, ctx: ProbeContext) -> Outcome:
        if self.settings.while_exists and not Path(self.settings.while_exists).exists():
            return Outcome.ok("no trouble")
        match self.settings.way:
            case "block":
                block_the_loop()
            case "ignore_cancellation":
                until = time.monotonic() + 20
                while time.monotonic() < until:
                    try:
                        await asyncio.sleep(1)
                    except asyncio.CancelledError:
                        continue
            case "exit":
                raise SystemExit(7)
            case "raise":
                raise KeyError("a key that the target did not send")
            case "hang_in_thread":
                await asyncio.to_thread(time.sleep, 30)
            case "leak_tasks":
                for _ in range(10):
                    asyncio.get_running_loop().create_task(asyncio.sleep(30))
        return Outcome.ok()


def block_the_loop() -> None:
    """Its name is to be found in the log."""
    time.sleep(6)

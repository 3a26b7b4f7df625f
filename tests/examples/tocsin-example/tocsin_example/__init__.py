"""A probe kind that lives in a package of its own: is there room left on a file system?"""

from __future__ import annotations

import asyncio
import shutil

from tocsin.sdk import Gauge, Outcome, Probe, ProbeContext, ProbeSettings, ReasonEnum, Severity

FREE = Gauge("tocsin_disk_free_bytes", "Bytes that an unprivileged process may still write.")


class Settings(ProbeSettings):
    path: str = "/"
    """A folder on the file system to watch."""

    min_free_percent: float = 10
    """Below this share of free space it is `nearly_full`; from 0 to 100."""


class Reason(ReasonEnum):
    NEARLY_FULL = "nearly_full", "Less is free than allowed.", Severity.TICKET
    FOLDER_MISSING = "folder_missing", "The folder does not exist."


class DiskSpace(Probe):
    """Free space of one file system."""

    kind = "disk_space"
    Settings = Settings
    Reason = Reason
    gauges = (FREE,)

    async def run(self, ctx: ProbeContext) -> Outcome:
        try:
            usage = await asyncio.to_thread(shutil.disk_usage, self.settings.path)
        except FileNotFoundError:
            return Outcome.bad(Reason.FOLDER_MISSING, f"{self.settings.path} does not exist")
        ctx.measure(FREE, usage.free)
        percent = 100 * usage.free / usage.total
        if percent < self.settings.min_free_percent:
            return Outcome.bad(Reason.NEARLY_FULL, f"{percent:.1f} % of {self.settings.path} is free")
        return Outcome.ok(f"{percent:.1f} % free")

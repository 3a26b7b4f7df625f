"""The machine's clocks."""

from __future__ import annotations

import time


class SystemClock:
    """The wall clock and the monotonic clock of this machine (see `tocsin.sdk.context.Clock`)."""

    def wall(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

"""Where the scheduler puts what it learns. The board implements it; `running` does not know the board."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from tocsin.model import ProbeState, Run


class Recorder(Protocol):
    """Calls for one probe are made one after another, in the order in which its state changed.

    `record` and `revise` return when what they were told is durable and visible, or when that has taken too long: a
    disk that hangs must not stop the probing. They should not raise; what they raise is logged.
    """

    def state(self, probe: str) -> ProbeState:
        """What was remembered of a probe, when it is taken up."""
        ...

    def memory(self, probe: str) -> Mapping[str, Any]:
        """What the probe itself remembered in its latest run."""
        ...

    async def record(self, run: Run, state: ProbeState, memory: Mapping[str, Any]) -> None:
        """A run is over and means ``state``."""
        ...

    async def revise(self, probe: str, state: ProbeState) -> None:
        """The state of a probe has changed without a run of its own: its cause came or went, or a wait is over."""
        ...

    def skipped(self, probe: str, cause: str) -> None:
        """A due run did not take place: ``overrun``, ``late``, ``concurrency`` or ``rate``."""
        ...

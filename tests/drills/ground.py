"""Both platforms, and a bell that rings for them: where drills are held."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.bell import GROUP_INTERVAL, Bell
from tests.platforms import Platforms, both
from tocsin.paging.drills.catalogue import Drill
from tocsin.paging.drills.judging import ROUTED, Notification, Receivers
from tocsin.paging.drills.listening import what_is_bad
from tocsin_sandbox.bell import RESEND, notification


@dataclass
class Ground(Platforms):
    """As the stage of drills."""

    bell: Bell
    by_hand: bool = False

    async def well(self, drills: Sequence[Drill]) -> str:
        return await what_is_bad(self.daemon.url, {drill.group for drill in drills})

    async def cause(self, drill: Drill) -> None:
        await asyncio.to_thread(self.act, drill, 0)

    async def undo(self, drill: Drill) -> None:
        await asyncio.to_thread(self.act, drill, 1)


@contextmanager
def ground(folder: Path) -> Iterator[Ground]:
    """Everything started and well."""
    with both(folder) as found:
        bell = Bell(folder / "rules", f"127.0.0.1:{found.daemon.port}", f"--rules.alert.resend-delay={RESEND}")
        with bell:
            yield Ground(found.wipe, found.alexandria, found.daemon, bell)


@dataclass
class GroundBell:
    """A real Prometheus and Alertmanager as the bell of drills."""

    ground: Ground
    receivers: Receivers = field(default_factory=lambda: ROUTED)
    settle_seconds: float = 2.0 * GROUP_INTERVAL + 1

    async def heard(self, since: float) -> list[Notification]:
        came = self.ground.bell.receiver.notifications()
        return [
            notification(item.path.removeprefix("/"), item.body, item.received_at)
            for item in came
            if item.received_at >= since and item.path != "/watchdog"
        ]

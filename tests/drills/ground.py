"""Both platforms on real servers, one daemon that watches them, and a bell: where drills are held."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import alexandria_actions, wipe_actions
from tests.alexandria_estate import AlexandriaEstate
from tests.bell import GROUP_INTERVAL, Bell
from tests.daemon import Daemon
from tests.faulting import Faulting, configure
from tests.wipe_estate import WipeEstate
from tocsin.paging.drills.catalogue import Drill
from tocsin.paging.drills.judging import Notification
from tocsin.paging.drills.listening import what_is_bad
from tocsin_sandbox.bell import RESEND, notification


@dataclass
class Ground:
    """As the stage of drills: what is broken and healed."""

    wipe: WipeEstate
    alexandria: AlexandriaEstate
    daemon: Daemon
    bell: Bell

    async def well(self, drills: Sequence[Drill]) -> str:
        return await what_is_bad(self.daemon.url, {drill.group for drill in drills})

    async def cause(self, drill: Drill) -> None:
        await asyncio.to_thread(self.act, drill, 0)

    async def undo(self, drill: Drill) -> None:
        await asyncio.to_thread(self.act, drill, 1)

    def act(self, drill: Drill, step: int) -> None:
        """0: cause, 1: undo."""
        if drill.system == "wipe":
            wipe_actions.ACTIONS[drill.estate][step](self.wipe)
        else:
            alexandria_actions.ACTIONS[drill.estate][step](self.alexandria)

    @property
    def missing(self) -> frozenset[str]:
        """Probes that cannot tell on these estates."""
        return frozenset(wipe_actions.MISSING)

    def all_well(self, seconds: float = 90) -> None:
        """Waits until every other probe is ok."""
        Faulting(self, self.daemon, {}, self.missing).well(seconds)


@contextmanager
def ground(folder: Path) -> Iterator[Ground]:
    """Everything started and well."""
    with ExitStack() as stack:
        wipe, alexandria = WipeEstate(), AlexandriaEstate()
        with ThreadPoolExecutor() as pool:
            list(pool.map(stack.enter_context, (wipe, alexandria)))
        of_wipe = wipe_actions.configuration(wipe, folder)
        # Archiving takes a second here, and several when everything else starts again at the same time.
        of_wipe["probes"]["wipe-wal-archive"]["limits"] = {"archive_age": "10s"}
        file = configure(folder, of_wipe, alexandria_actions.configuration(alexandria, folder))
        daemon = Daemon(folder, ["--config", str(file)])
        bell = Bell(folder / "rules", f"127.0.0.1:{daemon.port}", f"--rules.alert.resend-delay={RESEND}")
        found = Ground(wipe, alexandria, daemon, bell)
        stack.enter_context(daemon)
        found.all_well()
        stack.enter_context(bell)
        yield found


@dataclass
class GroundBell:
    """A real Prometheus and Alertmanager as the bell of drills."""

    ground: Ground
    receiver: str = "page"
    settle_seconds: float = 2.0 * GROUP_INTERVAL + 1

    async def heard(self, since: float) -> list[Notification]:
        came = self.ground.bell.receiver.notifications()
        return [
            notification(item.path.removeprefix("/"), item.body, item.received_at)
            for item in came
            if item.received_at >= since and item.path != "/watchdog"
        ]

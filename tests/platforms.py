"""Both platforms on real servers, and one daemon that watches them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import alexandria_actions, wipe_actions
from tests.alexandria_estate import AlexandriaEstate
from tests.daemon import Daemon
from tests.faulting import Faulting, configure
from tests.wipe_estate import WipeEstate
from tocsin.paging.drills.catalogue import Drill

EVERY, TIMEOUT = 5.0, 4.0
"""Seconds: the shortest interval and time of a probe here."""


@dataclass
class Platforms:
    """What is broken and healed, and who watches."""

    wipe: WipeEstate
    alexandria: AlexandriaEstate
    daemon: Daemon

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
        Faulting(self.daemon, self.act, self.missing).well(seconds)


@contextmanager
def both(folder: Path) -> Iterator[Platforms]:
    """Everything started and well."""
    with ExitStack() as stack:
        wipe, alexandria = WipeEstate(), AlexandriaEstate()
        with ThreadPoolExecutor() as pool:
            list(pool.map(stack.enter_context, (wipe, alexandria)))
        of_wipe = wipe_actions.configuration(wipe, folder)
        # Archiving takes a second here, and several when everything else starts again at the same time.
        of_wipe["probes"]["wipe-wal-archive"]["limits"] = {"archive_age": "10s"}
        of_alexandria = alexandria_actions.configuration(alexandria, folder)
        for settings in (*of_wipe["probes"].values(), *of_alexandria["probes"].values()):
            _slow_down(settings)
        file = configure(folder, of_wipe, of_alexandria)
        found = Platforms(wipe, alexandria, Daemon(folder, ["--config", str(file)]))
        stack.enter_context(found.daemon)
        found.all_well()
        yield found


def _slow_down(settings: dict[str, Any]) -> None:
    """Two platforms and what watches them on the same two cores need more time than each alone."""
    for name, least in (("every", EVERY), ("timeout", TIMEOUT)):
        settings[name] = f"{max(least, float(settings[name].removesuffix('s'))):g}s"

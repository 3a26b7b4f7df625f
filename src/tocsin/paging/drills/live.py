"""Drills on a staging platform: an operator breaks and heals, the platform's own Alertmanager says what rang.

Nothing is asked for before it is proven that alerts from there are marked ``drill="true"`` and reach no pager: the
watchdog, which always fires, must carry the label, and so must every alert that comes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout

from tocsin.paging.drills.catalogue import Drill
from tocsin.paging.drills.judging import Notification, Ringing
from tocsin.paging.drills.listening import what_is_bad
from tocsin.paging.drills.rehearsing import StageError

RECEIVER = "drill"
WATCHDOG = "TocsinWatchdog"


class LiveStage:
    """``ask``: shows what to do and waits until the operator says that it is done."""

    def __init__(self, url: str, ask: Callable[[str], None]) -> None:
        self._url = url
        self._ask = ask

    async def well(self, drills: Sequence[Drill]) -> str:
        return await what_is_bad(self._url, {drill.group for drill in drills})

    async def cause(self, drill: Drill) -> None:
        assert drill.live is not None, "only drills that are safe are chosen"
        await asyncio.to_thread(self._ask, drill.live.do)

    async def undo(self, drill: Drill) -> None:
        assert drill.live is not None, "only drills that are safe are chosen"
        await asyncio.to_thread(self._ask, drill.live.undo)


class LiveBell:
    """Alerts as API v2 of the Alertmanager at ``url`` gives them, each incident told when it begins and when it ends.

    Alertmanager's own notifications cannot be seen from outside; what is judged is what it holds for which receiver.
    """

    receiver = RECEIVER

    def __init__(self, url: str, settle_seconds: float) -> None:
        self._url = url
        self.settle_seconds = settle_seconds
        self._heard: list[Notification] = []
        self._ringing: dict[tuple[str, str, str], frozenset[Ringing]] = {}

    async def listen(self) -> None:
        """Until cancelled."""
        while True:
            self.take(await self.alerts(), time.time())
            await asyncio.sleep(1)

    async def heard(self, since: float) -> list[Notification]:
        return [item for item in self._heard if item.at >= since]

    async def alerts(self) -> list[dict[str, Any]]:
        """Raises `StageError` when the Alertmanager does not answer as one."""
        try:
            async with (
                ClientSession(timeout=ClientTimeout(total=10)) as session,
                session.get(f"{self._url}/api/v2/alerts?silenced=false&inhibited=false") as response,
            ):
                response.raise_for_status()
                return list(await response.json())
        except (ClientError, OSError, TimeoutError, ValueError) as error:
            raise StageError(f"the Alertmanager at {self._url} does not answer: {error}") from None

    def take(self, alerts: Sequence[Mapping[str, Any]], now: float) -> None:
        """What it holds now."""
        ringing: dict[tuple[str, str, str], set[Ringing]] = {}
        for alert in alerts:
            labels = alert["labels"]
            if labels.get("alertname") == WATCHDOG:
                continue
            section = alert["annotations"].get("runbook_url", "").partition("/runbooks/")[2]
            item = Ringing(labels.get("alertname", ""), section, labels.get("severity", ""))
            for receiver in alert["receivers"]:
                group = (str(receiver["name"]), str(labels.get("system", "")), str(labels.get("incident", "")))
                ringing.setdefault(group, set()).add(item)
        for group in self._ringing.keys() - ringing.keys():
            self._tell(group, frozenset(), now)
        for group, items in ringing.items():
            if not {i.alert for i in items} <= {i.alert for i in self._ringing.get(group, ())}:
                self._tell(group, frozenset(items), now)

    def _tell(self, group: tuple[str, str, str], items: frozenset[Ringing], now: float) -> None:
        self._heard.append(Notification(group[0], now, bool(items), group[1:], tuple(items)))
        if items:
            self._ringing[group] = items
        else:
            del self._ringing[group]


def why_unsafe(alerts: Sequence[Mapping[str, Any]]) -> str:
    """Why nothing may be caused on purpose behind this Alertmanager; empty when it is safe."""
    watchdogs = [alert for alert in alerts if alert["labels"].get("alertname") == WATCHDOG]
    if not watchdogs:
        return f"{WATCHDOG} does not fire there: load alerts/tocsin.yaml and send its alerts to this Alertmanager"
    if any(alert["labels"].get("drill") != "true" for alert in watchdogs):
        return (
            'its alerts lack drill="true", so pages would wake somebody: add `drill: "true"` to external_labels '
            "of the staging Prometheus for as long as you drill, and reload it"
        )
    return ""

"""Drills on a staging platform: an operator breaks and heals, the platform's own Alertmanager says what rang.

Nothing is asked for before it is proven that alerts from there are marked ``drill="true"`` and reach no pager: the
watchdog, which always fires, must carry the label, and so must every alert that comes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout

from tocsin.model import Severity
from tocsin.paging.drills.catalogue import Drill
from tocsin.paging.drills.judging import DRILLED, Notification, Ringing
from tocsin.paging.drills.listening import probes_of, what_is_bad
from tocsin.paging.drills.rehearsing import StageError

WATCHDOG = "TocsinWatchdog"


class LiveStage:
    """``ask``: shows what to do and waits until the operator says that it is done."""

    by_hand = True

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

    receivers = DRILLED

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
        """What it holds now. Raises `StageError` for an alert that is not marked as a drill's."""
        ringing: dict[tuple[str, str, str], set[Ringing]] = {}
        for alert in alerts:
            labels = alert["labels"]
            if labels.get("drill") != "true":
                name = labels.get("alertname", "an alert")
                raise StageError(f'{name} came without drill="true", and may have woken somebody: drill no further')
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


REFERENCE_SECONDS: Mapping[Severity, float] = {Severity.PAGE: 25.0, Severity.TICKET: 75.0}
"""From a confirmed failure to its notification by deploy/prometheus and deploy/alertmanager: one scrape, two
evaluations (recording rules, then alerts), and the wait for the group."""


async def at_its_pace(drills: Sequence[Drill], url: str) -> list[Drill]:
    """The drills with the time that their page may take where the daemon at ``url`` runs its probes. Raises
    `StageError` when it does not answer."""
    async with ClientSession(timeout=ClientTimeout(total=10)) as session:
        probes = await probes_of(session, url)
    if probes is None:
        raise StageError(f"the daemon at {url} does not answer")
    return [replace(drill, within=max(drill.within, _within(drill, probes))) for drill in drills]


def _within(drill: Drill, probes: Sequence[Mapping[str, Any]]) -> float:
    """Seconds: for a run that is due just after the fault, one that confirms it, Prometheus and Alertmanager."""
    slowest = max(
        (
            2 * (float(probe["every_seconds"]) + float(probe["timeout_seconds"]))
            for probe in probes
            for item in drill.expected
            if item.section.startswith(f"{probe['system']}/{probe['incident']}#{probe['kind']}.")
        ),
        default=0.0,
    )
    return slowest + max((REFERENCE_SECONDS[item.severity] for item in drill.expected), default=0.0)


def why_unsafe(alerts: Sequence[Mapping[str, Any]]) -> str:
    """Why nothing may be caused on purpose behind this Alertmanager; empty when it is safe."""
    watchdogs = [alert for alert in alerts if alert["labels"].get("alertname") == WATCHDOG]
    if not watchdogs:
        return f"{WATCHDOG} does not fire there: load alerts/tocsin.yaml and send its alerts to this Alertmanager"
    if any(alert["labels"].get("drill") != "true" for alert in alerts):
        return (
            'its alerts lack drill="true", so pages would wake somebody: add `drill: "true"` to external_labels '
            "of the staging Prometheus for as long as you drill, and reload it"
        )
    return ""

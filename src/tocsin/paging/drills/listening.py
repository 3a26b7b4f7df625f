"""Hearing without Prometheus: what the daemon says of itself, run through the rules' selectors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout

from tocsin.model import Severity
from tocsin.paging.drills.judging import ROUTED, Notification, Receivers, Ringing
from tocsin.paging.promql import parse
from tocsin.paging.rulefiles import ALERTING, Rule

GROUP_WAIT = 2.0
"""Seconds in which the alerts of one incident become one notification, as Alertmanager's ``group_wait``."""

Group = tuple[str, str, str]
"""Receiver, system, incident."""


@dataclass(slots=True)
class MetricsBell:
    """Asks ``/api/v1/probes`` of the daemon at ``url`` again and again, and rings as the rules and the routing would:
    one notification a receiver and incident, no ticket while the incident pages. Run `listen` beside the drills."""

    url: str
    rules: Sequence[Rule]
    receivers: Receivers = field(default_factory=lambda: ROUTED)
    settle_seconds: float = 10.0
    clock: Callable[[], float] = time.time
    _notifications: list[Notification] = field(default_factory=list)
    _since: dict[Group, float] = field(default_factory=dict)
    _told: dict[Group, frozenset[Ringing]] = field(default_factory=dict)

    async def listen(self) -> None:
        """Until cancelled."""
        async with ClientSession(timeout=ClientTimeout(total=5)) as session:
            while True:
                probes = await probes_of(session, self.url)
                if probes is not None:
                    self.take(probes)
                await asyncio.sleep(0.3)

    async def heard(self, since: float) -> list[Notification]:
        return [item for item in self._notifications if item.at >= since]

    def take(self, probes: Sequence[Mapping[str, Any]]) -> None:
        """What the daemon says now."""
        now = self.clock()
        ringing = groups(probes, self.rules)
        for group in self._told.keys() - ringing.keys():
            self._notify(group, frozenset(), now)
        for group in self._since.keys() - ringing.keys():
            del self._since[group]
        for group, alerts in ringing.items():
            waited = now - self._since.setdefault(group, now) >= GROUP_WAIT
            told = self._told.get(group, frozenset())
            if waited and not {item.alert for item in alerts} <= {item.alert for item in told}:
                self._notify(group, alerts, now)

    def _notify(self, group: Group, alerts: frozenset[Ringing], now: float) -> None:
        receiver, system, incident = group
        self._notifications.append(Notification(receiver, now, bool(alerts), (system, incident), tuple(alerts)))
        if alerts:
            self._told[group] = alerts
        else:
            del self._told[group]


async def probes_of(session: ClientSession, url: str) -> list[dict[str, Any]] | None:
    """``/api/v1/probes``; None when the daemon does not answer."""
    try:
        async with session.get(f"{url}/api/v1/probes") as response:
            return list((await response.json())["probes"]) if response.status == 200 else None
    except (ClientError, OSError, TimeoutError):
        return None


def groups(probes: Sequence[Mapping[str, Any]], rules: Sequence[Rule]) -> dict[Group, frozenset[Ringing]]:
    """The alerts that fire now, by the notification they belong to."""
    found: dict[Group, set[Ringing]] = {}
    for probe in probes:
        state = probe["state"]
        if not state["alerting"]:
            continue
        severity = str(state["severity"])
        labels = {name: str(probe[name]) for name in ("probe", "system", "incident", "kind")} | {"severity": severity}
        page = f"{probe['system']}/{probe['incident']}"
        section = f"{page}#{probe['kind']}.{state['reason']}" if state["reason"] else page
        for rule in rules:
            if rule.alert and any(s.metric in ALERTING and s.accepts(labels) for s in parse(rule.expr).selectors):
                group = (severity, str(probe["system"]), str(probe["incident"]))
                found.setdefault(group, set()).add(Ringing(rule.alert, section, severity))
    return {
        group: frozenset(alerts)
        for group, alerts in found.items()
        if group[0] == Severity.PAGE or (Severity.PAGE.value, *group[1:]) not in found
    }


async def what_is_bad(url: str, drilled: Collection[tuple[str, str]]) -> str:
    """Why the daemon at ``url`` does not find these incidents (system, incident) well; empty when it does.

    A probe that cannot tell (a contract that nobody configured) does not count as bad. What is bad elsewhere rings no
    second time.
    """
    async with ClientSession(timeout=ClientTimeout(total=5)) as session:
        probes = await probes_of(session, url)
    if probes is None:
        return f"the daemon at {url} does not answer"
    bad = [
        f"{probe['probe']} ({probe['state']['reason'] or 'has not run yet'})"
        for probe in probes
        if (probe["system"], probe["incident"]) in drilled
        and (
            probe["state"]["alerting"] or "failed" in (probe["state"]["status"], probe["status"]) or not _has_run(probe)
        )
    ]
    return ", ".join(bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")


def _has_run(probe: Mapping[str, Any]) -> bool:
    return probe["state"]["last_run_at"] is not None or bool(probe["missing"])

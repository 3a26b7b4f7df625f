"""From fault to page: the real rules in a real Prometheus, a real Alertmanager with the reference routing, a receiver."""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from estate.servers.alertmanager import Alertmanager
from estate.servers.prometheus import Prometheus, ScrapeJob
from estate.servers.receiver import Notification, Receiver

ROOT = Path(__file__).parents[1]
GROUP_WAIT = 3
GROUP_INTERVAL = 3
KEEP_FIRING = "10s"


class Bell:
    """The shipped rules and routing, with times shortened for tests: group times and ``keep_firing_for``."""

    def __init__(self, folder: Path, target: str, *flags: str) -> None:
        """``flags``: further ones of Prometheus."""
        self._stack = ExitStack()
        self.receiver = Receiver()
        rules = []
        folder.mkdir(exist_ok=True)
        for source in sorted((ROOT / "alerts").glob("*.yaml")):
            text = re.sub(r"keep_firing_for: \w+", f"keep_firing_for: {KEEP_FIRING}", source.read_text())
            copy = folder / source.name
            copy.write_text(text)
            rules.append(copy)
        routing = (ROOT / "deploy/alertmanager/alertmanager.yml").read_text()
        routing = routing.replace("http://127.0.0.1:9099", self.receiver.url)
        routing = re.sub(r"group_wait: \w+", f"group_wait: {GROUP_WAIT}s", routing)
        routing = re.sub(r"group_interval: \w+", f"group_interval: {GROUP_INTERVAL}s", routing)
        self.alertmanager = Alertmanager(routing)
        self.prometheus = Prometheus(
            rules=rules,
            jobs=[ScrapeJob("tocsin", (target,))],
            alertmanager_url=self.alertmanager.url,
            external_labels={"cluster": "test", "environment": "test"},
            flags=flags,
        )

    def __enter__(self) -> Self:
        self._stack.enter_context(self.receiver)
        self._stack.enter_context(self.alertmanager)
        self._stack.enter_context(self.prometheus)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def pages(self, since: float = 0.0) -> list[Notification]:
        """What reached the page receiver."""
        return [item for item in self.receiver.notifications("/page") if item.received_at >= since]

    def page(self, incident: str, status: str, since: float, seconds: float = 60) -> Notification:
        """The first notification of an incident with this status."""
        return self.receiver.wait_for(
            lambda item: (
                item.received_at >= since and item.status == status and item.body["groupLabels"]["incident"] == incident
            ),
            path="/page",
            timeout=seconds,
        )

    def settle(self) -> None:
        """Two group intervals: whatever else was to come has come."""
        time.sleep(2 * GROUP_INTERVAL + 1)

    def assert_only(self, since: float, incidents: Collection[str]) -> None:
        """Each of the incidents was notified once as firing and once as resolved, and nothing else was."""
        came = [(item.body["groupLabels"]["incident"], item.status) for item in self.pages(since)]
        wanted = sorted((incident, status) for incident in incidents for status in ("firing", "resolved"))
        assert sorted(came) == wanted, [
            (item.status, sorted(item.names()), item.body["alerts"]) for item in self.pages(since)
        ]


def links(notification: Notification) -> set[str]:
    """The runbook links of the alerts that fire, from ``runbooks/`` on."""
    return {
        alert["annotations"]["runbook_url"].partition("/runbooks/")[2]
        for alert in notification.alerts
        if alert["status"] == "firing"
    }

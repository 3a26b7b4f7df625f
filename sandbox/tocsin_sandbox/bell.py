"""A real Prometheus and a real Alertmanager beside the sandbox: the shipped rules and routing, with short times."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import ClientError, ClientSession, ClientTimeout, web

from tocsin.data import folder
from tocsin.paging.drills.judging import ROUTED, Notification, Ringing
from tocsin.paging.drills.rehearsing import StageError
from tocsin_sandbox.processes import Child
from tocsin_sandbox.serving import Site, free_port

START_SECONDS = 30.0
GROUP_WAIT, GROUP_INTERVAL, KEEP_FIRING = 8, 5, 6
"""Seconds that stand for the shipped 10 s, 1 m and 2 m, so that a drill takes less than a minute. The wait is longer
than the sandbox's interval: probes that fail together are confirmed up to one interval apart, and are one page."""

RESEND = "20m"
"""Longer than the 15 minutes for which Prometheus tells again what has resolved: Alertmanager would put the alert of
the drill before into a notification of the one that runs, as resolved, and send that once more."""

PROMETHEUS = ("prometheus",)
ALERTMANAGER = ("prometheus-alertmanager", "alertmanager")
"""What the programs are called: as Debian packages them, as upstream does."""


class MissingError(StageError):
    """Prometheus or Alertmanager is not installed; the message says which and what to do."""


def programs() -> tuple[str, str]:
    """The paths of both. Raises `MissingError`."""
    found = [next(filter(None, map(shutil.which, names)), None) for names in (PROMETHEUS, ALERTMANAGER)]
    missing = [name for name, path in zip(("Prometheus", "Alertmanager"), found, strict=True) if path is None]
    if missing:
        raise MissingError(
            f"{' and '.join(missing)} cannot be found in PATH: apt install prometheus prometheus-alertmanager, or put "
            "the binaries of https://prometheus.io/download there; --no-prometheus drills without them, judged by "
            "tocsin's own metrics"
        )
    return str(found[0]), str(found[1])


class RealBell:
    """Scrapes the daemon at ``target`` (host:port), evaluates the shipped rules, and hears what Alertmanager sends.

    An asynchronous context. Raises `MissingError` when made, `RuntimeError` when a server does not start.
    """

    receivers = ROUTED
    settle_seconds = 2.0 * GROUP_INTERVAL + 1

    def __init__(self, work: Path, target: str) -> None:
        self._prometheus, self._alertmanager = programs()
        self._work = work
        self._target = target
        self._heard: list[Notification] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def heard(self, since: float) -> list[Notification]:
        return [item for item in self._heard if item.at >= since]

    async def _start(self) -> None:
        self._work.mkdir(parents=True, exist_ok=True)
        receiver = Site(free_port(), self._application)
        await receiver.start()
        self._stack.push_async_callback(receiver.stop)
        alertmanager, prometheus = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        routing = self._write("alertmanager.yml", _routing(receiver.url))
        await self._run(
            [
                self._alertmanager,
                f"--config.file={routing}",
                f"--storage.path={self._work / 'alertmanager'}",
                f"--web.listen-address={alertmanager}",
                "--cluster.listen-address=",
            ],
            f"http://{alertmanager}/-/ready",
        )
        for source in sorted(folder("alerts").glob("*.yaml")):
            text = re.sub(r"keep_firing_for: \w+", f"keep_firing_for: {KEEP_FIRING}s", source.read_text("utf-8"))
            self._write(f"rules/{source.name}", text)
        configuration = self._write("prometheus.yml", json.dumps(self._configuration(alertmanager), indent=1))
        await self._run(
            [
                self._prometheus,
                f"--config.file={configuration}",
                f"--storage.tsdb.path={self._work / 'prometheus'}",
                f"--web.listen-address={prometheus}",
                f"--rules.alert.resend-delay={RESEND}",
            ],
            f"http://{prometheus}/-/ready",
        )

    def _configuration(self, alertmanager: str) -> Mapping[str, Any]:
        return {
            "global": {
                "scrape_interval": "1s",
                "evaluation_interval": "1s",
                "external_labels": {"cluster": "sandbox", "environment": "sandbox"},
            },
            "rule_files": [str(self._work / "rules" / "*.yaml")],
            "scrape_configs": [{"job_name": "tocsin", "static_configs": [{"targets": [self._target]}]}],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        }

    async def _run(self, command: list[str], ready: str) -> None:
        log = self._work / f"{Path(command[0]).name}.log"
        with log.open("ab") as output:
            child = await Child.start(command, output=output, folder=self._work)
        self._stack.push_async_callback(child.stop)
        deadline = time.monotonic() + START_SECONDS
        async with ClientSession(timeout=ClientTimeout(total=2)) as session:
            while child.alive and time.monotonic() < deadline:
                try:
                    async with session.get(ready) as response:
                        if response.status == 200:
                            return
                except (ClientError, OSError, TimeoutError):
                    pass
                await asyncio.sleep(0.1)
        raise RuntimeError(f"{command[0]} did not start; the end of its log:\n{log.read_text('utf-8')[-1500:]}")

    def _write(self, name: str, text: str) -> Path:
        path = self._work / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def _application(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/{receiver}", self._take)
        return app

    async def _take(self, request: web.Request) -> web.Response:
        self._heard.append(notification(request.match_info["receiver"], await request.json(), time.time()))
        return web.Response()


def notification(receiver: str, body: Mapping[str, Any], at: float) -> Notification:
    """One webhook call of Alertmanager (its documentation, "webhook_config", version 4)."""
    alerts = tuple(
        Ringing(
            alert["labels"].get("alertname", ""),
            alert["annotations"].get("runbook_url", "").partition("/runbooks/")[2],
            alert["labels"].get("severity", ""),
            alert["status"] == "firing",
        )
        for alert in body["alerts"]
    )
    labels = body["groupLabels"]
    group = (str(labels.get("system", "")), str(labels.get("incident", "")))
    return Notification(receiver, at, body["status"] == "firing", group, alerts)


def _routing(url: str) -> str:
    text = (folder("deploy") / "alertmanager" / "alertmanager.yml").read_text("utf-8")
    text = text.replace("http://127.0.0.1:9099", url)
    text = re.sub(r"group_wait: \w+", f"group_wait: {GROUP_WAIT}s", text)
    return re.sub(r"group_interval: \w+", f"group_interval: {GROUP_INTERVAL}s", text)

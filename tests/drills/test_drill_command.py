"""``tocsin drill`` as it is typed: what it prints, writes, and ends with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from tests.daemon import Daemon, http_probe, write
from tests.targets import Target
from tocsin.cli.application import app

pytestmark = [pytest.mark.estate, pytest.mark.timeout(600)]

TWO = ("bucket-deleted", "issuer-changed")


def drill(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({} if path is None else {"PATH": path})}
    command = [sys.executable, "-m", "tocsin.cli", "drill", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=420, check=False, env=environment)


def test_two_faults_under_a_real_prometheus_pass_and_are_reported(tmp_path: Path) -> None:
    junit = tmp_path / "drills.xml"
    ended = drill(*TWO, "--json", "--junit", str(junit))
    assert ended.returncode == 0, ended.stderr[-2000:]
    report = json.loads(ended.stdout)
    assert (report["heard_by"], report["passed"], report["failed"]) == ("alertmanager", 2, 0)
    assert [item["drill"] for item in report["drills"]] == list(TWO)
    assert all(0 < item["page_seconds"] <= item["within_seconds"] for item in report["drills"])
    assert [case.get("name") for case in ElementTree.parse(junit).iter("testcase")] == list(TWO)


@pytest.mark.long
def test_without_prometheus_the_metrics_judge_and_it_says_so() -> None:
    ended = drill(TWO[0], "--no-prometheus")
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "no rule was evaluated by Prometheus, no page was routed" in ended.stdout
    assert TWO[0] in ended.stdout


def test_where_prometheus_is_not_installed_it_says_what_to_do(tmp_path: Path) -> None:
    ended = drill(TWO[0], path=str(tmp_path))
    assert ended.returncode == 2
    assert "Prometheus and Alertmanager cannot be found in PATH: apt install" in ended.stderr
    assert "--no-prometheus drills without them" in ended.stderr


class StagingAlertmanager:
    """Answers as an Alertmanager that holds the watchdog, and while ``broken`` the page of the drill."""

    def __init__(self, receiver: str = "drill", drill: str = "true") -> None:
        self.broken = False
        self.asked: list[str] = []
        self._receiver, self._drill = receiver, drill

    def alerts(self) -> list[dict[str, Any]]:
        page = self._alert("TocsinWipeBucket", self._receiver, "s3_bucket.bucket_missing")
        return [self._alert("TocsinWatchdog", "watchdog", ""), *([page] if self.broken else [])]

    def ask(self, text: str) -> None:
        """The operator, who does what is said."""
        self.asked.append(text)
        self.broken = not self.broken

    def _alert(self, name: str, receiver: str, code: str) -> dict[str, Any]:
        who = {"system": "wipe", "incident": "storage-outage", "severity": "page", "drill": self._drill}
        link = f"https://tocsin.staging/runbooks/wipe/storage-outage#{code}"
        return {
            "labels": {"alertname": name, **who},
            "annotations": {"runbook_url": link},
            "receivers": [{"name": receiver}],
        }


@contextmanager
def serving(staging: StagingAlertmanager) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(staging.alerts()).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("staging", "code", "said"),
    [
        pytest.param(StagingAlertmanager(), 0, "passed", id="the-page-comes-to-the-drill-receiver"),
        pytest.param(StagingAlertmanager("page"), 1, "no drill came within 60 s", id="it-would-have-woken-somebody"),
        pytest.param(StagingAlertmanager(drill=""), 2, 'lack drill="true"', id="alerts-are-not-marked"),
    ],
)
def test_live_a_drill_is_judged_by_what_the_staging_alertmanager_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, staging: StagingAlertmanager, code: int, said: str
) -> None:
    monkeypatch.setattr("tocsin.cli.drill.LIVE_SETTLE", 2.0)
    monkeypatch.setattr("tocsin.cli.drill._ask", staging.ask)
    with Target() as target, serving(staging) as url:
        config = write(tmp_path / "tocsin.yaml", http_probe("well", target.url))
        with Daemon(tmp_path, ["--config", str(config)]) as daemon:
            where = ["--public-url", daemon.url, "--alertmanager-url", url]
            ended = CliRunner().invoke(app, ["drill", "--live", *where, "bucket-deleted"])
    assert ended.exit_code == code, ended.output
    assert said in ended.output
    assert not staging.broken
    assert len(staging.asked) == (0 if code == 2 else 2)

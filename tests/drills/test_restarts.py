"""While a page is firing, restarts of what carries it neither resolve it nor page again.

Each restart by itself, with the time that Alertmanager needs to forget; test_drills.py has the short form."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.bell import KEEP_FIRING, Bell
from tests.daemon import Daemon, http_probe, write
from tests.targets import Target
from tocsin.paging.promql import seconds

pytestmark = [pytest.mark.estate, pytest.mark.long, pytest.mark.timeout(300)]

RESEND = "5s"
"""How soon a restarted Alertmanager is told again; it believes Prometheus for four times that."""


def test_a_page_outlives_restarts_of_the_daemon_of_prometheus_and_of_alertmanager(tmp_path: Path) -> None:
    with ExitStack() as stack:
        target = stack.enter_context(Target())
        config = write(tmp_path / "tocsin.yaml", http_probe("down", target.url))
        daemon = stack.enter_context(Daemon(tmp_path, ["--config", str(config)]))
        resend = f"--rules.alert.resend-delay={RESEND}"
        bell = stack.enter_context(Bell(tmp_path / "rules", f"127.0.0.1:{daemon.port}", resend))
        (incident,) = {probe["incident"] for probe in daemon.probes().values()}
        since = time.time()
        target.status = 500
        bell.page(incident, "firing", since)
        for part in (bell.prometheus, bell.alertmanager):
            part.stop()
            part.start()
            # Told again, and looked at by Alertmanager.
            time.sleep(seconds(RESEND))
            bell.settle()
        daemon.stop()
        # Longer than keep_firing_for alone bridges.
        time.sleep(2 * seconds(KEEP_FIRING))
        daemon.start()
        bell.settle()
        assert [item.status for item in bell.pages(since) if item.body["groupLabels"]["incident"] == incident] == [
            "firing"
        ]
        target.status = 200
        bell.page(incident, "resolved", since)
        bell.settle()
        bell.assert_only(since, {incident})

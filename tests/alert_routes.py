"""Where alerts go, by labels: what the reference routing and the chart's must both do."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROUTES = [
    pytest.param(("severity=watchdog",), "watchdog", id="the-watchdog"),
    pytest.param(("severity=watchdog", "drill=true"), "watchdog", id="the-watchdog-of-a-platform-that-is-drilled"),
    pytest.param(("severity=page", "drill=true"), "drill", id="a-page-of-a-drill"),
    pytest.param(("severity=ticket", "drill=true"), "drill", id="a-ticket-of-a-drill"),
    pytest.param(("severity=page",), "page", id="a-page"),
    pytest.param(("severity=page", "drill=false"), "page", id="a-page-that-is-no-drill"),
    pytest.param(("severity=ticket",), "ticket", id="a-ticket"),
    pytest.param(("severity=other",), "ticket", id="anything-else"),
]
"""Labels, and every receiver that hears of an alert with them."""


def routed(configuration: Path, labels: tuple[str, ...]) -> str:
    """The receivers, by Alertmanager's own tool. Raises AssertionError with what it said."""
    command = ["amtool", "config", "routes", "test", f"--config.file={configuration}", *labels]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout.strip()

"""Prometheus' own judgement of a rule file's syntax, where promtool is installed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

SECONDS = 60.0


def installed() -> bool:
    return shutil.which("promtool") is not None


def complaints(files: Iterable[Path]) -> list[str]:
    """What ``promtool check rules`` has to say, a line each, as it says it; empty when it accepts all of the files.

    Raises `OSError` and `subprocess.TimeoutExpired` when it cannot be run.
    """
    command = ["promtool", "check", "rules", *map(str, files)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    said = [line.strip() for line in run.stderr.splitlines() if line.strip() and line.strip() != "FAILED:"]
    return said or ["promtool check rules failed and did not say why"] if run.returncode else []

"""The shipped rules pass their own tests, and those of alerts on probes are what the cases say."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.rule_cases import ALERTS, render

RULES = sorted(ALERTS.glob("*.yaml"))
CASES = sorted((ALERTS / "tests/cases").glob("*.yaml"))


def promtool(*arguments: object) -> None:
    command = ["promtool", *map(str, arguments)]
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.estate
def test_promtool_accepts_every_rule_file() -> None:
    promtool("check", "rules", *RULES)


@pytest.mark.estate
def test_every_rule_test_passes() -> None:
    promtool("test", "rules", *sorted((ALERTS / "tests").glob("*.yaml")))


@pytest.mark.parametrize("source", CASES, ids=lambda path: path.stem)
def test_the_tests_of_alerts_on_probes_are_what_the_cases_say(source: Path) -> None:
    target = ALERTS / "tests" / source.name
    assert target.read_text() == render(source.name, yaml.safe_load(source.read_text())), (
        "run `python -m tests.rule_cases`"
    )

"""The shipped rules pass their own tests, and those of alerts on probes are what the cases say."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.rule_cases import ALERTS, render

RULES = [*sorted(ALERTS.glob("*.yaml")), *sorted(ALERTS.glob("optional/*.yaml"))]
TESTS = [*sorted(ALERTS.glob("tests/*.yaml")), *sorted(ALERTS.glob("optional/tests/*.yaml"))]
CASES = sorted((ALERTS / "tests/cases").glob("*.yaml"))


def promtool(*arguments: object) -> None:
    command = ["promtool", *map(str, arguments)]
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.estate
def test_promtool_accepts_every_rule_file() -> None:
    promtool("check", "rules", *RULES)


@pytest.mark.estate
@pytest.mark.parametrize("tests", TESTS, ids=lambda path: path.stem)
def test_every_rule_test_passes(tests: Path) -> None:
    promtool("test", "rules", tests)


@pytest.mark.parametrize("source", CASES, ids=lambda path: path.stem)
def test_the_tests_of_alerts_on_probes_are_what_the_cases_say(source: Path) -> None:
    target = ALERTS / "tests" / source.name
    assert target.read_text() == render(source.name, yaml.safe_load(source.read_text())), (
        "run `python -m tests.rule_cases`"
    )


def test_a_page_has_its_reason_whatever_is_scraped_between_two_rules() -> None:
    """What alerts is seen first, why it does after that, and alerts fire on what is set last."""
    shared = yaml.safe_load((ALERTS / "tocsin.yaml").read_text())["groups"][0]
    rules = {rule["record"]: rule["expr"] for rule in shared["rules"]}
    order = list(rules)
    first, reason, last = map(
        order.index, ("tocsin:probe_alerting_seen", "tocsin:probe_reason", "tocsin:probe_alerting")
    )
    assert first < reason < last
    assert rules["tocsin:probe_alerting"].strip() == "tocsin:probe_alerting_seen"
    others = [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]
    raw = ("tocsin:probe_alerting_seen", "tocsin_probe_alerting")
    assert [rule["alert"] for rule in others if "alert" in rule and any(name in rule["expr"] for name in raw)] == []

"""From a fault to its page within a minute, for probes at intervals of 10 s: by the times that are shipped, added up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tocsin.config import Registry, Sources, load
from tocsin.model import Severity
from tocsin.paging.drills.live import REFERENCE_SECONDS
from tocsin.paging.promql import seconds
from tocsin.running.causes import GRACE_SECONDS

ROOT = Path(__file__).parents[2]
ALERTMANAGER = yaml.safe_load((ROOT / "deploy/alertmanager/alertmanager.yml").read_text())["route"]
VALUES = yaml.safe_load((ROOT / "helm/tocsin/values.yaml").read_text())


def of_prometheus(file: str) -> tuple[str, str]:
    """How often it scrapes tocsin, and evaluates."""
    document = yaml.safe_load((ROOT / file).read_text())
    (job,) = document["scrape_configs"]
    return job.get("scrape_interval", document["global"]["scrape_interval"]), document["global"]["evaluation_interval"]


SHIPPED = {
    "deploy/prometheus": of_prometheus("deploy/prometheus/prometheus.yml"),
    "compose": of_prometheus("deploy/compose/prometheus.yml"),
    "chart": (VALUES["serviceMonitor"]["interval"], VALUES["prometheusRule"]["interval"]),
}


def wait_of(severity: Severity) -> float:
    """What Alertmanager waits for the rest of a group."""
    route: dict[str, Any] = next(
        item for item in ALERTMANAGER["routes"] if f'severity="{severity}"' in item["matchers"]
    )
    return seconds(route.get("group_wait", ALERTMANAGER["group_wait"]))


def confirmed(folder: Path, timeout: float) -> float:
    """The longest from a fault to a confirmed failure, each run ending after ``timeout``."""
    file = folder / "tocsin.yaml"
    file.write_text("version: 1\nprobes: {p: {kind: tcp, system: s, incident: i, address: 'h:1', every: 10s}}\n")
    spec = load(Sources(file, environ={}), Registry.discover()).probes["p"]
    return spec.every + (spec.failures_to_fail - 1) * spec.retry_every + spec.failures_to_fail * timeout


@pytest.mark.parametrize("name", SHIPPED)
def test_a_page_comes_within_a_minute_of_the_fault(tmp_path: Path, name: str) -> None:
    scrape, evaluation = map(seconds, SHIPPED[name])
    # Recording rules and alerts are evaluated at times of their own.
    told = scrape + 2 * evaluation + wait_of(Severity.PAGE)
    assert confirmed(tmp_path, 0) + told <= 45
    # What it depends on is asked again then; one that answers neither then nor before is waited for from the first failure.
    assert confirmed(tmp_path, 5) + GRACE_SECONDS + told <= 60


@pytest.mark.parametrize("severity", Severity)
def test_a_live_drill_awaits_what_the_reference_takes(severity: Severity) -> None:
    scrape, evaluation = map(seconds, SHIPPED["deploy/prometheus"])
    assert REFERENCE_SECONDS[severity] == scrape + 2 * evaluation + wait_of(severity)

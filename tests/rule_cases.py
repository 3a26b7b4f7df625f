"""Writes the promtool tests of alerts on probes, alerts/tests/SYSTEM.yaml, from alerts/tests/cases/SYSTEM.yaml.

python -m tests.rule_cases [--check]

What an alert must say is in the cases, by hand; how a probe that fails and recovers looks to Prometheus is here, once.
Two replicas watch each probe: ``fresh`` sees the fault from 2m to 4m30s, and no reason any more in the last scrape of it;
``stale`` has said for long that it fails.
Neighbours (another system, kind, incident, and the probes in ``silent``) fail all the time and are not the alert's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ALERTS = Path(__file__).parents[1] / "alerts"
PUBLIC, GRAFANA = "http://localhost:9760", "http://localhost:3000"

HEAD = """\
# Written by `python -m tests.rule_cases` from cases/{name}; do not edit.
rule_files: [../tocsin.yaml, ../{name}]
evaluation_interval: 15s

tests:
"""
TEST = """
  - name: {alert}
    interval: 15s
    input_series:
{series}
    alert_rule_test:
      - {{alertname: {alert}, eval_time: 1m45s, exp_alerts: []}}
      - alertname: {alert}
        eval_time: 2m15s
        exp_alerts:
          - exp_labels: {labels}
            exp_annotations:
              summary: {failing}
              runbook_url: {page}#{kind}.{reason}
{links}
      - alertname: {alert}
        eval_time: 6m15s
        exp_alerts:
          - exp_labels: {labels}
            exp_annotations:
              summary: {recovering}
              runbook_url: {page}
{links}
      - {{alertname: {alert}, eval_time: 7m15s, exp_alerts: []}}
"""


def render(name: str, cases: list[Mapping[str, Any]]) -> str:
    """The test file for these cases."""
    system = name.removesuffix(".yaml")
    return HEAD.format(name=name) + "".join(_test(system, case) for case in cases)


def _test(system: str, case: Mapping[str, Any]) -> str:
    probe, incident, kind = case["probe"], case["incident"], case["kind"]
    who = {"probe": probe, "system": system, "incident": incident, "kind": kind}
    labels = {**who, "severity": case["severity"]}
    links = {"source_runbook_url": case.get("source"), "dashboard_url": f"{GRAFANA}/d/tocsin-probe?var-probe={probe}"}
    return TEST.format(
        alert=case["alert"],
        series="\n".join(_series(labels, case["reason"], case.get("silent", ()))),
        labels="{" + ", ".join(f"{key}: {value}" for key, value in labels.items()) + "}",
        failing=_quoted(f"{case['says']} ({probe}): {case['reason']}."),
        recovering=_quoted(f"{case['says']} ({probe}): recovering."),
        page=f"{PUBLIC}/runbooks/{system}/{incident}",
        kind=kind,
        reason=case["reason"],
        links="\n".join(f"              {key}: {value}" for key, value in links.items() if value),
    )


def _series(labels: Mapping[str, str], reason: str, silent: list[str]) -> Iterator[str]:
    neighbours = [
        {**labels, "system": "elsewhere"},
        {**labels, "probe": "neighbour-kind", "kind": "elsewhere"},
        {**labels, "probe": "neighbour-incident", "incident": "elsewhere"},
        *({**labels, "probe": name} for name in silent),
    ]
    yield from _one("tocsin_probe_alerting", {"instance": "fresh", **labels}, "0x7 1x10 0x40")
    yield from _one("tocsin_probe_reason", {"instance": "fresh", **labels, "reason": reason}, "_x7 1x10 stale")
    yield from _runs("fresh", labels["probe"], "0+15x60")
    yield from _one("tocsin_probe_alerting", {"instance": "stale", **labels}, "1x60")
    yield from _one("tocsin_probe_reason", {"instance": "stale", **labels, "reason": "long_ago"}, "1x60")
    yield from _runs("stale", labels["probe"], "-9999x60")
    for number, other in enumerate(neighbours):
        yield from _one("tocsin_probe_alerting", {"instance": f"neighbour-{number}", **other}, "1x60")
        yield from _runs(f"neighbour-{number}", other["probe"], "0+15x60")


def _runs(instance: str, probe: str, started: str) -> Iterator[str]:
    who = {"instance": instance, "probe": probe}
    yield from _one("tocsin_probe_last_run_timestamp_seconds", who, started)
    yield from _one("tocsin_probe_interval_seconds", who, "30x60")
    yield from _one("tocsin_probe_timeout_seconds", who, "5x60")


def _one(name: str, labels: Mapping[str, str], values: str) -> Iterator[str]:
    inner = ",".join(f'{key}="{value}"' for key, value in {"job": "tocsin", **labels}.items())
    yield f"      - {{series: '{name}{{{inner}}}', values: '{values}'}}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def main() -> int:
    stale = []
    for source in sorted((ALERTS / "tests/cases").glob("*.yaml")):
        target = ALERTS / "tests" / source.name
        text = render(source.name, yaml.safe_load(source.read_text("utf-8")))
        if not target.is_file() or target.read_text("utf-8") != text:
            stale.append(target)
            if "--check" not in sys.argv:
                target.write_text(text, "utf-8")
    for target in stale:
        print(f"{'stale' if '--check' in sys.argv else 'written'}: {target.relative_to(ALERTS.parent)}")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())

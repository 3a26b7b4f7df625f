"""Writes the promtool tests of alerts on probes, alerts/tests/SYSTEM.yaml, from alerts/tests/cases/SYSTEM.yaml.

python -m tests.rule_cases [--check]

What an alert must say is in the cases, by hand; how a probe that fails and recovers looks to Prometheus is here, once.
Two replicas watch each probe: ``fresh`` sees the fault from 2m to 4m30s, and no reason any more in the last scrape of it;
``stale`` has said for long that it fails.
Neighbours (another system, kind, incident, and the probes in ``silent``) fail all the time and are not the alert's. The
probe of the same name in another cluster, and in another environment, has a reason all the time and waits for its cause.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ALERTS = Path(__file__).parents[1] / "alerts"
SCOPE = {"cluster": "here", "environment": "production"}
OTHERS = ({**SCOPE, "cluster": "there"}, {**SCOPE, "environment": "staging"})
SINCE, FROM = 5400, 1_800_000
"""When the fault began, in seconds, and from when on its dashboard is opened, in milliseconds."""
PUBLIC, GRAFANA = "http://localhost:9760", "http://localhost:3000"

HEAD = """\
# Written by `python -m tests.rule_cases` from cases/{name}; do not edit.
rule_files: [../tocsin.yaml, ../{name}]
evaluation_interval: 15s
group_eval_order: [{groups}]

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
{source}
              dashboard_url: {history}&from={start}&to=now
      - alertname: {alert}
        eval_time: 6m15s
        exp_alerts:
          - exp_labels: {labels}
            exp_annotations:
              summary: {recovering}
              runbook_url: {page}
{source}
              dashboard_url: {history}&from=now-3h&to=now
      - {{alertname: {alert}, eval_time: 7m15s, exp_alerts: []}}
"""


def render(name: str, cases: list[Mapping[str, Any]]) -> str:
    """The test file for these cases."""
    system = name.removesuffix(".yaml")
    documents = [yaml.safe_load((ALERTS / file).read_text("utf-8")) for file in ("tocsin.yaml", name)]
    groups = [group["name"] for document in documents for group in document["groups"]]
    return HEAD.format(name=name, groups=", ".join(groups)) + "".join(_test(system, case) for case in cases)


def _test(system: str, case: Mapping[str, Any]) -> str:
    probe, incident, kind = case["probe"], case["incident"], case["kind"]
    who = {"probe": probe, "system": system, "incident": incident, "kind": kind}
    labels = {**who, "severity": case["severity"], **SCOPE}
    return TEST.format(
        alert=case["alert"],
        series="\n".join(_series(labels, case["reason"], case.get("silent", ()))),
        labels="{" + ", ".join(f"{key}: {value}" for key, value in labels.items()) + "}",
        failing=_quoted(f"{case['says']} ({probe}): {case['reason']}."),
        recovering=_quoted(f"{case['says']} ({probe}): recovering."),
        page=f"{PUBLIC}/runbooks/{system}/{incident}",
        kind=kind,
        reason=case["reason"],
        source=f"              source_runbook_url: {case['source']}",
        history=f"{GRAFANA}/d/tocsin-probe?var-probe={probe}",
        start=FROM,
    )


def _series(labels: Mapping[str, str], reason: str, silent: list[str]) -> Iterator[str]:
    neighbours = [
        {**labels, "system": "elsewhere"},
        {**labels, "probe": "neighbour-kind", "kind": "elsewhere"},
        {**labels, "probe": "neighbour-incident", "incident": "elsewhere"},
        *({**labels, "probe": name} for name in silent),
    ]
    probe = labels["probe"]
    yield from _one("tocsin_scheduler_heartbeat_timestamp_seconds", {"instance": "fresh", **SCOPE}, "0+15x60")
    yield from _one("tocsin_probe_alerting", {"instance": "fresh", **labels}, "0x7 1x10 0x40")
    yield from _one("tocsin_probe_reason", {"instance": "fresh", **labels, "reason": reason}, "_x7 1x10 stale")
    yield from _one(
        "tocsin_probe_status_since_timestamp_seconds",
        {"instance": "fresh", "probe": probe, **SCOPE},
        f"_x7 {SINCE}x10 stale",
    )
    yield from _runs("fresh", probe, SCOPE, "0+15x60")
    yield from _one("tocsin_probe_alerting", {"instance": "stale", **labels}, "1x60")
    yield from _one("tocsin_probe_reason", {"instance": "stale", **labels, "reason": "long_ago"}, "1x60")
    yield from _runs("stale", probe, SCOPE, "-9999x60")
    for scope in OTHERS:
        yield from _one("tocsin_probe_alerting", {"instance": "fresh", **labels, **scope}, "0x60")
        yield from _one("tocsin_probe_reason", {"instance": "fresh", **labels, **scope, "reason": "elsewhere"}, "1x60")
        since = {"instance": "fresh", "probe": probe, **scope}
        yield from _one("tocsin_probe_status_since_timestamp_seconds", since, "9999x60")
        yield from _runs("fresh", probe, scope, "0+15x60")
    for number, other in enumerate(neighbours):
        yield from _one("tocsin_probe_alerting", {"instance": f"neighbour-{number}", **other}, "1x60")
        yield from _runs(f"neighbour-{number}", other["probe"], SCOPE, "0+15x60")


def _runs(instance: str, probe: str, scope: Mapping[str, str], started: str) -> Iterator[str]:
    who = {"instance": instance, "probe": probe, **scope}
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

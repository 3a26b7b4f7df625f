"""*System*: one platform, everything that its probes measure."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.ledger_rows import audit_chains, blockchain, licences, workloads
from dashboards.service_rows import databases, events_and_identity, queues, storage_and_signing
from dashboards.shapes import (
    STATUS_TEXT,
    choice,
    curve,
    dashboard,
    history,
    of_system,
    placed,
    query,
    status_of,
    transitions,
    worst,
)

SYSTEM = 'system="$system"'


def build() -> Dashboard:
    return dashboard(
        "tocsin-system",
        "tocsin: system",
        "One system: the status of its probes over time, and what they measure.",
        [choice("system", "System", f"label_values({placed('tocsin_probe_status')}, system)")],
        [
            history(
                "Status",
                "The worst over replicas of what each probe has confirmed.",
                query(status_of(SYSTEM, "incident, probe"), "{{incident}}: {{probe}}"),
                STATUS_TEXT,
                height=20,
            ),
            curve(
                "Share of good runs",
                "Of the runs that could tell: unknown ones count neither way.",
                query(
                    "sum by (probe) "
                    + of_system('rate(tocsin_probe_runs_total{outcome="ok"}[$__rate_interval])')
                    + " / (sum by (probe) "
                    + of_system('rate(tocsin_probe_runs_total{outcome=~"ok|failed"}[$__rate_interval])')
                    + " > 0)",
                    "{{probe}}",
                ),
                unit="percentunit",
                fill=0,
            ),
            curve(
                "Duration",
                "How long the latest run took.",
                query(worst("tocsin_probe_duration_seconds"), "{{probe}}"),
                unit="s",
                fill=0,
            ),
            *queues(),
            *storage_and_signing(),
            *databases(),
            *events_and_identity(),
            *licences(),
            *audit_chains(),
            *blockchain(),
            *workloads(),
        ],
        transitions(SYSTEM),
    )

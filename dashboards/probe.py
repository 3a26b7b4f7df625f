"""*Probe*: one probe's history. Alerts link here with the probe filled in."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.shapes import (
    PRESENT_TEXT,
    STATUS_TEXT,
    choice,
    curve,
    dashboard,
    history,
    listing,
    number,
    placed,
    query,
    row,
    status_of,
    text_of,
    transitions,
)

PROBE = 'probe="$probe"'


def build() -> Dashboard:
    return dashboard(
        "tocsin-probe",
        "tocsin: probe",
        "One probe: its status and reasons over time, and its duration against its timeout.",
        [choice("probe", "Probe", f"label_values({placed('tocsin_probe_status')}, probe)")],
        [
            number("Status", "Confirmed; the worst over replicas.", status_of(PROBE), mappings=STATUS_TEXT),
            text_of(
                "Reason",
                "The reason of the worst finding: the heading of its runbook section.",
                f"tocsin:probe_reason{{{PROBE}}}",
                "{{kind}}.{{reason}}",
                span=6,
            ),
            text_of(
                "Explained by",
                "The failing probe that explains this failure. While it is there, this one does not alert.",
                f"max by (cause) (tocsin_probe_caused_by{{{PROBE}}})",
                "{{cause}}",
                span=5,
            ),
            number(
                "Since",
                "When it took its confirmed status.",
                f"1000 * max(tocsin_probe_status_since_timestamp_seconds{{{PROBE}}})",
                unit="dateTimeFromNow",
                span=3,
            ),
            number(
                "Last ok",
                "Start of the latest run that was ok.",
                f"1000 * max(tocsin_probe_last_ok_timestamp_seconds{{{PROBE}}})",
                unit="dateTimeFromNow",
                span=3,
            ),
            number(
                "Last run",
                "Start of the latest run.",
                f"1000 * max(tocsin_probe_last_run_timestamp_seconds{{{PROBE}}})",
                unit="dateTimeFromNow",
                span=3,
            ),
            history(
                "Status by replica",
                "Confirmed statuses of each daemon that runs this probe.",
                query(status_of(PROBE, "instance"), "{{instance}}"),
                STATUS_TEXT,
                height=5,
            ),
            history(
                "Reasons over time",
                "One lane for each reason that was there.",
                query(f"max by (kind, reason, severity) (tocsin_probe_reason{{{PROBE}}})", "{{reason}} ({{severity}})"),
                PRESENT_TEXT,
                height=6,
            ),
            history(
                "Findings over time",
                "One lane for each part of the target in which something was found.",
                query(f"max by (reason, component) (tocsin_probe_finding{{{PROBE}}})", "{{reason}} {{component}}"),
                PRESENT_TEXT,
                height=6,
            ),
            curve(
                "Duration against timeout",
                "A run that reaches the timeout fails with `timeout`.",
                query(f"max by (instance) (tocsin_probe_duration_seconds{{{PROBE}}})", "{{instance}}"),
                query(f"max(tocsin_probe_timeout_seconds{{{PROBE}}})", "timeout", ref="B"),
                unit="s",
            ),
            curve(
                "Runs by outcome",
                "Runs a minute, all replicas together.",
                query(
                    f"60 * sum by (outcome) (rate(tocsin_probe_runs_total{{{PROBE}}}[$__rate_interval]))", "{{outcome}}"
                ),
            ),
            row("Schedule"),
            curve(
                "Time since the last run, against the interval",
                "More than three intervals is stale.",
                query(
                    f"time() - max by (instance) (tocsin_probe_last_run_timestamp_seconds{{{PROBE}}})", "{{instance}}"
                ),
                query(f"max(tocsin_probe_interval_seconds{{{PROBE}}})", "interval", ref="B"),
                unit="s",
            ),
            curve(
                "Skipped runs",
                "By cause, a minute.",
                query(
                    f"60 * sum by (cause) (rate(tocsin_probe_skipped_total{{{PROBE}}}[$__rate_interval]))", "{{cause}}"
                ),
            ),
            listing(
                "Where it belongs",
                "Its system, incident and kind.",
                f"max by (system, incident, kind) (tocsin_probe_status{{{PROBE}}})",
                ["system", "incident", "kind"],
                height=4,
            ),
        ],
        transitions(PROBE),
    )

"""*tocsin itself*: whether the watcher watches."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.shapes import curve, dashboard, listing, number, query, row

_LATE = "sum by (le) (rate(tocsin_scheduler_lag_seconds_bucket[$__rate_interval]))"


def build() -> Dashboard:
    return dashboard(
        "tocsin-itself",
        "tocsin: itself",
        "Whether the daemons run, are on time, and keep what they know.",
        [],
        [
            number(
                "Daemons",
                "Scraped now.",
                "count(tocsin_scheduler_heartbeat_timestamp_seconds)",
            ),
            number(
                "Last sign of life",
                "Of the scheduler that was silent longest.",
                "max(time() - tocsin_scheduler_heartbeat_timestamp_seconds)",
                unit="s",
                bad_from=60,
            ),
            number(
                "Stale probes",
                "No fresh run on any replica.",
                "count(max by (probe) (tocsin:probe_fresh) == 0) or vector(0)",
                bad_from=1,
            ),
            number(
                "Configuration refused",
                "Whether a daemon refused its new configuration and keeps the old one.",
                "1 - min(tocsin_config_last_reload_successful)",
                bad_from=1,
                unit="bool_yes_no",
            ),
            number(
                "Web configuration refused",
                "Whether a daemon could not read its certificates or passwords at their last change.",
                "1 - min(tocsin_web_config_last_reload_successful)",
                bad_from=1,
                unit="bool_yes_no",
            ),
            number(
                "State in memory only",
                "Daemons that a restart would make forget what they know.",
                "sum(tocsin_state_degraded)",
                bad_from=1,
            ),
            listing(
                "Daemons",
                "Version, Python and where they stand.",
                "max by (instance, version, python, vantage) (tocsin_build_info)",
                ["instance", "version", "python", "vantage"],
                height=6,
                span=14,
            ),
            listing(
                "Configurations",
                "Replicas that run different ones show more than one row a digest.",
                "count by (hash) (tocsin_config_hash_info)",
                ["hash"],
                value="daemons",
                height=6,
                span=10,
            ),
            listing(
                "Contracts that are missing",
                "Variables of bundled profiles that are not set: their probes answer unknown.",
                "max by (probe, variable) (tocsin_config_missing_contract_info)",
                ["variable", "probe"],
            ),
            row("Time"),
            curve(
                "Runs that started late",
                "By how much: the median and the latest of a hundred.",
                query(
                    f"histogram_quantile(0.5, {_LATE})",
                    "median",
                ),
                query(
                    f"histogram_quantile(0.99, {_LATE})",
                    "99 %",
                    ref="B",
                ),
                unit="s",
            ),
            curve(
                "Lateness of the probing loop",
                "The part of the time in which something blocked it.",
                query("rate(tocsin_event_loop_lag_seconds_total[$__rate_interval])", "{{instance}}"),
                unit="percentunit",
            ),
            curve(
                "Runs",
                "A second, by outcome.",
                query("sum by (outcome) (rate(tocsin_probe_runs_total[$__rate_interval]))", "{{outcome}}"),
            ),
            curve(
                "Skipped runs",
                "A minute, by cause.",
                query("60 * sum by (cause) (rate(tocsin_probe_skipped_total[$__rate_interval]))", "{{cause}}"),
            ),
            row("Keeping"),
            curve(
                "State writes that failed",
                "Added up since each daemon started.",
                query("tocsin_state_writes_failed_total", "{{instance}}"),
            ),
            curve(
                "Unknown probes",
                "By system. Unknown is never ok.",
                query(
                    'count by (system) (max by (system, probe) (tocsin_probe_status{status="unknown"}) == 1)',
                    "{{system}}",
                ),
            ),
        ],
    )

"""*System*: one platform, everything that its probes measure."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.shapes import (
    STATUS_TEXT,
    choice,
    curve,
    dashboard,
    history,
    listing,
    of_system,
    query,
    row,
    status_of,
    transitions,
)

SYSTEM = 'system="$system"'


def _worst(metric: str, *labels: str) -> str:
    """The highest over replicas, for each probe and these labels."""
    return f"max by ({', '.join(('probe', *labels))}) {of_system(metric)}"


def _least(metric: str, *labels: str) -> str:
    return f"min by ({', '.join(('probe', *labels))}) {of_system(metric)}"


def build() -> Dashboard:
    return dashboard(
        "tocsin-system",
        "tocsin: system",
        "One system: the status of its probes over time, and what they measure.",
        [choice("system", "System", "label_values(tocsin_probe_status, system)")],
        [
            history(
                "Status",
                "The worst over replicas of what each probe has confirmed.",
                query(status_of(SYSTEM, "incident, probe"), "{{incident}}: {{probe}}"),
                STATUS_TEXT,
                height=12,
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
            ),
            curve(
                "Duration",
                "How long the latest run took.",
                query(_worst("tocsin_probe_duration_seconds"), "{{probe}}"),
                unit="s",
            ),
            row("Queues"),
            curve(
                "Waiting jobs",
                "By queue and status, counted up to the probe's cap.",
                query(_worst("tocsin_queue_jobs", "queue", "status"), "{{queue}} {{status}}"),
                span=8,
            ),
            curve(
                "Oldest waiting job",
                "A queue that is stalled grows by a second a second.",
                query(_worst("tocsin_queue_oldest_seconds", "queue"), "{{queue}}"),
                unit="s",
                span=8,
            ),
            curve(
                "Dead letters",
                "Jobs that were given up.",
                query(_worst("tocsin_queue_dead_letters", "queue"), "{{queue}}"),
                span=8,
            ),
            row("Storage and signing"),
            listing(
                "Bucket operations that fail",
                "0 is a failure. Empty when all work.",
                _least("tocsin_bucket_operation_ok", "bucket", "operation") + " == 0",
                ["probe", "bucket", "operation"],
                span=8,
            ),
            curve(
                "Bucket operations that work",
                "The share of them, by bucket.",
                query(f"avg by (bucket) {of_system('tocsin_bucket_operation_ok')}", "{{bucket}}"),
                unit="percentunit",
                span=8,
            ),
            curve(
                "Stored objects sampled",
                "How many the latest run fetched and compared.",
                query(_least("tocsin_objects_sampled"), "{{probe}}"),
                span=8,
            ),
            curve(
                "Signer operations that work",
                "1 when the result was verified, 0 when not.",
                query(_least("tocsin_signer_operation_ok", "operation"), "{{operation}}"),
                span=8,
            ),
            curve(
                "Signer operations, duration",
                "As tocsin waited for them.",
                query(_worst("tocsin_signer_operation_seconds", "operation"), "{{operation}}"),
                unit="s",
                span=8,
            ),
            curve(
                "Signer credentials: time left",
                "Until the end of validity.",
                query(
                    _least("tocsin_signer_credential_expiry_timestamp_seconds", "credential") + " - time()",
                    "{{credential}}",
                ),
                unit="s",
                span=8,
            ),
            row("Databases"),
            curve(
                "Connections in use",
                "Of those that ordinary roles may open.",
                query(
                    f"{_worst('tocsin_postgres_connections')} / {_worst('tocsin_postgres_connections_limit')}",
                    "{{probe}}",
                ),
                unit="percentunit",
                span=6,
            ),
            curve(
                "Oldest open transaction",
                "It keeps vacuum from working.",
                query(_worst("tocsin_postgres_oldest_transaction_seconds"), "{{probe}}"),
                unit="s",
                span=6,
            ),
            curve(
                "Replication lag",
                "How far each replica is behind.",
                query(_worst("tocsin_postgres_replication_lag_seconds", "replica"), "{{probe}} {{replica}}"),
                unit="s",
                span=6,
            ),
            curve(
                "Not yet archived",
                "Write-ahead log that the archive does not have.",
                query(_worst("tocsin_postgres_unarchived_bytes"), "{{probe}}"),
                unit="bytes",
                span=6,
            ),
            curve(
                "Rows found",
                "What the queries of `sql_rows` probes count.",
                query(_worst("tocsin_rows"), "{{probe}}"),
            ),
            curve(
                "Age of the newest sign of life",
                "Of workers, backups and cron jobs that a `heartbeat` probe watches.",
                query(f"time() - {_worst('tocsin_heartbeat_timestamp_seconds')}", "{{probe}}"),
                unit="s",
            ),
            row("Events, identity and certificates"),
            curve(
                "Events a minute",
                "What is watched, and what is usual at this hour of the week.",
                query(_worst("tocsin_events_per_minute", "event"), "{{probe}} {{event}}"),
                query(_worst("tocsin_events_usual_per_minute"), "{{probe}}: usual", ref="B"),
                span=8,
            ),
            curve(
                "Share of watched events",
                "Of all events in the window.",
                query(_worst("tocsin_events_share"), "{{probe}}"),
                unit="percentunit",
                span=8,
            ),
            curve(
                "Sources of watched events",
                "Few sources are a scan, many an outage.",
                query(_worst("tocsin_event_sources"), "{{probe}}"),
                span=8,
            ),
            curve(
                "Certificates: time left",
                "Until the end of validity of what the target showed.",
                query(_least("tocsin_certificate_expiry_timestamp_seconds") + " - time()", "{{probe}}"),
                unit="s",
            ),
            curve(
                "Signing keys of realms",
                "Public keys in the key set that may verify signatures.",
                query(_least("tocsin_oidc_signing_keys"), "{{probe}}"),
            ),
        ],
        transitions(SYSTEM),
    )

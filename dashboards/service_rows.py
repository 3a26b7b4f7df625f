"""What the probes of services measure, by row: queues, storage, signing, databases, events, identity."""

from __future__ import annotations

from dashboards.shapes import Panel, Row, curve, least, listing, of_system, query, row, worst


def queues() -> list[Panel | Row]:
    """Work that waits, and work that was given up."""
    return [
        row("Queues"),
        curve(
            "Waiting jobs",
            "By queue and status, counted up to the probe's cap.",
            query(worst("tocsin_queue_jobs", "queue", "status"), "{{queue}} {{status}}"),
            span=8,
        ),
        curve(
            "Oldest waiting job",
            "A queue that is stalled grows by a second a second.",
            query(worst("tocsin_queue_oldest_seconds", "queue"), "{{queue}}"),
            unit="s",
            span=8,
        ),
        curve(
            "Dead letters",
            "Jobs that were given up.",
            query(worst("tocsin_queue_dead_letters", "queue"), "{{queue}}"),
            span=8,
        ),
    ]


def storage_and_signing() -> list[Panel | Row]:
    """Buckets, stored objects, the signer."""
    return [
        row("Storage and signing"),
        listing(
            "Bucket operations that fail",
            "0 is a failure. Empty when all work.",
            least("tocsin_bucket_operation_ok", "bucket", "operation") + " == 0",
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
            query(least("tocsin_objects_sampled"), "{{probe}}"),
            span=8,
        ),
        curve(
            "Signer operations that work",
            "1 when the result was verified, 0 when not.",
            query(least("tocsin_signer_operation_ok", "operation"), "{{operation}}"),
            span=8,
        ),
        curve(
            "Signer operations, duration",
            "As tocsin waited for them.",
            query(worst("tocsin_signer_operation_seconds", "operation"), "{{operation}}"),
            unit="s",
            span=8,
        ),
        curve(
            "Signer credentials: time left",
            "Until the end of validity.",
            query(
                least("tocsin_signer_credential_expiry_timestamp_seconds", "credential") + " - time()",
                "{{credential}}",
            ),
            unit="s",
            span=8,
            signed=True,
        ),
    ]


def databases() -> list[Panel | Row]:
    """PostgreSQL, and what queries count."""
    return [
        row("Databases"),
        curve(
            "Connections in use",
            "Of those that ordinary roles may open.",
            query(
                f"{worst('tocsin_postgres_connections')} / {worst('tocsin_postgres_connections_limit')}",
                "{{probe}}",
            ),
            unit="percentunit",
            span=6,
        ),
        curve(
            "Oldest open transaction",
            "It keeps vacuum from working.",
            query(worst("tocsin_postgres_oldest_transaction_seconds"), "{{probe}}"),
            unit="s",
            span=6,
        ),
        curve(
            "Replication lag",
            "How far each replica is behind.",
            query(worst("tocsin_postgres_replication_lag_seconds", "replica"), "{{probe}} {{replica}}"),
            unit="s",
            span=6,
        ),
        curve(
            "Not yet archived",
            "Write-ahead log that the archive does not have.",
            query(worst("tocsin_postgres_unarchived_bytes"), "{{probe}}"),
            unit="bytes",
            span=6,
        ),
        curve(
            "Rows found",
            "What the queries of `sql_rows` probes count.",
            query(worst("tocsin_rows"), "{{probe}}"),
        ),
        curve(
            "Age of the newest sign of life",
            "Of workers, backups and cron jobs that a `heartbeat` probe watches.",
            query(f"time() - {worst('tocsin_heartbeat_timestamp_seconds')}", "{{probe}}"),
            unit="s",
        ),
    ]


def events_and_identity() -> list[Panel | Row]:
    """Watched events, realms, certificates."""
    return [
        row("Events, identity and certificates"),
        curve(
            "Events a minute",
            "What is watched, and what is usual at this hour of the week.",
            query(worst("tocsin_events_per_minute", "event"), "{{probe}} {{event}}"),
            query(worst("tocsin_events_usual_per_minute"), "{{probe}}: usual", ref="B"),
            span=8,
        ),
        curve(
            "Share of watched events",
            "Of all events in the window.",
            query(worst("tocsin_events_share"), "{{probe}}"),
            unit="percentunit",
            span=8,
        ),
        curve(
            "Sources of watched events",
            "Few sources are a scan, many an outage.",
            query(worst("tocsin_event_sources"), "{{probe}}"),
            span=8,
        ),
        curve(
            "Certificates: time left",
            "Until the end of validity of what the target showed.",
            query(least("tocsin_certificate_expiry_timestamp_seconds") + " - time()", "{{probe}}"),
            unit="s",
            signed=True,
        ),
        curve(
            "Signing keys of realms",
            "Public keys in the key set that may verify signatures.",
            query(least("tocsin_oidc_signing_keys"), "{{probe}}"),
        ),
    ]

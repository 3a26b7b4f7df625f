"""What the probes of records and of the cluster measure, by row: licences, audit chains, the blockchain, workloads."""

from __future__ import annotations

from dashboards.shapes import Panel, Row, curve, least, of_system, query, row, worst


def licences() -> list[Panel | Row]:
    """What is used, what is left, and how long it lasts."""
    return [
        row("Licences"),
        curve(
            "Used of the licence",
            "Against its limit; a resource without one is not shown.",
            query(
                f"{worst('tocsin_license_used', 'resource')} / {worst('tocsin_license_limit', 'resource')}",
                "{{resource}}",
            ),
            unit="percentunit",
            span=8,
        ),
        curve(
            "Time until the limit",
            "If the trend of the last weeks goes on.",
            query(f"{least('tocsin_license_full_timestamp_seconds', 'resource')} - time()", "{{resource}}"),
            unit="s",
            span=8,
            signed=True,
        ),
        curve(
            "Time until the end",
            "As the platform says, and as the licence that is installed says.",
            query(f"{least('tocsin_license_expiry_timestamp_seconds')} - time()", "{{probe}}"),
            query(f"{least('tocsin_license_blob_expiry_timestamp_seconds')} - time()", "{{probe}}", ref="B"),
            unit="s",
            span=8,
            signed=True,
        ),
    ]


def audit_chains() -> list[Panel | Row]:
    """How far the walk is, and what is broken."""
    return [
        row("Audit chains"),
        curve(
            "Open breaks",
            "Neither repaired nor accepted.",
            query(worst("tocsin_audit_chain_open_breaks", "chain", "kind"), "{{chain}} {{kind}}"),
            span=6,
        ),
        curve(
            "First affected sequence",
            "Of the oldest open break.",
            query(least("tocsin_audit_chain_break_sequence", "chain"), "{{chain}}"),
            span=6,
        ),
        curve(
            "Not yet verified",
            "Sequences between the newest verified row and the newest row.",
            query(
                f"{worst('tocsin_audit_chain_head_sequence', 'chain')} - "
                f"{worst('tocsin_audit_chain_verified_sequence', 'chain')}",
                "{{chain}}",
            ),
            span=6,
        ),
        curve(
            "Whole, as the platform says",
            "1 when its own verification passes. tocsin's may know better.",
            query(least("tocsin_audit_chain_platform_verified"), "{{probe}}"),
            span=6,
        ),
        curve(
            "Verified rows",
            "Of each chain.",
            query(worst("tocsin_audit_chain_rows", "chain"), "{{chain}}"),
            span=8,
        ),
        curve(
            "Full walk under way",
            "Rows that it has verified so far.",
            query(worst("tocsin_audit_chain_full_walk_rows"), "{{probe}}"),
            span=8,
        ),
        curve(
            "Age of the last full walk",
            "From the first row to the last.",
            query(f"time() - {worst('tocsin_audit_chain_full_walk_timestamp_seconds')}", "{{probe}}"),
            unit="s",
            span=8,
        ),
    ]


def blockchain() -> list[Panel | Row]:
    """Providers, the sender, the anchors, and who signs time."""
    return [
        row("Blockchain and time"),
        curve(
            "Age of the newest block",
            "By provider.",
            query(f"time() - {worst('tocsin_chain_head_timestamp_seconds', 'provider')}", "{{provider}}"),
            unit="s",
            span=8,
        ),
        curve(
            "Newest block",
            "Providers that differ are not in step.",
            query(worst("tocsin_chain_head_block", "provider"), "{{provider}}"),
            span=8,
        ),
        curve(
            "Confirmations of the recorded anchor",
            "Blocks that hold it up, its own included.",
            query(least("tocsin_chain_anchor_confirmations"), "{{probe}}"),
            span=8,
        ),
        curve(
            "Balance of the sender",
            "In ether; the least that a provider tells.",
            query(f"min by (probe) {of_system('tocsin_chain_sender_balance_wei')} / 1e18", "{{probe}}"),
            span=6,
        ),
        curve(
            "Time until the balance is spent",
            "At the recent spend.",
            query(least("tocsin_chain_sender_left_seconds"), "{{probe}}"),
            unit="s",
            span=6,
        ),
        curve(
            "Transactions that wait",
            "Of the sender, not mined yet.",
            query(worst("tocsin_chain_sender_pending_transactions"), "{{probe}}"),
            span=6,
        ),
        curve(
            "Timestamp authority",
            "Time left of its certificate.",
            query(f"{least('tocsin_tsa_certificate_expiry_timestamp_seconds')} - time()", "{{probe}}"),
            unit="s",
            span=3,
            signed=True,
        ),
        curve(
            "Its clock",
            "Ahead of ours; below zero when it is behind.",
            query(worst("tocsin_tsa_skew_seconds"), "{{probe}}"),
            unit="s",
            span=3,
            signed=True,
        ),
    ]


def workloads() -> list[Panel | Row]:
    """Pods, units, and the platform's own alerts."""
    return [
        row("Workloads and the platform's own alerts"),
        curve(
            "Pods that are ready",
            "Of those that match, on the replica that sees fewest.",
            query(least("tocsin_workload_ready_pods"), "{{probe}}"),
            span=6,
        ),
        curve(
            "Pods by phase",
            "All that match.",
            query(worst("tocsin_workload_pods", "phase"), "{{probe}} {{phase}}"),
            span=6,
        ),
        curve(
            "Restarts of containers",
            "In the probe's window.",
            query(worst("tocsin_workload_restarts", "container"), "{{probe}} {{container}}"),
            span=6,
        ),
        curve(
            "Objects with warning events",
            "In the probe's window, by reason.",
            query(worst("tocsin_workload_warnings", "reason"), "{{probe}} {{reason}}"),
            span=6,
        ),
        curve(
            "Units that are active",
            "1 or 0, on hosts without Kubernetes.",
            query(least("tocsin_unit_active"), "{{probe}}"),
            span=8,
        ),
        curve(
            "Restarts of units",
            "In the probe's window.",
            query(worst("tocsin_unit_restarts"), "{{probe}}"),
            span=8,
        ),
        curve(
            "The platform's own alerts",
            "How many of each name fire.",
            query(worst("tocsin_platform_alerts_firing", "alert"), "{{alert}}"),
            span=8,
        ),
        curve(
            "Queries of the platform's own monitoring",
            "What each last gave.",
            query(worst("tocsin_query_value"), "{{probe}}"),
        ),
        curve(
            "Memory limits of containers",
            "The smallest of each container: what a kill for memory is measured by.",
            query(least("tocsin_workload_memory_limit_bytes", "container"), "{{probe}} {{container}}"),
            unit="bytes",
        ),
    ]

"""*Incident scope*: what is bad now, since when, what it drags along, and how much is affected."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.shapes import choice, curve, dashboard, listing, number, of_system, query, row, transitions

SYSTEMS = 'system=~"$system"'

_SINCE = (
    "min by (cluster, environment, probe) (tocsin_probe_status_since_timestamp_seconds "
    'and on (instance, job, probe) tocsin_probe_status{status="ok"} == 0)'
)
_BAD_NOW = f"1000 * tocsin:probe_reason{{{SYSTEMS}}} * on (cluster, environment, probe) group_left () {_SINCE}"
_WAITING = f"max by (probe, cause) {of_system('tocsin_probe_caused_by', SYSTEMS)}"


def build() -> Dashboard:
    return dashboard(
        "tocsin-incidents",
        "tocsin: incident scope",
        "Which systems and incidents are bad now, since when, what waits for them, and how much is affected.",
        [choice("system", "System", "label_values(tocsin_probe_status, system)", several=True)],
        [
            number(
                "Pages",
                "Probes that alert with severity page.",
                f'count(tocsin:probe_alerting{{{SYSTEMS}, severity="page"}} == 1) or vector(0)',
                bad_from=1,
            ),
            number(
                "Tickets",
                "Probes that alert with severity ticket.",
                f'count(tocsin:probe_alerting{{{SYSTEMS}, severity="ticket"}} == 1) or vector(0)',
                bad_from=1,
                colour="orange",
            ),
            number(
                "Effects",
                "Probes whose failure another failing probe explains: they do not alert.",
                f"count(count by (probe) ({_WAITING})) or vector(0)",
                bad_from=1,
                colour="yellow",
            ),
            number(
                "Unknown",
                "Probes that cannot tell. Never counted as ok.",
                f'count(max by (probe) (tocsin_probe_status{{{SYSTEMS}, status="unknown"}}) == 1) or vector(0)',
                bad_from=1,
                colour="yellow",
            ),
            number(
                "Ok",
                "Probes whose confirmed status is ok on every replica.",
                f'count(min by (probe) (tocsin_probe_status{{{SYSTEMS}, status="ok"}}) == 1) or vector(0)',
            ),
            number(
                "Probes", "All probes of these systems.", f"count(count by (probe) (tocsin_probe_status{{{SYSTEMS}}}))"
            ),
            listing(
                "Bad now",
                "One row a probe that is not ok, with the reason that heads its runbook section.",
                _BAD_NOW,
                ["system", "incident", "probe", "reason", "severity", "kind"],
                value="since",
                unit="dateTimeFromNow",
            ),
            listing(
                "What waits for its cause",
                "Failures that another failure explains. They alert only if they are still bad once it is gone.",
                _WAITING,
                ["cause", "probe"],
                span=10,
            ),
            listing(
                "Findings",
                "Everything that the probes found, not only the worst: which queue, which operation, which replica.",
                f"max by (probe, reason, component) {of_system('tocsin_probe_finding', SYSTEMS)}",
                ["probe", "component", "reason"],
                span=14,
            ),
            curve(
                "Alerting probes by incident",
                "How wide each incident is.",
                query(f"sum by (system, incident) (tocsin:probe_alerting{{{SYSTEMS}}})", "{{system}}: {{incident}}"),
                span=24,
            ),
            row("Affected"),
            curve(
                "Rows found",
                "What the queries of `sql_rows` probes count: unanchored certificates, work that awaits a licence.",
                query(f"max by (probe) {of_system('tocsin_rows', SYSTEMS)}", "{{probe}}"),
                span=6,
            ),
            curve(
                "Age of the oldest row",
                "How long the first of them has been waiting.",
                query(
                    f"time() - min by (probe) {of_system('tocsin_rows_oldest_timestamp_seconds', SYSTEMS)}", "{{probe}}"
                ),
                unit="s",
                span=6,
            ),
            curve(
                "Dead letters",
                "Jobs that were given up. Check eligibility before any replay.",
                query(
                    f"max by (probe, queue) {of_system('tocsin_queue_dead_letters', SYSTEMS)}", "{{probe}} {{queue}}"
                ),
                span=6,
            ),
            curve(
                "Left of the licence",
                "Seats, tenants and whatever else it limits.",
                query(
                    f"min by (probe, resource) ({of_system('tocsin_license_limit', SYSTEMS)} "
                    f"- {of_system('tocsin_license_used', SYSTEMS)})",
                    "{{resource}}",
                ),
                span=6,
                signed=True,
            ),
        ],
        transitions(SYSTEMS),
    )

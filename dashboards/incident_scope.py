"""*Incident scope*: what is bad now, since when, what it drags along, and how much is affected."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.shapes import (
    RUN,
    STATUS_TEXT,
    WHO,
    Panel,
    choice,
    curve,
    dashboard,
    listing,
    number,
    of_system,
    placed,
    query,
    row,
    status_of,
    transitions,
)

SYSTEMS = 'system=~"$system"'

_SINCE = (
    f"min by ({WHO}) (tocsin_probe_status_since_timestamp_seconds "
    f'and on ({RUN}) tocsin_probe_status{{status="ok"}} == 0)'
)
_BAD_NOW = f"1000 * tocsin:probe_reason{{{SYSTEMS}}} * on ({WHO}) group_left () {_SINCE}"
_EXPLAINED = f"max by (cause, {WHO}) {of_system('tocsin_probe_caused_by', SYSTEMS)}"
_FAILING = f'max by ({WHO}) (tocsin_probe_status{{status="failed"}}) == 1'
# The cause may be in another system than what depends on it: both systems' dashboards show it.
_DEPENDING = (
    f"(max by (cause, {WHO}) {of_system('tocsin_probe_depends_on_info', SYSTEMS)} "
    f'and on (cluster, environment, cause) label_join({_FAILING}, "cause", "", "probe")) or {_EXPLAINED}'
)
_DEPENDS_ON_IT = f"0 * ({_DEPENDING}) + on ({WHO}) group_left () {status_of(SYSTEMS, WHO)}"


_SEATS = 'tocsin_license_{}{{resource="seats"}}'


def _rows(probes: str) -> str:
    return of_system(f'tocsin_rows{{probe=~"{probes}"}}', SYSTEMS)


def _affected(title: str, about: str, expr: str) -> Panel:
    return number(title, about, expr, bad_from=1, colour="orange", span=6).no_value("not measured")


def build() -> Dashboard:
    return dashboard(
        "tocsin-incidents",
        "tocsin: incident scope",
        "Which systems and incidents are bad now, since when, what waits for them, and how much is affected.",
        [choice("system", "System", f"label_values({placed('tocsin_probe_status')}, system)", several=True)],
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
                f"count(count by ({WHO}) ({_EXPLAINED})) or vector(0)",
                bad_from=1,
                colour="yellow",
            ),
            number(
                "Unknown",
                "Probes that cannot tell. Never counted as ok.",
                f'count(max by ({WHO}) (tocsin_probe_status{{{SYSTEMS}, status="unknown"}}) == 1) or vector(0)',
                bad_from=1,
                colour="yellow",
            ),
            number(
                "Ok",
                "Probes whose confirmed status is ok on every replica.",
                f'count(min by ({WHO}) (tocsin_probe_status{{{SYSTEMS}, status="ok"}}) == 1) or vector(0)',
            ),
            number(
                "Probes", "All probes of these systems.", f"count(count by ({WHO}) (tocsin_probe_status{{{SYSTEMS}}}))"
            ),
            listing(
                "Bad now",
                "One row a probe that is not ok, with the reason that heads its runbook section.",
                _BAD_NOW,
                ["system", "incident", "probe", "reason", "severity", "kind"],
                value="since",
                unit="dateTimeFromNow",
                sort="since",
                height=12,
            ),
            listing(
                "What depends on it",
                "Probes whose failure would be explained by what fails now. Those that have failed too do not alert; "
                "the others may be next.",
                _DEPENDS_ON_IT,
                ["cause", "probe"],
                value="now",
                mappings=STATUS_TEXT,
                sort="cause",
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
            _affected(
                "Unanchored certificates",
                "Certificates without an anchor on the chain.",
                f"max {_rows('.*unanchored-certificates')}",
            ),
            _affected(
                "Dead letters",
                "Jobs that were given up, in all queues. Check eligibility before any replay.",
                f"sum(max by (queue, {WHO}) {of_system('tocsin_queue_dead_letters', SYSTEMS)})",
            ),
            _affected(
                "Proofs awaiting a licence",
                "Valid proofs that become no certificate until there is a licence.",
                f"max {_rows('.*awaiting-license')}",
            ),
            number(
                "Seats left",
                "Until the licence refuses the next user.",
                f"min({of_system(_SEATS.format('limit'), SYSTEMS)} - {of_system(_SEATS.format('used'), SYSTEMS)})",
                span=6,
            ).no_value("not measured"),
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

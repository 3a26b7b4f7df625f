"""Each alert by itself: what it says, where it leads, what labels it has, how long it waits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

from tocsin.config.errors import Problem
from tocsin.paging.lint.subject import SCRAPE_LABELS, Subject
from tocsin.paging.promql import parse
from tocsin.paging.rulefiles import Rule
from tocsin.runbooks import Page
from tocsin.sdk.quantities import parse_duration

SEVERITIES = ("page", "ticket", "watchdog")
ROUTED_BY = ("severity", "system", "incident")
"""Labels that the reference routing reads; an alert without one of them would be grouped with strangers."""

MIN_KEEP_FIRING = 30.0
"""Seconds that an alert must outlive a restart of the daemon or of Prometheus."""

_RUNBOOK = re.compile(r"/(?:runbooks/)?(?P<system>[^/#]+)/(?P<incident>[^/#]+?)(?:#(?P<anchor>.*))?$")
_LABEL = re.compile(r"\$labels\.([a-zA-Z_][a-zA-Z0-9_]*)")
_UNGUARDED = re.compile(r"\{\{-?(?!\s*(?:with|range|if)\b)(?:(?!\}\}).)*\|\s*query\b")
_DASHBOARD = re.compile(r"/d/(?P<uid>[^/?]+)")


def every_alert_says_what_is_wrong(subject: Subject) -> Iterator[Problem]:
    for rule in subject.alerts:
        if not rule.annotations.get("summary"):
            yield Problem(rule.file, rule.line, rule.alert, "no summary", "say in plain words what is wrong")


def every_alert_leads_to_its_section(subject: Subject) -> Iterator[Problem]:
    for rule in subject.alerts:
        url, line = rule.annotations.get("runbook_url", ""), rule.line_of("annotations.runbook_url")
        if not url:
            yield Problem(rule.file, rule.line, rule.alert, "no runbook_url", "link the page that says what to do")
            continue
        found = runbook_of(rule)
        if found is None:
            yield Problem(rule.file, line, rule.alert, "runbook_url does not end in SYSTEM/INCIDENT")
            continue
        system, incident, anchor = found
        if "VALUE" in system + incident:
            continue
        page = subject.pages.get((system, incident))
        if page is None:
            yield Problem(rule.file, line, rule.alert, f"there is no page runbooks/{system}/{incident}.md")
        elif anchor and "VALUE" not in anchor and anchor not in page.anchors | slugs(page):
            yield Problem(rule.file, line, rule.alert, f"{page.file} has no section #{anchor}")


def alerts_about_tocsin_lead_elsewhere(subject: Subject) -> Iterator[Problem]:
    for rule in subject.alerts:
        url = rule.annotations.get("runbook_url", "")
        if rule.labels.get("system") == "tocsin" and subject.daemon_url and url.startswith(subject.daemon_url):
            line = rule.line_of("annotations.runbook_url")
            hint = "link a place that does not need it"
            yield Problem(
                rule.file, line, rule.alert, "the page is served by the daemon that this alert is about", hint
            )


def every_alert_opens_a_dashboard_that_exists(subject: Subject) -> Iterator[Problem]:
    by_uid = {dashboard.uid: dashboard for dashboard in subject.dashboards}
    for rule in subject.alerts if by_uid else ():
        url = without_templates(rule.annotations.get("dashboard_url", ""))
        match = _DASHBOARD.search(url)
        if match is None:
            continue
        line = rule.line_of("annotations.dashboard_url")
        dashboard = by_uid.get(match["uid"])
        if dashboard is None:
            yield Problem(rule.file, line, rule.alert, f"there is no dashboard with the uid {match['uid']}")
            continue
        given = {name.removeprefix("var-") for name in parse_qs(urlsplit(url).query) if name.startswith("var-")}
        for name in sorted(given - dashboard.variables):
            yield Problem(rule.file, line, rule.alert, f"{dashboard.file} has no variable `{name}`")


def every_alert_can_be_routed(subject: Subject) -> Iterator[Problem]:
    for rule in subject.alerts:
        carried = subject.carried(rule.expr)
        for label in ROUTED_BY:
            if label not in rule.labels and carried is not None and label not in carried:
                hint = "set the label or keep it in the expression"
                yield Problem(rule.file, rule.line, rule.alert, f"no {label}", hint)
        severity = rule.labels.get("severity", "page")
        if severity not in SEVERITIES:
            line = rule.line_of("labels.severity")
            hint = f"use {', '.join(SEVERITIES)}"
            yield Problem(rule.file, line, rule.alert, f"no receiver takes the severity `{severity}`", hint)


def the_reason_is_no_label(subject: Subject) -> Iterator[Problem]:
    for rule in subject.alerts:
        line = rule.line_of("labels.reason" if "reason" in rule.labels else "expr")
        if "reason" in rule.labels or "reason" in (subject.carried(rule.expr) or ()):
            hint = "a change of reason would start another alert; annotate it instead"
            yield Problem(rule.file, line, rule.alert, "the reason is a label", hint)


def annotations_use_labels_that_exist(subject: Subject) -> Iterator[Problem]:
    for rule in subject.alerts:
        carried = subject.carried(rule.expr)
        if carried is None:
            continue
        for name, text in rule.annotations.items():
            for label in sorted(set(_LABEL.findall(text)) - carried):
                line = rule.line_of(f"annotations.{name}")
                hint = f"it has {', '.join(sorted(carried - SCRAPE_LABELS - {'le'})) or 'none'}"
                yield Problem(rule.file, line, rule.alert, f"the alert has no label `{label}`", hint)


def queries_in_annotations_are_guarded(subject: Subject) -> Iterator[Problem]:
    for rule in subject.alerts:
        for name, text in rule.annotations.items():
            if _UNGUARDED.search(text):
                line = rule.line_of(f"annotations.{name}")
                hint = "write {{ with … | query }} … {{ else }} … {{ end }}"
                yield Problem(rule.file, line, rule.alert, f"the query in {name} fails when it finds nothing", hint)


def alerts_have_one_name_each(subject: Subject) -> Iterator[Problem]:
    seen: dict[str, Rule] = {}
    for rule in subject.alerts:
        if first := seen.get(rule.alert):
            message = f"the name is taken by the alert at {first.file}:{first.line}"
            yield Problem(rule.file, rule.line, rule.alert, message)
        seen.setdefault(rule.alert, rule)


def names_are_not_the_platforms_own(subject: Subject) -> Iterator[Problem]:
    systems = {spec.system for spec in subject.known.values()} - {"tocsin"}
    for rule in subject.alerts:
        for system in sorted(systems):
            if rule.alert.lower().startswith(system.replace("-", "")):
                hint = f"begin it with Tocsin; `{system}` may bring an alert of that name itself"
                yield Problem(rule.file, rule.line, rule.alert, "the name is the platform's", hint)


def pages_outlive_restarts(subject: Subject) -> Iterator[Problem]:
    for rule in subject.alerts:
        if subject.alerting(rule) and (
            not rule.keep_firing_for or parse_duration(rule.keep_firing_for) < MIN_KEEP_FIRING
        ):
            hint = f"at least {MIN_KEEP_FIRING:.0f}s, so that a restart neither resolves nor pages again"
            line = rule.line_of("keep_firing_for")
            yield Problem(rule.file, line, rule.alert, "keep_firing_for is missing or too short", hint)


def confirmed_alerts_do_not_wait(subject: Subject) -> Iterator[Problem]:
    for rule in subject.alerts:
        if subject.alerting(rule) and rule.wait and parse_duration(rule.wait) > 0:
            hint = "0s: the daemon has confirmed it already"
            yield Problem(rule.file, rule.line_of("for"), rule.alert, f"waits {rule.wait} more", hint)


def pages_ask_all_replicas(subject: Subject) -> Iterator[Problem]:
    for rule in subject.alerts:
        if any(selector.metric == "tocsin_probe_alerting" for selector in parse(rule.expr).selectors):
            hint = "use tocsin:probe_alerting, the worst of the fresh ones"
            yield Problem(rule.file, rule.line_of("expr"), rule.alert, "believes a stale replica too", hint)


def runbook_of(rule: Rule) -> tuple[str, str, str] | None:
    """System, incident and anchor of an alert's runbook link, VALUE for what a template fills in."""
    match = _RUNBOOK.search(without_templates(rule.annotations.get("runbook_url", "")))
    return None if match is None else (match["system"], match["incident"], match["anchor"] or "")


def without_templates(text: str) -> str:
    """The text with its template actions replaced: a label's value is VALUE, control actions vanish."""
    text = re.sub(r"\{\{-?\s*(?:with|range|if|else|end)\b.*?\}\}", "", text)
    return re.sub(r"\{\{.*?\}\}", "VALUE", text).strip()


def slugs(page: Page) -> frozenset[str]:
    """The anchors of a page's headings by their words."""
    return frozenset(re.sub(r"[^a-z0-9]+", "-", heading.text.lower()).strip("-") for heading in page.headings)


CHECKS = (
    every_alert_says_what_is_wrong,
    every_alert_leads_to_its_section,
    alerts_about_tocsin_lead_elsewhere,
    every_alert_opens_a_dashboard_that_exists,
    every_alert_can_be_routed,
    the_reason_is_no_label,
    annotations_use_labels_that_exist,
    queries_in_annotations_are_guarded,
    alerts_have_one_name_each,
    names_are_not_the_platforms_own,
    pages_outlive_restarts,
    confirmed_alerts_do_not_wait,
    pages_ask_all_replicas,
)

"""Where each alert leads: its section, the platform's own page, a dashboard."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

from tocsin.config.errors import Problem
from tocsin.model import ProbeSpec
from tocsin.paging.lint.subject import Subject, labels
from tocsin.paging.rulefiles import Rule
from tocsin.runbooks import Page

_RUNBOOK = re.compile(r"/(?:runbooks/)?(?P<system>[^/#]+)/(?P<incident>[^/#]+?)(?:#(?P<anchor>.*))?$")
_DASHBOARD = re.compile(r"/d/(?P<uid>[^/?]+)")


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
        about = subject.about(rule)
        if about:
            yield from (Problem(rule.file, line, rule.alert, wrong) for wrong in _wrong_sections(rule, about))
        elif "VALUE" not in system + incident:
            page = subject.pages.get((system, incident))
            if page is None:
                yield Problem(rule.file, line, rule.alert, f"there is no page runbooks/{system}/{incident}.md")
            elif anchor and "VALUE" not in anchor and anchor not in page.anchors | slugs(page):
                yield Problem(rule.file, line, rule.alert, f"{page.file} has no section #{anchor}")


def _wrong_sections(rule: Rule, about: list[ProbeSpec]) -> Iterator[str]:
    """What is wrong with the link for the first of the probes for which it is not that of its reason's section."""
    for spec in about:
        wanted = f"{spec.system}/{spec.incident}#{spec.kind}.REASON"
        url = _filled(rule.annotations["runbook_url"], labels(spec, ""), "REASON")
        if not url.endswith(f"/{wanted}"):
            yield f"for {spec.name} it leads to {url}, not to {wanted}"
            return


def every_alert_names_the_platforms_own_page(subject: Subject) -> Iterator[Problem]:
    """What the page of the incident names as its source is what the alert links, and nothing else."""
    for rule in subject.alerts:
        linked, line = rule.annotations.get("source_runbook_url", ""), rule.line_of("annotations.source_runbook_url")
        pages = {(spec.system, spec.incident): spec for spec in subject.about(rule) if subject.alerting(rule)}
        sources = {subject.pages[name].source for name in pages if name in subject.pages} - {""}
        if len(sources) > 1 or (not sources and not linked):
            # An alert for systems of all sorts cannot name the page of one.
            continue
        wanted = "".join(sources)
        if linked != wanted:
            message = f"source_runbook_url is {linked or 'missing'}"
            hint = f"the page says `source: {wanted}`" if wanted else "its page has no `source`"
            yield Problem(rule.file, line, rule.alert, message, hint)


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
        line = rule.line_of("annotations.dashboard_url")
        match = _DASHBOARD.search(url)
        if match is None:
            message = "dashboard_url opens no dashboard" if url else "no dashboard_url"
            yield Problem(rule.file, line, rule.alert, message, "link …/d/UID")
            continue
        dashboard = by_uid.get(match["uid"])
        if dashboard is None:
            yield Problem(rule.file, line, rule.alert, f"there is no dashboard with the uid {match['uid']}")
            continue
        given = {name.removeprefix("var-") for name in parse_qs(urlsplit(url).query) if name.startswith("var-")}
        for name in sorted(given - dashboard.variables):
            yield Problem(rule.file, line, rule.alert, f"{dashboard.file} has no variable `{name}`")


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


def _filled(text: str, who: dict[str, str], reason: str) -> str:
    """The text as Prometheus fills it in for an alert with these labels, when the query for its reason finds it."""
    text = re.sub(r"\{\{-?\s*else\b.*?\}\}.*?(?=\{\{-?\s*end\b)", "", text)
    text = re.sub(r"\{\{[^}]*\bLabels\.reason[^}]*\}\}", reason, text)
    text = re.sub(r"\{\{-?\s*\$labels\.(\w+)\s*-?\}\}", lambda match: who.get(match[1], ""), text)
    return without_templates(text)


CHECKS = (
    every_alert_leads_to_its_section,
    every_alert_names_the_platforms_own_page,
    alerts_about_tocsin_lead_elsewhere,
    every_alert_opens_a_dashboard_that_exists,
)

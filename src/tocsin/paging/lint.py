"""Alert ↔ runbook section ↔ reason ↔ metric, checked in both directions.

Each check is a plain function from a `Subject` to `Problem`s; `lint` runs them all. What a user overlays is linted as
ours is: the subject is what was loaded, wherever it came from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tocsin.config.errors import Problem
from tocsin.model import ProbeSpec, ReasonInfo
from tocsin.paging.promql import Expression, parse, template_queries
from tocsin.paging.rulefiles import Rule
from tocsin.runbooks import Page
from tocsin.sdk.quantities import parse_duration

SCRAPE_LABELS = frozenset({"instance", "job", "cluster", "environment", "__name__"})
"""Labels that Prometheus or its operator adds to every series."""

FOREIGN_METRICS = frozenset({"up", "ALERTS", "ALERTS_FOR_STATE"})
"""Series that every Prometheus has by itself."""

MIN_KEEP_FIRING = 30.0
"""Seconds that an alert must outlive a restart of the daemon or of Prometheus."""

_CONTAINERS = ("Reasons", "Reasons that every probe shares")
"""Headings that only hold other sections."""

_RUNBOOK = re.compile(r"/(?:runbooks/)?(?P<system>[^/#]+)/(?P<incident>[^/#]+?)(?:#(?P<anchor>.*))?$")


@dataclass(frozen=True)
class Metric:
    """A metric of the catalogue: its name without suffixes, its labels, and for users what it means."""

    name: str
    labels: frozenset[str]
    documented: bool = True


@dataclass(frozen=True)
class Subject:
    """Everything that is held against each other. ``queries`` are (place, line, PromQL) of dashboards."""

    rules: Sequence[Rule]
    tested: frozenset[str]
    pages: Mapping[tuple[str, str], Page]
    probes: Mapping[str, ProbeSpec]
    reasons: Mapping[str, Sequence[ReasonInfo]]
    """All reasons of each kind, common ones included."""
    catalogue: Mapping[str, Metric]
    queries: Sequence[tuple[str, int, str]] = ()
    docs: str = ""
    """The reference documentation: a metric that no rule or dashboard uses is to be found there. Empty: not checked
    (an installed package comes without it)."""

    @cached_property
    def alerts(self) -> list[Rule]:
        return [rule for rule in self.rules if rule.alert]

    @cached_property
    def recorded(self) -> dict[str, Rule]:
        return {rule.record: rule for rule in self.rules if rule.record}

    @cached_property
    def expressions(self) -> list[tuple[str, int, str, Expression]]:
        """Every PromQL with its place: rules, queries inside annotations, dashboards."""
        found = [(rule.file, rule.line_of("expr"), rule.expr, parse(rule.expr)) for rule in self.rules]
        for rule in self.alerts:
            for name, text in rule.annotations.items():
                line = rule.line_of(f"annotations.{name}")
                found += [(rule.file, line, query, parse(query)) for query in template_queries(text)]
        return found + [(file, line, query, parse(query)) for file, line, query in self.queries]


def lint(subject: Subject) -> list[Problem]:
    """Everything that does not fit, ordered by file and line; empty when all fits."""
    problems = {problem for check in CHECKS for problem in check(subject)}
    return sorted(problems, key=lambda problem: (problem.file, problem.line, problem.key, problem.message))


def every_alert_says_what_to_do(subject: Subject) -> Iterator[Problem]:
    for rule in subject.alerts:
        if not rule.annotations.get("summary"):
            yield Problem(rule.file, rule.line, rule.alert, "no summary", "say in plain words what is wrong")
        if "severity" not in rule.labels and not _keeps(rule, "severity"):
            yield Problem(rule.file, rule.line, rule.alert, "no severity", "set the label or keep it in the expression")
        if "reason" in rule.labels:
            yield Problem(
                rule.file, rule.line_of("labels.reason"), rule.alert, "the reason is a label", "annotate it instead"
            )


def every_alert_has_its_page(subject: Subject) -> Iterator[Problem]:
    for rule in subject.alerts:
        url, line = rule.annotations.get("runbook_url", ""), rule.line_of("annotations.runbook_url")
        if not url:
            yield Problem(rule.file, rule.line, rule.alert, "no runbook_url", "link the page that says what to do")
            continue
        match = _RUNBOOK.search(_without_templates(url))
        if match is None:
            yield Problem(rule.file, line, rule.alert, "runbook_url does not end in SYSTEM/INCIDENT")
            continue
        system, incident, anchor = match["system"], match["incident"], match["anchor"]
        if "{{" in url.split("#")[0] and "VALUE" in (system + incident):
            continue
        page = subject.pages.get((system, incident))
        if page is None:
            yield Problem(rule.file, line, rule.alert, f"there is no page runbooks/{system}/{incident}.md")
        elif anchor and "VALUE" not in anchor and anchor not in page.anchors | _slugs(page):
            yield Problem(rule.file, line, rule.alert, f"{page.file} has no section #{anchor}")


def every_alert_is_tested(subject: Subject) -> Iterator[Problem]:
    for rule in subject.alerts:
        if rule.alert not in subject.tested:
            yield Problem(
                rule.file, rule.line, rule.alert, "no promtool test expects this alert", "add one to alerts/tests"
            )


def alerts_have_one_name_each(subject: Subject) -> Iterator[Problem]:
    seen: dict[str, Rule] = {}
    for rule in subject.alerts:
        if first := seen.get(rule.alert):
            yield Problem(
                rule.file, rule.line, rule.alert, f"the name is taken by the alert at {first.file}:{first.line}"
            )
        seen.setdefault(rule.alert, rule)


def pages_outlive_restarts(subject: Subject) -> Iterator[Problem]:
    for rule in subject.alerts:
        if not any(selector.metric == "tocsin:probe_alerting" for selector in parse(rule.expr).selectors):
            continue
        if not rule.keep_firing_for or parse_duration(rule.keep_firing_for) < MIN_KEEP_FIRING:
            line = rule.line_of("keep_firing_for")
            hint = f"at least {MIN_KEEP_FIRING:.0f}s, so that a restart neither resolves nor pages again"
            yield Problem(rule.file, line, rule.alert, "keep_firing_for is missing or too short", hint)


def every_probe_is_covered(subject: Subject) -> Iterator[Problem]:
    selectors = [
        selector
        for rule in subject.alerts
        for selector in parse(rule.expr).selectors
        if selector.metric in ("tocsin:probe_alerting", "tocsin_probe_alerting")
    ]
    for spec in subject.probes.values():
        labels = {"probe": spec.name, "system": spec.system, "incident": spec.incident, "kind": spec.kind}
        if not any(
            selector.accepts({**labels, "severity": severity})
            for selector in selectors
            for severity in ("page", "ticket")
        ):
            file, _, line = spec.source.rpartition(":")
            yield Problem(file, int(line or 0), spec.name, "no alert fires when this probe fails")


def every_reason_has_its_section(subject: Subject) -> Iterator[Problem]:
    for (system, incident), kinds in _kinds_by_incident(subject.probes.values()).items():
        page = subject.pages.get((system, incident))
        if page is None:
            spec = next(s for s in subject.probes.values() if (s.system, s.incident) == (system, incident))
            file, _, line = spec.source.rpartition(":")
            yield Problem(
                file, int(line or 0), spec.name, f"there is no page runbooks/{system}/{incident}.md for its incident"
            )
            continue
        for kind in sorted(kinds):
            if kind not in page.kinds:
                yield Problem(page.file, 1, "kinds", f"`{kind}` probes lead here and are not named")
            for info in subject.reasons.get(kind, ()):
                if f"{kind}.{info.code}" not in page.anchors and kind in page.kinds:
                    yield Problem(page.file, 1, f"{kind}.{info.code}", "no section for this reason", info.meaning)


def every_section_is_reachable(subject: Subject) -> Iterator[Problem]:
    by_incident = _kinds_by_incident(subject.probes.values())
    for (system, incident), page in subject.pages.items():
        used = by_incident.get((system, incident), set())
        for kind in page.kinds:
            if used and kind not in used:
                yield Problem(page.file, 1, "kinds", f"no probe of kind `{kind}` leads here")
        for heading in page.headings:
            for code in heading.reasons:
                kind, _, reason = code.partition(".")
                if reason not in {info.code for info in subject.reasons.get(kind, ())}:
                    yield Problem(page.file, heading.line, code, "no probe kind gives this reason")


def every_page_is_led_to(subject: Subject) -> Iterator[Problem]:
    led_to = {(spec.system, spec.incident) for spec in subject.probes.values()}
    for rule in subject.alerts:
        match = _RUNBOOK.search(_without_templates(rule.annotations.get("runbook_url", "")))
        if match:
            led_to.add((match["system"], match["incident"]))
    systems = {system for system, _ in led_to}
    for (system, incident), page in subject.pages.items():
        if system in systems and (system, incident) not in led_to:
            yield Problem(page.file, 1, "", "no probe and no alert leads to this page")


def pages_are_complete(subject: Subject) -> Iterator[Problem]:
    for page in subject.pages.values():
        titles = {heading.text for heading in page.headings}
        for wanted in ("Meaning", "Impact", "Verify recovery"):
            if wanted not in titles:
                yield Problem(page.file, 1, "", f"no section `## {wanted}`")
        lines = page.text.splitlines()
        bodies = _bodies(lines)
        for title, body in bodies.items():
            if len("".join(body).strip()) < 40 and title not in ("", page.title, *_CONTAINERS):
                yield Problem(page.file, 1, title, "the section says too little", "write what an engineer should do")


def every_metric_is_exported(subject: Subject) -> Iterator[Problem]:
    for file, line, _, expression in subject.expressions:
        for selector in expression.selectors:
            name = selector.metric
            if name in FOREIGN_METRICS or name in subject.recorded:
                continue
            metric = _metric(subject, name)
            if metric is None:
                yield Problem(file, line, name, "tocsin exports no such metric and no rule records it")
                continue
            for matcher in selector.matchers:
                if matcher.label not in metric.labels | SCRAPE_LABELS | {"le"}:
                    hint = f"it has {', '.join(sorted(metric.labels)) or 'none'}"
                    yield Problem(file, line, name, f"the metric has no label `{matcher.label}`", hint)


def grouping_labels_exist(subject: Subject) -> Iterator[Problem]:
    known = {label for metric in subject.catalogue.values() for label in metric.labels} | SCRAPE_LABELS | {"le"}
    for file, line, _, expression in subject.expressions:
        for label in sorted(expression.grouping_labels - known):
            yield Problem(file, line, label, "no metric has this label")


def every_metric_is_used_or_documented(subject: Subject) -> Iterator[Problem]:
    used = {selector.metric for *_, expression in subject.expressions for selector in expression.selectors}
    for metric in subject.catalogue.values():
        names = {metric.name, *(metric.name + suffix for suffix in ("_total", "_bucket", "_sum", "_count", "_info"))}
        if subject.docs and not names & used and not any(f"`{name}`" in subject.docs for name in names):
            yield Problem("docs/reference", 0, metric.name, "exported, and neither used nor documented")


CHECKS: tuple[Callable[[Subject], Iterable[Problem]], ...] = (
    every_alert_says_what_to_do,
    every_alert_has_its_page,
    every_alert_is_tested,
    alerts_have_one_name_each,
    pages_outlive_restarts,
    every_probe_is_covered,
    every_reason_has_its_section,
    every_section_is_reachable,
    every_page_is_led_to,
    pages_are_complete,
    every_metric_is_exported,
    grouping_labels_exist,
    every_metric_is_used_or_documented,
)


def _kinds_by_incident(probes: Iterable[ProbeSpec]) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for spec in probes:
        found.setdefault((spec.system, spec.incident), set()).add(spec.kind)
    return found


def _metric(subject: Subject, name: str) -> Metric | None:
    for candidate in (name, *(name.removesuffix(s) for s in ("_total", "_bucket", "_sum", "_count"))):
        if candidate in subject.catalogue:
            return subject.catalogue[candidate]
    return None


def _keeps(rule: Rule, label: str) -> bool:
    """Whether the label survives to the alert: it is grouped by, or nothing is aggregated at all."""
    expression = parse(rule.expr)
    return label in expression.grouping_labels or not re.search(r"\b(by|without|absent|vector)\b", rule.expr)


def _without_templates(text: str) -> str:
    """The text with its template actions replaced: a label's value is VALUE, control actions vanish."""
    text = re.sub(r"\{\{-?\s*(?:with|range|if|else|end)\b.*?\}\}", "", text)
    return re.sub(r"\{\{.*?\}\}", "VALUE", text).strip()


def _slugs(page: Page) -> frozenset[str]:
    return frozenset(re.sub(r"[^a-z0-9]+", "-", heading.text.lower()).strip("-") for heading in page.headings)


def _bodies(lines: Sequence[str]) -> dict[str, list[str]]:
    bodies: dict[str, list[str]] = {}
    title = ""
    for line in lines:
        if line.startswith("#"):
            title = line.lstrip("#").strip()
            bodies[title] = []
        elif title:
            bodies[title].append(line)
    return bodies

"""Each alert by itself: what it says, what labels it has, when it rings, how long it waits."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tocsin.config.errors import Problem
from tocsin.paging.lint.subject import SCRAPE_LABELS, Subject
from tocsin.paging.promql import Selector, parse, seconds
from tocsin.paging.rulefiles import Rule

SEVERITIES = ("page", "ticket", "watchdog")
ROUTED_BY = ("severity", "system", "incident")
"""Labels that the reference routing reads; an alert without one of them would be grouped with strangers."""

MIN_KEEP_FIRING = 30.0
"""Seconds that an alert must outlive a restart of the daemon or of Prometheus."""

_LABEL = re.compile(r"\$labels\.([a-zA-Z_][a-zA-Z0-9_]*)")
_UNGUARDED = re.compile(
    r"\{\{-?(?:(?!\s*(?:with|range|if)\b)(?:(?!\}\}).)*\bquery\b|(?:(?!\}\}).)*\bquery\b[^}|]*\|\s*first\b)"
)
"""An action that takes a query's result as it is, or the first of it before anybody saw that there is one."""

_RINGS = re.compile(r"(?:==\s*1|>=\s*1|>\s*0|!=\s*0)(?:\.0*)?\s*$")


def every_alert_says_what_is_wrong(subject: Subject) -> Iterator[Problem]:
    for rule in subject.alerts:
        if not rule.annotations.get("summary"):
            yield Problem(rule.file, rule.line, rule.alert, "no summary", "say in plain words what is wrong")


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


def waiting_times_can_be_read(subject: Subject) -> Iterator[Problem]:
    for rule in subject.alerts:
        for key, text in (("for", rule.wait), ("keep_firing_for", rule.keep_firing_for)):
            try:
                seconds(text or "0s")
            except ValueError as error:
                yield Problem(rule.file, rule.line_of(key), rule.alert, f"{key}: {error}")


def alerts_outlive_restarts(subject: Subject) -> Iterator[Problem]:
    """While the daemon is away so are its series: what it says of itself would resolve and come again too."""
    for rule in subject.alerts:
        if not parse(rule.expr).constant and _waits(rule.keep_firing_for) < MIN_KEEP_FIRING:
            hint = f"at least {MIN_KEEP_FIRING:.0f}s, so that a restart neither resolves nor pages again"
            line = rule.line_of("keep_firing_for")
            yield Problem(rule.file, line, rule.alert, "keep_firing_for is missing or too short", hint)


def confirmed_alerts_do_not_wait(subject: Subject) -> Iterator[Problem]:
    for rule in subject.alerts:
        if subject.alerting(rule) and _waits(rule.wait) > 0:
            hint = "0s: the daemon has confirmed it already"
            yield Problem(rule.file, rule.line_of("for"), rule.alert, f"waits {rule.wait} more", hint)


def alerts_ring_at_one(subject: Subject) -> Iterator[Problem]:
    for rule in subject.alerts:
        if subject.alerting(rule) and not _RINGS.search(re.sub(r"#.*", "", rule.expr)):
            hint = "end it in == 1: a probe that alerts is 1, every other is 0"
            yield Problem(rule.file, rule.line_of("expr"), rule.alert, "does not ring when a probe alerts", hint)


def who_cannot_tell_pages_nobody(subject: Subject) -> Iterator[Problem]:
    for rule in subject.alerts:
        if rule.labels.get("severity") == "page" and any(_unknown(s) for s in parse(rule.expr).selectors):
            hint = "make it a ticket: it says nothing about the platform"
            yield Problem(
                rule.file, rule.line_of("labels.severity"), rule.alert, "a probe that cannot tell pages", hint
            )


def pages_ask_all_replicas(subject: Subject) -> Iterator[Problem]:
    for rule in subject.alerts:
        if any(selector.metric == "tocsin_probe_alerting" for selector in parse(rule.expr).selectors):
            hint = "use tocsin:probe_alerting, the worst of the fresh ones"
            yield Problem(rule.file, rule.line_of("expr"), rule.alert, "believes a stale replica too", hint)


def _waits(duration: str) -> float:
    """In seconds; 0 for what `waiting_times_can_be_read` reports."""
    try:
        return seconds(duration or "0s")
    except ValueError:
        return 0.0


def _unknown(selector: Selector) -> bool:
    of_status = any(matcher.label == "status" and matcher.accepts("unknown") for matcher in selector.matchers)
    return selector.metric == "tocsin:probe_unknown" or (selector.metric == "tocsin_probe_status" and of_status)


CHECKS = (
    every_alert_says_what_is_wrong,
    every_alert_can_be_routed,
    the_reason_is_no_label,
    annotations_use_labels_that_exist,
    queries_in_annotations_are_guarded,
    alerts_have_one_name_each,
    names_are_not_the_platforms_own,
    waiting_times_can_be_read,
    alerts_outlive_restarts,
    confirmed_alerts_do_not_wait,
    alerts_ring_at_one,
    who_cannot_tell_pages_nobody,
    pages_ask_all_replicas,
)

"""What rules and dashboards read: series that exist, with labels and values they can have, over times that fit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tocsin.config.errors import Problem
from tocsin.model import Severity, Status
from tocsin.paging.lint.subject import FOREIGN_METRICS, SCRAPE_LABELS, SCRAPE_SECONDS, Subject
from tocsin.paging.promql import Matcher, Selector, parse

MIN_WINDOW = 4 * SCRAPE_SECONDS
"""A rate over less than four scrapes vanishes when one of them fails."""

MIN_AGE = 2 * SCRAPE_SECONDS
"""What a scrape shows is up to one interval old, and one scrape may fail."""

UNRUN = frozenset({"tocsin_probe_skipped_total"})
"""Counts runs that were not made: a rise of several is about quick probes. A slow one that is skipped is soon stale."""

_AGE = re.compile(r"time\(\)\s*-[^<>=]*?[<>]=?\s*(?:bool\s+)?(?:(?P<seconds>[0-9.]+)|scalar\((?P<limit>[\w:]+)\))\s*$")
_LIMIT = re.compile(r"vector\((?P<seconds>[0-9.]+)\)")


def patterns_can_be_read(subject: Subject) -> Iterator[Problem]:
    for file, line, expression in subject.expressions:
        for selector in expression.selectors:
            for matcher in selector.matchers:
                if not matcher.readable and "$" not in matcher.value:
                    message = f"the pattern `{matcher.value}` of `{matcher.label}` cannot be read"
                    hint = "write it so that RE2 and Python both read it"
                    yield Problem(file, line, selector.metric, message, hint)


def every_metric_is_exported(subject: Subject) -> Iterator[Problem]:
    for file, line, expression in subject.expressions:
        for selector in expression.selectors:
            name = selector.metric
            if name not in FOREIGN_METRICS | subject.recorded.keys() and subject.metric(name) is None:
                yield Problem(file, line, name, "tocsin exports no such metric and no rule records it")


def matchers_name_labels_that_exist(subject: Subject) -> Iterator[Problem]:
    for file, line, expression in subject.expressions:
        for selector in expression.selectors:
            labels = subject.labels_of(selector.metric)
            if labels is None:
                continue
            for matcher in selector.matchers:
                if matcher.label not in labels | SCRAPE_LABELS:
                    hint = f"it has {_told(labels)}"
                    yield Problem(file, line, selector.metric, f"the metric has no label `{matcher.label}`", hint)


def matchers_ask_for_values_that_occur(subject: Subject) -> Iterator[Problem]:
    statuses = frozenset(Status)
    occurring = {
        "severity": frozenset(Severity),
        "status": statuses,
        "outcome": statuses,
        "reason": frozenset(info.code for reasons in subject.reasons.values() for info in reasons),
    }
    for file, line, expression in subject.expressions:
        for selector in expression.selectors:
            if not selector.metric.startswith("tocsin"):
                continue
            for matcher in selector.matchers:
                for value in _literals(matcher):
                    if value not in occurring.get(matcher.label, {value}):
                        message = f"`{matcher.label}` never is `{value}`"
                        yield Problem(file, line, selector.metric, message)


def grouping_labels_exist(subject: Subject) -> Iterator[Problem]:
    known = {label for metric in subject.catalogue.values() for label in metric.labels} | SCRAPE_LABELS | {"le"}
    for file, line, expression in subject.expressions:
        for label in sorted(expression.grouping_labels - known):
            yield Problem(file, line, label, "no metric has this label")


def every_metric_is_used_or_documented(subject: Subject) -> Iterator[Problem]:
    used = {selector.metric for *_, expression in subject.expressions for selector in expression.selectors}
    documented = {name for text in subject.docs.values() for name in _quoted(text)}
    for metric in subject.catalogue.values():
        names = {metric.name, *(metric.name + suffix for suffix in ("_total", "_bucket", "_sum", "_count"))}
        if subject.docs and not names & (used | documented):
            hint = "`make docs` documents it"
            yield Problem("docs/reference", 0, metric.name, "exported, and neither used nor documented", hint)


def every_documented_metric_is_exported(subject: Subject) -> Iterator[Problem]:
    for file, text in subject.docs.items():
        for number, line in enumerate(text.splitlines(), 1):
            for name in _quoted(line):
                if subject.metric(name) is None:
                    yield Problem(file, number, name, "documented, and tocsin exports no such metric")


def windows_hold_enough_scrapes(subject: Subject) -> Iterator[Problem]:
    for rule in subject.rules:
        for selector in parse(rule.expr).selectors:
            if 0 < selector.window < MIN_WINDOW:
                message = f"the window of {selector.window:g} s is shorter than four scrapes"
                hint = f"take at least {MIN_WINDOW:g}s"
                yield Problem(rule.file, rule.line_of("expr"), selector.metric, message, hint)


def windows_hold_enough_runs(subject: Subject) -> Iterator[Problem]:
    for rule in subject.rules:
        for selector in parse(rule.expr).selectors:
            if selector.window < MIN_WINDOW or selector.metric in UNRUN:
                continue
            if "probe" not in (subject.labels_of(selector.metric) or ()):
                continue
            slow = [spec for spec in subject.probes.values() if _reads(selector, spec.name)]
            slowest = max(slow, key=lambda spec: spec.every, default=None)
            if slowest is not None and selector.window < 2 * slowest.every:
                message = f"the window of {selector.window:g} s holds fewer than two runs of `{slowest.name}`"
                hint = f"it runs every {slowest.every:g} s"
                yield Problem(rule.file, rule.line_of("expr"), selector.metric, message, hint)


def ages_outlast_a_lost_scrape(subject: Subject) -> Iterator[Problem]:
    for rule in subject.alerts:
        match = _AGE.search(rule.expr.strip())
        if match and match["limit"] in subject.recorded:
            match = _LIMIT.match(subject.recorded[match["limit"]].expr)
        if match and match["seconds"] and float(match["seconds"]) < MIN_AGE:
            message = f"the limit of {match['seconds']} s is passed by one lost scrape"
            hint = f"take at least {MIN_AGE:g}"
            yield Problem(rule.file, rule.line_of("expr"), rule.alert, message, hint)


def _reads(selector: Selector, probe: str) -> bool:
    return all(matcher.accepts(probe) for matcher in selector.matchers if matcher.label == "probe")


def _literals(matcher: Matcher) -> Iterable[str]:
    """The values a matcher names; none for a dashboard's variable or a regular expression beyond alternatives."""
    if matcher.operator in ("=", "!="):
        return () if matcher.value == "" or "$" in matcher.value else (matcher.value,)
    return matcher.value.split("|") if re.fullmatch(r"[a-z0-9_]+(\|[a-z0-9_]+)*", matcher.value) else ()


def _quoted(text: str) -> list[str]:
    return re.findall(r"`(tocsin_[a-z0-9_]+)`", text)


def _told(labels: frozenset[str]) -> str:
    return ", ".join(sorted(labels - SCRAPE_LABELS - {"le"})) or "none"


CHECKS = (
    patterns_can_be_read,
    every_metric_is_exported,
    matchers_name_labels_that_exist,
    matchers_ask_for_values_that_occur,
    grouping_labels_exist,
    every_metric_is_used_or_documented,
    every_documented_metric_is_exported,
    windows_hold_enough_scrapes,
    windows_hold_enough_runs,
    ages_outlast_a_lost_scrape,
)

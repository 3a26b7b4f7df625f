"""Probes, alerts and rule tests against one another: nothing fails unheard, rings twice, or is untested."""

from __future__ import annotations

from collections.abc import Iterator

from tocsin.config.errors import Problem
from tocsin.model import Severity
from tocsin.paging.lint.subject import Subject, place, selects
from tocsin.paging.promql import Selector, parse


def every_probe_is_covered(subject: Subject) -> Iterator[Problem]:
    selectors = [selector for rule in subject.alerts for selector in subject.alerting(rule)]
    for spec in subject.probes.values():
        for severity in Severity:
            if not any(selects(selector, spec, severity) for selector in selectors):
                yield Problem(*place(spec), spec.name, f"no alert fires when this probe fails as a {severity}")


def no_probe_rings_twice(subject: Subject) -> Iterator[Problem]:
    firsts: dict[tuple[str, str], str] = {}
    for rule in subject.alerts:
        selectors = subject.alerting(rule)
        for spec in subject.known.values() if selectors else ():
            for severity in Severity:
                if any(selects(selector, spec, severity) for selector in selectors):
                    first = firsts.setdefault((spec.name, severity), rule.alert)
                    if first != rule.alert:
                        message = f"fires for `{spec.name}`, as {first} does"
                        yield Problem(rule.file, rule.line_of("expr"), rule.alert, message, "one fault is one alert")


def every_alert_has_probes(subject: Subject) -> Iterator[Problem]:
    for rule in subject.alerts:
        for selector in subject.alerting(rule):
            if _names_something(selector) and not subject.found_by(selector):
                yield Problem(rule.file, rule.line_of("expr"), rule.alert, "fires for no probe that is known")


def every_alert_is_tested(subject: Subject) -> Iterator[Problem]:
    fires = {case.alert for case in subject.cases if case.fires}
    silent = {case.alert for case in subject.cases if not case.fires}
    for rule in subject.alerts:
        if rule.alert not in fires:
            hint = "add one to alerts/tests"
            yield Problem(rule.file, rule.line, rule.alert, "no promtool test expects this alert", hint)
        elif rule.alert not in silent and not parse(rule.expr).constant:
            hint = "add a case with `exp_alerts: []` just below its threshold"
            yield Problem(rule.file, rule.line, rule.alert, "no promtool test expects its silence", hint)


def every_test_has_an_alert(subject: Subject) -> Iterator[Problem]:
    names = {rule.alert for rule in subject.alerts}
    for case in subject.cases:
        if case.alert not in names:
            yield Problem(case.file, case.line, case.alert, "the test is about an alert that does not exist")


def _names_something(selector: Selector) -> bool:
    return any(matcher.operator in ("=", "=~") for matcher in selector.matchers)


CHECKS = (
    every_probe_is_covered,
    no_probe_rings_twice,
    every_alert_has_probes,
    every_alert_is_tested,
    every_test_has_an_alert,
)

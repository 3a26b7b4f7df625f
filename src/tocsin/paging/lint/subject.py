"""What lint looks at: rules and their tests, pages, probes, reasons, metrics, dashboards and reference, as loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from pydantic import BaseModel

from tocsin.model import ProbeSpec, ReasonInfo, Severity
from tocsin.paging.promql import Expression, Selector, parse, template_queries
from tocsin.paging.rulefiles import ALERTING, Case, Rule
from tocsin.runbooks import Page, Section

SCRAPE_LABELS = frozenset({"instance", "job", "cluster", "environment", "__name__"})
"""Labels that Prometheus or its operator adds to every series."""

FOREIGN_METRICS = frozenset({"up", "ALERTS", "ALERTS_FOR_STATE"})
"""Series that every Prometheus has by itself."""

SCRAPE_SECONDS = 15.0
"""The slowest scrape that rules must bear: many a Prometheus takes 15 s. The reference (deploy/prometheus) takes 5."""


@dataclass(frozen=True)
class Metric:
    """A metric of the catalogue: its name without ``_total``, and its labels."""

    name: str
    labels: frozenset[str]


@dataclass(frozen=True)
class Dashboard:
    """A dashboard as a link finds it: its uid and variables. ``queries`` are (line, PromQL)."""

    file: str
    uid: str
    variables: frozenset[str] = frozenset()
    queries: Sequence[tuple[int, str]] = ()


@dataclass(frozen=True)
class Subject:
    """Everything that is held against each other.

    ``probes``: those that must be covered. ``known``: also those that shipped files may speak of although they are not
    configured here (the bundled profiles). ``reasons``: what each of the known probes can answer, common ones included.
    ``docs``: the reference documentation by file; empty in an installed package, which comes without it.
    ``daemon_url``: the address in links that needs the daemon. ``settings``: the model of each kind's settings.
    ``shared``: the sections of reasons that every probe shares.
    """

    rules: Sequence[Rule]
    cases: Sequence[Case]
    pages: Mapping[tuple[str, str], Page]
    probes: Mapping[str, ProbeSpec]
    known: Mapping[str, ProbeSpec]
    reasons: Mapping[str, Sequence[ReasonInfo]]
    catalogue: Mapping[str, Metric]
    dashboards: Sequence[Dashboard] = ()
    docs: Mapping[str, str] = field(default_factory=dict)
    daemon_url: str = ""
    settings: Mapping[str, type[BaseModel]] = field(default_factory=dict)
    shared: Sequence[Section] = ()

    @cached_property
    def alerts(self) -> list[Rule]:
        return [rule for rule in self.rules if rule.alert]

    @cached_property
    def recorded(self) -> dict[str, Rule]:
        return {rule.record: rule for rule in self.rules if rule.record}

    @cached_property
    def expressions(self) -> list[tuple[str, int, Expression]]:
        """Every PromQL with its file and line: rules, queries inside annotations, dashboards."""
        found = [(rule.file, rule.line_of("expr"), parse(rule.expr)) for rule in self.rules]
        for rule in self.alerts:
            for name, text in rule.annotations.items():
                line = rule.line_of(f"annotations.{name}")
                found += [(rule.file, line, parse(query)) for query in template_queries(text)]
        for dashboard in self.dashboards:
            found += [(dashboard.file, line, parse(query)) for line, query in dashboard.queries]
        return found

    def alerting(self, rule: Rule) -> list[Selector]:
        """The selectors by which an alert pages on probes; empty for any other alert, and for one that looks at what
        fires: it takes what others leave, whichever those are."""
        selectors = parse(rule.expr).selectors
        if any(selector.metric == "ALERTS" for selector in selectors):
            return []
        return [selector for selector in selectors if selector.metric in ALERTING]

    def about(self, rule: Rule) -> list[ProbeSpec]:
        """The probes that an alert can be about: those that its first selector finds, when its result names them."""
        return self._about[rule.alert]

    @cached_property
    def _about(self) -> dict[str, list[ProbeSpec]]:
        found = {}
        for rule in self.alerts:
            named = frozenset({"probe", "kind"}) <= (self.carried(rule.expr) or frozenset())
            found[rule.alert] = self.found_by(parse(rule.expr).selectors[0]) if named else []
        return found

    def found_by(self, selector: Selector) -> list[ProbeSpec]:
        """The known probes that a selector finds at some severity."""
        return [spec for spec in self.known.values() if any(selects(selector, spec, severity) for severity in Severity)]

    def metric(self, name: str) -> Metric | None:
        """The exported metric that has samples of this name."""
        for candidate in (name, *(name.removesuffix(suffix) for suffix in ("_total", "_bucket", "_sum", "_count"))):
            if candidate in self.catalogue:
                return self.catalogue[candidate]
        return None

    def labels_of(self, name: str) -> frozenset[str] | None:
        """The labels of a series: exported or recorded; None when they are not known."""
        if name in self.recorded:
            return self.carried(self.recorded[name].expr)
        metric = self.metric(name)
        return None if metric is None else metric.labels | SCRAPE_LABELS | {"le"}

    def carried(self, expression: str) -> frozenset[str] | None:
        """The labels that the result of an expression has; None when its shape does not tell."""
        parsed = parse(expression)
        if parsed.constant:
            return frozenset()
        if parsed.kept is not None:
            return parsed.kept | parsed.added
        found = self.labels_of(parsed.selectors[0].metric)
        return None if found is None else found | parsed.added


def labels(spec: ProbeSpec, severity: str) -> dict[str, str]:
    """The labels with which a probe's alerting series is exported."""
    return {
        "probe": spec.name,
        "system": spec.system,
        "incident": spec.incident,
        "kind": spec.kind,
        "severity": severity,
    }


def selects(selector: Selector, spec: ProbeSpec, severity: Severity) -> bool:
    """Whether a selector finds the alerting series of a probe."""
    return _accepts(selector, tuple(labels(spec, severity).items()))


@lru_cache(maxsize=1 << 17)
def _accepts(selector: Selector, series: tuple[tuple[str, str], ...]) -> bool:
    """Many checks ask every alert about every probe; the answers are the same."""
    return selector.accepts(dict(series))


def place(spec: ProbeSpec) -> tuple[str, int]:
    """File and line of a probe's declaration."""
    file, _, line = spec.source.rpartition(":")
    return file, int(line or 0)

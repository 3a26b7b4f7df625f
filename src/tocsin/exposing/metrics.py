"""The metrics page: lines of each probe rendered once a run, joined by family at each scrape."""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, ProcessCollector

from tocsin.exposing import families as f
from tocsin.exposing.exposition import Family, escape, label_set, number
from tocsin.exposing.site import SelfFacts
from tocsin.model import Entry, Gauge, Status

_BREATH = 64
"""Probes rendered between two moments in which another thread may take the interpreter."""


@dataclass(frozen=True, slots=True)
class _Lines:
    """The finished sample lines of one entry: the engine's by position in `PROBE_FAMILIES`, the gauges by name."""

    entry: Entry
    own: tuple[str, ...]
    gauges: dict[str, str]


@dataclass(slots=True)
class MetricsPage:
    """Renders the page. One instance a server; calls from several threads wait for one another.

    An entry is immutable and replaced at each run, so its lines are kept for as long as it is the same object: a scrape
    renders only what ran since the one before, and joins the rest.
    """

    _lines: dict[str, _Lines] = field(default_factory=dict)
    _gauges: dict[Gauge, Family | None] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _process: ProcessCollector = field(default_factory=lambda: ProcessCollector(registry=CollectorRegistry()))

    def render(
        self,
        entries: Mapping[str, Entry],
        facts: SelfFacts,
        *,
        openmetrics: bool = False,
        web_config_ok: bool = True,
        web_certificate_expiry: float | None = None,
    ) -> str:
        """The whole page for this snapshot. ``web_certificate_expiry``: Unix time; None without TLS."""
        with self._lock:
            self._refresh(entries)
            blocks = list(self._lines.values())
            parts: list[str] = []
            for position, family in enumerate(f.PROBE_FAMILIES):
                parts.append(family.header(openmetrics))
                parts.extend(lines.own[position] for lines in blocks)
            for family in self._measured(blocks):
                parts.append(family.header(openmetrics))
                parts.extend(lines.gauges[family.name] for lines in blocks if family.name in lines.gauges)
            for family, samples in _self_samples(facts, web_config_ok, web_certificate_expiry):
                parts.append(family.header(openmetrics))
                parts.append(samples)
            parts.extend(self._process_samples(openmetrics))
            if openmetrics:
                parts.append("# EOF\n")
            return "".join(parts)

    def _refresh(self, entries: Mapping[str, Entry]) -> None:
        fresh: dict[str, _Lines] = {}
        rendered = 0
        for name, entry in entries.items():
            lines = self._lines.get(name)
            if lines is None or lines.entry is not entry:
                lines = _Lines(entry, _own_lines(entry), self._gauge_lines(entry))
                rendered += 1
                if rendered % _BREATH == 0:
                    time.sleep(0)
            fresh[name] = lines
        self._lines = fresh

    def _gauge_lines(self, entry: Entry) -> dict[str, str]:
        if entry.run is None or not entry.run.measurements:
            return {}
        probe = escape(entry.spec.name)
        samples: dict[str, dict[str, str]] = {}
        for measurement in entry.run.measurements:
            gauge = measurement.gauge
            if gauge not in self._gauges:
                labels = ("probe", *gauge.labels)
                usable = f.invalid(gauge.name, labels) is None
                self._gauges[gauge] = Family(gauge.name, "gauge", gauge.help, labels) if usable else None
            if self._gauges[gauge] is None:
                continue
            pairs = zip(gauge.labels, measurement.labels, strict=True)
            inner = "".join(f',{name}="{escape(value)}"' for name, value in pairs)
            # A label set measured twice in one run is one series: the later value stands.
            samples.setdefault(gauge.name, {})[f'{gauge.name}{{probe="{probe}"{inner}}}'] = number(measurement.value)
        return {
            name: "".join(f"{series} {value}\n" for series, value in values.items()) for name, values in samples.items()
        }

    def _measured(self, blocks: Iterable[_Lines]) -> list[Family]:
        current = {name for lines in blocks for name in lines.gauges}
        found: dict[str, Family] = {}
        for family in self._gauges.values():
            if family is not None and family.name in current:
                found.setdefault(family.name, family)
        return [found[name] for name in sorted(found)]

    def _process_samples(self, openmetrics: bool) -> Iterable[str]:
        for metric in self._process.collect():
            counter = metric.type == "counter"
            name = f"{metric.name}_total" if counter else metric.name
            yield Family(name, "counter" if counter else "gauge", metric.documentation).header(openmetrics)
            for sample in metric.samples:
                yield f"{sample.name}{label_set(sample.labels)} {number(sample.value)}\n"


def _own_lines(entry: Entry) -> tuple[str, ...]:
    """The sample lines of one probe, in the order of `PROBE_FAMILIES`."""
    spec, state, run, counts = entry.spec, entry.state, entry.run, entry.counts
    probe = f'probe="{escape(spec.name)}"'
    who = f'{probe},system="{escape(spec.system)}",incident="{escape(spec.incident)}",kind="{escape(spec.kind)}"'
    # One series a probe, also when nothing is wrong: absent means "not watched", 0 means "not alerting".
    severity = (state.severity if state.alerting else None) or spec.severity
    worst = state.findings[0] if state.findings and state.status is not Status.OK else None
    findings = {} if worst is None else {(found.reason, found.component): None for found in state.findings}
    variables = dict.fromkeys(missing.variable for missing in spec.missing)
    return (
        f'{f.ALERTING.name}{{{who},severity="{severity}"}} {int(state.alerting)}\n',
        "".join(f'{f.STATUS.name}{{{who},status="{status}"}} {int(status is state.status)}\n' for status in Status),
        f'{f.REASON.name}{{{who},reason="{escape(worst.reason)}",severity="{worst.severity}"}} 1\n' if worst else "",
        "".join(
            f'{f.FINDING.name}{{{probe},reason="{escape(reason)}",component="{escape(component)}"}} 1\n'
            for reason, component in findings
        ),
        f'{f.CAUSED_BY.name}{{{probe},cause="{escape(state.caused_by)}"}} 1\n' if state.caused_by else "",
        "".join(f'{f.DEPENDS_ON.name}{{{probe},cause="{escape(cause)}"}} 1\n' for cause in spec.depends_on),
        _one(f.LAST_RUN, probe, state.last_run_at),
        _one(f.LAST_OK, probe, state.last_ok_at),
        _one(f.SINCE, probe, state.since),
        _one(f.DURATION, probe, run.duration_seconds if run else None),
        _one(f.TIMEOUT, probe, spec.timeout),
        _one(f.INTERVAL, probe, spec.every),
        "".join(f'{f.RUNS.name}{{{probe},outcome="{status}"}} {counts.runs.get(status, 0)}\n' for status in Status),
        "".join(
            f'{f.SKIPPED.name}{{{probe},cause="{escape(cause)}"}} {count}\n' for cause, count in counts.skipped.items()
        ),
        "".join(f'{f.MISSING_CONTRACT.name}{{{probe},variable="{escape(name)}"}} 1\n' for name in variables),
    )


def _one(family: Family, labels: str, value: float | None) -> str:
    return "" if value is None else f"{family.name}{{{labels}}} {number(value)}\n"


def _self_samples(
    facts: SelfFacts, web_config_ok: bool, web_certificate_expiry: float | None
) -> Iterable[tuple[Family, str]]:
    def single(family: Family, value: float | None, labels: Mapping[str, str] | None = None) -> tuple[Family, str]:
        return family, "" if value is None else f"{family.name}{label_set(labels or {})} {number(value)}\n"

    build = {"version": facts.version, "python": platform.python_version(), "vantage": facts.vantage}
    lag = facts.lag
    buckets = [(repr(float(bound)), count) for bound, count in zip(lag.bounds, lag.counts, strict=True)]
    yield single(f.BUILD, 1, build)
    yield single(f.RELOAD_OK, int(facts.config_error is None))
    yield single(f.CONFIG_HASH, 1, {"hash": facts.config_hash})
    yield single(f.HEARTBEAT, facts.heartbeat_at)
    yield (
        f.LAG,
        "".join(f'{f.LAG.name}_bucket{{le="{bound}"}} {count}\n' for bound, count in [*buckets, ("+Inf", lag.count)])
        + f"{f.LAG.name}_count {lag.count}\n{f.LAG.name}_sum {number(lag.sum)}\n",
    )
    yield single(f.LOOP_LAG, facts.loop_lag_seconds)
    yield single(f.WRITES_FAILED, facts.state_writes_failed)
    yield single(f.STATE_DEGRADED, int(facts.state_failing is not None))
    yield single(f.STATE_REPLACED, int(facts.state_replaced))
    yield single(f.WEB_CONFIG_OK, int(web_config_ok))
    yield single(f.WEB_CERTIFICATE_EXPIRY, web_certificate_expiry)

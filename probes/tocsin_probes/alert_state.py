"""Kind ``alert_state``: the platform's own alerts, as its Prometheus or its Alertmanager knows them.

What fires there is a ticket by default. The platform's alert already rings at its own receiver; a second page for the
same thing is noise, and what is wanted is that the incident here shows it. Raise it with ``severities`` where the
platform's alerts reach nobody. Sources: Prometheus documentation, "HTTP API", "Rules"; Alertmanager API v2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tocsin.sdk import (
    CommonReason,
    Finding,
    Gauge,
    Outcome,
    Probe,
    ProbeContext,
    ProbeFault,
    ReasonEnum,
    Seconds,
    Severity,
    Status,
    Words,
)
from tocsin.sdk.faults import quoted
from tocsin.sdk.prometheus_api import ApiSettings, document, doubt, instant
from tocsin.sdk.quantities import format_duration

_FIRING = Gauge("tocsin_platform_alerts_firing", "How many alerts of this name fire on the platform.", ("alert",))

MAX_COMPONENTS = 20
"""How many firing alerts of one name are findings of their own."""


@dataclass(frozen=True, slots=True)
class Rule:
    """An alerting rule as Prometheus has it. ``evaluated_at`` in Unix seconds, 0 before the first time."""

    name: str
    health: str
    error: str
    evaluated_at: float
    firing: tuple[Mapping[str, str], ...]


class AlertState(Probe):
    """The platform's own alerts do not fire, and would if there were a reason."""

    kind = "alert_state"
    gauges = (_FIRING,)

    class Settings(ApiSettings):
        alerts: Annotated[Words, Field(min_length=1)]
        """Names of alerts: ``WipeSignerFailures``."""
        source: Literal["prometheus", "alertmanager"] = "prometheus"
        """Prometheus knows whether a rule is there and evaluated; Alertmanager only knows what it was told."""
        match_labels: Mapping[str, str] = {}
        """Labels that an alert must have to count."""
        component_label: str = ""
        """A label that tells alerts of one name apart: ``operation``."""
        max_age: Seconds = 300.0
        """A rule that was last evaluated longer ago is ``no_data``. Prometheus only."""
        presence: str = ""
        """A query that gives a number above 0 while the metrics that the alerts need are there. Prometheus only."""
        watchdog: str = ""
        """An alert that always fires. When Alertmanager does not have it, its silence proves nothing."""

        @model_validator(mode="after")
        def _silence_must_mean_something(self) -> Self:
            if self.source == "alertmanager" and not self.watchdog:
                raise ValueError("`source: alertmanager` needs `watchdog`: no alert and no news look the same there")
            if self.source == "alertmanager" and self.presence:
                raise ValueError("`presence` is a query, and Alertmanager answers none")
            return self

    class Reason(ReasonEnum):
        FIRING = "firing", "The platform's own alert fires.", Severity.TICKET
        ABSENT = "absent", "The platform's Prometheus has no such alerting rule: it cannot fire.", Severity.TICKET
        NO_DATA = (
            "no_data",
            "The platform's alerts say nothing: the rule is not evaluated, or its metrics or the watchdog are missing.",
            Severity.TICKET,
            Status.UNKNOWN,
        )
        QUERY_ERROR = "query_error", "The monitoring system does not take the query.", Severity.TICKET, Status.UNKNOWN

    settings: Settings

    async def run(self, ctx: ProbeContext) -> Outcome:
        if self.settings.source == "alertmanager":
            found = await self._alertmanager(ctx)
        else:
            found = await self._prometheus(ctx)
        return Outcome.of(found, f"{', '.join(self.settings.alerts)}: not firing")

    async def _prometheus(self, ctx: ProbeContext) -> list[Finding]:
        settings, reason = self.settings, self.Reason
        answer = await document(ctx, settings, "/api/v1/rules", {"type": "alert"}, reason.QUERY_ERROR)
        rules = _read(lambda: list(_rules(answer)), answer)
        partial = doubt(answer, reason.QUERY_ERROR)
        found = [partial.finding] if partial is not None else []
        for name in settings.alerts:
            same = [rule for rule in rules if rule.name == name]
            if not same:
                if partial is not None:
                    continue  # it may be in the part that did not come
                found.append(Finding.of(reason.ABSENT, f"no rule {name}", name))
                continue
            found += self._firing(ctx, name, [labels for rule in same for labels in rule.firing])
            found += [Finding.of(reason.NO_DATA, problem, name) for problem in self._unevaluated(same, ctx.now())]
        if settings.presence:
            present = await instant(ctx, settings, settings.presence, reason.QUERY_ERROR)
            if not any(sample.value > 0 for sample in present.samples):
                found.append(Finding.of(reason.NO_DATA, "the metrics that the alerts need are not there", "presence"))
        return found

    def _unevaluated(self, rules: Sequence[Rule], now: float) -> Iterator[str]:
        for rule in rules:
            if rule.health != "ok":
                yield f"the rule's health is {quoted(rule.health)}: {quoted(rule.error, 200)}"
            elif now - rule.evaluated_at > self.settings.max_age:
                yield f"last evaluated {format_duration(round(now - rule.evaluated_at))} ago"

    async def _alertmanager(self, ctx: ProbeContext) -> list[Finding]:
        settings, reason = self.settings, self.Reason
        answer = await document(ctx, settings, "/api/v2/alerts", {}, reason.QUERY_ERROR)
        labels = _read(lambda: [dict(alert["labels"]) for alert in answer], answer)
        if not any(each.get("alertname") == settings.watchdog for each in labels):
            return [Finding.of(reason.NO_DATA, f"Alertmanager does not have {settings.watchdog}", "watchdog")]
        found = []
        for name in settings.alerts:
            found += self._firing(ctx, name, [each for each in labels if each.get("alertname") == name])
        return found

    def _firing(self, ctx: ProbeContext, name: str, alerts: Sequence[Mapping[str, str]]) -> list[Finding]:
        wanted = self.settings.match_labels.items()
        counted = [labels for labels in alerts if wanted <= labels.items()]
        ctx.measure(_FIRING, len(counted), alert=name)
        label = self.settings.component_label
        components = {f"{name}/{labels[label]}" if labels.get(label) else name for labels in counted}
        return [
            Finding.of(self.Reason.FIRING, f"{component} fires on the platform", component)
            for component in sorted(components)[:MAX_COMPONENTS]
        ]


def _rules(answer: Any) -> Iterator[Rule]:
    for group in answer["data"]["groups"]:
        for rule in group["rules"]:
            if rule["type"] == "alerting":
                evaluated = datetime.fromisoformat(rule["lastEvaluation"])
                yield Rule(
                    name=rule["name"],
                    health=rule["health"],
                    error=rule.get("lastError") or "",
                    evaluated_at=evaluated.timestamp() if evaluated.year > 1 else 0.0,
                    firing=tuple(dict(alert["labels"]) for alert in rule["alerts"] if alert["state"] == "firing"),
                )


def _read(reader: Any, answer: Any) -> Any:
    try:
        return reader()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        detail = f"not an answer of this API: {quoted(str(answer), 80)}"
        raise ProbeFault(CommonReason.DEPENDENCY_UNKNOWN, detail) from error

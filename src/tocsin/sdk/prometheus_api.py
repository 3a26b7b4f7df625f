"""Prometheus' HTTP API, as Prometheus, Loki and others serve it: instant queries, and any other document.

A monitoring system that cannot be asked says nothing about what it monitors: whatever keeps it from answering is
unknown here (``dependency_unknown``), never failed. Sources: Prometheus documentation, "HTTP API"; Grafana Loki
documentation, "Loki HTTP API" (``/loki/api/v1/query`` answers in the same form).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlencode

from pydantic import model_validator

from tocsin.model import CommonReason, Gauge, ReasonEnum, Secret, Status
from tocsin.sdk.faults import ProbeFault, explain, quoted, status_finding
from tocsin.sdk.http import HttpUrl, TlsSettings, origin
from tocsin.sdk.probe import ProbeSettings

if TYPE_CHECKING:
    from tocsin.sdk.context import ProbeContext

QUERY_VALUE: Final = Gauge("tocsin_query_value", "What the query gives, by component.", ("component",))
MAX_SERIES: Final = 50
"""A query that gives more is taken for a mistake: each series is a label value and may be a finding."""

_REFUSED = (400, 422)
"""Bad parameters and an expression that cannot be executed. Prometheus documentation, "HTTP API", "Format overview"."""


class ApiSettings(ProbeSettings):
    """Where the API is."""

    url: HttpUrl
    """The server's address, with its path prefix if it has one."""
    headers: Mapping[str, Secret] = {}
    """Such as ``Authorization`` or ``X-Scope-OrgID``."""
    tls: TlsSettings = TlsSettings()

    def targets(self) -> tuple[str, ...]:
        return (origin(self.url),)


class QuerySettings(ApiSettings):
    """One query, and the limits of what it may give."""

    query: str
    """Gives a number, or a few series of numbers. Leave the comparison to ``above`` and ``below``: a query that gives
    nothing while all is well looks like one whose metric is gone."""
    above: float | None = None
    """A value above it is ``threshold_exceeded``."""
    below: float | None = None
    """A value below it is ``threshold_exceeded``."""
    component_label: str = ""
    """The label that tells the series apart."""
    presence: str = ""
    """A second query, asked when the first gives nothing. When it gives a number above 0 the first one's value is
    0: nothing was counted, although there is something to count. Otherwise nothing is ``no_data``."""

    @model_validator(mode="after")
    def _has_a_limit(self) -> Self:
        if self.above is None and self.below is None:
            raise ValueError("set `above`, `below` or both")
        return self


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of an instant query."""

    labels: Mapping[str, str]
    value: float


async def document(
    ctx: ProbeContext, settings: ApiSettings, path: str, query: Mapping[str, str], wrong: ReasonEnum
) -> Any:
    """What the API answers, as JSON. Raises `ProbeFault`: ``wrong`` when it does not take the parameters, otherwise
    something unknown."""
    url = f"{settings.url.rstrip('/')}{path}" + (f"?{urlencode(query)}" if query else "")
    headers = {name: value.reveal() for name, value in settings.headers.items()}
    try:
        answer = await ctx.http.fetch("GET", url, headers=headers, tls=settings.tls)
        if answer.status in _REFUSED:
            raise ProbeFault(wrong, f"HTTP {answer.status}: {quoted(answer.body, 300)}")
        if answer.status != 200:
            finding = status_finding(answer.status, f"HTTP {answer.status} from {settings.url}", Status.UNKNOWN)
            raise ProbeFault(CommonReason(finding.reason), finding.detail)
        return answer.json()
    except (ProbeFault, OSError) as error:
        finding = explain(error)
        if finding.status is Status.UNKNOWN:
            raise
        raise ProbeFault(CommonReason.DEPENDENCY_UNKNOWN, f"{finding.reason}: {finding.detail}") from error


async def instant(
    ctx: ProbeContext, settings: ApiSettings, query: str, wrong: ReasonEnum, path: str = "/api/v1/query"
) -> list[Sample]:
    """The samples of an instant query; a scalar is one without labels. Raises as `document` does."""
    answer = await document(ctx, settings, path, {"query": query}, wrong)
    try:
        data = answer["data"]
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        if data["resultType"] != "vector":
            raise ProbeFault(wrong, f"the query gives a {data['resultType']}, not a number or a vector")
        samples = [Sample(each["metric"], float(each["value"][1])) for each in data["result"]]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        detail = f"not an answer of this API: {quoted(str(answer), 80)}"
        raise ProbeFault(CommonReason.DEPENDENCY_UNKNOWN, detail) from error
    if len(samples) > MAX_SERIES:
        raise ProbeFault(wrong, f"the query gives {len(samples)} series; aggregate them to {MAX_SERIES} at most")
    return samples


async def values(
    ctx: ProbeContext, settings: QuerySettings, wrong: ReasonEnum, path: str = "/api/v1/query"
) -> dict[str, float]:
    """By component, what the query gives, NaN left out; measured. Empty: there is no data."""
    found: dict[str, float] = {}
    for sample in await instant(ctx, settings, settings.query, wrong, path):
        if not math.isnan(sample.value):
            component = sample.labels.get(settings.component_label, "") if settings.component_label else ""
            found[component] = max(sample.value, found.get(component, sample.value), key=_worse(settings))
    if not found and settings.presence:
        present = await instant(ctx, settings, settings.presence, wrong, path)
        if any(sample.value > 0 for sample in present):
            found[""] = 0.0
    for component, value in found.items():
        ctx.measure(QUERY_VALUE, value, component=component)
    return found


def exceeded(settings: QuerySettings, found: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Component and detail of each value beyond a limit."""
    for component, value in found.items():
        if settings.above is not None and value > settings.above:
            yield component, f"{value:g}, the limit is {settings.above:g}"
        elif settings.below is not None and value < settings.below:
            yield component, f"{value:g}, at least {settings.below:g} is well"


def _worse(settings: QuerySettings) -> Any:
    """Orders values of one component that several series give: the worst counts."""
    return (lambda value: value) if settings.above is not None else (lambda value: -value)

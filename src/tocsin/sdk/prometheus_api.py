"""Prometheus' HTTP API, as Prometheus, Loki and others serve it: instant queries, and any other document.

A monitoring system that cannot be asked says nothing about what it monitors: whatever keeps it from answering is
unknown here (``dependency_unknown``), never failed. Sources: Prometheus documentation, "HTTP API"; Grafana Loki
documentation, "Loki HTTP API" (``/loki/api/v1/query`` answers in the same form).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self
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

_ABOUT_THE_QUERY = "PromQL warning:"
_HARMLESS = "PromQL info:"
"""How annotations begin that came of the query, not of missing data. Since Prometheus 3 the harmless ones are in
``infos``; before, they are among the warnings. Source: prometheus/util/annotations."""

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


@dataclass(frozen=True, slots=True)
class Answer:
    """What an instant query gives. ``doubt``: why more may be missing; None when nothing is."""

    samples: list[Sample]
    doubt: ProbeFault | None = None


class Range(NamedTuple):
    """The lowest and the highest value of one component, which several series may give."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:g}" if self.low == self.high else f"{self.low:g} to {self.high:g}"


def doubt(answer: Any, wrong: ReasonEnum) -> ProbeFault | None:
    """Why an answer may not be all there is: what its server warns of, or says about itself. ``wrong`` is the reason
    when that is the query's fault.

    Thanos and Loki answer without a store that is away, and warn; VictoriaMetrics says ``isPartial``. Sources: Thanos
    documentation, "Querier", "Partial Response Strategy"; VictoriaMetrics documentation, "Cluster availability".
    """
    if not isinstance(answer, dict):
        return None
    given = answer.get("warnings") or []
    warnings = [str(each) for each in (given if isinstance(given, list) else [given])]
    missing = [each for each in warnings if not each.startswith((_ABOUT_THE_QUERY, _HARMLESS))]
    if missing or answer.get("isPartial") is True:
        said = f": {quoted(missing[0], 200)}" if missing else ""
        return ProbeFault(CommonReason.DEPENDENCY_UNKNOWN, f"the answer may not be whole{said}")
    about = [each for each in warnings if each.startswith(_ABOUT_THE_QUERY)]
    return ProbeFault(wrong, quoted(about[0], 200)) if about else None


async def instant(
    ctx: ProbeContext, settings: ApiSettings, query: str, wrong: ReasonEnum, path: str = "/api/v1/query"
) -> Answer:
    """The samples of an instant query; a scalar is one without labels. Raises as `document` does."""
    answer = await document(ctx, settings, path, {"query": query}, wrong)
    try:
        data = answer["data"]
        if data["resultType"] == "scalar":
            return Answer([Sample({}, float(data["result"][1]))], doubt(answer, wrong))
        if data["resultType"] != "vector":
            raise ProbeFault(wrong, f"the query gives a {data['resultType']}, not a number or a vector")
        samples = [
            Sample({name: str(value) for name, value in each["metric"].items()}, float(each["value"][1]))
            for each in data["result"]
        ]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        detail = f"not an answer of this API: {quoted(str(answer), 80)}"
        raise ProbeFault(CommonReason.DEPENDENCY_UNKNOWN, detail) from error
    if len(samples) > MAX_SERIES:
        raise ProbeFault(wrong, f"the query gives {len(samples)} series; aggregate them to {MAX_SERIES} at most")
    return Answer(samples, doubt(answer, wrong))


async def values(
    ctx: ProbeContext, settings: QuerySettings, wrong: ReasonEnum, path: str = "/api/v1/query"
) -> dict[str, Range]:
    """By component, what the query gives, NaN left out; the worse end is measured. Empty: there is no data.

    Raises as `document` does, also for an answer in `doubt` unless a value is above its limit: what is missing could
    add to a value, and would seldom take from it.
    """
    answer = await instant(ctx, settings, settings.query, wrong, path)
    found: dict[str, Range] = {}
    for sample in answer.samples:
        if not math.isnan(sample.value):
            component = sample.labels.get(settings.component_label, "") if settings.component_label else ""
            known = found.get(component, Range(sample.value, sample.value))
            found[component] = Range(min(sample.value, known.low), max(sample.value, known.high))
    if not found and settings.presence and answer.doubt is None:
        present = await instant(ctx, settings, settings.presence, wrong, path)
        if any(sample.value > 0 for sample in present.samples):
            found[""] = Range(0.0, 0.0)
    for component, each in found.items():
        ctx.measure(QUERY_VALUE, _worse(settings, each), component=component)
    if answer.doubt is not None and not any(_too_high(settings, each) for each in found.values()):
        raise answer.doubt
    return found


def exceeded(settings: QuerySettings, found: Mapping[str, Range]) -> Iterator[tuple[str, str]]:
    """Component and detail of each that has a value beyond a limit."""
    for component, each in found.items():
        said = []
        if _too_high(settings, each):
            said.append(f"{each.high:g}, the limit is {settings.above:g}")
        if _too_low(settings, each):
            said.append(f"{each.low:g}, at least {settings.below:g} is well")
        if said:
            yield component, "; ".join(said)


def _too_high(settings: QuerySettings, found: Range) -> bool:
    return settings.above is not None and found.high > settings.above


def _too_low(settings: QuerySettings, found: Range) -> bool:
    return settings.below is not None and found.low < settings.below


def _worse(settings: QuerySettings, found: Range) -> float:
    """The end that is beyond its limit, the higher one first; without any, the one that a limit is set for."""
    if _too_high(settings, found):
        return found.high
    return found.low if settings.above is None or _too_low(settings, found) else found.high

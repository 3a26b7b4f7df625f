"""Kind ``promql``: one query to the platform's own Prometheus, and the limits of what it may give.

A Prometheus that cannot be asked leaves this probe unknown: whether it is well itself is another probe's question.
"""

from __future__ import annotations

from tocsin.sdk import Finding, Outcome, Probe, ProbeContext, ReasonEnum, Severity, Status
from tocsin.sdk.prometheus_api import QUERY_VALUE, QuerySettings, exceeded, values


class Promql(Probe):
    """One query to the platform's own Prometheus: what it gives is there and within limits."""

    kind = "promql"
    gauges = (QUERY_VALUE,)
    Settings = QuerySettings

    class Reason(ReasonEnum):
        THRESHOLD_EXCEEDED = "threshold_exceeded", "What the query gives is beyond the limit."
        NO_DATA = "no_data", "The query gives nothing: what it counts is not there.", Severity.TICKET, Status.UNKNOWN
        QUERY_ERROR = "query_error", "Prometheus does not take the query.", Severity.TICKET, Status.UNKNOWN

    settings: QuerySettings

    async def run(self, ctx: ProbeContext) -> Outcome:
        found = await values(ctx, self.settings, self.Reason.QUERY_ERROR)
        if not found:
            return Outcome.bad(self.Reason.NO_DATA, "the query gives no number")
        wrong = [
            Finding.of(self.Reason.THRESHOLD_EXCEEDED, detail, component)
            for component, detail in exceeded(self.settings, found)
        ]
        return Outcome.of(wrong, ", ".join(f"{name or 'value'} {each}" for name, each in sorted(found.items())))

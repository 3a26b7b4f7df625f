"""The platform's Prometheus, Loki and collector, as far as probes ask them: instant queries, rules, an exporter's page.

The logs and counts are those of the running estate; what is understood of the query languages is what the bundled
profile uses. Answers as in Prometheus' documentation, "HTTP API", and Grafana Loki's, "Loki HTTP API".
"""

from __future__ import annotations

import datetime
import re
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tocsin.sdk.quantities import parse_duration

ALERTS = (
    "WipeAPITelemetryMissing",
    "WipeHTTP5xxRate",
    "WipeQueueBacklogHigh",
    "WipeQueueJobFailures",
    "WipeQueueDeadLetters",
    "WipeQueueDLQNotEmpty",
    "WipeProofProcessingStalled",
    "WipeProofsFailed",
    "WipeProofsAwaitingLicense",
    "WipeSignerFailures",
    "WipeAnchorFailures",
    "WipeDBConnectionsSaturated",
)
"""Published: the platform's own alerts."""

UNAUTHORIZED_QUERY = 'sum(rate(wipe_http_requests_total{status="401"}[5m]))'
"""The metric's name is the sandbox's own: the platform publishes none."""

PRESENCE_QUERY = 'sum(up{job="otel-collector"})'
"""Published: Prometheus scrapes the collector's exporter. The job's name is the sandbox's own."""

_SERVICE = re.compile(r'service_name="([^"]*)"')
_FILTER = re.compile(r'\|~ "((?:[^"\\]|\\.)*)"')
_WINDOW = re.compile(r"\[(\w+)\]")
_BY = re.compile(r"by \((\w+)\)")
_KEPT = 5000


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a service's log. ``source``: the client's address, in a proxy's log."""

    at: float
    service: str
    text: str
    source: str = ""
    planted: bool = False


@dataclass(slots=True)
class Observability:
    """What was logged, and which of the platform's alerts fire, by name with the labels of each."""

    lines: deque[Line] = field(default_factory=lambda: deque(maxlen=_KEPT))
    firing: dict[str, dict[str, str]] = field(default_factory=dict)

    def log(self, service: str, text: str, *, source: str = "", planted: bool = False) -> None:
        self.lines.append(Line(time.time(), service, text, source, planted))

    def forget(self) -> None:
        """The lines that a fault planted."""
        self.lines = deque((line for line in self.lines if not line.planted), _KEPT)

    def build(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/api/v1/query", self._promql)
        app.router.add_get("/api/v1/rules", self._rules)
        app.router.add_get("/loki/api/v1/query", self._logql)
        return app

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(text=f"# TYPE wipe_log_lines gauge\nwipe_log_lines {len(self.lines)}\n")

    async def _promql(self, request: web.Request) -> web.Response:
        if request.query["query"] == PRESENCE_QUERY:
            return _vector([({}, 1.0)])
        if request.query["query"] != UNAUTHORIZED_QUERY:
            return _refused("the sandbox's Prometheus does not know this query")
        since = time.time() - 300
        refused = sum(
            1 for line in self.lines if line.service == "api" and line.at >= since and "status=401" in line.text
        )
        return _vector([({}, refused / 300)])

    async def _logql(self, request: web.Request) -> web.Response:
        """``sum [by (label)] (count_over_time({service_name="…"} |~ "…" [window]))``, alone or in ``topk(1, …)``."""
        query = request.query["query"]
        service, window = _SERVICE.search(query), _WINDOW.search(query)
        if service is None or window is None:
            return _refused("parse error : a selector and a range are needed")
        wanted = [re.compile(pattern.replace("\\\\", "\\")) for pattern in _FILTER.findall(query)]
        since = time.time() - parse_duration(window[1])
        found = [
            line
            for line in self.lines
            if line.service == service[1] and line.at >= since and all(p.search(line.text) for p in wanted)
        ]
        if not found:
            return _vector([])
        by = _BY.search(query)
        if by is None:
            return _vector([({}, float(len(found)))])
        source, count = Counter(line.source for line in found).most_common(1)[0]
        return _vector([({by[1]: source}, float(count))])

    async def _rules(self, request: web.Request) -> web.Response:
        now = datetime.datetime.now(datetime.UTC).isoformat()
        rules = [
            {
                "name": name,
                "type": "alerting",
                "health": "ok",
                "lastEvaluation": now,
                "state": "firing" if name in self.firing else "inactive",
                "alerts": [{"state": "firing", "labels": {"alertname": name, **self.firing[name]}}]
                if name in self.firing
                else [],
            }
            for name in ALERTS
        ]
        return web.json_response({"status": "success", "data": {"groups": [{"name": "wipe", "rules": rules}]}})


def _vector(samples: list[tuple[dict[str, str], float]]) -> web.Response:
    result: list[Any] = [{"metric": labels, "value": [time.time(), str(value)]} for labels, value in samples]
    return web.json_response({"status": "success", "data": {"resultType": "vector", "result": result}})


def _refused(why: str) -> web.Response:
    return web.json_response({"status": "error", "errorType": "bad_data", "error": why}, status=400)

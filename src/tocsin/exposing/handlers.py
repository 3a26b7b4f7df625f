"""The addresses: what each answers. Nothing here takes a target from the request."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiohttp import web

from tocsin.config.describing import planned_document
from tocsin.exposing import documents, pages
from tocsin.exposing.connections import Connections
from tocsin.exposing.exposition import OPENMETRICS_TYPE, TEXT_TYPE, accepts_openmetrics
from tocsin.exposing.gate import Gate
from tocsin.exposing.metrics import MetricsPage
from tocsin.exposing.site import Site
from tocsin.model import Entry

RELOAD_SECONDS = 30.0
_API_RUNS = 100
_API_TRANSITIONS = 100
_MOST_RENDERING = 32
_GZIP_FROM_BYTES = 1024
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "deny",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Server": "tocsin",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Workers:
    """Threads, and how many requests they have."""

    threads: Executor
    busy: int = 0


@dataclass(slots=True)
class Desk:
    """Answers requests on the server's loop; everything that renders or reads the disk runs on ``workers``, and what
    Prometheus scrapes, which reads none, on its own: a disk that hangs must not silence the metrics."""

    site: Site
    gate: Gate
    workers: Workers
    scrapers: Workers
    metrics: MetricsPage = field(default_factory=MetricsPage)
    connections: Connections | None = None
    web_config_error: str | None = None
    web_certificate_expiry: float | None = None
    _was_ready: bool = False

    def application(self) -> web.Application:
        """The routes. GET routes answer HEAD too."""
        app = web.Application(middlewares=[self._guard], client_max_size=4096)
        app.add_routes(
            [
                web.get("/", self.status),
                web.get("/metrics", self.metrics_text),
                web.get("/-/healthy", self.healthy),
                web.get("/-/ready", self.ready),
                web.post("/-/reload", self.reload),
                web.get("/api/v1/plan", self.api_plan),
                web.get("/api/v1/probes", self.api_probes),
                web.get("/api/v1/probes/{name}", self.api_probe),
                web.get("/probes/{name}", self.probe),
                web.get("/runbooks/{system}/{incident}", self.runbook),
                web.get("/static/{name}", self.static),
            ]
        )
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The gate, plain-text errors, and the headers of every answer."""
        try:
            with self.connections.answering(request) if self.connections is not None else nullcontext():
                response = await self.gate.refusal(request) or await handler(request)
        except web.HTTPException as error:
            allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
            response = web.Response(status=error.status, text=f"{error.status} {error.reason}\n", headers=allow)
        except Exception as error:  # noqa: BLE001  (the last resort: a bug must not end in a traceback for the client)
            structlog.get_logger("tocsin.web").error("a request failed", path=request.path, exc_info=error)
            response = web.Response(status=500, text="500 Internal Server Error; the daemon's log says more\n")
        for name, value in {**_HEADERS, **self.gate.config.http_server_config.headers}.items():
            if value:
                response.headers.setdefault(name, value)
        return response

    async def status(self, request: web.Request) -> web.Response:
        refresh = request.query.get("refresh") != "off"
        return await self._html(request, lambda: pages.status_page(self.site, refresh=refresh), "", 0)

    async def probe(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        return await self._html(request, lambda: pages.probe_page(self.site, name), "There is no such probe.", 1)

    async def runbook(self, request: web.Request) -> web.Response:
        system, incident = request.match_info["system"], request.match_info["incident"]
        return await self._html(
            request, lambda: pages.runbook_page(self.site, system, incident), "There is no such runbook page.", 2
        )

    async def static(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in pages.STATIC:
            raise web.HTTPNotFound
        cache = {"Cache-Control": "public, max-age=31536000, immutable" if "v" in request.query else "max-age=3600"}
        return await self._packed(request, lambda: pages.static(name), pages.STATIC[name], headers=cache)

    async def metrics_text(self, request: web.Request) -> web.Response:
        openmetrics = accepts_openmetrics(request.headers.get("Accept", ""))

        def render() -> bytes:
            text = self.metrics.render(
                self.site.entries(),
                self.site.facts(),
                openmetrics=openmetrics,
                web_config_ok=self.web_config_error is None,
                web_certificate_expiry=self.web_certificate_expiry,
            )
            return text.encode()

        return await self._packed(
            request, render, OPENMETRICS_TYPE if openmetrics else TEXT_TYPE, workers=self.scrapers
        )

    async def healthy(self, request: web.Request) -> web.Response:
        health = self.site.health()
        return web.Response(status=200 if health.alive else 503, text=f"{health.detail}\n")

    async def ready(self, request: web.Request) -> web.Response:
        """Ready for good once every probe had a first result, or the time for that is over; whatever the results."""
        entries = self.site.entries()
        waiting = sum(map(_is_awaited, entries.values()))
        uptime = self.site.now() - self.site.facts().started_at
        if waiting == 0 or uptime >= self.site.ready_within:
            self._was_ready = True
        if self._was_ready:
            return web.Response(text="ready\n")
        return web.Response(status=503, text=f"waiting for the first result of {waiting} of {len(entries)} probes\n")

    async def reload(self, request: web.Request) -> web.Response:
        if _comes_from_another_site(request):
            return web.Response(status=403, text="A reload cannot be asked for from another site's page.\n")
        try:
            future = asyncio.wrap_future(self.site.reload())
            result = await asyncio.wait_for(asyncio.shield(future), RELOAD_SECONDS)
        except TimeoutError:
            return web.Response(status=504, text=f"The probing loop did not answer within {RELOAD_SECONDS:.0f} s.\n")
        except RuntimeError:
            return web.Response(status=503, text="The probing loop is not running.\n")
        return web.Response(status=200 if result.accepted else 400, text=f"{result.message}\n")

    async def api_probes(self, request: web.Request) -> web.Response:
        def render() -> bytes:
            entries = self.site.entries().items()
            probes = [documents.probe_document(entry, self.site.due(name)) for name, entry in entries]
            return _json({"vantage": self.site.facts().vantage, "probes": probes})

        return await self._packed(request, render, "application/json")

    async def api_plan(self, request: web.Request) -> web.Response:
        def render() -> bytes:
            return _json({"probes": [planned_document(row) for row in self.site.plan()]})

        return await self._packed(request, render, "application/json")

    async def api_probe(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        entry, history = self.site.entries().get(name), self.site.history
        if entry is None:
            return web.Response(status=404, body=_json({"error": "no such probe"}), content_type="application/json")

        def render() -> bytes:
            return _json(
                {
                    **documents.probe_document(entry, self.site.due(name)),
                    "recent_runs": [documents.record_document(run) for run in history.runs(name, _API_RUNS)],
                    "transitions": [
                        documents.transition_document(change) for change in history.transitions(name, _API_TRANSITIONS)
                    ],
                    "evidence": documents.evidence_document(history.evidence(name)),
                }
            )

        return await self._packed(request, render, "application/json")

    async def _html(
        self, request: web.Request, render: Callable[[], bytes | None], missing: str, depth: int
    ) -> web.Response:
        """``missing``: what is said, ``depth`` folders below the top, when there is nothing to render."""
        found = True

        def page() -> bytes:
            nonlocal found
            rendered = render()
            found = rendered is not None
            return rendered if rendered is not None else pages.message_page(self.site, "Not found", missing, depth)

        response = await self._packed(request, page, "text/html; charset=utf-8")
        response.set_status(200 if found else 404)
        return response

    async def _packed(
        self,
        request: web.Request,
        render: Callable[[], bytes],
        content_type: str,
        headers: dict[str, str] | None = None,
        workers: Workers | None = None,
    ) -> web.Response:
        """Renders and compresses on a worker, so that the loop stays free to say that the daemon lives."""
        workers = workers or self.workers
        if workers.busy >= _MOST_RENDERING:
            return web.Response(
                status=503, text="Too many requests are being answered.\n", headers={"Retry-After": "1"}
            )
        zipped = _accepts_gzip(request.headers.get("Accept-Encoding", ""))

        def work() -> tuple[bytes, bool]:
            body = render()
            if zipped and len(body) >= _GZIP_FROM_BYTES:
                return gzip.compress(body, compresslevel=2, mtime=0), True
            return body, False

        workers.busy += 1
        try:
            body, packed = await asyncio.get_running_loop().run_in_executor(workers.threads, work)
        finally:
            workers.busy -= 1
        encoding = {"Content-Encoding": "gzip"} if packed else {}
        return web.Response(
            body=body,
            headers={"Content-Type": content_type, "Vary": "Accept, Accept-Encoding", **encoding, **(headers or {})},
        )


def _comes_from_another_site(request: web.Request) -> bool:
    """Whether a browser says that another site's page made this request: by W3C Fetch Metadata, or by the origin (RFC
    6454 section 7) where the address is neither https nor localhost and it leaves that out."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in ("none", "same-origin")
    origin = request.headers.get("Origin")
    return origin is not None and origin.partition("://")[2].lower() != request.headers.get("Host", "").lower()


def _is_awaited(entry: Entry) -> bool:
    """Whether its first result is to come soon. What is costly and ran before a restart rests until its next time."""
    return entry.run is None and not (entry.spec.costly and entry.state.last_run_at is not None)


def _json(document: Any) -> bytes:
    return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()


def _accepts_gzip(header: str) -> bool:
    """RFC 9110 section 12.5.3: named and not with a weight of zero."""
    for part in header.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        if name in ("gzip", "x-gzip", "*"):
            return not any(parameter.startswith("q=") and not parameter[2:].strip("0.") for parameter in parameters)
    return False

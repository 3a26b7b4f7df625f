"""The page and the API of the switches: forms that work without a script, JSON for the command line."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from urllib.parse import urlsplit

import jinja2
from aiohttp import web
from aiohttp.typedefs import Handler

from tocsin_sandbox.fault import Fault
from tocsin_sandbox.switches import FlipError, Switches, UnknownFaultError

_SECURITY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def build(switches: Switches, links: Mapping[str, str]) -> web.Application:
    """The application. ``links``: titles and addresses shown on the page (status page, metrics)."""
    template = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        files(__package__).joinpath("switchboard.html").read_text("utf-8")
    )

    def page(status: int = 200, problem: str = "") -> web.Response:
        groups: dict[tuple[str, str], list[Fault]] = {}
        for fault in switches.faults.values():
            groups.setdefault((fault.system, fault.incident), []).append(fault)
        html = template.render(
            groups=groups, total=len(switches.faults), active=switches.active, links=links, problem=problem
        )
        return web.Response(text=html, content_type="text/html", status=status)

    async def show(request: web.Request) -> web.Response:
        return page()

    async def flip(request: web.Request) -> web.Response:
        form = await request.post()
        act = switches.undo if form.get("action") == "undo" else switches.cause
        return await back(lambda: act(request.match_info["name"]))

    async def heal(request: web.Request) -> web.Response:
        return await back(switches.heal)

    async def back(act: Callable[[], Awaitable[None]]) -> web.Response:
        try:
            await act()
        except UnknownFaultError as error:
            return page(404, str(error))
        except FlipError as error:
            return page(409, str(error))
        raise web.HTTPSeeOther("/")

    async def list_faults(request: web.Request) -> web.Response:
        return answer()

    def answer() -> web.Response:
        rows = [{**fault.facts(), "active": fault.name in switches.active} for fault in switches.faults.values()]
        return web.json_response({"faults": rows})

    async def api(request: web.Request) -> web.Response:
        name = request.match_info.get("name", "")
        try:
            match request.method:
                case "POST" if name:
                    await switches.cause(name)
                case "DELETE":
                    await switches.undo(name)
                case _:
                    await switches.heal()
        except UnknownFaultError as error:
            return web.json_response({"error": str(error)}, status=404)
        except FlipError as error:
            return web.json_response({"error": str(error)}, status=409)
        return answer()

    app = web.Application(middlewares=[_only_this_site, _with_headers], client_max_size=1 << 14)
    app.router.add_get("/", show)
    app.router.add_post("/faults/{name}", flip)
    app.router.add_post("/heal", heal)
    app.router.add_get("/api/v1/faults", list_faults)
    app.router.add_post("/api/v1/faults/{name}", api)
    app.router.add_delete("/api/v1/faults/{name}", api)
    app.router.add_post("/api/v1/heal", api)
    return app


@web.middleware
async def _only_this_site(request: web.Request, handler: Handler) -> web.StreamResponse:
    """No other web page may flip a switch: a browser names the page that a form came from in ``Origin``."""
    origin = request.headers.get("Origin")
    if request.method not in ("GET", "HEAD") and origin is not None and urlsplit(origin).netloc != request.host:
        raise web.HTTPForbidden(text="switches are flipped from this page only\n")
    return await handler(request)


@web.middleware
async def _with_headers(request: web.Request, handler: Handler) -> web.StreamResponse:
    response = await handler(request)
    response.headers.update(_SECURITY)
    return response

"""What stands between Alexandria's users and its API: the ingress hands requests on to the Service, and that one to the
pod's port."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import ClientError, ClientSession, ClientTimeout, web

_PASSED_ON = ("Accept", "Authorization", "Content-Type")
_HANDED_BACK = ("Content-Type", "Retry-After")
_SECONDS = 30.0
_UPSTREAM = web.AppKey("upstream", ClientSession)


class Proxy:
    """Forwards to what is at ``upstream``; answers 502 when nothing is there. ``pages``: paths that it answers itself,
    with a page."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.pages: set[str] = set()

    def build(self) -> web.Application:
        app = web.Application()
        app.cleanup_ctx.append(self._connect)
        app.router.add_route("*", "/{path:.*}", self._forward)
        return app

    async def _connect(self, app: web.Application) -> AsyncIterator[None]:
        async with ClientSession(self.upstream, timeout=ClientTimeout(total=_SECONDS)) as session:
            app[_UPSTREAM] = session
            yield

    async def _forward(self, request: web.Request) -> web.Response:
        if request.path in self.pages:
            return web.Response(text="<!doctype html><title>Alexandria</title>", content_type="text/html")
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        body = await request.read()
        try:
            async with request.app[_UPSTREAM].request(
                request.method, request.path_qs, headers=headers, data=body or None, allow_redirects=False
            ) as answer:
                told = {name: answer.headers[name] for name in _HANDED_BACK if name in answer.headers}
                return web.Response(status=answer.status, body=await answer.read(), headers=told)
        except (ClientError, OSError):
            return web.Response(status=502, text="nobody answers")

"""What stands between Alexandria's users and its API: the Service, which hands requests on to the pod's port."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiohttp import ClientError, ClientSession, ClientTimeout, web

_PASSED_ON = ("Accept", "Authorization", "Content-Type")
_POD_SECONDS = 30.0
_POD = web.AppKey("pod", ClientSession)


class Service:
    """Forwards to the API at ``pod``; answers 502 when nothing is there, as a proxy does."""

    def __init__(self, pod: str) -> None:
        self.pod = pod

    def build(self) -> web.Application:
        app = web.Application()
        app.cleanup_ctx.append(self._connect)
        app.router.add_route("*", "/{path:.*}", self._forward)
        return app

    async def _connect(self, app: web.Application) -> AsyncIterator[None]:
        async with ClientSession(self.pod, timeout=ClientTimeout(total=_POD_SECONDS)) as session:
            app[_POD] = session
            yield

    async def _forward(self, request: web.Request) -> web.Response:
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        body = await request.read()
        try:
            async with request.app[_POD].request(
                request.method, request.path_qs, headers=headers, data=body or None, allow_redirects=False
            ) as answer:
                type_ = {"Content-Type": answer.headers.get("Content-Type", "application/octet-stream")}
                return web.Response(status=answer.status, body=await answer.read(), headers=type_)
        except (ClientError, OSError):
            return web.Response(status=502, text="no pod answers")

"""A simulated HTTP server that can be stopped, started again on the same port, and made to misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
from collections.abc import Awaitable, Callable
from enum import StrEnum

from aiohttp import web
from aiohttp.typedefs import Handler

_HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Dashboard</title><script type="module" src="/app.js"></script></head>
<body><div id="root"></div></body></html>
"""


class Mood(StrEnum):
    """How a site treats every request."""

    NORMAL = "normal"
    SILENT = "silent"
    """Accepts and answers nothing."""
    CUT = "cut"
    """Closes the connection without an answer."""
    ERROR = "error"
    """Answers 500."""
    HTML = "html"
    """Answers 200 with the page of a single-page application, as nginx does with a fallback to index.html."""
    LIMITED = "limited"
    """Answers 429."""


ACCESS_FORMAT = '"%r" %s %{X-Request-ID}i'
"""A line of an access log: the request, the status, and the identifier of whoever sent one; ``-`` without."""


class Site:
    """One application on one loopback port. ``build`` is called at each start: aiohttp freezes a served application.
    ``access_log`` gets a line in `ACCESS_FORMAT` for each answer."""

    def __init__(
        self, port: int, build: Callable[[], web.Application], access_log: logging.Logger | None = None
    ) -> None:
        self.port = port
        self._access_log = access_log
        self.mood = Mood.NORMAL
        self._build = build
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self._runner is not None

    async def start(self) -> None:
        if self._runner is not None:
            return
        app = self._build()
        app.middlewares.append(self._misbehave)
        runner = web.AppRunner(
            app,
            access_log=self._access_log,
            access_log_format=ACCESS_FORMAT,
            shutdown_timeout=0.2,
            handler_cancellation=True,
        )
        await runner.setup()
        assert runner.server is not None
        self._server = await asyncio.get_running_loop().create_server(runner.server, "127.0.0.1", self.port)
        self._runner = runner

    async def stop(self) -> None:
        """Close the port and every connection: clients are refused from now on."""
        runner, self._runner = self._runner, None
        server, self._server = self._server, None
        if runner is None or server is None:
            return
        loop = asyncio.get_running_loop()
        for listener in server.sockets:
            loop.remove_reader(listener.fileno())
        # What is being accepted becomes a connection first: asyncio would lose it, open, when its server closes now.
        await asyncio.sleep(0.01)
        server.close()
        await runner.cleanup()

    @web.middleware
    async def _misbehave(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        match self.mood:
            case Mood.SILENT:
                await asyncio.get_running_loop().create_future()
            case Mood.CUT:
                if request.transport is not None:
                    request.transport.abort()
            case Mood.ERROR:
                return web.json_response({"error": "internal"}, status=500)
            case Mood.HTML:
                return web.Response(text=_HTML, content_type="text/html")
            case Mood.LIMITED:
                return web.json_response({"error": "too_many_requests"}, status=429, headers={"Retry-After": "30"})
            case Mood.NORMAL:
                return await handler(request)
        return web.Response()


Check = Callable[[], Awaitable[bool]]


_PORTS = range(10_000, 20_000)
"""Below Linux's range for outgoing connections (ip_local_port_range, from 32768), so that none of those takes a port
before its server does, or while it is stopped."""

_given: set[int] = set()


def free_port() -> int:
    """A loopback port that nothing listens on now, and that this process was not given before."""
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port
    raise OSError(f"no port of {_PORTS.start}-{_PORTS.stop} is free")

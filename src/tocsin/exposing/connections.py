"""How many connections the web server holds, so that no client takes the files that probes need."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

MAX_CONNECTIONS = 200
HANDSHAKE_SECONDS = 5.0
"""How long a TLS handshake may take; a connection counts from its end."""
IDLE_SECONDS = 120.0
"""How long a connection may wait for its next request. Longer than anybody's scrape interval."""


class Connections:
    """Makes the protocol of each connection that is accepted.

    Beyond ``limit`` the newcomer takes the place of the oldest that is not being answered, so that those who open
    connections and say nothing, or little, keep neither an orchestrator's nor Prometheus' from being heard.
    """

    def __init__(self, server: web.Server, limit: int = MAX_CONNECTIONS) -> None:
        self._server = server
        self._limit = limit
        self._answering: set[object] = set()

    def __call__(self) -> web.RequestHandler:
        held = self._server.connections
        for spare in (each for each in held if each not in self._answering):
            if len(held) < self._limit:
                break
            held.remove(spare)
            spare.force_close()
        return self._server()

    @property
    def held(self) -> tuple[tuple[asyncio.Transport, socket.socket], ...]:
        """Transport and socket of every connection that is held. A transport forgets its socket when it ends."""
        transports = (each.transport for each in self._server.connections if each.transport is not None)
        pairs = ((transport, transport.get_extra_info("socket")) for transport in transports)
        return tuple((transport, connected) for transport, connected in pairs if connected is not None)

    @contextmanager
    def answering(self, request: web.Request) -> Iterator[None]:
        """While ``request`` is being answered its connection is not given up."""
        self._answering.add(request.protocol)
        try:
            yield
        finally:
            self._answering.discard(request.protocol)

"""How many connections the web server holds, so that no client takes the files that probes need."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import ssl
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import structlog
from aiohttp import web

MAX_CONNECTIONS = 200
HANDSHAKE_SECONDS = 5.0
"""How long a TLS handshake may take."""
GOODBYE_SECONDS = 0.5
"""How long a TLS client may take to answer the end of its connection."""
IDLE_SECONDS = 120.0
"""How long a connection may wait for its next request. Longer than anybody's scrape interval."""
_BACKLOG = 128
_PAUSE_SECONDS = 1.0
"""How long nothing is accepted when there is no file for it."""
_LOOK_SECONDS = 0.01


class Door:
    """Accepts on a duplicate of a socket and hands over to ``take``, until it is closed. Belongs to the running loop.

    The port stays open while one door takes over from another, and nobody who was accepted is lost: both happen in one
    step.
    """

    def __init__(self, listening: socket.socket, take: Callable[[socket.socket], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._take = take
        self._socket = listening.dup()
        self._socket.setblocking(False)
        self._pause: asyncio.TimerHandle | None = None
        self._open()

    def _open(self) -> None:
        self._loop.add_reader(self._socket, self._accept)

    def close(self) -> None:
        """Accepts nobody any more."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _accept(self) -> None:
        for _ in range(_BACKLOG):
            try:
                connected, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._loop.remove_reader(self._socket)
                self._pause = self._loop.call_later(_PAUSE_SECONDS, self._open)
                structlog.get_logger("tocsin.web").error("no connection can be accepted", error=str(error))
                return
            connected.setblocking(False)
            self._take(connected)


class Connections:
    """Every connection, from when it is accepted to when it is lost.

    Beyond ``limit`` the newcomer takes the place of the oldest that is not being answered, else of the oldest that is
    in its handshake, so that those who open connections and say nothing, or little, keep neither an orchestrator's nor
    Prometheus' from being heard. Those who still read an answer come last.
    """

    def __init__(self, server: web.Server, limit: int = MAX_CONNECTIONS) -> None:
        self._server = server
        self._limit = limit
        self._answering: set[object] = set()
        self._arriving: dict[asyncio.Task[None], socket.socket] = {}

    def take(self, connected: socket.socket, context: ssl.SSLContext | None = None) -> None:
        """Takes up a connection that was accepted, with a TLS handshake first when there is a ``context``."""
        self._make_room()
        task = asyncio.get_running_loop().create_task(self._arrive(connected, context), name="arriving connection")
        self._arriving[task] = connected
        task.add_done_callback(lambda done: self._arriving.pop(done, None))

    async def _arrive(self, connected: socket.socket, context: ssl.SSLContext | None) -> None:
        timeout = HANDSHAKE_SECONDS if context is not None else None
        with suppress(OSError):  # it spoke no TLS, not in time, or has gone
            await asyncio.get_running_loop().connect_accepted_socket(
                self._server, connected, ssl=context, ssl_handshake_timeout=timeout
            )

    def _make_room(self) -> None:
        held = [(each, each.transport) for each in self._server.connections if each.transport is not None]
        over = len(held) + len(self._arriving) + 1 - self._limit
        if over <= 0:
            return
        quiet = [(each, transport) for each, transport in held if each not in self._answering]
        readers = [pair for pair in quiet if _is_read(pair[1])]
        idle = [pair for pair in quiet if pair not in readers]
        arriving = list(self._arriving)[: max(0, over - len(idle))]
        for each, transport in [*idle[:over], *readers[: max(0, over - len(idle) - len(arriving))]]:
            # Without a goodbye, which a silent client does not answer. First, because a second `close` would let a
            # TLS transport forget what there is to abort.
            transport.abort()
            each.force_close()
        for task in arriving:
            _cut_off(self._arriving.pop(task))

    async def finish_arriving(self) -> None:
        """Waits for those that are nearly there, and cuts the others off."""
        if self._arriving:
            await asyncio.wait(self._arriving, timeout=_LOOK_SECONDS)
        for connected in self._arriving.values():
            _cut_off(connected)
        if self._arriving:
            await asyncio.wait(self._arriving, timeout=GOODBYE_SECONDS)

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


def _is_read(transport: asyncio.Transport) -> bool:
    """Whether its client has not yet taken all that it was answered: the kernel still holds some of it.

    Asked of the kernel (tcp(7), SIOCOUTQ), because what a TLS transport has passed on is in no buffer of its own.
    """
    connected = transport.get_extra_info("socket")
    try:
        held = fcntl.ioctl(connected.fileno(), termios.TIOCOUTQ, bytes(4)) if connected is not None else b""
    except (OSError, ValueError):
        return False
    return int.from_bytes(held, sys.byteorder) > 0


def _cut_off(connected: socket.socket) -> None:
    """Ends a connection in its handshake: its transport, which only the handshake knows, sees the end and closes."""
    with suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)

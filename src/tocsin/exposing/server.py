"""The HTTP server on a thread and event loop of its own: it answers also while a probe blocks the probing loop."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import threading
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
from aiohttp import web

from tocsin.config import ConfigError, FileWatch, Problem
from tocsin.config.reading import digest
from tocsin.exposing import webconfig
from tocsin.exposing.connections import GOODBYE_SECONDS, IDLE_SECONDS, Connections, Door
from tocsin.exposing.gate import Gate
from tocsin.exposing.handlers import Desk, Workers
from tocsin.exposing.site import Site
from tocsin.exposing.tls import expiry, server_context
from tocsin.exposing.webconfig import WebConfig

_WATCH_SECONDS = 2.0
_GRACE_SECONDS = 2.0
"""How long open requests may take to finish when the server stops."""
_LOOK_SECONDS = 0.01
_BACKLOG = 128


@dataclass(frozen=True, slots=True)
class _Rules:
    """What the web-config file and the files it names say, and the watch that tells when they say something else."""

    config: WebConfig
    context: ssl.SSLContext | None
    watch: FileWatch
    expiry: float | None = None
    """When the certificate ends, in Unix time; None without TLS."""


class WebServer:
    """Serves a `Site`. `start` and `stop` are called from another thread and block; `start` at most once.

    ``host`` empty is every interface; ``port`` 0 is any free one. ``web_config`` is read again when it, or a file that
    it names, changes; when the new content cannot be used the one before stays, which is logged and exported.
    """

    def __init__(self, site: Site, host: str, port: int, web_config: Path | None = None) -> None:
        self._site = site
        self._address = (host, port)
        self._web_config = web_config
        self._log = structlog.get_logger("tocsin.web")
        self._started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=self._run, name="tocsin-web", daemon=True)
        self.port = port
        self.tls = False

    @property
    def url(self) -> str:
        """Where it can be reached from this machine."""
        host = self._address[0] or "127.0.0.1"
        return f"{'https' if self.tls else 'http'}://{f'[{host}]' if ':' in host else host}:{self.port}"

    def start(self) -> None:
        """Returns when it listens. Raises `OSError` for an address that cannot be had, `ConfigError` for the file."""
        self._thread.start()
        self._started.result()

    def begin_to_stop(self) -> None:
        """Closes the port and lets open requests finish for a moment. Does not block."""
        if self._thread.is_alive() and self._started.done() and self._started.exception() is None:
            loop, stopping = self._started.result()
            with suppress(RuntimeError):  # the loop has ended by itself meanwhile
                loop.call_soon_threadsafe(stopping.set)

    def stop(self, timeout: float = _GRACE_SECONDS + 1.0) -> None:
        """As `begin_to_stop`, and waits ``timeout`` seconds at most for the thread to end."""
        self.begin_to_stop()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            try:
                runner.run(self._serve())
            except BaseException as error:  # whoever waits in `start` is told, whatever it is
                if self._started.done():
                    raise
                self._started.set_exception(error)

    async def _serve(self) -> None:
        current = self._read()
        with (
            _listening(*self._address) as listening,
            ThreadPoolExecutor(2, thread_name_prefix="tocsin-render") as rendering,
            ThreadPoolExecutor(1, thread_name_prefix="tocsin-scrape") as scraping,
        ):
            self.port, self.tls = listening.getsockname()[1], current.context is not None
            self._tell_of_an_open_door(listening, current.config)
            desk = Desk(self._site, Gate(current.config), Workers(rendering), Workers(scraping))
            desk.web_certificate_expiry = current.expiry
            runner = web.AppRunner(
                desk.application(),
                access_log=None,
                handle_signals=False,
                shutdown_timeout=_GRACE_SECONDS,
                keepalive_timeout=IDLE_SECONDS,
            )
            await runner.setup()
            assert runner.server is not None, "it was set up"
            connections = desk.connections = Connections(runner.server)
            door = Door(listening, partial(connections.take, context=current.context))
            try:
                stopping = asyncio.Event()
                self._started.set_result((asyncio.get_running_loop(), stopping))
                while not await _within(stopping, _WATCH_SECONDS):
                    try:
                        if await current.watch.changed() or desk.web_config_error:
                            fresh = self._reread()
                            replaced, door = door, Door(listening, partial(connections.take, context=fresh.context))
                            replaced.close()
                            self._take_up(fresh, desk)
                            current = fresh
                    except Exception as error:  # noqa: BLE001 - one look that fails must not be the last one
                        self._refuse(error, desk)
            finally:
                door.close()
                await connections.finish_arriving()
                held = connections.held
                await runner.cleanup()
                desk.gate.close()
                await _part(held)

    def _tell_of_an_open_door(self, listening: socket.socket, config: WebConfig) -> None:
        host = listening.getsockname()[0]
        if not config.guarded and not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
            self._log.warning(
                "whoever reaches the port reads all pages: it is not on loopback, and the web-config file has neither "
                "basic_auth_users nor a client CA whose certificates are required",
                address=host,
                port=self.port,
            )

    def _reread(self) -> _Rules:
        fresh = self._read()
        if (fresh.context is not None) is not self.tls:
            raise ConfigError([Problem(str(self._web_config), 0, "", "to switch TLS on or off, restart tocsin")])
        return fresh

    def _take_up(self, fresh: _Rules, desk: Desk) -> None:
        desk.gate.config = fresh.config
        desk.web_config_error = None
        desk.web_certificate_expiry = fresh.expiry
        self._log.info("the web configuration was read again", file=str(self._web_config))

    def _refuse(self, error: Exception, desk: Desk) -> None:
        told = str(error) or type(error).__name__
        if desk.web_config_error != told:
            bug = None if isinstance(error, ConfigError) else error
            self._log.error("the web configuration was refused; the one before stays", error=told, exc_info=bug)
        desk.web_config_error = told

    def _read(self) -> _Rules:
        """The rules as the files hold them now. Raises `ConfigError`."""
        path = self._web_config
        if path is None:
            return _Rules(WebConfig(), None, FileWatch({}))
        # Read, looked at, and read once more: what changes from here on is told from what is used.
        files = webconfig.files_of(path, webconfig.load(path))
        watch = FileWatch({file: digest(file) for file in files})
        config = webconfig.load(path)
        tls = config.tls_server_config
        if tls is None:
            return _Rules(config, None, watch)
        return _Rules(config, server_context(tls, path), watch, expiry(tls, path))


def _listening(host: str, port: int) -> socket.socket:
    if not host and socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)
    family, *_, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server(address[:2], family=family, backlog=_BACKLOG)


async def _part(held: Collection[tuple[asyncio.Transport, socket.socket]]) -> None:
    """Waits until connections that are being closed are; those whose TLS client does not say goodbye are cut off."""
    for _ in range(round(GOODBYE_SECONDS / _LOOK_SECONDS)):
        if all(connected.fileno() < 0 for _, connected in held):
            return
        await asyncio.sleep(_LOOK_SECONDS)
    for transport, _ in held:
        transport.abort()
    await asyncio.sleep(_LOOK_SECONDS)


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event came within this time."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True

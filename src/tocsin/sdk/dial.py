"""Connects to a host by name or address: every address gets its chance, and the error that is raised says most."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Annotated, TypeVar

from pydantic import AfterValidator

_P = TypeVar("_P", bound=asyncio.BaseProtocol)

STAGGER = 0.25
"""Seconds that an address has to itself before the next is tried beside it. RFC 8305 section 5."""

MAX_ADDRESSES = 6
"""How many addresses of one name are tried."""

_OURS = (errno.ENETUNREACH, errno.EADDRNOTAVAIL)
"""Errors that say more about this machine (no IPv6, say) than about the target."""


async def dial(
    protocol: Callable[[], _P],
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
) -> tuple[asyncio.Transport, _P]:
    """An open connection, its TLS handshake done and verified for ``server_name`` (default: ``host``).

    Names are resolved anew each time. Raises `OSError` (`socket.gaierror` and `ssl.SSLError` among its kinds). A
    failed handshake is raised at once, whatever the other addresses would say. Has no timeout of its own.
    """
    loop = asyncio.get_running_loop()
    name = (server_name or host) if tls else None

    async def connect(address: str) -> tuple[asyncio.Transport, _P]:
        return await loop.create_connection(protocol, address, port, ssl=tls, server_hostname=name)

    if _is_address(host):
        return await connect(host)
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))[:MAX_ADDRESSES]
    if len(addresses) == 1:
        return await connect(addresses[0])
    return await _first(connect, addresses)


async def open_stream(
    host: str, port: int, *, tls: ssl.SSLContext | None = None, server_name: str | None = None, limit: int = 4096
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The same as a pair of streams; a line longer than ``limit`` bytes is refused with `ValueError`."""
    loop = asyncio.get_running_loop()
    made: dict[asyncio.BaseProtocol, asyncio.StreamReader] = {}

    def protocol() -> asyncio.StreamReaderProtocol:
        reader = asyncio.StreamReader(limit=limit, loop=loop)
        made[speaking := asyncio.StreamReaderProtocol(reader, loop=loop)] = reader
        return speaking

    transport, speaking = await dial(protocol, host, port, tls=tls, server_name=server_name)
    return made[speaking], asyncio.StreamWriter(transport, speaking, made[speaking], loop)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[::1]:port``. Raises `ValueError`."""
    host, _, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not host or (":" in host and not bracketed) or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{address!r} is not an address; write host:port, or [::1]:port for IPv6")
    return host, int(port)


def _is_host_and_port(address: str) -> str:
    split_address(address)
    return address


Address = Annotated[str, AfterValidator(_is_host_and_port)]
"""A setting of the form ``host:port``."""


async def _first(
    connect: Callable[[str], Awaitable[tuple[asyncio.Transport, _P]]], addresses: list[str]
) -> tuple[asyncio.Transport, _P]:
    """The first connection of several addresses, each started when the one before failed or had its `STAGGER`."""
    waiting = list(addresses)
    started: list[asyncio.Future[tuple[asyncio.Transport, _P]]] = []
    tasks: set[asyncio.Future[tuple[asyncio.Transport, _P]]] = set()
    errors: list[OSError] = []
    winner: tuple[asyncio.Transport, _P] | None = None
    try:
        while winner is None and (waiting or tasks):
            if waiting:
                started.append(asyncio.ensure_future(connect(waiting.pop(0))))
                tasks.add(started[-1])
            done, tasks = await asyncio.wait(
                tasks, timeout=STAGGER if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for error in filter(None, [task.exception() for task in done]):
                if isinstance(error, ssl.SSLError) or not isinstance(error, OSError):
                    raise error
                errors.append(error)
            winner = next((task.result() for task in done if task.exception() is None), None)
    finally:
        for task in started:
            task.cancel()
        # Those that were made in the same turn of the loop as the winner, or as an error, included.
        for made in await asyncio.gather(*started, return_exceptions=True):
            if not isinstance(made, BaseException) and made is not winner:
                made[0].abort()
    if winner is None:
        raise min(errors, key=lambda error: error.errno in _OURS)
    return winner


@lru_cache(maxsize=4096)
def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

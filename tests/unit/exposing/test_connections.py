"""How many connections are held, and who gives way."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web

from tests.exposing_certificates import Authority
from tocsin.exposing import connections
from tocsin.exposing.connections import Connections, Door
from tocsin.exposing.tls import server_context
from tocsin.exposing.webconfig import TlsConfig

Connect = Callable[[], "asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]"]

LARGE = 16_000_000
"""Bytes: more than any socket's buffers hold."""


@asynccontextmanager
async def serving(
    limit: int, busy: asyncio.Event, released: asyncio.Event, context: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """A server on the returned port; ``/slow`` sets ``busy`` and answers when ``released``."""
    held: list[Connections] = []

    async def answer(request: web.Request) -> web.Response:
        with held[0].answering(request):
            if request.path == "/slow":
                busy.set()
                await released.wait()
            return web.Response(text="here" * (LARGE // 4 if request.path == "/large" else 1))

    app = web.Application()
    app.add_routes([web.get("/{path:.*}", answer)])
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    assert runner.server is not None
    held.append(Connections(runner.server, limit))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        door = Door(listening, partial(held[0].take, context=context))
        try:
            yield listening.getsockname()[1]
        finally:
            door.close()
            await held[0].finish_arriving()
            await runner.cleanup()


async def ask(port: int, path: str, context: ssl.SSLContext | None = None) -> str:
    reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    try:
        return (await reader.read()).decode()
    finally:
        writer.close()
        await writer.wait_closed()


async def test_silent_connections_give_way_and_those_that_are_being_answered_do_not() -> None:
    busy, released = asyncio.Event(), asyncio.Event()
    async with serving(5, busy, released) as port, AsyncExitStack() as stack:
        slow = asyncio.ensure_future(ask(port, "/slow"))
        await busy.wait()
        silent = []
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
            writer.write(b"GET / HTTP/1.1\r\nX-Slow: ")
            silent.append(reader)
        assert "here" in await ask(port, "/")
        assert await silent[0].read() == b""
        released.set()
        assert "here" in await slow


@pytest.mark.parametrize("secure", [False, True])
async def test_whoever_still_reads_an_answer_gives_way_last(tmp_path: Path, secure: bool) -> None:
    context, authority = certified(tmp_path)
    ours, theirs = (context, authority.client()) if secure else (None, None)
    async with serving(5, asyncio.Event(), asyncio.Event(), ours) as port, AsyncExitStack() as stack:
        reader, writer = await asyncio.open_connection("localhost", port, ssl=theirs)
        stack.callback(writer.close)
        writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        for _ in range(20):
            _, silent = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(silent.close)
        assert "here" in await ask(port, "/", theirs)
        async with asyncio.timeout(20):
            assert len(await reader.readexactly(LARGE)) == LARGE


async def test_those_who_never_shake_hands_count_and_give_way(tmp_path: Path) -> None:
    context, authority = certified(tmp_path)
    busy, released = asyncio.Event(), asyncio.Event()
    async with serving(20, busy, released, context) as port, AsyncExitStack() as stack:
        slow = asyncio.ensure_future(ask(port, "/slow", authority.client()))
        await busy.wait()
        before = files()
        silent = []
        for _ in range(150):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
            silent.append(reader)
        assert "here" in await ask(port, "/", authority.client())
        assert files() - before - len(silent) <= 20
        async with asyncio.timeout(2):
            assert await silent[0].read() == b""
        released.set()
        assert "here" in await slow


async def test_those_who_shook_hands_and_say_nothing_leave_at_once_when_they_give_way(tmp_path: Path) -> None:
    context, authority = certified(tmp_path)
    async with serving(5, asyncio.Event(), asyncio.Event(), context) as port, AsyncExitStack() as stack:
        before = files()
        for _ in range(20):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.setblocking(False)
            await shake_hands(client, authority.client())
        assert "here" in await ask(port, "/", authority.client())
        assert files() - before - 20 <= 5


async def test_those_who_never_answer_the_end_of_their_connection_leave_at_once_when_they_give_way(
    tmp_path: Path,
) -> None:
    context, authority = certified(tmp_path)
    async with serving(5, asyncio.Event(), asyncio.Event(), context) as port, AsyncExitStack() as stack:
        before = files()
        for _ in range(20):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.setblocking(False)
            await shake_hands(client, authority.client(), b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            await asyncio.sleep(0.02)
        assert "here" in await ask(port, "/", authority.client())
        assert files() - before - 20 <= 5


async def test_whoever_is_in_a_handshake_at_the_end_is_cut_off(tmp_path: Path) -> None:
    context, _ = certified(tmp_path)
    before = files()
    async with serving(5, asyncio.Event(), asyncio.Event(), context) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.05)
    async with asyncio.timeout(2):
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    assert files() == before


async def test_when_there_is_no_file_left_it_accepts_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_PAUSE_SECONDS", 0.05)
    async with serving(5, asyncio.Event(), asyncio.Event()) as port:
        with monkeypatch.context() as none_left:
            none_left.setattr(socket.socket, "accept", none)
            asking = asyncio.ensure_future(ask(port, "/"))
            await asyncio.sleep(0.1)
            assert not asking.done()
        assert "here" in await asking


def none(_: socket.socket) -> tuple[socket.socket, object]:
    raise OSError(24, os.strerror(24))


def certified(folder: Path) -> tuple[ssl.SSLContext, Authority]:
    authority = Authority(folder)
    authority.issue("server")
    files_of = TlsConfig(cert_file=folder / "server.crt", key_file=folder / "server.key")
    return server_context(files_of, folder / "web.yml"), authority


async def shake_hands(client: socket.socket, context: ssl.SSLContext, asking: bytes = b"") -> None:
    """The client's part of a handshake, after which it asks, or nothing, and says no goodbye."""
    loop = asyncio.get_running_loop()
    come, go = ssl.MemoryBIO(), ssl.MemoryBIO()
    shaking = context.wrap_bio(come, go, server_hostname="localhost")
    while True:
        try:
            shaking.do_handshake()
            break
        except ssl.SSLWantReadError:
            await loop.sock_sendall(client, go.read())
            come.write(await loop.sock_recv(client, 65536))
    if asking:
        shaking.write(asking)
    await loop.sock_sendall(client, go.read())


def files() -> int:
    """How many files this process has open."""
    return len(os.listdir("/proc/self/fd"))

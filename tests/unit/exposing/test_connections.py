"""How many connections are held, and who gives way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from aiohttp import web

from tocsin.exposing.connections import Connections

Connect = Callable[[], "asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]"]


@asynccontextmanager
async def serving(limit: int, busy: asyncio.Event, released: asyncio.Event) -> AsyncIterator[int]:
    """A server on the returned port; ``/slow`` sets ``busy`` and answers when ``released``."""
    held: list[Connections] = []

    async def answer(request: web.Request) -> web.Response:
        with held[0].answering(request):
            if request.path == "/slow":
                busy.set()
                await released.wait()
            return web.Response(text="here")

    app = web.Application()
    app.add_routes([web.get("/{path:.*}", answer)])
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    assert runner.server is not None
    held.append(Connections(runner.server, limit))
    server = await asyncio.get_running_loop().create_server(held[0], "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await runner.cleanup()


async def ask(port: int, path: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
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

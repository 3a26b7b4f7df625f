"""One listening server takes over from another without losing whom it has just accepted."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tocsin.exposing import server as server_module


class Greeting(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"hello")
        transport.close()


@pytest.mark.parametrize("waits", range(5))
async def test_a_connection_accepted_at_the_moment_of_the_takeover_is_answered(waits: int) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        replaced = await loop.create_server(Greeting, sock=listening.dup())
        with socket.create_connection(listening.getsockname()) as client:
            client.setblocking(False)
            for _ in range(waits):
                await asyncio.sleep(0)
            heir = await loop.create_server(Greeting, sock=listening.dup())
            await server_module._retire(replaced)
            async with asyncio.timeout(5):
                assert await loop.sock_recv(client, 10) == b"hello"
        heir.close()

"""One door takes over from another without losing whom it has just accepted."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tocsin.exposing.connections import Door


def greet(connected: socket.socket) -> None:
    with connected:
        connected.send(b"hello")


@pytest.mark.parametrize("waits", range(5))
async def test_a_connection_accepted_at_the_moment_of_the_takeover_is_answered(waits: int) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        replaced = Door(listening, greet)
        with socket.create_connection(listening.getsockname()) as client:
            client.setblocking(False)
            for _ in range(waits):
                await asyncio.sleep(0)
            heir = Door(listening, greet)
            replaced.close()
            async with asyncio.timeout(5):
                assert await loop.sock_recv(client, 10) == b"hello"
        heir.close()

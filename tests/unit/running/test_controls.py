"""Control targets, asked for real on the loopback interface."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from tocsin.config import ControlTarget
from tocsin.model import CommonReason, Outcome
from tocsin.running.clock import SystemClock
from tocsin.running.control_memory import ControlMemory
from tocsin.running.controls import Controls
from tocsin.sdk import HttpClient


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A server that answers each request with 404."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readline():
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_what_answers_is_reachable_and_what_refuses_is_not(port: int, closed_port: int) -> None:
    http = HttpClient.open()
    targets = [
        f"tcp://127.0.0.1:{port}",
        f"http://127.0.0.1:{port}/",
        "dns://localhost",
        f"tcp://127.0.0.1:{closed_port}",
        f"http://127.0.0.1:{closed_port}/",
    ]
    controls = Controls(map(ControlTarget.parse, targets), http, SystemClock())
    assert [target.url for target in await controls.unreachable()] == targets[3:]
    await controls.close()
    await http.close()


async def test_a_loop_that_was_held_up_while_it_asked_asks_once_more() -> None:
    asked = 0

    async def reach(target: object) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            time.sleep(0.1)  # noqa: ASYNC251 - it is what holds the loop up
        await asyncio.sleep(0.001)

    http = HttpClient.open()
    controls = Controls([ControlTarget.parse("tcp://127.0.0.1:1")], http, SystemClock(), timeout=0.02, reach=reach)
    assert await controls.unreachable() == ()
    assert asked == 2
    await controls.close()
    await http.close()


async def test_closing_ends_a_look_that_is_under_way() -> None:
    asked = asyncio.Event()

    async def reach(target: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    http = HttpClient.open()
    controls = Controls([ControlTarget.parse("dns://x")], http, SystemClock(), reach=reach)
    looking = asyncio.create_task(controls.unreachable())
    await asked.wait()
    await controls.close()
    with pytest.raises(asyncio.CancelledError):
        await looking
    await http.close()


async def test_other_targets_take_the_place_of_those_there_were(port: int, closed_port: int) -> None:
    http = HttpClient.open()
    closed = ControlTarget.parse(f"tcp://127.0.0.1:{closed_port}")
    controls = Controls([closed], http, SystemClock(), keep=0.0)
    refused = Outcome.bad(CommonReason.CONNECTION_REFUSED)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", closed_port)
    assert await controls.judge(refused) == refused
    server.close()
    await server.wait_closed()
    assert (await controls.judge(refused)).reason == "local_network"
    controls.configure([ControlTarget.parse(f"tcp://127.0.0.1:{port}")])
    assert await controls.judge(refused) == refused
    await controls.close()
    await http.close()


async def test_a_look_at_targets_that_are_replaced_meanwhile_says_nothing_of_the_new_ones() -> None:
    asked, held = asyncio.Event(), asyncio.Event()

    async def reach(target: ControlTarget) -> None:
        if target.host == "before":
            asked.set()
            await held.wait()
            raise OSError

    http = HttpClient.open()
    controls = Controls([ControlTarget.parse("dns://before")], http, SystemClock(), reach=reach)
    looking = asyncio.create_task(controls.unreachable())
    await asked.wait()
    controls.configure([ControlTarget.parse("dns://after")])
    held.set()
    assert await looking == ()
    assert await controls.unreachable() == ()
    await controls.close()
    await http.close()


async def test_a_control_target_that_falls_silent_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tocsin.running.controls.WATCH_SECONDS", 0.02)
    down: set[str] = {"never"}

    async def reach(target: ControlTarget) -> None:
        if target.host in down:
            raise OSError

    http = HttpClient.open()
    targets = [ControlTarget.parse("dns://never"), ControlTarget.parse("dns://later")]
    controls = Controls(targets, http, SystemClock(), keep=0.0, reach=reach)
    with structlog.testing.capture_logs() as logs:
        watching = asyncio.create_task(controls.watch())
        await asyncio.sleep(0.2)
        down.add("later")
        await asyncio.sleep(0.2)
        watching.cancel()
    told = [(entry["target"], entry["meaning"]) for entry in logs]
    assert told == [
        ("dns://never", "it excuses no failure"),
        ("dns://later", "an outage is our own while it is silent"),
    ]
    await controls.close()
    await http.close()


async def test_what_answered_in_the_process_before_excuses_an_outage_for_a_day(tmp_path: Path) -> None:
    memory, clock, down = ControlMemory(tmp_path / "new" / "controls.json"), SystemClock(), False
    there, never = ControlTarget.parse("dns://there"), ControlTarget.parse("dns://never")
    refused = Outcome.bad(CommonReason.CONNECTION_REFUSED)

    async def reach(target: ControlTarget) -> None:
        if down or target == never:
            raise OSError

    async def judged(http: HttpClient, *targets: ControlTarget) -> str | None:
        held = {"remembered": memory.read(), "remember": memory.write}
        controls = Controls(targets, http, clock, keep=0.0, reach=reach, **held)  # type: ignore[arg-type]
        watching = asyncio.create_task(controls.watch())
        outcome = await controls.judge(refused)
        async with asyncio.timeout(20):
            while not down and there.url not in memory.read():  # noqa: ASYNC110 - the writer is a thread
                await asyncio.sleep(0.01)
        watching.cancel()
        await controls.close()
        return outcome.reason

    http = HttpClient.open()
    assert await judged(http, there, never) == "connection_refused"
    down = True
    assert await judged(http, there) == "local_network"
    assert await judged(http, never) == "connection_refused"
    memory.write({there.url: clock.wall() - 86_401})
    assert await judged(http, there) == "connection_refused"
    for content in (
        "",
        "[]",
        '{"dns://there": ' + "9" * 400 + "}",
        "[" * 100_000,
        '{"dns://there": "NaN"}',
        '{"dns://there": []}',
        "\0",
    ):
        memory.path.write_text(content)
        assert await judged(http, there) == "connection_refused"
    await http.close()

"""`grpc_socket` against gRPC servers in processes of their own, and against everything that is none."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from estate.servers.orchestrator import SERVICE, Orchestrator
from tests.probing import Probed, probe_once
from tocsin_probes.grpc_socket import MAX_PATH_BYTES, GrpcSocket

pytestmark = pytest.mark.estate


async def look(*paths: Path | str, timeout: float = 5.0, **settings: Any) -> Probed:
    given = {"paths": [str(path) for path in paths], **settings}
    return await probe_once(GrpcSocket(GrpcSocket.Settings.model_validate(given)), timeout)


@pytest.fixture(scope="module")
def orchestrator() -> Iterator[Orchestrator]:
    with Orchestrator() as started:
        yield started


@pytest.fixture
def bound(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Binds a socket in this process, listening or not, that nobody accepts from."""
    opened: list[socket.socket] = []

    def bind(name: str = "orchestrator.sock", backlog: int | None = 5) -> Path:
        server = socket.socket(socket.AF_UNIX)
        opened.append(server)
        server.bind(str(tmp_path / name))
        if backlog is not None:
            server.listen(backlog)
        return tmp_path / name

    yield bind
    for each in opened:
        each.close()


async def test_a_server_that_serves_is_ok(orchestrator: Orchestrator) -> None:
    for service in ("", SERVICE):
        probed = await look(orchestrator.socket, service=service)
        assert (probed.verdict, probed.detail) == (("ok", None), "gRPC health: SERVING")


async def test_a_server_that_says_it_does_not_serve_is_bad_until_it_says_it_does(orchestrator: Orchestrator) -> None:
    orchestrator.serve(False)
    try:
        probed = await look(orchestrator.socket)
        assert probed.verdict == ("failed", "not_serving")
        assert probed.detail == "gRPC health of the server: NOT_SERVING"
    finally:
        orchestrator.serve(True)
    assert (await look(orchestrator.socket)).verdict == ("ok", None)


async def test_a_service_that_health_does_not_know_is_a_wrong_configuration(orchestrator: Orchestrator) -> None:
    probed = await look(orchestrator.socket, service="no.such.Service")
    assert probed.verdict == ("unknown", "service_unknown")


async def test_a_server_without_health_is_judged_by_its_connection_and_says_so() -> None:
    with Orchestrator(health=False) as plain:
        probed = await look(plain.socket)
    assert probed.verdict == ("ok", None)
    assert "a verdict on the connection alone" in probed.detail


async def test_of_several_candidates_the_one_that_exists_counts(orchestrator: Orchestrator, tmp_path: Path) -> None:
    assert (await look(tmp_path / "no.sock", orchestrator.socket)).verdict == ("ok", None)
    (tmp_path / "file").touch()
    assert (await look(tmp_path / "file", orchestrator.socket)).verdict == ("ok", None)
    probed = await look(tmp_path / "no.sock", tmp_path / "file")
    assert (probed.verdict, probed.detail) == (("failed", "not_a_socket"), f"{tmp_path}/file is a file")


async def test_a_missing_socket_is_told_from_a_leftover_and_from_what_is_none(
    tmp_path: Path, bound: Callable[..., Path]
) -> None:
    assert (await look(tmp_path / "no.sock")).verdict == ("failed", "socket_missing")
    (tmp_path / "file").touch()
    assert (await look(tmp_path / "file" / "no.sock")).verdict == ("failed", "socket_missing")
    assert (await look(tmp_path)).verdict == ("failed", "not_a_socket")
    assert (await look(bound("leftover.sock", None))).verdict == ("failed", "nobody_listening")


async def test_a_killed_server_leaves_a_socket_on_which_nobody_listens() -> None:
    with Orchestrator() as mortal:
        assert (await look(mortal.socket)).verdict == ("ok", None)
        mortal.kill()
        assert (await look(mortal.socket)).verdict == ("failed", "nobody_listening")
        mortal.start()
        assert (await look(mortal.socket)).verdict == ("ok", None)


async def test_a_listener_that_never_answers_meets_the_deadline(bound: Callable[..., Path]) -> None:
    probed = await look(bound(), timeout=1.0)
    assert probed.verdict == ("failed", "deadline")
    assert 0.5 < probed.duration_seconds < 1.0


async def test_a_full_queue_of_connections_is_a_deadline_too(bound: Callable[..., Path]) -> None:
    path = bound(backlog=0)
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(str(path))
        probed = await look(path, timeout=1.0)
    assert probed.verdict == ("failed", "deadline")


async def test_a_frozen_server_and_a_slow_one_meet_the_deadline(orchestrator: Orchestrator) -> None:
    orchestrator.pause()
    try:
        assert (await look(orchestrator.socket, timeout=1.0)).verdict == ("failed", "deadline")
    finally:
        orchestrator.resume()
    with Orchestrator(answer_after=30) as slow:
        assert (await look(slow.socket, timeout=1.0)).verdict == ("failed", "deadline")


async def test_a_server_that_is_restarted_in_the_middle_of_a_call_resets_the_connection_and_is_well_again() -> None:
    with Orchestrator(answer_after=30) as slow:
        killer = threading.Timer(0.7, slow.kill)
        killer.start()
        try:
            probed = await look(slow.socket, timeout=10)
        finally:
            await asyncio.to_thread(killer.join)
        assert probed.verdict == ("failed", "connection_reset")
        assert probed.duration_seconds < 5
        slow.answer_after = 0.0
        await asyncio.to_thread(slow.start)
        assert (await look(slow.socket)).verdict == ("ok", None)


@asynccontextmanager
async def saying(path: Path, what: bytes) -> AsyncIterator[Path]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(24):
            writer.write(what)
        writer.close()

    async with await asyncio.start_unix_server(answer, str(path)):
        yield path


async def test_a_listener_that_speaks_something_else_is_no_grpc(tmp_path: Path) -> None:
    for what in (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n"):
        async with saying(tmp_path / "other.sock", what) as path:
            assert (await look(path)).verdict == ("failed", "not_grpc")


@asynccontextmanager
async def http2(path: Path, fields: bytes) -> AsyncIterator[Path]:
    """A listener that answers each stream with these fields, and ends it. RFC 9113, section 4.1."""
    answering: set[asyncio.Task[None] | None] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.add(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError):
            await reader.readexactly(24)
            writer.write(b"\0\0\0\4\0\0\0\0\0")
            while True:
                head = await reader.readexactly(9)
                await reader.readexactly(int.from_bytes(head[:3]))
                match head[3], head[4] & 1:
                    case 1, _:
                        writer.write(len(fields).to_bytes(3) + b"\1\5" + head[5:] + fields)
                    case 4, 0:
                        writer.write(b"\0\0\0\4\1\0\0\0\0")
        writer.close()

    async with await asyncio.start_unix_server(answer, str(path)):
        yield path
        await asyncio.gather(*filter(None, answering))  # each ends when its client has gone


def literal(name: bytes, value: bytes) -> bytes:
    """RFC 7541, section 6.2.2."""
    return bytes([0, len(name)]) + name + bytes([len(value)]) + value


OK, NOT_FOUND, ERROR = b"\x88", b"\x8d", b"\x8e"  # RFC 7541, appendix A: 8, 13 and 14
GRPC = OK + literal(b"content-type", b"application/grpc")


@pytest.mark.parametrize(
    "fields",
    [NOT_FOUND, ERROR, OK, OK + literal(b"content-type", b"text/html"), GRPC, literal(b":status", b"503")],
    ids=["404", "500", "200", "html", "no status", "503"],
)
async def test_a_peer_that_speaks_http2_and_gives_no_status_of_grpc_is_no_grpc(tmp_path: Path, fields: bytes) -> None:
    async with http2(tmp_path / "other.sock", fields) as path:
        probed = await look(path)
    assert probed.verdict == ("failed", "not_grpc"), probed.detail


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (2, ("failed", "not_serving")),
        (8, ("failed", "not_serving")),
        (12, ("ok", None)),
        (16, ("unknown", "credentials_rejected")),
    ],
)
async def test_a_health_service_that_answers_with_an_error_does_not_serve(
    tmp_path: Path, status: int, verdict: tuple[str, str | None]
) -> None:
    fields = GRPC + literal(b"grpc-status", b"%d" % status) + literal(b"grpc-message", b"cannot parse the licence")
    async with http2(tmp_path / "broken.sock", fields) as path:
        assert (await look(path)).verdict == verdict


async def test_a_leftover_does_not_hide_the_socket_on_which_somebody_listens(
    orchestrator: Orchestrator, bound: Callable[..., Path]
) -> None:
    stale = bound("stale.sock", None)
    assert (await look(stale, orchestrator.socket)).verdict == ("ok", None)
    probed = await look(stale, orchestrator.socket.with_name("no.sock"))
    assert (probed.verdict, probed.detail) == (("failed", "nobody_listening"), f"nobody listens on {stale}")


async def test_a_full_queue_at_the_first_path_leaves_time_for_the_second(
    orchestrator: Orchestrator, bound: Callable[..., Path]
) -> None:
    full = bound("full.sock", 0)
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(str(full))
        assert (await look(full, orchestrator.socket, timeout=2.0)).verdict == ("ok", None)


async def test_a_socket_of_datagrams_and_a_link_in_a_circle_are_no_sockets_to_connect_to(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(str(tmp_path / "datagrams.sock"))
        probed = await look(tmp_path / "datagrams.sock")
        assert probed.verdict == ("failed", "not_a_socket"), probed.detail
    (tmp_path / "circle.sock").symlink_to(tmp_path / "circle.sock")
    probed = await look(tmp_path / "circle.sock")
    assert probed.verdict == ("failed", "not_a_socket")
    assert probed.detail == f"{tmp_path}/circle.sock is a link that leads in a circle"


async def test_a_listener_that_hangs_up_resets_the_connection(tmp_path: Path) -> None:
    async with saying(tmp_path / "other.sock", b"") as path:
        assert (await look(path)).verdict == ("failed", "connection_reset")


async def test_a_path_longer_than_an_address_is_told_before_it_is_tried(
    tmp_path: Path, orchestrator: Orchestrator
) -> None:
    long = tmp_path / ("x" * (MAX_PATH_BYTES + 1 - len(os.fsencode(tmp_path)) - 1))
    assert len(os.fsencode(long)) == MAX_PATH_BYTES + 1
    assert (await look(long)).verdict == ("unknown", "path_too_long")
    assert (await look(str(long)[:-1])).verdict == ("failed", "socket_missing")
    assert (await look(long, orchestrator.socket)).verdict == ("ok", None)


_AS_NOBODY = """
import json, os, sys, uvloop
os.setgroups([]); os.setgid(65534); os.setuid(65534)
from tests.probing import probe_once
from tocsin_probes.grpc_socket import GrpcSocket
probed = uvloop.run(probe_once(GrpcSocket(GrpcSocket.Settings(paths=sys.argv[1:]))))
print(json.dumps([*probed.verdict, probed.detail]))
"""


def as_nobody(path: Path) -> Any:
    """What a process without our rights says, on the daemon's event loop. It reads its modules while it may."""
    code = "import tests.probing, tocsin_probes.grpc_socket, grpc, grpc_health.v1.health_pb2_grpc\n" + _AS_NOBODY
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, cwd=Path.cwd(), timeout=60
    )
    return json.loads(done.stdout)


def test_a_socket_that_lets_only_others_in_is_told_from_a_folder_that_does(orchestrator: Orchestrator) -> None:
    folder = orchestrator.socket.parent
    folder.chmod(0o711)
    orchestrator.socket.chmod(0o600)
    try:
        assert as_nobody(orchestrator.socket) == [
            "failed",
            "permission_denied",
            f"{orchestrator.socket} may not be written to",
        ]
        folder.chmod(0o700)
        assert as_nobody(orchestrator.socket) == [
            "failed",
            "permission_denied",
            f"a folder above {orchestrator.socket} may not be entered",
        ]
        folder.chmod(0o711)
        orchestrator.socket.chmod(0o666)
        assert as_nobody(orchestrator.socket)[0] == "ok"
    finally:
        folder.chmod(0o700)

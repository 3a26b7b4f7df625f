"""Kinds other than ``http`` before targets that lie: an end in time, with a reason, and in little memory."""

from __future__ import annotations

import asyncio
import struct
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from tests.probing import on_both_loops, probe_once
from tests.unit.probes.lying_servers import BYTE_BY_BYTE, ENDLESS_GARBAGE, GIGABYTE, Handler, serving
from tocsin.sdk import Probe
from tocsin_probes.oidc_realm import OidcRealm
from tocsin_probes.postgres import Postgres
from tocsin_probes.s3_bucket import S3Bucket

TIMEOUT = 0.6
SLACK = 0.5
MEMORY = 16 << 20


@pytest.fixture
def memory() -> Iterator[None]:
    """The peak of what Python allocates in the test stays under `MEMORY`."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY, f"{peak / 2**20:.1f} MiB"


def realm(port: int) -> Probe:
    return OidcRealm(OidcRealm.Settings.model_validate({"issuer": f"http://127.0.0.1:{port}/realms/r"}))


def bucket(port: int) -> Probe:
    keys = {"access_key_id": "a", "secret_access_key": "hidden", "region": "us-east-1"}
    return S3Bucket(
        S3Bucket.Settings.model_validate({"bucket": "b", "endpoint_url": f"http://127.0.0.1:{port}", **keys})
    )


@pytest.mark.parametrize(
    "handler", [GIGABYTE, BYTE_BY_BYTE, ENDLESS_GARBAGE], ids=["1 GB", "1 byte a second", "garbage"]
)
@pytest.mark.parametrize("kind", [realm, bucket])
@on_both_loops
async def test_what_speaks_http_takes_no_lie(kind: Callable[[int], Probe], handler: Handler, memory: None) -> None:
    async with serving(handler) as port:
        probed = await probe_once(kind(port), TIMEOUT)
    assert probed.verdict[0] == "failed", probed.detail
    assert probed.verdict[1] in (
        "timeout",
        "unexpected_body",
        "discovery_unreachable",
        "metadata_invalid",
        "body_too_large",
    )
    assert probed.duration_seconds < TIMEOUT + SLACK


def announcing(kind: bytes, first: bytes = b"") -> Handler:
    """A server that answers the start of a session with one message of a gigabyte. PostgreSQL 17 documentation, 53.7."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(first + kind + struct.pack("!i", 1 << 30))
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    return handler


VERSION = b"server_version\x0017.2\x00"
LET_IN = (
    b"R" + struct.pack("!ii", 8, 0) + b"S" + struct.pack("!i", 4 + len(VERSION)) + VERSION
    + b"Z" + struct.pack("!i", 5) + b"I"
)  # fmt: skip


@pytest.mark.parametrize(
    "handler",
    [announcing(b"R"), announcing(b"E"), announcing(b"T", LET_IN)],
    ids=["before it lets anyone in", "as an error", "as an answer"],
)
@on_both_loops
async def test_a_postgresql_server_takes_no_more_memory_than_a_session_needs(handler: Handler, memory: None) -> None:
    async with serving(handler) as port:
        dsn = f"postgresql://u:p@127.0.0.1:{port}/app?sslmode=disable"
        probed = await probe_once(Postgres(Postgres.Settings.model_validate({"dsn": dsn})), TIMEOUT)
    assert probed.verdict[0] == "failed", probed.detail
    assert probed.verdict[1] in ("timeout", "connection_reset"), probed.detail
    assert probed.duration_seconds < TIMEOUT + SLACK

"""A platform that writes an HMAC-chained audit log, as the tests of the walk need one: one writer a tenant at a time."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from estate.servers.postgresql import PostgreSQL
from tests.probing import Probed, RealClock, probe_once
from tocsin.sdk import HttpClient, ProbeContext
from tocsin_chain import operations
from tocsin_chain.fragments import Summary
from tocsin_chain.layout import Layout
from tocsin_chain.reading import Reading
from tocsin_chain.segments import Segment, verify_segment
from tocsin_chain.settings import HashChainSettings
from tocsin_chain.source import open_source
from tocsin_probes import hash_chain
from tocsin_probes.hash_chain import HashChain

KEY = "the platform's audit key"
NAME = "the-probe"
GENESIS = "0" * 64

SCHEMA = """
    CREATE TABLE audit_logs (
        seq bigserial PRIMARY KEY,
        tenant_id text NOT NULL,
        principal text NOT NULL,
        action text NOT NULL,
        metadata jsonb NOT NULL DEFAULT '{}',
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        key_id text NOT NULL DEFAULT 'k1',
        prev_hmac text NOT NULL,
        hmac text NOT NULL
    );
"""

_LOCK = "SELECT pg_advisory_xact_lock(hashtext($1))"
_LAST = "SELECT hmac FROM audit_logs WHERE tenant_id = $1 ORDER BY seq DESC LIMIT 1"


def mac_of(previous: str, tenant: str, principal: str, action: str, key: str = KEY) -> str:
    """What the platform computes: previous MAC and fields, joined by a bar, in hexadecimal."""
    message = "|".join((previous, tenant, principal, action))
    return hmac.new(key.encode(), message.encode(), hashlib.sha256).hexdigest()


async def append(connection: Any, tenant: str, principal: str, action: str, key_id: str = "k1", key: str = KEY) -> int:
    """One row, inside the caller's transaction, which holds the tenant's lock until it ends."""
    await connection.execute(_LOCK, tenant)
    previous = await connection.fetchval(_LAST, tenant) or GENESIS
    return int(
        await connection.fetchval(
            "INSERT INTO audit_logs (tenant_id, principal, action, key_id, prev_hmac, hmac) "
            "VALUES ($1, $2, $3, $4, $5, $6) RETURNING seq",
            tenant,
            principal,
            action,
            key_id,
            previous,
            mac_of(previous, tenant, principal, action, key),
        )
    )


@contextmanager
def own_database(server: PostgreSQL) -> Iterator[str]:
    """A database for the tests of one file; `emptied` for each of them. Making one takes longer than most tests."""
    name = f"chain-{secrets.token_hex(4)}"
    server.create_database(name)
    try:
        yield name
    finally:
        server.drop_database(name)


def emptied(server: PostgreSQL, database: str) -> str:
    """The database with nothing in it."""
    server.execute(
        "DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO PUBLIC", database=database
    )
    return database


class InThisProcess:
    """Stands in for `tocsin_chain.segments.Workers` where a test is about what is found: the same verification, on a
    session of its own, without the second that a process takes to start."""

    count = 1

    def __init__(self, reading: Reading, layout: Layout, count: int, *, yielding: bool = True) -> None:
        self._reading, self._layout = reading, layout

    async def verify(self, segment: Segment) -> dict[str, Summary]:
        source = await open_source(self._reading, timeout=5.0, layout=self._layout)
        try:
            return await verify_segment(source, segment)
        finally:
            await source.close()

    def close(self) -> None:
        return None


def without_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Full walks of this test verify in its own process."""
    monkeypatch.setattr(operations, "Workers", InThisProcess)
    monkeypatch.setattr(hash_chain, "Workers", InThisProcess)


@dataclass
class Platform:
    """One database with an audit log, and the probe that walks it."""

    server: PostgreSQL
    database: str
    state: Path
    settings: dict[str, Any] = field(default_factory=dict)
    clock: RealClock = field(default_factory=RealClock)

    def __post_init__(self) -> None:
        self.dsn = self.server.dsn(self.database)
        self.execute(SCHEMA)
        self.probe = self._probe()

    def _probe(self) -> HashChain:
        return HashChain(self.configured())

    def configured(self, **other: Any) -> HashChainSettings:
        usual: dict[str, Any] = {
            "dsn": self.dsn,
            "table": "audit_logs",
            "partition_by": "tenant_id",
            "mac_column": "hmac",
            "previous_column": "prev_hmac",
            "time_column": "created_at",
            "mode": "hmac",
            "mac_encoding": "hex",
            "payload": {"fields": ["prev_hmac", "tenant_id", "principal", "action"]},
            "keys": [{"id": "k1", "secret": KEY}],
            "settle": "50ms",
        }
        return HashChainSettings.model_validate({**usual, **self.settings, **other})

    def execute(self, sql: str) -> list[tuple[str, ...]]:
        return self.server.execute(sql, database=self.database)

    async def write(
        self, count: int, *tenants: str, key_id: str = "k1", key: str = KEY, word: str = "did"
    ) -> list[int]:
        """Rows of the tenants in turn, in one transaction; their sequences."""
        tenants = tenants or ("t1",)
        connection = await asyncpg.connect(self.dsn)
        try:
            async with connection.transaction():
                for tenant in sorted(tenants):
                    await connection.execute(_LOCK, tenant)
                last = {tenant: await connection.fetchval(_LAST, tenant) or GENESIS for tenant in tenants}
                rows = []
                for number in range(count):
                    tenant, who, what = tenants[number % len(tenants)], f"user{number % 7}", f"{word} {number}"
                    mac = mac_of(last[tenant], tenant, who, what, key)
                    rows.append((tenant, who, what, key_id, last[tenant], mac))
                    last[tenant] = mac
                written = await connection.fetch(
                    "INSERT INTO audit_logs (tenant_id, principal, action, key_id, prev_hmac, hmac) "
                    "SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[]) "
                    "RETURNING seq",
                    *map(list, zip(*rows, strict=True) if rows else ((),) * 6),
                )
            return [row["seq"] for row in written]
        finally:
            await connection.close()

    def context(self, http: HttpClient) -> ProbeContext:
        from tests.probing import REQUEST_ID, SPAN_ID, TRACE_ID, FreePermits

        return ProbeContext(
            probe=NAME,
            system="",
            incident="",
            vantage="",
            timeout=300.0,
            clock=self.clock,
            http=http,
            permits=FreePermits(),
            trace_id=TRACE_ID,
            span_id=SPAN_ID,
            request_id=REQUEST_ID,
            memory={},
        )

    async def bootstrap(self) -> None:
        http = HttpClient.open()
        try:
            await operations.bootstrap(self.context(http), self.configured(), workers=1)
        finally:
            await http.close()

    async def run(self, timeout: float = 10.0) -> Probed:
        """One run of the probe; the same instance each time, as in the daemon."""
        return await probe_once(self.probe, timeout, clock=self.clock)

    async def full_walk(self, timeout: float = 20.0) -> Probed:
        """Runs until the next full walk has ended."""
        self.clock.offset += 90_000
        begun = time.monotonic()
        while True:
            probed = await self.run(timeout)
            walked = [
                m.value for m in probed.measurements if m.gauge.name == "tocsin_audit_chain_full_walk_timestamp_seconds"
            ]
            if walked and walked[0] >= self.clock.wall() - 80_000:
                return probed
            assert time.monotonic() - begun < 60, probed

    async def close(self) -> None:
        await self.probe.close()

"""Wipe's database and the life in it: submitted proofs become certificates, workers take jobs, people verify."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import asyncpg
from botocore.exceptions import BotoCoreError, ClientError

from tocsin_sandbox.chain import CHAIN_ID
from tocsin_sandbox.observability import Observability
from tocsin_sandbox.postgresql import Cluster
from tocsin_sandbox.storage import Storage

DATABASE = "wipe"
TENANT = "11111111-1111-4111-8111-111111111111"
ORGANIZATION = "22222222-2222-4222-8222-222222222222"
QUEUES = (
    "proofs.validated",
    "certificates.to_anchor",
    "notifications.to_send",
    "billing.exports",
    "reports.monthly",
    "proofs.retry",
)
"""Published: the six queues, as rows of a table; consumed by the proof, anchor, notification, report, retry workers."""

BUCKETS = {
    "S3_BUCKET_PROOFS": "wipe-proofs",
    "S3_BUCKET_CERTIFICATES": "wipe-certificates",
    "S3_BUCKET_BINARIES": "wipe-binaries",
    "S3_BUCKET_EXPORTS": "wipe-exports",
    "S3_BUCKET_BILLING_DROP": "wipe-billing-drop",
}
"""Published variables; the names are the sandbox's own, since no default is published."""

SERVICES = ("api", "proof-worker", "anchor-worker", "report-worker", "maintenance-worker", "proxy")
"""Whose logs Loki has."""

_PULSE_SECONDS = 1.0
_KEPT = 500

_log = logging.getLogger("tocsin.sandbox")


@dataclass(slots=True)
class ReadOnlyRole:
    """The role that a monitor gets: it may read what it asks about and nothing else."""

    name: str = "tocsin"
    password: str = field(default_factory=lambda: secrets.token_urlsafe(18))

    def statements(self, database: str, schemas: tuple[str, ...]) -> list[str]:
        grants = [
            statement
            for schema in schemas
            for statement in (
                f"GRANT USAGE ON SCHEMA {schema} TO {self.name}",
                f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {self.name}",
                f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {self.name}",
            )
        ]
        return [
            f"CREATE ROLE {self.name} LOGIN PASSWORD '{self.password}' CONNECTION LIMIT 20",
            f"GRANT pg_monitor TO {self.name}",
            f"GRANT CONNECT ON DATABASE {database} TO {self.name}",
            *grants,
        ]


async def furnish(cluster: Cluster, role: ReadOnlyRole) -> None:
    """Create the database, its tables and the monitor's role."""
    await cluster.execute(f"CREATE DATABASE {DATABASE}")
    await cluster.execute(files(__package__).joinpath("wipe.sql").read_text("utf-8"), database=DATABASE)
    await cluster.execute_each(role.statements(DATABASE, ("public", "pgmq")), database=DATABASE)


@dataclass(slots=True)
class Life:
    """What happens in a healthy platform, at a gentle pace. ``idle_queues`` have no worker; ``anchor``
    gives no transaction while the chain takes none."""

    cluster: Cluster
    storage: Storage
    anchor: Callable[[bytes], Awaitable[str | None]]
    logs: Observability
    loses_files: bool = False
    """Whether certificates get their rows and not their files."""
    maintained: bool = True
    idle_queues: set[str] = field(default_factory=set)
    certificate: str = ""
    """The id of the first certificate."""
    between_pulses: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held during a pulse; who holds it sees no half-done work."""
    _beats: int = 0

    async def run(self) -> None:
        """Live until cancelled. A platform whose database or storage is down waits, as its workers would."""
        while True:
            try:
                async with self.between_pulses:
                    await self.pulse()
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                _log.debug("the platform waits for its database: %s", error)
            except (BotoCoreError, ClientError) as error:
                _log.debug("the platform waits for its storage: %s", error)
            await asyncio.sleep(_PULSE_SECONDS)

    async def pulse(self) -> None:
        """One second of the platform's life: one proof in, what is queued done, old rows gone."""
        self._beats += 1
        for service in SERVICES:
            self.logs.log(service, "level=info msg=alive", source=f"192.0.2.{self._beats % 250}")
        connection = await self.cluster.connect(DATABASE)
        try:
            async with connection.transaction():
                await self._submit(connection)
                await self._work(connection)
            await self._forget(connection)
            if self._beats % 5 == 1:
                await self._certify(connection)
                await self._anchor_late(connection)
                await self._maintain(connection)
        finally:
            await connection.close(timeout=2)

    async def _submit(self, connection: asyncpg.Connection[Any]) -> None:
        queue = QUEUES[self._beats % len(QUEUES)]
        await connection.execute("INSERT INTO jobs (queue) VALUES ($1)", queue)
        await connection.execute("INSERT INTO verification_logs (result, source_ip) VALUES ('VALID', '192.0.2.1')")

    async def _work(self, connection: asyncpg.Connection[Any]) -> None:
        """Claim with locking, as published, and finish; jobs that a fault planted carry a mark and are left alone."""
        await connection.execute(
            """UPDATE jobs SET status = 'done', attempts = attempts + 1, claimed_by = 'sandbox', updated_at = now()
               WHERE id IN (SELECT id FROM jobs WHERE status = 'queued' AND NOT payload ? 'fault'
                            AND queue <> ALL($1::text[]) ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED)""",
            sorted(self.idle_queues),
        )

    async def _certify(self, connection: asyncpg.Connection[Any]) -> None:
        """Raw proof first, then the certificate's files, then the row, then its anchor: the published order."""
        proof = await connection.fetchval(
            "INSERT INTO proofs (tenant_id, organization_id, status, object_key) "
            "VALUES ($1, $2, 'CERTIFIED', $3) RETURNING id",
            TENANT, ORGANIZATION, f"{TENANT}/{self._beats}.der",
        )  # fmt: skip
        pdf = b"%PDF-1.4\n% practice certificate of erasure " + str(proof).encode() + b"\n%%EOF\n"
        document = json.dumps({"proof_id": str(proof), "tenant_id": TENANT}, sort_keys=True).encode()
        pdf_key, json_key = f"{TENANT}/{proof}.pdf", f"{TENANT}/{proof}.json"
        await self._put("S3_BUCKET_PROOFS", f"{TENANT}/{self._beats}.der", b"0\x03\x02\x01\x01")
        if not self.loses_files:
            await self._put("S3_BUCKET_CERTIFICATES", pdf_key, pdf)
            await self._put("S3_BUCKET_CERTIFICATES", json_key, document)
        digests = [hashlib.sha256(content).hexdigest() for content in (pdf, document)]
        transaction = await self.anchor(bytes.fromhex(digests[1]))
        certificate = await connection.fetchval(
            """INSERT INTO certificates (tenant_id, organization_id, proof_id, status, anchor_chain_id, anchor_tx_hash,
                                         pdf_key, pdf_sha256, json_key, json_sha256)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING id""",
            TENANT, ORGANIZATION, proof, "CERTIFIED" if transaction else "CERTIFIED_NO_ANCHOR",
            str(CHAIN_ID) if transaction else "", transaction or "",
            pdf_key, digests[0], json_key, digests[1],
        )  # fmt: skip
        self.certificate = self.certificate or str(certificate)

    async def _anchor_late(self, connection: asyncpg.Connection[Any]) -> None:
        """The anchor worker tries again what the chain did not take; certificates that a fault planted are left."""
        rows = await connection.fetch(
            "SELECT id, json_sha256 FROM certificates WHERE anchor_tx_hash = '' AND anchor_chain_id = '' LIMIT 20"
        )
        for row in rows:
            transaction = await self.anchor(bytes.fromhex(row["json_sha256"]))
            if transaction is None:
                return
            await connection.execute(
                "UPDATE certificates SET status = 'CERTIFIED', anchor_chain_id = $2, anchor_tx_hash = $3 WHERE id = $1",
                row["id"], str(CHAIN_ID), transaction,
            )  # fmt: skip

    async def _maintain(self, connection: asyncpg.Connection[Any]) -> None:
        """The maintenance worker's pass."""
        if self.maintained:
            await connection.execute("UPDATE maintenance_runs SET finished_at = now()")

    async def _put(self, variable: str, key: str, body: bytes) -> None:
        await self.storage.call("put_object", Bucket=BUCKETS[variable], Key=key, Body=body)

    async def _forget(self, connection: asyncpg.Connection[Any]) -> None:
        """Keep the practice estate small however long it runs."""
        if self._beats % 60 == 0:
            for table, kept in (("jobs", "status = 'done'"), ("verification_logs", "true")):
                await connection.execute(
                    f"DELETE FROM {table} WHERE {kept} AND id < (SELECT max(id) - {_KEPT} FROM {table})"
                )

"""The parts of Wipe that nobody can install: its API, its life and its exporter, on the real database, storage and chain.

The sandbox's simulators quote what is published; here they get real servers beneath them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import botocore.session
from aiohttp import web
from botocore.config import Config

from estate.servers.minio import REGION, MinIO
from tocsin_sandbox import wipe
from tocsin_sandbox.wipe import DATABASE, ORGANIZATION
from tocsin_sandbox.wipe_api import WipeApi

SMOKE_TENANT = "77777777-7777-4777-8777-777777777777"
"""The tenant whose proofs are probes."""

SMOKE_KEY = "an-api-key-of-the-test-tenant"
"""May write proofs."""

UNAUTHORIZED = 'wipe_http_requests_total{status="401"}'
COUNTERS = (
    UNAUTHORIZED,
    'wipe_signer_failures_total{operation="pades_sign"}',
    "wipe_anchor_failures_total",
    "wipe_job_failures_total",
    "wipe_http_errors_total",
    "wipe_proofs_awaiting_license_total",
)


class ObjectStore:
    """A real MinIO, as the sandbox's platform uses its storage."""

    def __init__(self, server: MinIO) -> None:
        self.server = server
        self._client: Any = botocore.session.get_session().create_client(
            "s3",
            endpoint_url=server.url,
            region_name=REGION,
            aws_access_key_id=server.root.access_key,
            aws_secret_access_key=server.root.secret_key,
            config=Config(connect_timeout=1, read_timeout=2, retries={"max_attempts": 1}),
        )

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def running(self) -> bool:
        return self.server.running

    async def call(self, operation: str, **arguments: Any) -> Any:
        return await asyncio.to_thread(lambda: getattr(self._client, operation)(**arguments))

    def close(self) -> None:
        self._client.close()


class Exporter:
    """The collector's exporter: what the platform counts about itself, in Prometheus' text format."""

    def __init__(self) -> None:
        self.counts = Counter(dict.fromkeys(COUNTERS, 0))

    def build(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        return app

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(text="".join(f"{name} {count}\n" for name, count in self.counts.items()))


class Api(WipeApi):
    """The platform's API. It takes proofs, too, and its exporter counts what it refuses."""

    exporter: Exporter
    takes_proofs = True
    certifies = True

    def build(self) -> web.Application:
        app = super().build()
        app.router.add_post("/api/v1/proofs", self._submit)
        return app

    async def _submit(self, request: web.Request) -> web.Response:
        """Protected writes require ``Idempotency-Key``, and a proof is DER: a SEQUENCE (ITU-T X.690, 8.9). The test
        tenant's are certified at once, unless a fault keeps them from it."""
        if not self.takes_proofs:
            return web.json_response({"error": {"code": "UNAVAILABLE"}}, status=503)
        if request.headers.get("Authorization") != f"Bearer {SMOKE_KEY}":
            raise self._unauthorized(request)
        if not request.headers.get("Idempotency-Key"):
            return web.json_response({"error": {"code": "BAD_REQUEST"}}, status=400)
        if (await request.read())[:1] != b"\x30":
            return web.json_response({"error": {"code": "BAD_REQUEST"}}, status=400)
        await self.cluster.execute(
            "INSERT INTO proofs (tenant_id, organization_id, status, object_key) VALUES ($1, $2, $3, 'smoke')",
            SMOKE_TENANT,
            ORGANIZATION,
            "CERTIFIED" if self.certifies else "RECEIVED",
            database=DATABASE,
        )
        return web.json_response({"status": "RECEIVED"}, status=202)

    def _unauthorized(self, request: web.Request) -> web.HTTPUnauthorized:
        self.exporter.counts[UNAUTHORIZED] += 1
        return super()._unauthorized(request)


class Life(wipe.Life):
    """What happens in a healthy platform, except that certificates are made when they are asked for, so that the newest
    one is what a fault makes of it; and nothing is forgotten, so that a fault's rows stay."""

    async def _forget(self, connection: Any) -> None:
        """The estate does not live long."""

    async def _certify(self, connection: Any) -> None:
        if not self.certificate:
            await super()._certify(connection)

    async def certify(self) -> str:
        """One more certificate; its id."""
        connection = await self.cluster.connect(DATABASE)
        try:
            async with connection.transaction():
                await super()._certify(connection)
            newest = await connection.fetchval("SELECT id FROM certificates ORDER BY created_at DESC LIMIT 1")
            return str(newest)
        finally:
            await connection.close(timeout=2)

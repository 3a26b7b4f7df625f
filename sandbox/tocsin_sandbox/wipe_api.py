"""Wipe's HTTP API as far as it is published: health, readiness, a protected read, the admin reads, public verification.

Published: ``/healthz``; ``/readyz`` tells about dependencies; ``/admin/api/v1/*`` and ``/api/v1/*`` want a bearer token
of a realm. Not published, so the sandbox's own: bodies, the download and the verification paths.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from aiohttp import ClientError, ClientSession, ClientTimeout, web
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from tocsin_sandbox.identity import AUDIENCE
from tocsin_sandbox.observability import Observability
from tocsin_sandbox.postgresql import Cluster
from tocsin_sandbox.storage import Storage
from tocsin_sandbox.wipe import BUCKETS, DATABASE

JWKS_CACHE_SECONDS = 20.0
"""``KEYCLOAK_JWKS_CACHE_TTL``, short so that its end can be watched: calls keep
working for so long while Keycloak is down, which the page warns of."""


@dataclass(slots=True)
class WipeApi:
    """``issuers`` maps each configured issuer to its JWKS URL. ``leaks`` makes public answers carry internals,
    ``leaks_unknown`` those about certificates that do not exist; ``rejects_tokens`` makes every token invalid, as after
    a wrong audience was deployed; ``starting`` keeps it from being ready."""

    cluster: Cluster
    storage: Storage
    issuers: Mapping[str, str]
    logs: Observability
    leaks: bool = False
    leaks_unknown: bool = False
    rejects_tokens: bool = False
    starting: bool = False
    _keys: dict[str, tuple[float, KeySet]] = field(default_factory=dict)

    def build(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/healthz", _alive)
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/api/v1/usage", self._usage)
        app.router.add_get("/admin/api/v1/license-grants", self._grants)
        app.router.add_get("/admin/api/v1/verification-log", self._verification_log)
        app.router.add_get("/api/v1/certificates/{id}/{kind:pdf|json}", self._download)
        app.router.add_get("/verify/{id}", self._verify)
        return app

    async def _ready(self, request: web.Request) -> web.Response:
        """Published: it is aware of dependencies. Keycloak is not among them: a green answer proves nothing of it."""
        checks = {
            "database": await self._answers(self._ask_database),
            "storage": await self._answers(self._ask_storage),
        }
        ready = all(checks.values()) and not self.starting
        body = {
            "status": "ready" if ready else "unavailable",
            "checks": {k: "ok" if v else "failed" for k, v in checks.items()},
        }
        return web.json_response(body, status=200 if ready else 503)

    async def _usage(self, request: web.Request) -> web.Response:
        await self._authenticate(request)
        used = await self._rows("SELECT count(*) AS certificates FROM certificates")
        return web.json_response({"certificates": used[0]["certificates"]})

    async def _grants(self, request: web.Request) -> web.Response:
        await self._authenticate(request)
        rows = await self._rows("SELECT grant_id, license_type, quantity, valid_from, valid_until FROM license_grants")
        return web.json_response({"grants": [{key: str(value) for key, value in row.items()} for row in rows]})

    async def _verification_log(self, request: web.Request) -> web.Response:
        await self._authenticate(request)
        rows = await self._rows("SELECT result, created_at FROM verification_logs ORDER BY id DESC LIMIT 100")
        return web.json_response({"entries": [{key: str(value) for key, value in row.items()} for row in rows]})

    async def _download(self, request: web.Request) -> web.Response:
        await self._authenticate(request)
        kind = request.match_info["kind"]
        row = await self._certificate(request.match_info["id"])
        if row is None:
            return _error(404, "NOT_FOUND")
        stored = await self.storage.call("get_object", Bucket=BUCKETS["S3_BUCKET_CERTIFICATES"], Key=row[f"{kind}_key"])
        return web.Response(body=stored["Body"].read(), content_type=f"application/{kind}")

    async def _verify(self, request: web.Request) -> web.Response:
        """Published results: ``UNKNOWN_CERTIFICATE``, ``RATE_LIMITED``; bodies are kept minimal, without internals."""
        row = await self._certificate(request.match_info["id"])
        result = "VALID" if row is not None else "UNKNOWN_CERTIFICATE"
        await self.cluster.execute(
            "INSERT INTO verification_logs (result, source_ip, asked_for) VALUES ($1, $2, $3)",
            result,
            f"192.0.2.{secrets.randbelow(250)}",  # people ask from everywhere
            request.match_info["id"],
            database=DATABASE,
        )
        if row is None:
            internals = {"error": "SQLSTATE 02000: no row"} if self.leaks_unknown else {}
            return web.json_response({"result": result, **internals}, status=404)
        body: dict[str, Any] = {"result": result, "status": row["status"], "anchored": bool(row["anchor_tx_hash"])}
        if self.leaks:
            body |= {"tenant_id": str(row["tenant_id"]), "organization_id": str(row["organization_id"])}
        return web.json_response(body)

    async def _certificate(self, identifier: str) -> Mapping[str, Any] | None:
        try:
            wanted = uuid.UUID(identifier)
        except ValueError:
            return None
        rows = await self._rows("SELECT * FROM certificates WHERE id = $1", wanted)
        return rows[0] if rows else None

    async def _rows(self, sql: str, *arguments: object) -> list[Any]:
        connection = await self.cluster.connect(DATABASE)
        try:
            return list(await connection.fetch(sql, *arguments, timeout=5))
        finally:
            await connection.close(timeout=2)

    async def _ask_database(self) -> None:
        await self._rows("SELECT 1")

    async def _ask_storage(self) -> None:
        if not self.storage.running:
            raise ConnectionRefusedError(self.storage.url)
        await self.storage.call("head_bucket", Bucket=BUCKETS["S3_BUCKET_PROOFS"])

    async def _answers(self, ask: Callable[[], Awaitable[None]]) -> bool:
        from botocore.exceptions import BotoCoreError
        from botocore.exceptions import ClientError as StorageError

        try:
            await ask()
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, BotoCoreError, StorageError):
            return False
        return True

    async def _authenticate(self, request: web.Request) -> None:
        """A bearer token of a configured issuer, signed by a key that is cached or served now. Raises 401."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or self.rejects_tokens:
            raise self._unauthorized(request)
        for issuer, jwks_url in self.issuers.items():
            try:
                claims = await self._claims(token, jwks_url)
                registry = jwt.JWTClaimsRegistry(
                    leeway=5, iss={"essential": True, "value": issuer}, aud={"essential": True, "value": AUDIENCE},
                    exp={"essential": True},
                )  # fmt: skip
                registry.validate(claims)
            except (JoseError, ValueError, ClientError, TimeoutError):
                continue
            return
        raise self._unauthorized(request)

    async def _claims(self, token: str, jwks_url: str) -> dict[str, Any]:
        """A key that is not cached is asked for once more: it may be new. Raises as `jwt.decode`."""
        try:
            return jwt.decode(token, await self._key_set(jwks_url), algorithms=["RS256"]).claims
        except (JoseError, ValueError):
            self._keys.pop(jwks_url, None)
            return jwt.decode(token, await self._key_set(jwks_url), algorithms=["RS256"]).claims

    def _unauthorized(self, request: web.Request) -> web.HTTPUnauthorized:
        self.logs.log("api", f"level=warn status=401 path={request.path} msg=unauthorized")
        return _unauthorized()

    async def _key_set(self, url: str) -> KeySet:
        cached = self._keys.get(url)
        if cached is not None and time.monotonic() - cached[0] < JWKS_CACHE_SECONDS:
            return cached[1]
        async with ClientSession(timeout=ClientTimeout(total=3)) as session, session.get(url) as response:
            keys = KeySet.import_key_set(await response.json())
        self._keys[url] = (time.monotonic(), keys)
        return keys


async def _alive(request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


def _error(status: int, code: str) -> web.Response:
    return web.json_response({"error": {"code": code}}, status=status)


def _unauthorized() -> web.HTTPUnauthorized:
    return web.HTTPUnauthorized(text='{"error":{"code":"UNAUTHORIZED"}}', content_type="application/json")

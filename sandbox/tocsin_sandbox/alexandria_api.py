"""Alexandria EE's HTTP API as far as it is published, in front of the orchestrator's socket.

Published: ``/ready`` is 200, and 503 usually means that the orchestrator's socket is not up; ``/license`` and
``/admin/license``, ``/admin/status``, ``/auth/setup``, ``/auth/providers``, ``/admin/llm``, ``/v1/backends`` and
``POST /admin/audit/verify`` with the fields used here; 402 ``quota_exceeded``. Not published: the body of ``/ready``,
and the paths and fields of the login, which are in `tocsin_sandbox.alexandria_accounts`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
from aiohttp import web

from tocsin_sandbox.alexandria_accounts import Account
from tocsin_sandbox.alexandria_audit import AuditLog
from tocsin_sandbox.alexandria_license import License

_DAY = 86400
GRACE_SECONDS = 14 * _DAY
"""The length of the grace period is not published; this is the sandbox's own."""


@dataclass(slots=True)
class AlexandriaApi:
    """The API. ``needs_setup``: every administrator is disabled, so setup is open to anybody again.
    ``chain_trusted``: false when the platform's own verification says broken whatever it finds.
    ``backend_enabled``: of the default LLM backend. ``part_down``: a part that the administration says is down.
    ``providers_broken``: the list of sign-in providers is none."""

    socket: Path
    audit_log: AuditLog
    license: License = field(default_factory=License)
    needs_setup: bool = False
    chain_trusted: bool = True
    backend_enabled: bool = True
    part_down: str = ""
    providers_broken: bool = False
    admin: Account = field(default_factory=Account)
    limited: bool = False
    """Whether the administration answers 429 to everything."""

    def build(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/ready", self._ready)
        app.router.add_get("/license", self._license)
        app.router.add_get("/auth/setup", self._setup)
        app.router.add_get("/auth/providers", self._providers)
        app.router.add_post("/auth/login", self.admin.log_in)
        app.router.add_post("/auth/refresh", self.admin.refresh)
        app.router.add_get("/v1/backends", self._backends)
        app.router.add_get("/admin/license", self._admin_license)
        app.router.add_get("/admin/status", self._status)
        app.router.add_get("/admin/llm", self._backends)
        app.router.add_get("/admin/tenants", self._tenants)
        app.router.add_post("/admin/tenants", self._create_tenant)
        app.router.add_post("/admin/audit/verify", self._verify)
        return app

    async def orchestrator_answers(self) -> bool:
        """Whether somebody accepts on the orchestrator's socket."""
        try:
            async with asyncio.timeout(1):
                _, writer = await asyncio.open_unix_connection(self.socket)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    async def _ready(self, request: web.Request) -> web.Response:
        ready = await self.orchestrator_answers()
        return web.json_response({"status": "ready" if ready else "unavailable"}, status=200 if ready else 503)

    async def _license(self, request: web.Request) -> web.Response:
        running = self.license
        return web.json_response(
            {
                "tier": running.tier,
                "expires_at": running.expires_at(),
                "current_seats": running.current_seats,
                "max_seats": running.max_seats,
                "current_tenants": running.current_tenants,
                "max_tenants": running.max_tenants,
            }
        )

    async def _admin_license(self, request: web.Request) -> web.Response:
        self._authenticate(request)
        days = self.license.days
        return web.json_response(
            {
                "tier": self.license.tier,
                "entitlements": list(self.license.entitlements),
                "expires_at": self.license.expires_at(),
                "days_remaining": max(days, 0),
                "grace_remaining_seconds": 0 if days >= 0 else max(GRACE_SECONDS + days * _DAY, 0),
            }
        )

    async def _setup(self, request: web.Request) -> web.Response:
        return web.json_response({"needs_setup": self.needs_setup})

    async def _providers(self, request: web.Request) -> web.Response:
        provider = {"name": "exawipe", "display_name": "Single sign-on", "kind": "oidc"}
        return web.json_response({"error": "internal"} if self.providers_broken else {"providers": [provider]})

    async def _backends(self, request: web.Request) -> web.Response:
        self._authenticate(request)
        backend = {
            "id": "1", "name": "practice", "kind": "open-ai", "model": "practice-1", "is_default": True,
            "enabled": self.backend_enabled, "status": "active" if self.backend_enabled else "inactive",
        }  # fmt: skip
        return web.json_response({"backends": [backend]})

    async def _status(self, request: web.Request) -> web.Response:
        self._authenticate(request)
        up = await self.orchestrator_answers()
        parts = {"orchestrator": "up" if up else "down", "api": "up", "utils": "up"}
        return web.json_response({part: "down" if part == self.part_down else said for part, said in parts.items()})

    async def _tenants(self, request: web.Request) -> web.Response:
        self._authenticate(request)
        count = self.license.current_tenants
        return web.json_response(
            {"tenants": [{"id": str(n), "slug": f"t{n}", "disabled": False} for n in range(count)]}
        )

    async def _create_tenant(self, request: web.Request) -> web.Response:
        self._authenticate(request)
        used, limit = self.license.current_tenants, self.license.max_tenants
        if used >= limit:
            body = {"error": "quota_exceeded", "resource": "tenants", "limit": limit, "current": used}
            return web.json_response(body, status=402)
        self.license.current_tenants += 1
        return web.json_response({"id": str(used)}, status=201)

    async def _verify(self, request: web.Request) -> web.Response:
        self._authenticate(request)
        try:
            verified = await self.audit_log.verified()
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return _error(500, "internal")
        return web.json_response({"verified": verified and self.chain_trusted})

    def _authenticate(self, request: web.Request) -> None:
        if self.limited:
            raise web.HTTPTooManyRequests(text='{"error":"rate_limited"}', content_type="application/json")
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not self.admin.knows(token):
            raise web.HTTPUnauthorized(text='{"error":"unauthorized"}', content_type="application/json")


def _error(status: int, code: str) -> web.Response:
    return web.json_response({"error": code}, status=status)

"""What the platforms use and others run: the captcha's siteverify (as Turnstile documents it), the chain's explorer,
Vault's health (Vault HTTP API, "/sys/health")."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from aiohttp import web


@dataclass(slots=True)
class Elsewhere:
    """``knows_secret``: whether the captcha's operator still knows the platform's secret.
    ``vault_sealed``: whether Vault must be unsealed before it gives anything."""

    captcha_secret: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    knows_secret: bool = True
    vault_sealed: bool = False

    def build(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/siteverify", self._siteverify)
        app.router.add_get("/explorer", _explorer)
        app.router.add_get("/v1/sys/health", self._vault_health)
        return app

    async def _siteverify(self, request: web.Request) -> web.Response:
        """Nothing was solved here, so no answer is right."""
        form = await request.post()
        known = self.knows_secret and form.get("secret") == self.captcha_secret
        codes = {
            "missing-input-secret": not form.get("secret"),
            "invalid-input-secret": form.get("secret") and not known,
            "missing-input-response": not form.get("response"),
            "invalid-input-response": known and form.get("response"),
        }
        return web.json_response({"success": False, "error-codes": [code for code, is_so in codes.items() if is_so]})

    async def _vault_health(self, request: web.Request) -> web.Response:
        body = {"initialized": True, "sealed": self.vault_sealed, "standby": self.vault_sealed}
        return web.json_response(body, status=503 if self.vault_sealed else 200)


async def _explorer(request: web.Request) -> web.Response:
    return web.Response(text="<!doctype html><title>Explorer</title>", content_type="text/html")

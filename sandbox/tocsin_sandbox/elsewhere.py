"""What the platform uses and others run: the captcha's siteverify (as Turnstile documents it), the chain's explorer."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from aiohttp import web


@dataclass(slots=True)
class Elsewhere:
    """``knows_secret``: whether the captcha's operator still knows the platform's secret."""

    captcha_secret: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    knows_secret: bool = True

    def build(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/siteverify", self._siteverify)
        app.router.add_get("/explorer", _explorer)
        return app

    async def _siteverify(self, request: web.Request) -> web.Response:
        """Nothing was solved here, so no answer is right."""
        form = await request.post()
        known = self.knows_secret and form.get("secret") == self.captcha_secret
        code = "invalid-input-response" if known else "invalid-input-secret"
        return web.json_response({"success": False, "error-codes": [code]})


async def _explorer(request: web.Request) -> web.Response:
    return web.Response(text="<!doctype html><title>Explorer</title>", content_type="text/html")

"""Who may pass: client names, the rate limit, basic authentication."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import bcrypt
from aiohttp import web

from tocsin.exposing.tls import allowed_name
from tocsin.exposing.webconfig import WebConfig

OPEN_PATHS = frozenset({"/-/healthy", "/-/ready"})
"""Served without a password and outside the rate limit: a kubelet has neither, they tell nothing but alive or not, and
an orchestrator that restarts the monitor because its own credential is wrong makes an incident of its own. (The
exporter-toolkit protects every path.) Client certificates are a matter of TLS and are asked for on every path."""

_DUMMY_HASH = b"$2b$10$G64PrWKawL/JuEjmPTz2nOKuWB/timuHfLsn3nPBo/ec36Jw13rea"
"""Of random bytes that were thrown away. Whoever guessed them would still be nobody known."""
_MOST_VERIFIED = 100
_MOST_WAITING = 8
_MAX_PASSWORD_BYTES = 72
"""bcrypt looks at no more, and at nothing after a zero byte."""


class Gate:
    """Holds what was verified. One instance a server; `config` may be replaced at any time by its loop."""

    def __init__(self, config: WebConfig, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        self._monotonic = monotonic
        self._key = secrets.token_bytes(32)
        self._verified: OrderedDict[bytes, None] = OrderedDict()
        self._bcrypt = ThreadPoolExecutor(1, thread_name_prefix="tocsin-bcrypt")
        self._waiting = 0
        self._tokens = float(config.rate_limit.burst)
        self._refilled_at = monotonic()

    def close(self) -> None:
        self._bcrypt.shutdown(wait=True, cancel_futures=True)

    async def refusal(self, request: web.Request) -> web.Response | None:
        """The answer to somebody who may not pass; None when they may."""
        tls = self.config.tls_server_config
        if tls is not None and tls.client_allowed_sans:
            certificate = request.transport.get_extra_info("peercert") if request.transport is not None else None
            if not allowed_name(certificate, tls.client_allowed_sans):
                return web.Response(status=403, text="This client certificate is not one of those allowed.\n")
        if request.path in OPEN_PATHS:
            return None
        if not self._within_rate():
            return web.Response(status=429, text="Too many requests.\n", headers={"Retry-After": "1"})
        if not self.config.basic_auth_users:
            return None
        return await self._unauthorized(request)

    async def _unauthorized(self, request: web.Request) -> web.Response | None:
        asked = web.Response(
            status=401, text="Unauthorized.\n", headers={"WWW-Authenticate": 'Basic realm="tocsin", charset="UTF-8"'}
        )
        credentials = basic_credentials(request.headers.get("Authorization", ""))
        if credentials is None:
            return asked
        login, password = credentials
        known = self.config.basic_auth_users.get(login)
        # Somebody unknown takes as long as somebody known: names cannot be told by timing.
        hashed = known.reveal().encode() if known is not None else _DUMMY_HASH
        # Only ever kept as a keyed digest, and only when it was right: a flood of guesses evicts nobody.
        parts = (login.encode(), hashed, password)
        ticket = hmac.digest(self._key, b"".join(hashlib.sha256(part).digest() for part in parts), "sha256")
        if ticket in self._verified:
            self._verified.move_to_end(ticket)
            return None
        if self._waiting >= _MOST_WAITING:
            return web.Response(status=429, text="Too many logins at once.\n", headers={"Retry-After": "1"})
        self._waiting += 1
        try:
            matches = await asyncio.get_running_loop().run_in_executor(self._bcrypt, _matches, password, hashed)
        finally:
            self._waiting -= 1
        if not matches or known is None:
            return asked
        self._verified[ticket] = None
        if len(self._verified) > _MOST_VERIFIED:
            self._verified.popitem(last=False)
        return None

    def _within_rate(self) -> bool:
        limit = self.config.rate_limit
        if limit.interval <= 0:
            return True
        now = self._monotonic()
        self._tokens = min(float(limit.burst), self._tokens + (now - self._refilled_at) / limit.interval)
        self._refilled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def basic_credentials(header: str) -> tuple[str, bytes] | None:
    """Name and password of an Authorization header; None when it holds none. RFC 7617 section 2."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        login, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (login.decode(), password) if colon else None
    except ValueError:
        return None


def _matches(password: bytes, hashed: bytes) -> bool:
    return len(password) <= _MAX_PASSWORD_BYTES and b"\0" not in password and bcrypt.checkpw(password, hashed)

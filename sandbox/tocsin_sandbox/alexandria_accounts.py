"""An administrator's account of Alexandria, and how one logs in with it.

Published: access tokens last 15 minutes; refresh tokens rotate, the old one is revoked at once; login is rate limited
and locks accounts; 401 for bad or disabled, 429 for limited or locked. Not published: the paths, the fields of bodies
and answers, after how many failures an account is locked and for how long. Those here are the sandbox's own.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

ACCESS_SECONDS = 900.0
FAILURES_TO_LOCK = 5
RETRY_AFTER = 2
"""Seconds that a locked account says to wait: short, so that practice goes on."""


@dataclass(slots=True)
class Account:
    """One account. ``asked``: what it was asked, by path, for tests that count. ``later``: seconds that its clock is
    ahead."""

    username: str = "probe@example.org"
    password: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    locked: bool = False
    failures: int = 0
    later: float = 0.0
    asked: list[str] = field(default_factory=list)
    _tokens: dict[str, float] = field(default_factory=dict)
    _refreshing: str = ""

    def issue(self) -> str:
        """An access token, as something else that logs in would get it."""
        token = secrets.token_urlsafe(32)
        self._tokens[token] = time.time() + self.later + ACCESS_SECONDS
        return token

    def knows(self, token: str) -> bool:
        """Whether the token is one of this account's, and has not ended."""
        return time.time() + self.later < self._tokens.get(token, 0.0)

    def revoke(self, *, refresh: bool = True) -> None:
        """Ends every session; without ``refresh`` the access tokens only."""
        self._tokens.clear()
        if refresh:
            self._refreshing = ""

    def lock(self) -> None:
        """Too many wrong passwords, or an administrator's decision."""
        self.locked = True
        self.revoke()

    def unlock(self) -> None:
        self.locked, self.failures = False, 0

    async def log_in(self, request: web.Request) -> web.Response:
        self.asked.append("login")
        if self.locked:
            return _refused(429, "account_locked", {"Retry-After": str(RETRY_AFTER)})
        asked: dict[str, Any] = await request.json()
        given = str(asked.get("password", ""))
        if asked.get("email") != self.username or not secrets.compare_digest(given.encode(), self.password.encode()):
            self.failures += 1
            if self.failures >= FAILURES_TO_LOCK:
                self.lock()
            return _refused(401, "invalid_credentials")
        return self._granted()

    async def refresh(self, request: web.Request) -> web.Response:
        self.asked.append("refresh")
        asked: dict[str, Any] = await request.json()
        given = str(asked.get("refresh_token", ""))
        if not self._refreshing or not secrets.compare_digest(given.encode(), self._refreshing.encode()):
            return _refused(401, "invalid_refresh_token")
        return self._granted()

    def _granted(self) -> web.Response:
        self.failures = 0
        self._refreshing = secrets.token_urlsafe(32)
        return web.json_response(
            {"access_token": self.issue(), "refresh_token": self._refreshing, "expires_in": int(ACCESS_SECONDS)}
        )


def _refused(status: int, code: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": code}, status=status, headers=headers)

"""An OpenID provider that answers as Keycloak 26.4.0 does; statuses and bodies were recorded from that release.

Two realms are published for the platform, ``master`` and ``exawipe``; what is exercised after an outage is a
password-token smoke test of both. Tokens are really signed (RS256). Keycloak has a PostgreSQL of its own: without it
this provider still serves what Keycloak caches (metadata, keys), but is not ready and grants nothing.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from enum import StrEnum
from typing import Any

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import RSAKey

TOKEN_SECONDS = 300
"""Keycloak's default lifespan of an access token."""

CLIENT_ID = "tocsin"
USERNAME = "tocsin-probe"
AUDIENCE = "wipe-api"


class Jwks(StrEnum):
    """What the key endpoint serves. ``UNREADABLE``: not JSON. ``NO_SIGNING``: only the encryption key."""

    NORMAL = "normal"
    EMPTY = "empty"
    UNREADABLE = "unreadable"
    NO_SIGNING = "no_signing"


class User(StrEnum):
    """The state of the smoke test's user."""

    ENABLED = "enabled"
    LOCKED = "locked"
    """By brute-force detection. Keycloak answers as for a wrong password, so that the lock cannot be probed for."""
    DISABLED = "disabled"


@dataclass(slots=True)
class Realm:
    """One realm and what is wrong with it. ``issuer`` is what it claims; ``clock`` seconds are added to its time;
    ``sessions`` are the refresh tokens of sessions that nobody has logged out."""

    name: str
    issuer: str
    enabled: bool = True
    exists: bool = True
    jwks: Jwks = Jwks.NORMAL
    user: User = User.ENABLED
    audience: str = AUDIENCE
    clock: float = 0.0
    foreign_key: bool = False
    incomplete: bool = False
    stale: bool = False
    client_secret: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    password: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    keys: list[RSAKey] = field(default_factory=lambda: [new_key("sig")])
    encryption_key: RSAKey = field(default_factory=lambda: new_key("enc"))
    strange_key: RSAKey = field(default_factory=lambda: new_key("sig"))
    sessions: set[str] = field(default_factory=set)

    def rotate(self) -> None:
        """A new signing key, active at once, with those before still published: Keycloak's documented rotation.

        There is no way back: a key that has signed must stay published. Once caches have run out all is well again.
        """
        self.keys = [new_key("sig"), *self.keys[:4]]

    def published_keys(self) -> list[dict[str, Any]]:
        signing = [] if self.jwks is Jwks.NO_SIGNING else self.keys
        keys = [] if self.jwks is Jwks.EMPTY else [self.encryption_key, *signing]
        return [dict(key.as_dict(private=False)) for key in keys]

    def token(self, claims: Mapping[str, Any]) -> str:
        now = int(time.time() + self.clock)
        key = self.strange_key if self.foreign_key else self.keys[0]
        # A foreign key hides behind the kid of the published one: only the signature can tell.
        header = {"alg": "RS256", "typ": "JWT", "kid": self.keys[0].kid}
        body = {
            "exp": now + TOKEN_SECONDS, "iat": now, "jti": secrets.token_hex(16), "iss": self.issuer,
            "aud": [self.audience, "account"], "typ": "Bearer", "azp": CLIENT_ID, "acr": "1",
        }  # fmt: skip
        return jwt.encode(header, {**body, **claims}, key)


def new_key(use: str) -> RSAKey:
    algorithm = "RS256" if use == "sig" else "RSA-OAEP"
    return RSAKey.generate_key(2048, {"use": use, "alg": algorithm, "kid": secrets.token_urlsafe(32)}, private=True)


@dataclass(slots=True)
class IdentityProvider:
    """Both realms and the application that serves them. ``database_answers`` asks Keycloak's own PostgreSQL."""

    url: str
    database_answers: Callable[[], Awaitable[bool]]
    realms: dict[str, Realm]

    @classmethod
    def create(cls, url: str, database_answers: Callable[[], Awaitable[bool]]) -> IdentityProvider:
        realms = {name: Realm(name, f"{url}/realms/{name}") for name in ("master", "exawipe")}
        return cls(url, database_answers, realms)

    def build(self) -> web.Application:
        """The public port: realms."""
        app = web.Application()
        base = "/realms/{realm}"
        app.router.add_get(base, self._realm_info)
        app.router.add_get(base + "/.well-known/openid-configuration", self._metadata)
        app.router.add_get(base + "/protocol/openid-connect/certs", self._certs)
        app.router.add_post(base + "/protocol/openid-connect/token", self._token)
        app.router.add_post(base + "/protocol/openid-connect/logout", self._logout)
        app.router.add_get(base + "/protocol/openid-connect/auth", self._login_page)
        app.router.add_route("*", "/{path:.*}", _no_resource)
        return app

    def build_management(self) -> web.Application:
        """The management port: health, as Keycloak serves it with ``health-enabled`` and ``metrics-enabled``."""
        app = web.Application()
        app.router.add_get("/health", self._health)
        app.router.add_get("/health/ready", self._health)
        app.router.add_get("/health/live", _live)
        return app

    def _realm(self, request: web.Request) -> Realm:
        realm = self.realms.get(request.match_info["realm"])
        if realm is None or not realm.exists:
            raise web.HTTPNotFound(text='{"error":"Realm does not exist"}', content_type="application/json")
        return realm

    async def _realm_info(self, request: web.Request) -> web.Response:
        realm = self._realm(request)
        base = f"{self.url}/realms/{realm.name}"
        return web.json_response(
            {
                "realm": realm.name,
                "token-service": f"{base}/protocol/openid-connect",
                "account-service": f"{base}/account",
                "tokens-not-before": 0,
            }
        )

    async def _metadata(self, request: web.Request) -> web.Response:
        """Recorded: a disabled realm still answers 200 here and at ``certs``; only grants and logins are refused."""
        realm = self._realm(request)
        return web.json_response(metadata(realm), headers=_caching(realm))

    async def _certs(self, request: web.Request) -> web.Response:
        realm = self._realm(request)
        if realm.jwks is Jwks.UNREADABLE:
            return web.Response(text="upstream connect error", content_type="text/plain")
        return web.json_response({"keys": realm.published_keys()}, headers=_caching(realm))

    async def _login_page(self, request: web.Request) -> web.Response:
        realm = self._realm(request)
        why = "Invalid parameter: redirect_uri" if realm.enabled else "Realm not enabled"
        page = f"<!DOCTYPE html><html><body><h1>We are sorry...</h1><p>{why}</p></body></html>"
        return web.Response(text=page, status=400, content_type="text/html")

    async def _token(self, request: web.Request) -> web.Response:
        realm = self._realm(request)
        form = {key: str(value) for key, value in (await request.post()).items()}
        if not await self.database_answers():
            return refusal(500, "unknown_error", "For more on this error consult the server log.")
        refused = check_grant(realm, form, request.headers.get("Authorization", ""))
        if refused is not None:
            return refused
        session = secrets.token_hex(16)
        refresh_token = realm.token({"typ": "Refresh", "sid": session})
        answer: dict[str, Any] = {
            "expires_in": TOKEN_SECONDS, "refresh_expires_in": 0, "token_type": "Bearer", "not-before-policy": 0,
            "scope": "profile email",
        }  # fmt: skip
        if form["grant_type"] == "password":
            realm.sessions.add(refresh_token)
            claims = {"sub": "5f2c1d0e-probe", "sid": session, "preferred_username": form["username"]}
            answer |= {
                "refresh_expires_in": 1800,
                "session_state": session,
                "refresh_token": refresh_token,
            }
        else:
            claims = {"sub": "8a1b-service", "preferred_username": f"service-account-{CLIENT_ID}"}
        return web.json_response({"access_token": realm.token(claims), **answer}, headers={"Cache-Control": "no-store"})

    async def _logout(self, request: web.Request) -> web.Response:
        realm = self._realm(request)
        form = await request.post()
        token = str(form.get("refresh_token", ""))
        if token not in realm.sessions:
            return refusal(400, "invalid_grant", "Invalid refresh token")
        realm.sessions.discard(token)
        return web.Response(status=204)

    async def _health(self, request: web.Request) -> web.Response:
        up = await self.database_answers()
        check = {"name": "Keycloak database connections async health check", "status": "UP" if up else "DOWN"}
        return web.json_response({"status": check["status"], "checks": [check]}, status=200 if up else 503)


async def _live(request: web.Request) -> web.Response:
    return web.json_response({"status": "UP", "checks": []})


async def _no_resource(request: web.Request) -> web.Response:
    return web.json_response({"error": "Unable to find matching target resource method"}, status=404)


def metadata(realm: Realm) -> dict[str, Any]:
    """OpenID Connect Discovery 1.0, section 3, with the values that Keycloak gives."""
    base = f"{realm.issuer}/protocol/openid-connect"
    document: dict[str, Any] = {
        "issuer": realm.issuer,
        "authorization_endpoint": f"{base}/auth",
        "token_endpoint": f"{base}/token",
        "introspection_endpoint": f"{base}/token/introspect",
        "userinfo_endpoint": f"{base}/userinfo",
        "end_session_endpoint": f"{base}/logout",
        "jwks_uri": f"{base}/certs",
        "grant_types_supported": ["authorization_code", "client_credentials", "implicit", "password", "refresh_token"],
        "response_types_supported": ["code", "none", "id_token", "token", "id_token token"],
        "subject_types_supported": ["public", "pairwise"],
        "id_token_signing_alg_values_supported": ["RS256", "RS384", "RS512", "ES256", "EdDSA"],
        "code_challenge_methods_supported": ["plain", "S256"],
    }
    if realm.incomplete:
        del document["jwks_uri"], document["token_endpoint"]
    return document


def check_grant(realm: Realm, form: Mapping[str, str], authorization: str) -> web.Response | None:
    """Keycloak's refusals of a grant in the order in which it makes them, as recorded; None when it is granted."""
    client, secret = _basic(authorization) or (form.get("client_id", ""), form.get("client_secret", ""))
    bad_client = "Invalid client or Invalid client credentials"
    grant = form.get("grant_type", "")
    if not realm.enabled:
        return refusal(403, "access_denied", "Realm not enabled")
    if not grant:
        return refusal(400, "invalid_request", "Missing form parameter: grant_type")
    if client != CLIENT_ID:
        return refusal(401, "invalid_client", bad_client)
    if not secrets.compare_digest(secret.encode(), realm.client_secret.encode()):
        return refusal(401, "unauthorized_client", bad_client)
    if grant not in ("password", "client_credentials"):
        return refusal(400, "unsupported_grant_type", "Unsupported grant_type")
    if grant == "client_credentials":
        return None
    right = secrets.compare_digest(form.get("password", "").encode(), realm.password.encode())
    if form.get("username") != USERNAME or not right or realm.user is User.LOCKED:
        return refusal(401, "invalid_grant", "Invalid user credentials")
    if realm.user is User.DISABLED:
        return refusal(400, "invalid_grant", "Account disabled")
    return None


def refusal(status: int, error: str, description: str) -> web.Response:
    """RFC 6749, section 5.2."""
    body = {"error": error, "error_description": description}
    return web.json_response(body, status=status, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})


def _basic(authorization: str) -> tuple[str, str] | None:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client, _, secret = base64.b64decode(encoded, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return ("", "")
    return client, secret


def _caching(realm: Realm) -> dict[str, str]:
    """What a cache in between would add to an answer that it keeps serving (RFC 9111, section 5.1)."""
    if not realm.stale:
        return {"Cache-Control": "no-cache, must-revalidate, no-transform, no-store"}
    return {"Age": "86400", "Date": formatdate(time.time() - 86400, usegmt=True), "Cache-Control": "max-age=604800"}

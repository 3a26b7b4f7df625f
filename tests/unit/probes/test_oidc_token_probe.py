"""Tokens that a real Keycloak would not issue, and endings that it cannot be made to give."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from pydantic import ValidationError

from tests.probing import Probed, probe_once
from tests.unit.probes.lying_servers import Handler, answering, by_path, serving, silence
from tocsin.sdk.oidc import is_about_credentials
from tocsin_probes.oidc_token import OidcToken

KEY = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
OTHER = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
CURVE = ECKey.generate_key("P-256", {"kid": "two", "use": "sig"})
PUBLISHED = [KEY.as_dict(private=False), CURVE.as_dict(private=False)]


class Provider:
    """A provider that grants ``token`` and remembers the forms it was sent."""

    def __init__(self) -> None:
        self.issuer = ""
        self.granted: dict[str, Any] = {}
        self.routes: dict[str, Handler] = {}
        self.logouts: list[dict[str, list[str]]] = []

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": ["account", "api"], "exp": now + 300, "iat": now, **changes}
        return {name: value for name, value in claims.items() if value is not None}

    def grant(self, access_token: object, **more: object) -> None:
        content = {"access_token": access_token, "refresh_token": "refresh-me", "token_type": "Bearer", **more}
        self.routes["/r/token"] = answering(json.dumps(content))

    async def logout(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read(65536)
        body = data.decode().replace("\r\n", "\n")
        self.logouts.append(parse_qs(next(line for line in body.splitlines() if line.startswith("refresh_token="))))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await reader.read()


@asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    made = Provider()
    async with serving(by_path(made.routes)) as port:
        made.issuer = f"http://127.0.0.1:{port}/r"
        document = {
            "issuer": made.issuer,
            "token_endpoint": f"{made.issuer}/token",
            "jwks_uri": f"{made.issuer}/certs",
            "end_session_endpoint": f"{made.issuer}/logout",
        }
        made.routes["/r/.well-known/openid-configuration"] = answering(json.dumps(document))
        made.routes["/r/certs"] = answering(json.dumps({"keys": PUBLISHED}))
        made.routes["/r/logout"] = made.logout
        yield made


async def ask(made: Provider, timeout: float = 2.0, **settings: Any) -> Probed:
    base = {"issuer": made.issuer, "client_id": "c", "client_secret": "s"}
    return await probe_once(OidcToken(OidcToken.Settings.model_validate({**base, **settings})), timeout)


def signed(claims: dict[str, Any], key: Any = KEY, **header: Any) -> str:
    return jwt.encode({"alg": "RS256", "kid": "one", **header}, claims, key)


def by_hand(algorithm: str, claims: dict[str, Any], secret: bytes = b"") -> str:
    """A token that no library would make: without a signature, or with an HMAC by a public key."""
    head = ".".join(encoded(json.dumps(part).encode()) for part in ({"alg": algorithm, "kid": "one"}, claims))
    return f"{head}.{encoded(hmac.digest(secret, head.encode(), 'sha256')) if secret else ''}"


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


async def test_a_right_token_by_each_kind_of_key_is_ok() -> None:
    async with provider() as made:
        for token in (signed(made.claims()), signed(made.claims(), CURVE, alg="ES256", kid="two")):
            made.grant(token)
            assert (await ask(made, audience="api")).verdict == ("ok", None)
    assert made.logouts[0]["refresh_token"] == ["refresh-me"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": "https://elsewhere.example"}, "iss_mismatch"),
        ({"iss": None}, "iss_mismatch"),
        ({"aud": "account"}, "aud_mismatch"),
        ({"aud": None}, "aud_mismatch"),
        ({"aud": ["apis"]}, "aud_mismatch"),
        ({"exp": 1000, "iat": 900}, "clock_skew"),
        ({"nbf": 9_999_999_999}, "clock_skew"),
        ({"iat": 9_999_999_999}, "clock_skew"),
        ({"exp": None}, "unexpected_body"),
        ({"exp": "soon"}, "unexpected_body"),
        ({"iat": True}, "unexpected_body"),
    ],
)
async def test_each_wrong_claim_has_its_reason(changes: dict[str, Any], reason: str) -> None:
    async with provider() as made:
        made.grant(signed(made.claims(**changes)))
        probed = await ask(made, audience="api")
    assert probed.verdict == ("failed", reason), probed.detail
    assert len(made.logouts) == 1, "the session is closed whatever the token is worth"


async def test_a_signature_that_does_not_hold_is_told_apart() -> None:
    async with provider() as made:
        header, _, signature = signed(made.claims()).split(".")
        forged = encoded(json.dumps(made.claims(sub="root")).encode())
        wrong = {
            "another key of the same name": signed(made.claims(), OTHER),
            "a key that is not published": signed(made.claims(), kid="three"),
            "a changed payload": f"{header}.{forged}.{signature}",
            "no signature": by_hand("none", made.claims()),
            "an HMAC by the public key": by_hand("HS256", made.claims(), KEY.as_pem(private=False)),
        }
        for what, token in wrong.items():
            made.grant(token)
            probed = await ask(made)
            assert probed.verdict == ("failed", "signature_invalid"), what
            assert token not in probed.detail


@pytest.mark.parametrize("token", ["opaque-token", "a.b.c", "", None, 5, "x" * 5000])
async def test_what_is_no_token_is_an_unexpected_body(token: object) -> None:
    async with provider() as made:
        made.grant(token)
        assert (await ask(made)).verdict == ("failed", "unexpected_body")
    assert len(made.logouts) == 1


async def test_a_session_is_closed_even_when_the_rest_takes_too_long() -> None:
    async with provider() as made:
        made.grant(signed(made.claims()))
        made.routes["/r/certs"] = silence
        probed = await ask(made, 0.8)
        assert probed.verdict == ("failed", "timeout")
        assert probed.duration_seconds < 0.8
    assert len(made.logouts) == 1


async def test_keys_that_cannot_be_read_are_the_providers_fault() -> None:
    async with provider() as made:
        made.grant(signed(made.claims()))
        made.routes["/r/certs"] = answering("{}", status="503 Service Unavailable")
        assert (await ask(made)).verdict == ("failed", "server_error")


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        ("401 Unauthorized", '{"error": "invalid_client"}', ("unknown", "credentials_rejected")),
        ("400 Bad Request", '{"error": "invalid_grant"}', ("unknown", "credentials_rejected")),
        ("400 Bad Request", '{"error": "unsupported_grant_type"}', ("failed", "grant_refused")),
        ("401 Unauthorized", "<html></html>", ("failed", "unauthorized")),
        ("403 Forbidden", "blocked", ("failed", "forbidden")),
        ("429 Too Many Requests", "{}", ("failed", "rate_limited")),
        ("500 Oops", '{"error": "unknown_error"}', ("failed", "server_error")),
    ],
)
async def test_a_refusal_is_the_providers_or_our_own(status: str, body: str, verdict: tuple[str, str]) -> None:
    async with provider() as made:
        made.routes["/r/token"] = answering(body, status=status)
        assert (await ask(made)).verdict == verdict


@pytest.mark.parametrize(
    ("error", "description", "ours"),
    [
        ("invalid_grant", "Invalid user credentials", True),
        ("invalid_grant", "Account is not fully set up", True),
        ("invalid_client", "Invalid client or Invalid client credentials", True),
        ("unauthorized_client", "Invalid client or Invalid client credentials", True),
        ("unauthorized_client", "Client not allowed for direct access grants", False),
        ("access_denied", "Realm not enabled", False),
        ("invalid_scope", "", False),
        ("", "", False),
    ],
)
def test_a_refusal_is_about_credentials_or_about_the_grant(error: str, description: str, ours: bool) -> None:
    assert is_about_credentials(error, description) is ours


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"grant": "password", "username": "u"}, "the password grant needs `username` and `password`"),
        ({"grant": "client_credentials"}, "the client_credentials grant needs `client_secret`"),
        ({"grant": "implicit"}, "Input should be 'password' or 'client_credentials'"),
    ],
)
def test_incomplete_credentials_are_refused_at_load(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        OidcToken.Settings.model_validate({"issuer": "http://a/", "client_id": "c", **settings})

"""Tokens that a real Keycloak would not issue, and endings that it cannot be made to give."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from weakref import WeakKeyDictionary

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from pydantic import ValidationError

from tests.probing import Probed, probe_once
from tests.unit.probes.lying_servers import Authority, Handler, answering, by_path, serving, silence
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
        ({"exp": float("nan")}, "unexpected_body"),
        ({"exp": float("inf")}, "unexpected_body"),
        ({"iat": 10**400}, "unexpected_body"),
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


REFUSED = '{"error": "invalid_grant", "error_description": "Invalid user credentials"}'


async def test_what_one_probe_was_refused_no_other_tries() -> None:
    asked = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.05)
        await answering(REFUSED, status="401 Unauthorized")(reader, writer)

    user: dict[str, Any] = {"grant": "password", "username": "u", "password": "wrong"}
    async with provider() as made:
        made.routes["/r/token"] = refuse
        at_once = await asyncio.gather(*(ask(made, **user) for _ in range(3)))
        later = await ask(made, **user)
        assert asked == 1
        assert {probed.verdict for probed in (*at_once, later)} == {("unknown", "credentials_rejected")}
        assert all("; not asked again for 1h" in probed.detail for probed in at_once)
        made.grant(signed(made.claims()))
        assert (await ask(made, **{**user, "password": "right"})).verdict == ("ok", None)


async def test_who_may_ask_whether_the_user_is_locked_says_it_for_all() -> None:
    user = {"grant": "password", "username": "u", "password": "wrong"}
    async with provider() as made:
        made.routes["/r/token"] = answering(REFUSED, status="401 Unauthorized")
        made.routes["/admin-token"] = answering('{"access_token": "a"}')
        made.routes["/admin/users?exact=true&username=u"] = answering('[{"id": "1", "enabled": false}]')
        base = made.issuer.removesuffix("/r")
        admin = {"url": f"{base}/admin", "client_id": "a", "client_secret": "s", "token_url": f"{base}/admin-token"}
        asking: list[dict[str, Any]] = [user, {**user, "admin": admin}, user]
        found = [(await ask(made, **each)).outcome.reason for each in asking]
    assert found == ["credentials_rejected", "account_locked", "account_locked"]


def restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one process knows of its logins is gone."""
    monkeypatch.setattr("tocsin_probes.oidc_token.logins._of_loops", WeakKeyDictionary())


async def log_in(made: Provider, memory: dict[str, Any], **user: Any) -> Probed:
    settings = OidcToken.Settings.model_validate({"issuer": made.issuer, "client_id": "c", **user})
    return await probe_once(OidcToken(settings), memory=memory)


USER = {"grant": "password", "username": "u", "password": "a wrong one"}


async def test_a_probe_that_rested_before_a_restart_speaks_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered: dict[str, Any] = {}
    async with provider() as made:
        made.routes["/r/token"] = answering(REFUSED, status="401 Unauthorized")
        await log_in(made, remembered, **USER)
        restarted(monkeypatch)
        made.grant(signed(made.claims()))
        for memory in (remembered, {}):
            assert (await log_in(made, memory, **USER)).verdict == ("unknown", "credentials_rejected")
    assert made.logouts == []


@pytest.mark.parametrize("change", [{"password": "right"}, {"username": "v"}, {"client_secret": "right"}])
async def test_a_refusal_is_remembered_of_the_credentials_that_were_refused(
    change: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory: dict[str, Any] = {}
    async with provider() as made:
        made.routes["/r/token"] = answering(REFUSED, status="401 Unauthorized")
        await log_in(made, memory, **USER)
        made.grant(signed(made.claims()))
        restarted(monkeypatch)
        assert (await log_in(made, memory, **{**USER, **change})).verdict == ("ok", None)
    assert memory == {}


async def test_what_is_remembered_of_a_refusal_does_not_give_a_password_away() -> None:
    memories: list[dict[str, Any]] = [{}, {}]
    async with provider() as made:
        made.routes["/r/token"] = answering(REFUSED, status="401 Unauthorized")
        for number, memory in enumerate(memories):
            await log_in(made, memory, **{**USER, "scope": str(number)})
    for memory in memories:
        assert "wrong" not in json.dumps(memory)
        salt, _, hashed = memory["refused"]["digest"].partition(".")
        assert (len(salt), len(hashed)) == (32, 64)
    assert memories[0]["refused"]["digest"] != memories[1]["refused"]["digest"]


PDF = "%PDF-1.7 whole %%EOF"
PAGE = "<!doctype html><title>Log in</title>"


@pytest.mark.parametrize(
    ("wanted", "status", "body", "reason"),
    [
        ("pdf", "200 OK", PDF, None),
        ("pdf", "200 OK", "%PDF-1.7 cut off", "unexpected_body"),
        ("pdf", "200 OK", PAGE, "unexpected_body"),
        ("pdf", "202 Accepted", PDF, "unexpected_status"),
        ("json", "200 OK", "{}", None),
        ("json", "200 OK", PAGE, "unexpected_body"),
        ("json", "204 No Content", "", "unexpected_status"),
        ("json", "200 OK", '{"a": "' + "x" * 2000 + '"}', "unexpected_body"),
        ("any", "204 No Content", "", None),
        ("any", "200 OK", PAGE, "unexpected_body"),
        ("any", "403 Forbidden", "{}", "token_not_accepted"),
        ("any", "404 Not Found", "{}", "not_found"),
    ],
)
async def test_what_the_api_gives_for_the_token_is_what_was_asked_for(
    wanted: str, status: str, body: str, reason: str | None
) -> None:
    async with provider() as made:
        made.grant(signed(made.claims()))
        made.routes["/r/file"] = answering(body, status=status)
        probed = await ask(made, accept_url=f"{made.issuer}/file", accept_type=wanted, max_bytes=1000)
    assert probed.outcome.reason == reason
    assert [finding.component for finding in probed.outcome.findings] == ["api"] * (reason is not None)


@pytest.mark.parametrize(
    ("tls", "reason"),
    [
        ({"tls": "ours"}, None),
        ({"accept_tls": "ours"}, None),
        ({}, "tls_error"),
        ({"tls": "ours", "accept_tls": {}}, "tls_error"),
    ],
)
async def test_an_api_behind_a_ca_of_ones_own_is_trusted_by_the_settings(
    tls: dict[str, Any], reason: str | None, tmp_path: Path
) -> None:
    certified = Authority(tmp_path).issue("api")
    ours = {"ca_file": str(certified.ca_file)}
    given = {name: ours if each == "ours" else each for name, each in tls.items()}
    async with provider() as made, serving(answering("{}"), tls=certified.server_context()) as port:
        made.grant(signed(made.claims()))
        probed = await ask(made, accept_url=f"https://127.0.0.1:{port}/", **given)
    assert probed.outcome.reason == reason, probed.detail


@pytest.mark.parametrize("trouble", ["garbage", "silence", "no address", "address that is none"])
async def test_a_session_that_cannot_be_closed_hides_nothing(trouble: str) -> None:
    async with provider() as made:
        made.grant(signed(made.claims(iss="https://elsewhere.example")))
        made.routes["/r/logout"] = silence if trouble == "silence" else answering("", status="garbage")
        named = {"no address": {}, "address that is none": {"end_session_endpoint": "ftp://logout"}}
        if trouble in named:
            ends = {"token_endpoint": f"{made.issuer}/token", "jwks_uri": f"{made.issuer}/certs"}
            document = {"issuer": made.issuer, **ends, **named[trouble]}
            made.routes["/r/.well-known/openid-configuration"] = answering(json.dumps(document))
        probed = await ask(made, 1.0)
    assert [finding.reason for finding in probed.outcome.findings] == ["iss_mismatch", "logout_failed"]

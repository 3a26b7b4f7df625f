"""What ``oidc_realm`` makes of answers that a real Keycloak cannot be made to give, and of keys that come and go."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any

import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey

from tests.probing import Probed, RealClock, probe_once
from tests.unit.probes.lying_servers import Handler, answering, by_path, reset_in_mid_body, serving
from tocsin_probes.oidc_realm import OidcRealm
from tocsin_probes.oidc_realm.key_history import SeenKey, may_be_missed, remember
from tocsin_probes.oidc_realm.kind import answer_age

RSA = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig", "alg": "RS256"}).as_dict(private=False)
EC = ECKey.generate_key("P-256", {"kid": "ec"}).as_dict(private=False)
OKP = OKPKey.generate_key("Ed25519", {"kid": "ed", "use": "sig"}).as_dict(private=False)
ENCRYPTION = {**RSA, "kid": "enc", "use": "enc"}
FOREIGN = {"kty": "AKP", "kid": "ml-dsa", "pub": "AAAA"}

NO_GRANT = answering('{"error": "invalid_request"}', status="400 Bad Request")


@asynccontextmanager
async def provider(
    *,
    keys: object = (RSA,),
    jwks: Handler | None = None,
    token: Handler = NO_GRANT,
    metadata: Mapping[str, object] | None = None,
    extra: str = "",
) -> AsyncIterator[str]:
    """The issuer of a small provider. ``metadata``: fields that differ from what is right."""
    routes: dict[str, Handler] = {}
    async with serving(by_path(routes)) as port:
        issuer = f"http://127.0.0.1:{port}/realms/r"
        document = {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/auth",
            "token_endpoint": f"{issuer}/token",
            "jwks_uri": f"{issuer}/certs",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            **(metadata or {}),
        }
        routes["/realms/r/.well-known/openid-configuration"] = answering(json.dumps(document), extra=extra)
        routes["/realms/r/certs"] = jwks or answering(json.dumps({"keys": keys}))
        routes["/realms/r/token"] = token
        yield issuer


async def ask(issuer: str, *, memory: dict[str, Any] | None = None, ahead: float = 0.0, **settings: Any) -> Probed:
    probe = OidcRealm(OidcRealm.Settings.model_validate({"issuer": issuer, **settings}))
    return await probe_once(probe, memory=memory, clock=RealClock(ahead))


async def test_a_provider_that_says_all_it_must_is_ok() -> None:
    async with provider(keys=[RSA, EC, OKP, ENCRYPTION, FOREIGN]) as issuer:
        probed = await ask(issuer)
    assert probed.verdict == ("ok", None), probed.detail
    assert probed.measured("tocsin_oidc_signing_keys") == 3


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"metadata": {"issuer": "https://elsewhere.example/realms/r"}}, "issuer_mismatch"),
        ({"metadata": {"jwks_uri": None}}, "metadata_incomplete"),
        ({"metadata": {"subject_types_supported": []}}, "metadata_incomplete"),
        ({"metadata": {"token_endpoint": "javascript:"}}, "metadata_incomplete"),
        ({"keys": []}, "jwks_empty"),
        ({"keys": [ENCRYPTION]}, "no_signing_key"),
        ({"keys": [FOREIGN]}, "jwks_empty"),
        ({"keys": {"kid": "x"}}, "jwks_unreadable"),
        ({"keys": ["key"]}, "jwks_unreadable"),
        ({"keys": [{**RSA, "n": "!!"}]}, "jwks_unreadable"),
        ({"keys": [{**RSA, "n": None}]}, "jwks_unreadable"),
        ({"keys": [{**EC, "x": "AA"}]}, "jwks_unreadable"),
        ({"keys": [RSA] * 65}, "jwks_unreadable"),
        ({"jwks": answering("<html></html>", content_type="text/html")}, "jwks_unreadable"),
        ({"jwks": answering("[]")}, "jwks_unreadable"),
        ({"jwks": answering("{}", status="500 Oops")}, "jwks_unreadable"),
        ({"jwks": reset_in_mid_body}, "jwks_unreadable"),
        ({"metadata": {"jwks_uri": "gopher://x"}}, "jwks_unreadable"),
        ({"metadata": {"jwks_uri": "http://nowhere.invalid/"}}, "jwks_unreadable"),
        ({"extra": "Age: 4000\r\n"}, "stale_answer"),
        ({"extra": f"Date: {formatdate(0, usegmt=True)}\r\n"}, "stale_answer"),
        ({"token": answering('{"error":"access_denied","error_description":"Realm not enabled"}',
                             status="403 Forbidden")}, "realm_disabled"),
        ({"token": answering("blocked", status="403 Forbidden")}, "forbidden"),
        ({"token": answering("{}", status="502 Bad Gateway")}, "server_error"),
    ],
)  # fmt: skip
async def test_each_wrong_answer_has_its_reason(settings: dict[str, Any], reason: str) -> None:
    async with provider(**settings) as issuer:
        probed = await ask(issuer)
    assert probed.verdict == ("failed", reason), probed.detail


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (answering('{"error": "Realm does not exist"}', status="404 Not Found"), "realm_missing"),
        (answering("<h1>Not Found</h1>", status="404 Not Found", content_type="text/html"), "not_found"),
        (answering("<!doctype html>", content_type="text/html"), "unexpected_body"),
        (answering("[]"), "unexpected_body"),
        (answering("{}", status="401 Unauthorized"), "unauthorized"),
    ],
)
async def test_metadata_that_cannot_be_had_has_its_reason(answer: Handler, reason: str) -> None:
    async with serving(answer) as port:
        assert (await ask(f"http://127.0.0.1:{port}/realms/r")).verdict == ("failed", reason)


async def test_an_issuer_with_another_trailing_slash_is_another_issuer() -> None:
    async with provider() as issuer:
        probed = await ask(f"{issuer}/")
    assert probed.verdict == ("failed", "issuer_mismatch")
    assert probed.detail == f"the metadata says '{issuer}', clients expect '{issuer}/'"


async def test_a_public_token_endpoint_is_asked_where_the_metadata_was_read() -> None:
    public = "https://login.example/auth/realms/r"
    named = {"issuer": public, "token_endpoint": f"{public}/token"}
    disabled = answering('{"error":"access_denied","error_description":"Realm not enabled"}', status="403 Forbidden")
    async with provider(metadata=named, token=disabled) as here:
        probed = await ask(public, metadata_url=f"{here}/.well-known/openid-configuration", jwks_url="")
    assert probed.verdict == ("failed", "realm_disabled")


async def test_the_token_endpoint_is_left_alone_when_so_configured() -> None:
    async with provider(token=answering("{}", status="500 Oops")) as issuer:
        assert (await ask(issuer, ask_token_endpoint=False)).verdict == ("ok", None)


async def test_all_that_is_wrong_is_told_worst_first() -> None:
    async with provider(keys=[], metadata={"issuer": "http://a/"}, extra="Age: 4000\r\n") as issuer:
        probed = await ask(issuer)
    assert [finding.reason for finding in probed.outcome.findings] == ["issuer_mismatch", "jwks_empty", "stale_answer"]


async def test_a_new_key_is_announced_until_the_clients_caches_have_turned_over() -> None:
    memory: dict[str, Any] = {}
    async with provider(keys=[RSA]) as issuer:
        assert (await ask(issuer, memory=memory)).verdict == ("ok", None)
    assert json.loads(json.dumps(memory)) == memory
    async with provider(keys=[RSA, EC]) as issuer:
        memory["url"] = f"{issuer}/certs"
        rotated = await ask(issuer, memory=memory, ahead=1000)
        assert rotated.verdict == ("failed", "key_changed")
        assert rotated.detail == "'ec' appeared 0s ago; clients may not know it for 5m"
        assert (await ask(issuer, memory=memory, ahead=1290)).verdict == ("failed", "key_changed")
        assert (await ask(issuer, memory=memory, ahead=1310)).verdict == ("ok", None)


async def test_keys_of_another_address_are_a_new_baseline() -> None:
    memory: dict[str, Any] = {"url": "http://elsewhere/certs", "keys": {"old": [0.0, None]}}
    async with provider() as issuer:
        assert (await ask(issuer, memory=memory)).verdict == ("ok", None)


async def test_a_removed_key_is_missed_while_its_tokens_may_live() -> None:
    memory: dict[str, Any] = {}
    async with provider(keys=[RSA, EC]) as issuer:
        await ask(issuer, memory=memory)
    async with provider(keys=[EC]) as issuer:
        memory["url"] = f"{issuer}/certs"
        assert (await ask(issuer, memory=memory, ahead=1000)).verdict == ("failed", "key_removed")
        assert (await ask(issuer, memory=memory, ahead=1310)).verdict == ("ok", None)


@pytest.mark.parametrize(
    ("before", "present", "after"),
    [
        (None, ["a"], {"a": SeenKey(0)}),
        ({"a": SeenKey(0)}, ["a", "b"], {"a": SeenKey(0), "b": SeenKey(50_000)}),
        ({"a": SeenKey(5)}, [], {"a": SeenKey(5, 50_000)}),
        ({"a": SeenKey(5, 10_000)}, [], {"a": SeenKey(5, 10_000)}),
        ({"a": SeenKey(5, -40_000)}, [], {}),
        ({"a": SeenKey(5, 40_000)}, ["a"], {"a": SeenKey(50_000)}),
    ],
)
def test_keys_are_remembered_by_when_they_came_and_went(
    before: dict[str, SeenKey] | None, present: list[str], after: dict[str, SeenKey]
) -> None:
    assert remember(before, present, 50_000) == after


@pytest.mark.parametrize(
    ("seen", "missed"),
    [
        ({"a": SeenKey(0)}, False),
        ({"a": SeenKey(0, 900)}, True),
        ({"a": SeenKey(0, 100)}, False),
        ({"a": SeenKey(0, 900), "b": SeenKey(800)}, True),
        ({"a": SeenKey(0, 900), "b": SeenKey(500)}, False),
        ({"a": SeenKey(600, 900), "b": SeenKey(0)}, True),
    ],
    ids=["there", "just gone", "long gone", "gone soon after its successor", "gone long after", "the new one gone"],
)
def test_a_key_that_went_is_missed_until_its_tokens_are_dead(seen: dict[str, SeenKey], missed: bool) -> None:
    assert may_be_missed("a", seen, 1000, 300) is missed


@pytest.mark.parametrize(
    ("headers", "age"),
    [
        ({}, 0),
        ({"Age": "17"}, 17),
        ({"Age": "-1"}, 0),
        ({"Age": "many"}, 0),
        ({"Age": "9" * 40}, 0),
        ({"Date": "Thu, 01 Jan 1970 00:15:00 GMT"}, 100),
        ({"Date": "Thu, 01 Jan 1970 00:15:00 GMT", "Age": "400"}, 400),
        ({"Date": "yesterday"}, 0),
        ({"Date": "Thu, 01 Jan 1970 05:00:00 GMT"}, 0),
    ],
)
def test_the_age_of_an_answer_is_what_its_headers_say(headers: dict[str, str], age: float) -> None:
    assert answer_age(headers, 1000) == age

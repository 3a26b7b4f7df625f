"""``oidc_realm`` against a real Keycloak: each reason that Keycloak can be made to show, made to show."""

from __future__ import annotations

from typing import Any

import pytest

from estate.servers.keycloak import Keycloak
from tests.probing import Probed, probe_once
from tocsin_probes.oidc_realm import OidcRealm

pytestmark = pytest.mark.estate


async def ask(
    keycloak: Keycloak, realm: str, *, memory: dict[str, Any] | None = None, timeout: float = 5.0, **settings: Any
) -> Probed:
    probe = OidcRealm(OidcRealm.Settings.model_validate({"issuer": keycloak.issuer(realm), **settings}))
    return await probe_once(probe, timeout, memory=memory)


async def test_a_fresh_realm_is_ok(keycloak: Keycloak, realm: str) -> None:
    probed = await ask(keycloak, realm)
    assert probed.verdict == ("ok", None), probed.detail
    assert probed.measured("tocsin_oidc_signing_keys") == 1


async def test_a_realm_that_is_not_there_is_missing(keycloak: Keycloak) -> None:
    probed = await ask(keycloak, "no-such-realm")
    assert probed.verdict == ("failed", "realm_missing")
    assert probed.detail == "HTTP 404: 'Realm does not exist'"


async def test_a_realm_deleted_after_its_metadata_was_read_once_is_missing(keycloak: Keycloak) -> None:
    keycloak.create_realm("short-lived")
    assert (await ask(keycloak, "short-lived")).verdict == ("ok", None)
    keycloak.delete_realm("short-lived")
    assert (await ask(keycloak, "short-lived")).verdict == ("failed", "realm_missing")


async def test_a_disabled_realm_is_told_by_its_token_endpoint(keycloak: Keycloak, realm: str) -> None:
    keycloak.set_enabled(realm, False)
    probed = await ask(keycloak, realm)
    assert probed.verdict == ("failed", "realm_disabled")
    assert probed.detail == "HTTP 403: 'access_denied Realm not enabled'"
    assert (await ask(keycloak, realm, ask_token_endpoint=False)).verdict == ("ok", None), "nothing else shows it"
    keycloak.set_enabled(realm, True)
    assert (await ask(keycloak, realm)).verdict == ("ok", None)


async def test_a_changed_frontend_url_is_another_issuer(keycloak: Keycloak, realm: str) -> None:
    keycloak.set_frontend_url(realm, "https://login.example.invalid/auth")
    probed = await ask(keycloak, realm, jwks_url=f"{keycloak.issuer(realm)}/protocol/openid-connect/certs")
    assert probed.verdict == ("failed", "issuer_mismatch")
    assert [finding.reason for finding in probed.outcome.findings] == ["issuer_mismatch"]
    keycloak.set_frontend_url(realm, None)
    assert (await ask(keycloak, realm)).verdict == ("ok", None)


async def test_keys_at_a_public_address_that_this_network_does_not_reach_are_unreadable(
    keycloak: Keycloak, realm: str
) -> None:
    keycloak.set_frontend_url(realm, "https://login.example.invalid/auth")
    probed = await ask(
        keycloak,
        realm,
        issuer=f"https://login.example.invalid/auth/realms/{realm}",
        metadata_url=keycloak.discovery_url(realm),
    )
    assert probed.verdict == ("failed", "jwks_unreadable")
    assert probed.detail.startswith("dns_failure: ")


async def test_a_rotated_key_is_new_for_as_long_as_clients_cache_the_old_set(keycloak: Keycloak, realm: str) -> None:
    memory: dict[str, Any] = {}
    assert (await ask(keycloak, realm, memory=memory)).verdict == ("ok", None)
    kid = keycloak.rotate_keys(realm)
    rotated = await ask(keycloak, realm, memory=memory)
    assert rotated.verdict == ("failed", "key_changed")
    assert kid in rotated.detail
    assert rotated.measured("tocsin_oidc_signing_keys") == 2
    assert (await ask(keycloak, realm, memory=memory, clients_cache_ttl="0s")).verdict == ("ok", None)


async def test_a_key_removed_right_after_it_was_replaced_is_missed(keycloak: Keycloak, realm: str) -> None:
    memory: dict[str, Any] = {}
    old = keycloak.signing_key(realm)
    await ask(keycloak, realm, memory=memory)
    keycloak.rotate_keys(realm)
    await ask(keycloak, realm, memory=memory)
    keycloak.set_key_status(realm, old, "disabled")
    probed = await ask(keycloak, realm, memory=memory, clients_cache_ttl="0s")
    assert probed.verdict == ("failed", "key_removed")
    assert old in probed.detail


async def test_a_realm_whose_only_signing_key_is_disabled_has_none(keycloak: Keycloak, realm: str) -> None:
    keycloak.set_key_status(realm, keycloak.signing_key(realm), "disabled")
    probed = await ask(keycloak, realm)
    assert probed.verdict == ("failed", "no_signing_key")


async def test_a_realm_whose_every_key_is_disabled_has_an_empty_set(keycloak: Keycloak, realm: str) -> None:
    for use in ("SIG", "ENC"):
        for key in keycloak.keys(realm, use=use):
            keycloak.set_key_status(realm, key.kid, "disabled")
    assert (await ask(keycloak, realm)).verdict == ("failed", "jwks_empty")


async def test_a_realm_that_demands_https_forbids_the_probe(keycloak: Keycloak, realm: str) -> None:
    keycloak.update_realm(realm, sslRequired="all")
    probed = await ask(keycloak, realm)
    assert probed.verdict == ("failed", "forbidden")
    assert probed.detail == "HTTP 403: 'invalid_request HTTPS required'"


async def test_the_question_to_the_token_endpoint_leaves_no_trace_in_the_log(keycloak: Keycloak, realm: str) -> None:
    before = keycloak.log_tail(10_000)
    await ask(keycloak, realm)
    said = keycloak.log_tail(10_000).removeprefix(before)
    assert realm not in said


async def test_a_frozen_keycloak_times_out_and_a_dead_one_refuses(keycloak: Keycloak) -> None:
    keycloak.pause()
    assert (await ask(keycloak, "master", timeout=1.0)).verdict == ("failed", "timeout")
    keycloak.resume()
    keycloak.kill()
    assert (await ask(keycloak, "master")).verdict == ("failed", "connection_refused")

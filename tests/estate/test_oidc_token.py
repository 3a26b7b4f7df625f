"""``oidc_token`` against a real Keycloak: grants, refusals, locked users, and no session left behind."""

from __future__ import annotations

from typing import Any

import pytest

from estate.servers.keycloak import Keycloak
from estate.servers.postgresql import PostgreSQL
from tests.probing import Probed, RealClock, probe_once
from tests.unit.probes.lying_servers import answering, serving
from tocsin.model import Reference, Secret
from tocsin_probes.oidc_token import OidcToken, logins

pytestmark = pytest.mark.estate

CLIENT = {"client_id": "tocsin", "client_secret": "client-secret"}
USER = {"grant": "password", "username": "tocsin-smoke", "password": "user-secret"}
SERVICE = {"grant": "client_credentials"}


@pytest.fixture
def smoke(keycloak: Keycloak, realm: str) -> str:
    """A realm with the probe's client and test user, and a client that may look into the realm."""
    prepare(keycloak, realm)
    return realm


def prepare(keycloak: Keycloak, realm: str) -> None:
    keycloak.create_client(realm, "tocsin", secret="client-secret")
    keycloak.add_audience(realm, "tocsin", "wipe-api")
    keycloak.create_user(realm, "tocsin-smoke", "user-secret")


@pytest.fixture
def admin(keycloak: Keycloak, smoke: str) -> dict[str, str]:
    """Settings for the admin API, with a service account that may view users."""
    keycloak.create_client(smoke, "looker", secret="looker-secret", direct_grants=False)
    client = keycloak.client(smoke, "looker")["id"]
    account = keycloak.admin("GET", f"/{smoke}/clients/{client}/service-account-user").json()["id"]
    management = keycloak.client(smoke, "realm-management")["id"]
    role = keycloak.admin("GET", f"/{smoke}/clients/{management}/roles/view-users").json()
    keycloak.admin("POST", f"/{smoke}/users/{account}/role-mappings/clients/{management}", [role])
    url = f"{keycloak.url}/admin/realms/{smoke}"
    return {"url": url, "client_id": "looker", "client_secret": "looker-secret"}


async def ask(
    keycloak: Keycloak,
    realm: str,
    *settings: dict[str, Any],
    memory: dict[str, Any] | None = None,
    ahead: float = 0.0,
    probe: OidcToken | None = None,
    **more: Any,
) -> Probed:
    if memory is None and probe is None:
        # As the first thing that a process asks: no other probe was refused before.
        logins._of_loops.clear()
    probed = await probe_once(
        probe or configured(keycloak, realm, *settings, **more), memory=memory, clock=RealClock(ahead)
    )
    assert "secret" not in repr(probed)
    assert "secret" not in repr(memory)
    return probed


def configured(keycloak: Keycloak, realm: str, *settings: dict[str, Any], **more: Any) -> OidcToken:
    merged: dict[str, Any] = {"issuer": keycloak.issuer(realm), **CLIENT}
    for part in (*settings, more):
        merged |= part
    return OidcToken(OidcToken.Settings.model_validate(merged))


def sessions(keycloak: Keycloak, realm: str) -> int:
    """How many sessions of users Keycloak holds for the probe's client."""
    client = keycloak.client(realm, "tocsin")["id"]
    return int(keycloak.admin("GET", f"/{realm}/clients/{client}/session-count").json()["count"])


@pytest.mark.parametrize("grant", [USER, SERVICE], ids=["password", "client_credentials"])
async def test_a_granted_token_is_ok_and_leaves_no_session(
    keycloak: Keycloak, smoke: str, grant: dict[str, Any]
) -> None:
    keycloak.token(smoke, client_id="tocsin", client_secret="client-secret", username="tocsin-smoke",
                   password="user-secret").expect(200)  # fmt: skip
    assert sessions(keycloak, smoke) == 1, "a login that nobody ends leaves a session"
    for _ in range(3):
        probed = await ask(keycloak, smoke, grant, audience="wipe-api")
        assert probed.verdict == ("ok", None), probed.detail
    assert sessions(keycloak, smoke) == 1, "the probe's own are gone"


async def test_the_session_is_closed_by_revocation_too(keycloak: Keycloak, smoke: str) -> None:
    revocation = f"{keycloak.issuer(smoke)}/protocol/openid-connect/revoke"
    assert (await ask(keycloak, smoke, USER, logout_url=revocation)).verdict == ("ok", None)
    assert sessions(keycloak, smoke) == 0


async def test_the_session_is_closed_when_the_token_is_not_right(keycloak: Keycloak, smoke: str) -> None:
    probed = await ask(keycloak, smoke, USER, audience="another-api")
    assert probed.verdict == ("failed", "aud_mismatch")
    assert sessions(keycloak, smoke) == 0


async def test_a_session_that_cannot_be_closed_is_reported(keycloak: Keycloak, smoke: str) -> None:
    probed = await ask(keycloak, smoke, USER, logout_url=f"{keycloak.url}/realms/none/logout")
    assert probed.verdict == ("failed", "logout_failed")


@pytest.mark.parametrize(
    "wrong",
    [{"password": "wrong"}, {"username": "nobody"}, {"client_secret": "wrong"}, {"client_id": "nobody"}],
    ids=lambda wrong: next(iter(wrong)),
)
async def test_wrong_credentials_are_our_own_trouble(keycloak: Keycloak, smoke: str, wrong: dict[str, str]) -> None:
    assert (await ask(keycloak, smoke, USER, wrong)).verdict == ("unknown", "credentials_rejected")


async def test_after_a_refusal_the_probe_rests_and_then_asks_again(keycloak: Keycloak, smoke: str) -> None:
    keycloak.update_realm(smoke, bruteForceProtected=True, failureFactor=3)
    memory: dict[str, Any] = {}
    wrong = configured(keycloak, smoke, USER, password="wrong")
    first = await ask(keycloak, smoke, memory=memory, probe=wrong)
    assert first.detail.endswith("'invalid_grant Invalid user credentials'; not asked again for 1h")
    for _ in range(20):
        resting = await ask(keycloak, smoke, memory=memory, probe=wrong, ahead=1800)
        assert resting.verdict == ("unknown", "credentials_rejected")
    assert "not asked again for 30m" in resting.detail
    assert not keycloak.is_locked(smoke, "tocsin-smoke")
    again = await ask(keycloak, smoke, memory=memory, probe=wrong, ahead=3601)
    assert again.detail.endswith("not asked again for 2h")


async def test_new_credentials_are_tried_at_once(keycloak: Keycloak, smoke: str, tmp_path: Any) -> None:
    file = tmp_path / "password"
    file.write_text("wrong")
    memory: dict[str, Any] = {}
    rotating = Secret(Reference("wrong", file.read_text, "${file:password}"))
    probe = configured(keycloak, smoke, {**USER, "password": rotating})
    assert (await ask(keycloak, smoke, memory=memory, probe=probe)).verdict == ("unknown", "credentials_rejected")
    file.write_text("user-secret")
    assert (await ask(keycloak, smoke, memory=memory, probe=probe)).verdict == ("ok", None)
    assert memory == {}


async def test_a_locked_user_is_told_from_a_wrong_password_by_the_admin_api(
    keycloak: Keycloak, smoke: str, admin: dict[str, str]
) -> None:
    wrong = await ask(keycloak, smoke, USER, password="wrong", admin=admin)
    assert wrong.verdict == ("unknown", "credentials_rejected")
    assert "the user is not locked" in wrong.detail
    keycloak.lock_user(smoke, "tocsin-smoke", client_id="tocsin", client_secret="client-secret")
    assert (await ask(keycloak, smoke, USER)).verdict == ("unknown", "credentials_rejected")
    locked = await ask(keycloak, smoke, USER, admin=admin)
    assert locked.verdict == ("unknown", "account_locked")
    assert "the user is locked after " in locked.detail
    keycloak.unlock_user(smoke, "tocsin-smoke")
    assert (await ask(keycloak, smoke, USER, admin=admin)).verdict == ("ok", None)


async def test_a_disabled_user_and_one_that_is_gone_are_named(
    keycloak: Keycloak, smoke: str, admin: dict[str, str]
) -> None:
    keycloak.update_user(smoke, "tocsin-smoke", enabled=False)
    disabled = await ask(keycloak, smoke, USER, admin=admin)
    assert disabled.verdict == ("unknown", "account_locked")
    assert "the user is disabled" in disabled.detail
    gone = await ask(keycloak, smoke, USER, username="nobody", admin=admin)
    assert gone.verdict == ("unknown", "credentials_rejected")
    assert "there is no such user" in gone.detail


async def test_an_admin_api_that_refuses_leaves_it_unknown(
    keycloak: Keycloak, smoke: str, admin: dict[str, str]
) -> None:
    probed = await ask(keycloak, smoke, USER, password="wrong", admin={**admin, "client_secret": "wrong"})
    assert probed.verdict == ("unknown", "credentials_rejected")
    assert "the admin API did not say why (credentials_rejected)" in probed.detail


async def test_a_grant_that_is_switched_off_is_the_targets_fault(keycloak: Keycloak, smoke: str) -> None:
    keycloak.update_client(smoke, "tocsin", directAccessGrantsEnabled=False)
    probed = await ask(keycloak, smoke, USER)
    assert probed.verdict == ("failed", "grant_refused")
    assert probed.detail == "HTTP 400: 'unauthorized_client Client not allowed for direct access grants'"
    assert (await ask(keycloak, smoke, SERVICE)).verdict == ("ok", None)
    assert (await ask(keycloak, smoke, SERVICE, scope="no-such-scope")).verdict == ("failed", "grant_refused")


async def test_a_disabled_realm_refuses_the_grant_and_a_missing_one_is_not_found(
    keycloak: Keycloak, smoke: str
) -> None:
    keycloak.set_enabled(smoke, False)
    assert (await ask(keycloak, smoke, USER)).verdict == ("failed", "grant_refused")
    assert (await ask(keycloak, "no-such-realm", USER)).verdict == ("failed", "not_found")


async def test_a_changed_frontend_url_changes_iss(keycloak: Keycloak, smoke: str) -> None:
    here = {"metadata_url": keycloak.discovery_url(smoke), "issuer": keycloak.issuer(smoke)}
    keycloak.set_frontend_url(smoke, "https://login.example.invalid/auth")
    probed = await ask(keycloak, smoke, USER, here)
    assert probed.verdict == ("failed", "iss_mismatch")
    assert sessions(keycloak, smoke) == 0


@pytest.mark.parametrize(("ahead", "said"), [(-600.0, "valid only in"), (600.0, "old and lives until")])
async def test_a_clock_that_is_off_is_seen(keycloak: Keycloak, smoke: str, ahead: float, said: str) -> None:
    probed = await ask(keycloak, smoke, SERVICE, ahead=ahead)
    assert probed.verdict == ("failed", "clock_skew")
    assert said in probed.detail


async def test_a_token_signed_by_another_realm_is_not_signed(keycloak: Keycloak, smoke: str) -> None:
    others = f"{keycloak.issuer('master')}/protocol/openid-connect/certs"
    probed = await ask(keycloak, smoke, SERVICE, jwks_url=others)
    assert probed.verdict == ("failed", "signature_invalid")
    assert "which is not published" in probed.detail


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        ("200 OK", ("ok", None)),
        ("401 Unauthorized", ("failed", "token_not_accepted")),
        ("503 Service Unavailable", ("failed", "server_error")),
    ],
)
async def test_the_platforms_api_must_accept_the_token(
    keycloak: Keycloak, smoke: str, status: str, verdict: tuple[str, str | None]
) -> None:
    async with serving(answering("{}", status=status)) as port:
        probed = await ask(keycloak, smoke, USER, accept_url=f"http://127.0.0.1:{port}/v1/me")
    assert probed.verdict == verdict
    assert sessions(keycloak, smoke) == 0


@pytest.fixture
def on_postgresql(keycloak_on_postgresql: Keycloak) -> Keycloak:
    keycloak_on_postgresql.create_realm("wipe")
    prepare(keycloak_on_postgresql, "wipe")
    return keycloak_on_postgresql


@pytest.mark.long
async def test_keycloak_without_its_database_is_down_and_not_our_users_fault(
    on_postgresql: Keycloak, postgresql: PostgreSQL
) -> None:
    assert (await ask(on_postgresql, "wipe", USER)).verdict == ("ok", None)
    postgresql.kill()
    probed = await ask(on_postgresql, "wipe", USER)
    assert probed.verdict == ("failed", "server_error")
    assert probed.detail.startswith("HTTP 500: 'unknown_error")

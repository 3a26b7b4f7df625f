"""Grants and their refusals, against statuses and bodies that were recorded from Keycloak 26.4.0."""

from __future__ import annotations

import base64
import json

import pytest
from joserfc import jwt

from tocsin_sandbox.identity import AUDIENCE, CLIENT_ID, USERNAME, Jwks, Realm, User, check_grant, metadata

CLIENT = {"client_id": CLIENT_ID, "client_secret": "right"}
PASSWORD = {**CLIENT, "grant_type": "password", "username": USERNAME, "password": "right"}
BAD_CLIENT = "Invalid client or Invalid client credentials"


@pytest.fixture(scope="module")
def made() -> Realm:
    return Realm("exawipe", "http://127.0.0.1:1/realms/exawipe", client_secret="right", password="right")


@pytest.fixture
def realm(made: Realm) -> Realm:
    made.enabled, made.user, made.jwks, made.foreign_key, made.incomplete = (
        True,
        User.ENABLED,
        Jwks.NORMAL,
        False,
        False,
    )
    return made


@pytest.mark.parametrize(
    ("form", "status", "error", "description"),
    [
        ({}, 400, "invalid_request", "Missing form parameter: grant_type"),
        ({"grant_type": "password"}, 401, "invalid_client", BAD_CLIENT),
        ({**PASSWORD, "client_id": "unknown"}, 401, "invalid_client", BAD_CLIENT),
        ({**PASSWORD, "client_secret": "wrong"}, 401, "unauthorized_client", BAD_CLIENT),
        ({**CLIENT, "grant_type": "foo"}, 400, "unsupported_grant_type", "Unsupported grant_type"),
        ({**PASSWORD, "password": "wrong"}, 401, "invalid_grant", "Invalid user credentials"),
        ({**PASSWORD, "username": "nobody"}, 401, "invalid_grant", "Invalid user credentials"),
    ],
)
def test_a_grant_is_refused_as_keycloak_refuses_it(
    realm: Realm, form: dict[str, str], status: int, error: str, description: str
) -> None:
    refused = check_grant(realm, form, "")
    assert refused is not None
    assert (refused.status, json.loads(refused.text or "")) == (
        status,
        {"error": error, "error_description": description},
    )


@pytest.mark.parametrize("form", [PASSWORD, {**CLIENT, "grant_type": "client_credentials"}])
def test_right_credentials_are_granted(realm: Realm, form: dict[str, str]) -> None:
    assert check_grant(realm, form, "") is None


def test_a_client_may_authenticate_by_basic_authentication(realm: Realm) -> None:
    header = "Basic " + base64.b64encode(f"{CLIENT_ID}:right".encode()).decode()
    assert check_grant(realm, {"grant_type": "client_credentials"}, header) is None


def test_a_disabled_realm_refuses_before_it_looks_at_anything(realm: Realm) -> None:
    realm.enabled = False
    refused = check_grant(realm, {}, "")
    assert refused is not None
    assert (refused.status, json.loads(refused.text or "")["error_description"]) == (403, "Realm not enabled")


def test_a_locked_user_is_refused_as_for_a_wrong_password(realm: Realm) -> None:
    realm.user = User.LOCKED
    refused = check_grant(realm, PASSWORD, "")
    assert refused is not None
    assert (refused.status, json.loads(refused.text or "")["error_description"]) == (401, "Invalid user credentials")


def test_a_token_verifies_against_the_published_keys_and_carries_the_claims(realm: Realm) -> None:
    claims = jwt.decode(realm.token({"sub": "x"}), realm.keys[0], algorithms=["RS256"]).claims
    assert (claims["iss"], claims["sub"], AUDIENCE in claims["aud"]) == (realm.issuer, "x", True)
    assert claims["exp"] - claims["iat"] == 300


def test_published_keys_hold_no_private_part(realm: Realm) -> None:
    assert [set(key) & {"d", "p", "q"} for key in realm.published_keys()] == [set(), set()]


@pytest.mark.parametrize(
    ("jwks", "uses"), [(Jwks.NORMAL, ["enc", "sig"]), (Jwks.NO_SIGNING, ["enc"]), (Jwks.EMPTY, [])]
)
def test_the_key_set_is_what_the_fault_leaves_of_it(realm: Realm, jwks: Jwks, uses: list[str]) -> None:
    realm.jwks = jwks
    assert [key["use"] for key in realm.published_keys()] == uses


def test_a_rotated_key_signs_at_once_and_the_one_before_stays_published(realm: Realm) -> None:
    before = realm.keys[0].kid
    realm.rotate()
    assert jwt.decode(realm.token({}), realm.keys[0]).header["kid"] == realm.keys[0].kid != before
    assert before in {key["kid"] for key in realm.published_keys()}


def test_incomplete_metadata_lacks_the_keys_and_the_token_endpoint(realm: Realm) -> None:
    whole = set(metadata(realm))
    realm.incomplete = True
    assert whole - set(metadata(realm)) == {"jwks_uri", "token_endpoint"}

"""Faults of Keycloak and its database: the incident page's "Keycloak Outage"."""

from __future__ import annotations

import asyncio

from tocsin_sandbox.estate import Estate
from tocsin_sandbox.fault import Act, Fault
from tocsin_sandbox.identity import Jwks
from tocsin_sandbox.serving import Mood
from tocsin_sandbox.wipe_api import JWKS_CACHE_SECONDS

_REALM = "exawipe"


def _set(name: str, value: object) -> Act:
    async def act(estate: Estate) -> None:
        setattr(estate.identity.realms[_REALM], name, value)

    return act


async def _other_issuer(estate: Estate) -> None:
    estate.identity.realms[_REALM].issuer = f"http://login.example.invalid/realms/{_REALM}"


async def _own_issuer(estate: Estate) -> None:
    estate.identity.realms[_REALM].issuer = f"{estate.identity.url}/realms/{_REALM}"


async def _rotate(estate: Estate) -> None:
    await asyncio.to_thread(estate.identity.realms[_REALM].rotate)


async def _wait_for_caches(estate: Estate) -> None:
    """Nothing is to be done about a rotated key but to let the caches run out."""


async def _stop(estate: Estate) -> None:
    await estate.keycloak.stop()
    await estate.keycloak_management.stop()


async def _start(estate: Estate) -> None:
    await estate.keycloak.start()
    await estate.keycloak_management.start()


def _mood(mood: Mood) -> Act:
    async def act(estate: Estate) -> None:
        estate.keycloak.mood = mood

    return act


async def _stop_database(estate: Estate) -> None:
    await estate.keycloak_database.stop()


async def _start_database(estate: Estate) -> None:
    await estate.keycloak_database.start()


def _fault(
    name: str,
    title: str,
    effect: str,
    probe: str,
    reason: str,
    cause: Act,
    undo: Act,
    knob: str = "",
    lingers: float = 0.0,
) -> Fault:
    return Fault(name, title, effect, "wipe", "keycloak-outage", probe, reason, cause, undo, knob, lingers=lingers)


FAULTS = (
    _fault(
        "keycloak-stopped", "Keycloak is down", "Its server is stopped: connections to both its ports are refused.",
        "wipe-keycloak-health", "connection_refused", _stop, _start,
    ),
    _fault(
        "keycloak-database-stopped", "Keycloak's own PostgreSQL is down",
        "The second PostgreSQL is shut down. Keycloak then is not ready and grants nothing; realms are cached.",
        "wipe-keycloak-db", "connection_refused", _stop_database, _start_database,
    ),
    _fault(
        "keycloak-silent", "Keycloak accepts and never answers",
        "Its public port takes requests and answers none.",
        "wipe-realm-exawipe", "timeout", _mood(Mood.SILENT), _mood(Mood.NORMAL),
    ),
    _fault(
        "realm-missing", "The realm exawipe is gone", "The realm is removed: 404, Realm does not exist.",
        "wipe-realm-exawipe", "realm_missing", _set("exists", False), _set("exists", True),
    ),
    _fault(
        "realm-disabled", "The realm exawipe is disabled",
        "The realm is disabled: metadata and keys are still served, every grant is refused.",
        "wipe-realm-exawipe", "realm_disabled", _set("enabled", False), _set("enabled", True),
    ),
    _fault(
        "issuer-changed", "The realm's public issuer URL changed",
        "The realm claims another frontend URL, so tokens no longer match what the API expects.",
        "wipe-realm-exawipe", "issuer_mismatch", _other_issuer, _own_issuer,
    ),
    _fault(
        "jwks-empty", "The realm serves no keys", "The key set is served without a key.",
        "wipe-realm-exawipe", "jwks_empty", _set("jwks", Jwks.EMPTY), _set("jwks", Jwks.NORMAL), "jwks",
    ),
    _fault(
        "jwks-unreadable", "The realm's keys cannot be read", "The key endpoint answers plain text instead of JSON.",
        "wipe-realm-exawipe", "jwks_unreadable", _set("jwks", Jwks.UNREADABLE), _set("jwks", Jwks.NORMAL), "jwks",
    ),
    _fault(
        "signing-key-missing", "The realm has no signing key", "Only the encryption key is served.",
        "wipe-realm-exawipe", "no_signing_key", _set("jwks", Jwks.NO_SIGNING), _set("jwks", Jwks.NORMAL), "jwks",
    ),
    _fault(
        "signing-key-rotated", "A new signing key that clients have not cached yet",
        "A new key signs at once; the API's cache still holds only the old one.",
        "wipe-realm-exawipe", "key_changed", _rotate, _wait_for_caches,
        lingers=JWKS_CACHE_SECONDS,
    ),
    _fault(
        "metadata-incomplete", "The realm's metadata lacks endpoints",
        "jwks_uri and token_endpoint are missing from the discovery document.",
        "wipe-realm-exawipe", "metadata_incomplete", _set("incomplete", True), _set("incomplete", False),
    ),
    _fault(
        "metadata-stale", "A cache serves yesterday's realm metadata",
        "Metadata and keys come with the Date and Age of a cache that is a day old.",
        "wipe-realm-exawipe", "stale_answer", _set("stale", True), _set("stale", False),
    ),
)  # fmt: skip

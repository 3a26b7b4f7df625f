"""What an OpenID Provider says, as its relying parties read it: metadata, keys, OAuth errors."""

from __future__ import annotations

import warnings
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from joserfc import jws, jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey

from tocsin.model import CommonReason
from tocsin.sdk.faults import ProbeFault, quoted
from tocsin.sdk.http import HttpResponse

WELL_KNOWN: Final = "/.well-known/openid-configuration"
"""OpenID Connect Discovery 1.0 section 4.1."""

ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
)
"""Signatures that a public key verifies. RFC 7518 section 3.1, RFC 8037, RFC 9864."""


MAX_KEYS: Final = 64
"""A key set with more than this is taken for nonsense."""

_PUBLIC_KEY_TYPES: Final = ("RSA", "EC", "OKP")


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One public key of a key set. ``kid`` is its thumbprint (RFC 7638) when it has none."""

    kid: str
    key: RSAKey | ECKey | OKPKey
    signs: bool
    """Whether it may verify signatures: its ``use`` is ``sig`` or not given. RFC 7517 section 4.2."""


class SignatureError(Exception):
    """A token that no published key vouches for; the text says why."""


def metadata_url(issuer: str) -> str:
    """Where an issuer publishes its metadata. OpenID Connect Discovery 1.0 section 4."""
    return issuer.rstrip("/") + WELL_KNOWN


def reachable(endpoint: str, issuer: str, asked: str) -> str:
    """An endpoint of the provider as this network reaches it.

    Metadata that was ``asked`` under an internal address names public ones; what follows the issuer in ``endpoint``
    is appended to the address that answered.
    """
    if not endpoint.startswith(issuer.rstrip("/") + "/") or not asked.endswith(WELL_KNOWN):
        return endpoint
    return asked.removesuffix(WELL_KNOWN) + endpoint.removeprefix(issuer.rstrip("/"))


def read_object(response: HttpResponse) -> Mapping[str, Any]:
    """A JSON object. Raises `ProbeFault` (unexpected_body) when the answer is something else."""
    document = response.json()
    if not isinstance(document, dict):
        raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"a JSON {type(document).__name__}, not an object")
    return document


def read_keys(response: HttpResponse) -> tuple[VerificationKey, ...]:
    """The public keys of a JSON Web Key Set. RFC 7517 section 5: keys of unknown types are ignored.

    Raises `ProbeFault` (unexpected_body) when the answer is no key set, or one of its keys no key.
    """
    listed = read_object(response).get("keys")
    if not isinstance(listed, list):
        raise ProbeFault(CommonReason.UNEXPECTED_BODY, "no list of `keys`")
    if len(listed) > MAX_KEYS:
        raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"{len(listed)} keys")
    return tuple(_read_key(entry) for entry in listed if not _is_foreign(entry))


def oauth_error(response: HttpResponse) -> tuple[str, str]:
    """``error`` and ``error_description`` of a refusal (RFC 6749 section 5.2), bounded; empty when it has none."""
    try:
        document = response.json()
    except ProbeFault:
        return ("", "")
    if not isinstance(document, dict):
        return ("", "")
    return (str(document.get("error", ""))[:80], str(document.get("error_description", ""))[:200])


def is_about_credentials(error: str, description: str) -> bool:
    """Whether a refusal is about who asks, which is the probe's own trouble, and not about what is asked.

    RFC 6749 section 5.2. Keycloak says ``unauthorized_client`` for a wrong secret too, and "credentials" only then.
    """
    if error == "unauthorized_client":
        return "credentials" in description.lower()
    return error in ("invalid_grant", "invalid_client")


def read_claims(token: str, keys: tuple[VerificationKey, ...]) -> Mapping[str, Any]:
    """The claims of a JWT whose signature holds. Raises `SignatureError` when it does not, and `ProbeFault`
    (unexpected_body) for what is no JWT."""
    try:
        header = jws.extract_compact(token.encode()).headers()
    except (JoseError, ValueError) as error:
        raise ProbeFault(CommonReason.UNEXPECTED_BODY, "the access token is no JWT") from error
    kid, algorithm = header.get("kid"), header.get("alg")
    if algorithm not in ALGORITHMS:
        raise SignatureError(f"signed with alg {quoted(str(algorithm))}")
    able = [key for key in keys if key.signs and kid in (None, key.kid)]
    if not able:
        raise SignatureError(f"signed with the key {quoted(str(kid))}, which is not published")
    for key in able:
        try:
            return jwt.decode(token, key.key, algorithms=[algorithm]).claims
        except (JoseError, ValueError):
            continue
    raise SignatureError(f"signed with {algorithm}, and the published key {quoted(str(kid))} says it is not")


def _is_foreign(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("kty"), str) and entry["kty"] not in _PUBLIC_KEY_TYPES


def _read_key(entry: object) -> VerificationKey:
    if not isinstance(entry, dict):
        raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"a key is a JSON {type(entry).__name__}")
    kid, use = entry.get("kid"), entry.get("use")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)
            key = JWKRegistry.import_key(entry)
            assert isinstance(key, RSAKey | ECKey | OKPKey)
            named = kid if isinstance(kid, str) and kid else key.thumbprint()
            assert key.public_key is not None
    except (JoseError, ValueError, Base64Error, TypeError) as error:
        raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"the key {quoted(str(kid))} is none: {error}") from error
    return VerificationKey(named[:200], key, use in (None, "sig"))

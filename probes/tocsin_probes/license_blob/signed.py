"""Licences taken apart, in each encoding; and the keys that verify them. Pure."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Literal, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

from tocsin.sdk.documents import parse_json
from tocsin.sdk.faults import quoted
from tocsin.sdk.json_paths import find

SIGNATURE_BYTES = 64
"""RFC 8032 section 5.1.6."""

Encoding = Literal["jwt", "payload_signature", "signature_payload"]
Armor = Literal["none", "base64", "base64url"]


def public_key(text: str) -> Ed25519PublicKey:
    """A public key as PEM, or in base64 or base64url: the raw 32 bytes, or a SubjectPublicKeyInfo."""
    try:
        if text.lstrip().startswith("-----BEGIN"):
            key: Any = load_pem_public_key(text.encode())
        else:
            raw = _unarmored(text.strip().encode(), "base64url")
            key = Ed25519PublicKey.from_public_bytes(raw) if len(raw) == 32 else load_der_public_key(raw)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("not an Ed25519 public key: write its 32 bytes in base64url, or PEM")
    return key


class Signed(NamedTuple):
    """A licence taken apart. ``covered``: what the signature is over. ``kid``: None when it names none."""

    document: Any
    covered: bytes
    signature: bytes
    kid: str | None


def opened(blob: bytes, encoding: Encoding, armor: Armor, kid_path: str) -> Signed:
    """Raises `ValueError` that says what is wrong, without a byte of what is there: it may be a key to something."""
    if encoding == "jwt":
        return _opened_jwt(blob.strip())
    raw = _unarmored(blob, armor)
    if len(raw) <= SIGNATURE_BYTES:
        raise ValueError(f"{len(raw)} bytes, no more than a signature")
    if encoding == "payload_signature":
        covered, signature = raw[:-SIGNATURE_BYTES], raw[-SIGNATURE_BYTES:]
    else:
        covered, signature = raw[SIGNATURE_BYTES:], raw[:SIGNATURE_BYTES]
    document = _json_object(covered, "the document")
    return Signed(document, covered, signature, _kid(find(kid_path, document) if kid_path else None))


def _opened_jwt(text: bytes) -> Signed:
    """RFC 7515 section 3.1; RFC 8037 section 3.1, RFC 9864 section 2.2 for the names of the algorithm."""
    parts = text.split(b".")
    if len(parts) != 3:
        raise ValueError(f"{len(parts)} parts where a JWT has 3")
    header = _json_object(_unarmored(parts[0], "base64url"), "the header")
    if header.get("alg") not in ("EdDSA", "Ed25519"):
        raise ValueError(f"its algorithm is {quoted(str(header.get('alg')))}, not EdDSA")
    if "crit" in header:
        raise ValueError("its header has extensions that must be understood")
    document = _json_object(_unarmored(parts[1], "base64url"), "the payload")
    signature = _unarmored(parts[2], "base64url")
    return Signed(document, parts[0] + b"." + parts[1], signature, _kid(header.get("kid")))


def _unarmored(text: bytes, armor: str) -> bytes:
    if armor == "none":
        return text
    packed = b"".join(text.split())
    try:
        # Padding is optional, as in RFC 7515; both alphabets are taken where either is meant.
        return base64.b64decode(packed.rstrip(b"=") + b"=" * (-len(packed.rstrip(b"=")) % 4), b"-_", validate=True)
    except binascii.Error:
        pass
    try:
        return base64.b64decode(packed, validate=True)
    except binascii.Error:
        raise ValueError(f"not {armor}") from None


def _json_object(text: bytes, what: str) -> dict[str, Any]:
    try:
        document = parse_json(text.decode("utf-8"))
    except (ValueError, RecursionError):
        raise ValueError(f"{what} is not JSON") from None
    if not isinstance(document, dict):
        raise ValueError(f"{what} is not a JSON object")
    return document


def _kid(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None

"""Whether a signature over a message holds: Ed25519, ECDSA and RSA, by `cryptography`. Pure."""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate

PublicKey = Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey
Hash = Literal["sha256", "sha384", "sha512"]

_HASHES: dict[str, type[hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}


def read_public_key(text: str) -> PublicKey:
    """PEM of a public key or a certificate, or base64 of a raw Ed25519 key. Raises `ValueError`."""
    try:
        if "BEGIN CERTIFICATE" in text:
            key: object = load_pem_x509_certificate(text.encode()).public_key()
        elif "BEGIN" in text:
            key = load_pem_public_key(text.encode())
        else:
            key = Ed25519PublicKey.from_public_bytes(b64decode(text, validate=True))
    except (ValueError, binascii.Error, UnsupportedAlgorithm) as error:
        raise ValueError(f"not a public key (PEM, or base64 of a raw Ed25519 key): {error}") from None
    if not isinstance(key, PublicKey):
        raise ValueError(f"{type(key).__name__} is none of Ed25519, ECDSA and RSA")
    return key


def verifies(
    key: PublicKey,
    signature: bytes,
    message: bytes,
    *,
    algorithm: Hash = "sha256",
    rsa_padding: Literal["pss", "pkcs1v15"] = "pss",
    form: Literal["der", "raw"] = "der",
) -> bool:
    """Whether ``signature`` is the key's over ``message``. ``algorithm`` is not for Ed25519, which has its own."""
    hashed = _HASHES[algorithm]()
    try:
        if isinstance(key, Ed25519PublicKey):
            key.verify(signature, message)
        elif isinstance(key, rsa.RSAPublicKey):
            pss = padding.PSS(padding.MGF1(hashed), padding.PSS.AUTO)
            key.verify(signature, message, pss if rsa_padding == "pss" else padding.PKCS1v15(), hashed)
        else:
            key.verify(_der(signature, key) if form == "raw" else signature, message, ec.ECDSA(hashed))
    except InvalidSignature:
        return False
    return True


def _der(signature: bytes, key: ec.EllipticCurvePublicKey) -> bytes:
    """``r || s`` (IEEE P1363) as DER. Raises `InvalidSignature` when it has another length."""
    size = (key.curve.key_size + 7) // 8
    if len(signature) != 2 * size:
        raise InvalidSignature
    return encode_dss_signature(int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big"))

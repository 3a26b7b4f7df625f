"""tocsin's own key, sealed files: what is remembered can be lost, but not changed unseen."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tocsin.sdk.state_files import write_atomically


class SealBroken(ValueError):
    """A sealed text was cut, edited, or made with another key."""


class KeyMissing(Exception):
    """tocsin's own key cannot be read. The text says which file and what to do."""


class OwnKey:
    """tocsin's own key: one seed, a separate key for each purpose (HKDF, RFC 5869)."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) < 32:
            raise ValueError("tocsin's own key needs at least 32 bytes")
        self._seed = seed

    def derive(self, purpose: str) -> bytes:
        """32 bytes for one purpose."""
        return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=f"tocsin {purpose}".encode()).derive(
            self._seed
        )

    def signer(self) -> Ed25519PrivateKey:
        """The key that signs evidence; its public half goes into each bundle."""
        return Ed25519PrivateKey.from_private_bytes(self.derive("evidence"))

    def public_pem(self) -> bytes:
        return (
            self.signer()
            .public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )

    def fingerprint(self) -> str:
        """A short name of the key that gives nothing of it away."""
        return hashlib.sha256(self.public_pem()).hexdigest()[:16]

    def __repr__(self) -> str:
        return "OwnKey(********)"


def load_key(path: Path) -> OwnKey:
    """The key in ``path`` (hex). Raises `KeyMissing` when there is none that can be read."""
    try:
        return OwnKey(bytes.fromhex(path.read_text().strip()))
    except (OSError, ValueError) as error:
        raise KeyMissing(f"{path}: {error}; restore it from its backup, or run `tocsin chain bootstrap`") from error


def create_key(path: Path) -> OwnKey:
    """The key in ``path``; makes a new one, readable by its owner only, when there is no such file."""
    if path.exists():
        return load_key(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = secrets.token_bytes(32)
    write_atomically(path, seed.hex().encode() + b"\n")
    return OwnKey(seed)


def seal(key: OwnKey, purpose: str, value: Any) -> bytes:
    """A JSON value as text with its MAC in the first line."""
    body = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return _tag(key, purpose, body).encode() + b"\n" + body + b"\n"


def unseal(key: OwnKey, purpose: str, text: bytes) -> Any:
    """The JSON value of `seal`. Raises `SealBroken`."""
    tag, _, body = text.partition(b"\n")
    if not body.endswith(b"\n") or not hmac.compare_digest(tag, _tag(key, purpose, body[:-1]).encode()):
        raise SealBroken("does not authenticate with tocsin's key: it was cut, edited, or made with another key")
    return json.loads(body)


def _tag(key: OwnKey, purpose: str, body: bytes) -> str:
    return hmac.new(key.derive(purpose), body, hashlib.sha256).hexdigest()

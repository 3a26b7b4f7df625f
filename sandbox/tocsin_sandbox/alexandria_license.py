"""Alexandria's licence: what it allows, and the signed file that says so.

Published: tier, seats, tenants, end and entitlements; Ed25519 with a ``kid``; read at the start only. Not published:
the encoding (three pages, three descriptions). Here it is a JWT (RFC 8037), which the probe is therefore told.
"""

from __future__ import annotations

import base64
import datetime
import json
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

KID = "practice-1"


@dataclass(slots=True)
class License:
    """What the licence allows and what is used. ``days``: until its end, negative when it has passed."""

    tier: str = "enterprise"
    current_seats: int = 42
    max_seats: int = 100
    current_tenants: int = 3
    max_tenants: int = 10
    days: int = 200
    entitlements: tuple[str, ...] = ("multi_tenant", "oidc", "scim", "audit_export")

    def expires_at(self) -> str:
        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=self.days)
        return end.replace(microsecond=0).isoformat().replace("+00:00", "Z")


class LicenseFile:
    """The issuer's key, and the licence as it lies on the platform's disk at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._key = Ed25519PrivateKey.generate()

    def public_key(self) -> str:
        """The 32 bytes in base64url: what ``ALEXANDRIA_PROD_TRUSTED_KEY_PEM`` holds, despite its name."""
        return _base64url(self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    def sign(self, license: License, *, kid: str = KID) -> str:
        """What the licence allows, signed."""
        document = {
            "tier": license.tier,
            "seat_count": license.max_seats,
            "tenant_count": license.max_tenants,
            "expires_at": license.expires_at(),
            "entitlements": list(license.entitlements),
        }
        covered = f"{_encoded({'alg': 'EdDSA', 'typ': 'JWT', 'kid': kid})}.{_encoded(document)}"
        return f"{covered}.{_base64url(self._key.sign(covered.encode()))}"

    def install(self, license: License, *, kid: str = KID) -> None:
        """Sign what the licence allows and put it there."""
        self.path.write_text(self.sign(license, kid=kid), "ascii")

    def damage(self) -> None:
        """More seats are written into it, and the signature is the old one."""
        header, payload, signature = self.path.read_text("ascii").split(".")
        document = json.loads(base64.urlsafe_b64decode(payload + "=="))
        document["seat_count"] = 1_000_000
        self.path.write_text(f"{header}.{_encoded(document)}.{signature}", "ascii")


def _encoded(document: object) -> str:
    return _base64url(json.dumps(document).encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")

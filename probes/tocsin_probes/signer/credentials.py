"""How the probe says who it is, and when that ends."""

from __future__ import annotations

import base64
import binascii
import json
import math
from datetime import UTC, datetime
from pathlib import Path

from cryptography.x509 import load_pem_x509_certificate

from tocsin.sdk import CommonReason, ProbeFault, Secret, TlsSettings
from tocsin.sdk.json_paths import JsonPath
from tocsin_probes.signer.contract import Part, Request


class TokenCheck(Part):
    """A request that any valid credential may make, such as Vault's GET /v1/auth/token/lookup-self.

    It tells a credential that is dead from one that is not allowed an operation."""

    request: Request
    expires: JsonPath = ""
    """JMESPath of when the credential ends: RFC 3339 or Unix seconds."""


class Auth(Part):
    """Who the probe is."""

    bearer: Secret | None = None
    """Sent as ``Authorization: Bearer …``. When it is a JWT its ``exp`` is watched."""
    client_cert_file: str | None = None
    """PEM of the client's certificate, where the signer asks for one (mTLS)."""
    client_key_file: str | None = None
    """PEM of its key."""
    ca_file: str | None = None
    """PEM of the roots that the signer's own certificate must lead to."""
    check: TokenCheck | None = None
    platform_credentials: bool = False
    """These are the credentials that the platform's own workers use: refusing them is the signer's failure
    (``unauthorized``), not the probe's (``credentials_rejected``)."""
    days: float = 14
    """A credential or certificate with fewer days left is ``certificate_expiring``."""

    def tls(self) -> TlsSettings:
        return TlsSettings(
            ca_file=self.ca_file, client_cert_file=self.client_cert_file, client_key_file=self.client_key_file
        )


def jwt_expires_at(token: str) -> float | None:
    """``exp`` of a JWT (RFC 7519 section 4.1.4), Unix seconds; None for a token that is no JWT or does not say it."""
    try:
        payload = token.split(".")[1]
        return float(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["exp"])
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, binascii.Error):
        return None


def certificate_expires_at(file: str) -> float:
    """End of validity of the first certificate in a PEM file, Unix seconds."""
    try:
        return load_pem_x509_certificate(Path(file).read_bytes()).not_valid_after_utc.timestamp()
    except (OSError, ValueError) as error:
        raise ProbeFault(CommonReason.CREDENTIALS_MISSING, f"no certificate in {file}: {error}") from error


def moment(value: object) -> float | None:
    """Unix seconds of an RFC 3339 text or a number; None for null. Raises `ProbeFault` (unexpected_body)."""
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str) and not value.replace(".", "").isdigit():
            read = datetime.fromisoformat(value)
            return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
        number = float(str(value))
        if not math.isfinite(number):
            raise ValueError
        return number
    except ValueError:
        raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"{str(value)[:40]!r} is not a time") from None

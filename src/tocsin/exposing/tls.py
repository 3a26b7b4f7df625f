"""From the web configuration to what OpenSSL needs, and whether a client certificate is one of those allowed."""

from __future__ import annotations

import ipaddress
import os
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography import x509

from tocsin.config.errors import ConfigError, Problem
from tocsin.exposing.webconfig import CIPHERS, CURVES, TlsConfig

_VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}


def server_context(tls: TlsConfig, source: Path) -> ssl.SSLContext:
    """A context with the certificates as they are on disk now. Raises `ConfigError`, naming ``source``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.minimum_version, context.maximum_version = _VERSIONS[tls.min_version], _VERSIONS[tls.max_version]
        if not tls.prefer_server_cipher_suites:
            context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
        if names := [CIPHERS[name] for name in tls.cipher_suites if CIPHERS[name]]:
            context.set_ciphers(":".join(names))
        for curve in tls.curve_preferences:
            context.set_ecdh_curve(CURVES[curve])
        with _files(tls) as (certificate, key):
            context.load_cert_chain(certificate, key)
        if tls.client_auth_type in ("VerifyClientCertIfGiven", "RequireAndVerifyClientCert"):
            required = tls.client_auth_type == "RequireAndVerifyClientCert"
            context.load_verify_locations(cafile=tls.client_ca_file, cadata=tls.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    except (OSError, ValueError) as error:
        raise _refusal(source, f"TLS cannot be set up: {error}") from None
    return context


def expiry(tls: TlsConfig, source: Path) -> float:
    """When the first of the certificates that are shown ends, in Unix time. Raises `ConfigError` as `server_context`.

    Bytes, because what stands between the certificates of a file is in any encoding.
    """
    try:
        shown = tls.cert.encode() if tls.cert is not None else Path(str(tls.cert_file)).read_bytes()
        return min(found.not_valid_after_utc.timestamp() for found in x509.load_pem_x509_certificates(shown))
    except (OSError, ValueError) as error:
        raise _refusal(source, f"the end of the certificate cannot be read: {error}") from None


def _refusal(source: Path, message: str) -> ConfigError:
    return ConfigError([Problem(str(source), 0, "tls_server_config", message)])


def allowed_name(certificate: Mapping[str, Any] | None, allowed: tuple[str, ...]) -> bool:
    """Whether a subject alternative name (DNS, IP, e-mail or URI) of a verified certificate is exactly one allowed."""
    names = (certificate or {}).get("subjectAltName", ())
    return any((_address(value) if kind == "IP Address" else value) in allowed for kind, value in names)


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value.strip()))
    except ValueError:
        return value


@contextmanager
def _files(tls: TlsConfig) -> Iterator[tuple[str, str]]:
    """Certificate and key as files, which is all that OpenSSL's loader takes; what is inline exists only meanwhile."""
    with tempfile.TemporaryDirectory(prefix="tocsin-") as folder:
        certificate, key = tls.cert_file, tls.key_file
        if tls.cert is not None:
            certificate = _written(Path(folder, "cert.pem"), tls.cert)
        if tls.key is not None:
            key = _written(Path(folder, "key.pem"), tls.key.reveal())
        yield str(certificate), str(key)


def _written(path: Path, text: str) -> Path:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return path

"""The web-config file: TLS, users, headers and a rate limit, in the format of the Prometheus exporter-toolkit.

https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md. Every key of that page is known.
What this server cannot do as written there is refused with a reason rather than ignored: client certificates that are
asked for and not verified, and more than one elliptic curve. ``http2`` is accepted and means nothing here (HTTP/1.1).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from tocsin.config.document import Located, Origin, parse
from tocsin.config.errors import ConfigError, Problem
from tocsin.config.reading import MAX_DOCUMENT_BYTES, read_file
from tocsin.config.translation import translate
from tocsin.model import Secret
from tocsin.sdk.quantities import Seconds

_BCRYPT = re.compile(r"\$2[abxy]?\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}")

TlsVersion = Literal["TLS10", "TLS11", "TLS12", "TLS13"]

CIPHERS = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_AES_128_GCM_SHA256": "",
    "TLS_AES_256_GCM_SHA384": "",
    "TLS_CHACHA20_POLY1305_SHA256": "",
}
"""Go's names (https://pkg.go.dev/crypto/tls#pkg-constants) and OpenSSL's. Those of TLS 1.3 are always on."""

CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}

_HEADERS: dict[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-Content-Type-Options": ("nosniff",),
    "X-XSS-Protection": (),
    "Strict-Transport-Security": (),
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class TlsConfig(_Strict):
    """``tls_server_config``. Relative files are looked for beside the web-config file."""

    cert: str | None = None
    key: Secret | None = None
    client_ca: str | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    client_auth_type: Literal["", "NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"] = ""
    client_ca_file: Path | None = None
    client_allowed_sans: tuple[str, ...] = ()
    min_version: TlsVersion = "TLS12"
    max_version: TlsVersion = "TLS13"
    cipher_suites: tuple[str, ...] = ()
    prefer_server_cipher_suites: bool = True
    curve_preferences: tuple[str, ...] = ()

    @field_validator("client_auth_type", mode="before")
    @classmethod
    def _verified(cls, value: Any) -> Any:
        if value in ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert"):
            raise ValueError(
                f"{value} takes certificates that nobody verified; "
                "write RequireAndVerifyClientCert or VerifyClientCertIfGiven"
            )
        return value

    @field_validator("cipher_suites")
    @classmethod
    def _known_ciphers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in CIPHERS:
                raise ValueError(f"unknown cipher {name!r}; use Go's names, such as {next(iter(CIPHERS))}")
        return value

    @field_validator("curve_preferences")
    @classmethod
    def _one_curve(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in CURVES:
                raise ValueError(f"unknown curve {name!r}; known: {', '.join(CURVES)}")
        if len(value) > 1:
            raise ValueError("this server takes one curve; name one, or leave the key out for OpenSSL's own order")
        return value

    @model_validator(mode="after")
    def _complete(self) -> TlsConfig:
        if self.cert is None and self.cert_file is None:
            raise ValueError("missing one of cert or cert_file")
        if self.key is None and self.key_file is None:
            raise ValueError("missing one of key or key_file")
        for inline, file in (("cert", "cert_file"), ("key", "key_file"), ("client_ca", "client_ca_file")):
            if getattr(self, inline) is not None and getattr(self, file) is not None:
                raise ValueError(f"{inline} and {file} are both given; give one")
        verifies = self.client_auth_type in ("VerifyClientCertIfGiven", "RequireAndVerifyClientCert")
        has_ca = self.client_ca is not None or self.client_ca_file is not None
        if has_ca and not verifies:
            raise ValueError("a client CA is given without a client_auth_type that verifies")
        if verifies and not has_ca:
            raise ValueError(f"{self.client_auth_type} needs client_ca_file or client_ca")
        if self.client_allowed_sans and self.client_auth_type != "RequireAndVerifyClientCert":
            raise ValueError("client_allowed_sans needs client_auth_type RequireAndVerifyClientCert")
        return self


class HttpConfig(_Strict):
    """``http_server_config``."""

    http2: bool = True
    headers: dict[str, str] = {}

    @field_validator("headers")
    @classmethod
    def _known_headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if name not in _HEADERS:
                raise ValueError(f"header {name!r} cannot be configured; these can: {', '.join(_HEADERS)}")
            if text and _HEADERS[name] and text not in _HEADERS[name]:
                raise ValueError(f"{name} is one of {', '.join(_HEADERS[name])}, not {text!r}")
            if not text.isprintable():
                raise ValueError(f"{name} holds characters that no header takes")
        return value


def _interval(value: Any) -> Any:
    return "0s" if value == 0 and not isinstance(value, bool) else value


class RateLimit(_Strict):
    """``rate_limit``: one request each ``interval`` seconds, and ``burst`` at once; interval 0 means no limit."""

    interval: Annotated[Seconds, BeforeValidator(_interval)] = 0.0
    burst: Annotated[int, Field(ge=0)] = 0


class WebConfig(_Strict):
    """The whole file."""

    tls_server_config: TlsConfig | None = None
    http_server_config: HttpConfig = HttpConfig()
    basic_auth_users: dict[str, Secret] = {}
    rate_limit: RateLimit = RateLimit()

    @property
    def guarded(self) -> bool:
        """Whether nobody passes without a password or a verified certificate."""
        tls = self.tls_server_config
        return bool(self.basic_auth_users) or (tls is not None and tls.client_auth_type == "RequireAndVerifyClientCert")

    @field_validator("basic_auth_users")
    @classmethod
    def _hashed(cls, value: dict[str, Secret]) -> dict[str, Secret]:
        for user, hashed in value.items():
            if not _BCRYPT.fullmatch(hashed.reveal()):
                raise ValueError(f"the password of {user!r} is no bcrypt hash; make one with: htpasswd -nBC 10 {user}")
        return value


def load(path: Path) -> WebConfig:
    """Reads and validates the file. Raises `ConfigError` with every problem, its line and what would be right."""
    origin = Origin(str(path))
    try:
        content = read_file(path, MAX_DOCUMENT_BYTES)
    except OSError as error:
        raise ConfigError([Problem(str(path), 0, "", f"cannot be read: {error.strerror}")]) from None
    located = parse(content, origin, "write `tls_server_config:` or `basic_auth_users:`, or start without this file")
    try:
        config = WebConfig.model_validate(_plain(located))
    except ValidationError as error:
        raise ConfigError(translate(error, located, "", (WebConfig,))) from None
    return config.model_copy(update={"tls_server_config": _beside(config.tls_server_config, path.parent)})


def files_of(path: Path, config: WebConfig) -> tuple[Path, ...]:
    """Every file whose content matters: the web-config file and what it names."""
    tls = config.tls_server_config
    named = (tls.cert_file, tls.key_file, tls.client_ca_file) if tls is not None else ()
    return (path, *(file for file in named if file is not None))


def _beside(tls: TlsConfig | None, folder: Path) -> TlsConfig | None:
    if tls is None:
        return None
    names = ("cert_file", "key_file", "client_ca_file")
    return tls.model_copy(update={name: folder / getattr(tls, name) for name in names if getattr(tls, name)})


def _plain(located: Located) -> Any:
    value = located.value
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value

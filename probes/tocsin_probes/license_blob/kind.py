"""`license_blob`: the licence itself is genuine, valid, and the one that runs."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Self

from cryptography.exceptions import InvalidSignature
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tocsin.sdk import (
    CommonReason,
    Finding,
    Gauge,
    Outcome,
    ProbeContext,
    ProbeFault,
    ReasonEnum,
    Secret,
    Severity,
    TlsSettings,
    Words,
)
from tocsin.sdk.faults import explain, quoted
from tocsin.sdk.files import look_at
from tocsin.sdk.http import HttpUrl, origin
from tocsin.sdk.json_paths import JsonPath, find
from tocsin.sdk.kubernetes import KubernetesProbe, KubernetesSettings, Permission
from tocsin.sdk.login import Login, fetch
from tocsin.sdk.postgres import unix_time
from tocsin_probes.license_blob.signed import Armor, Encoding, Signed, opened, public_key

MAX_BYTES = 64 << 10
DAY = 86_400.0
_SHARE = 0.8
"""Of a run's time that asking for the running licence may take: its silence must not hide what is installed."""
_EXPIRY = Gauge("tocsin_license_blob_expiry_timestamp_seconds", "When the licence that is installed ends.")


def _must_be_key(text: str) -> str:
    public_key(text)
    return text


def _by_kid(value: object) -> object:
    """A list of ``{kid, key}`` as a mapping, because a kid that comes from a variable cannot be a key in YAML."""
    if isinstance(value, list) and all(isinstance(item, dict) and set(item) == {"kid", "key"} for item in value):
        return {item["kid"]: item["key"] for item in value}
    return value


class Source(BaseModel):
    """Where the licence is: one of a value, a file, or a Kubernetes Secret."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    value: Secret | None = None
    """The text itself, from a variable."""
    file: str = ""
    secret: Annotated[Words, Field(max_length=10)] = ()
    """The Secret's name, or several: the first that exists counts."""
    key: str = "license.key"
    """The key in the Secret."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum((self.value is not None, bool(self.file), bool(self.secret))) != 1:
            raise ValueError("set exactly one of: value, file, secret")
        return self


class Claims(BaseModel):
    """Where in the signed document each value is, as JMESPath; empty when it has none. A path that finds nothing is a
    contract that is missing: a licence that names its end otherwise would have none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kid: JsonPath = "kid"
    expires_at: JsonPath = "expires_at || exp"
    tier: JsonPath = "tier"
    seats: JsonPath = "seat_count"
    tenants: JsonPath = "tenant_count"
    entitlements: JsonPath = ""


class Running(BaseModel):
    """The document that says which licence runs, and where in it each value is, as JMESPath; empty when it does not
    say. What both tell is compared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: HttpUrl
    headers: Mapping[str, Secret] = {}
    login: Login | None = None
    tls: TlsSettings = TlsSettings()
    expires_at: JsonPath = "expires_at"
    tier: JsonPath = "tier"
    seats: JsonPath = "max_seats"
    tenants: JsonPath = "max_tenants"
    entitlements: JsonPath = ""


class LicenseBlob(KubernetesProbe):
    """The installed licence is signed by a trusted key, has not ended, and is what the platform says that it runs.

    How a platform encodes it must be configured: without `encoding` and `trusted_keys` the answer is
    `contract_missing`.
    """

    kind = "license_blob"
    gauges = (_EXPIRY,)

    class Settings(KubernetesSettings):
        source: Source
        encoding: Encoding | None = None
        """``jwt``: a JWS with EdDSA (RFC 7515, RFC 8037). The others: a JSON document and its 64 bytes of Ed25519
        signature, one right after the other."""
        armor: Armor = "none"
        """What wraps the whole, for the two that are binary."""
        trusted_keys: Annotated[
            Mapping[str, Annotated[str, AfterValidator(_must_be_key)]], BeforeValidator(_by_kid)
        ] = {}
        """By ``kid`` the public key: 32 bytes in base64url, or PEM. A list of ``{kid, key}`` is taken too."""
        claims: Claims = Claims()
        running: Running | None = None

        def targets(self) -> tuple[str, ...]:
            api = super().targets() if self.source.secret else ()
            running = self.running
            if running is None:
                return api
            login = running.login.targets() if running.login else ()
            return tuple(dict.fromkeys((*api, origin(running.url), *login)))

        def permissions(self) -> tuple[Permission, ...]:
            return (Permission("get", "secrets", names=self.source.secret),) if self.source.secret else ()

    class Reason(ReasonEnum):
        MISSING = "missing", "There is no licence where it should be."
        MALFORMED = "malformed", "What is there is no licence in the configured encoding."
        SIGNATURE_INVALID = "signature_invalid", "The signature does not belong to the licence, or to the key it names."
        UNTRUSTED_KID = "untrusted_kid", "The licence names a key that is not among the trusted ones."
        EXPIRED = "expired", "The installed licence has ended."
        DIFFERS_FROM_RUNNING = (
            "differs_from_running",
            "The platform runs another licence than the one that is installed; it reads it at its start.",
            Severity.TICKET,
        )

    settings: Settings

    async def run(self, ctx: ProbeContext) -> Outcome:
        settings = self.settings
        if settings.encoding is None or not settings.trusted_keys:
            unset = [name for name in ("encoding", "trusted_keys") if not getattr(settings, name)]
            return Outcome.bad(CommonReason.CONTRACT_MISSING, f"set {' and '.join(unset)}")
        blob = await self._blob(ctx)
        try:
            signed = opened(blob, settings.encoding, settings.armor, settings.claims.kid)
        except ValueError as error:
            return Outcome.bad(self.Reason.MALFORMED, str(error))
        findings = [*self._judge_signature(signed)]
        if findings:
            return Outcome.of(findings)
        expires_at = self._end(settings.claims.expires_at, signed.document, "claims", findings)
        if expires_at is not None:
            ctx.measure(_EXPIRY, expires_at)
            if expires_at <= ctx.now():
                ago = (ctx.now() - expires_at) / DAY
                findings.append(Finding.of(self.Reason.EXPIRED, f"ended {ago:.1f} days ago"))
        if settings.running is not None:
            findings += await self._compare(ctx, settings.running, signed.document, expires_at)
        return Outcome.of(findings, f"signed by {signed.kid or 'a trusted key'}, {_until(expires_at)}")

    async def _blob(self, ctx: ProbeContext) -> bytes:
        source = self.settings.source
        if source.value is not None:
            blob = source.value.reveal().encode()
        elif source.file:
            blob = await look_at(ctx, source.file, lambda: _read(source.file, self.Reason.MISSING))
        else:
            name, found = await self.first_secret(ctx, source.secret)
            namespace = self.settings.chosen_namespace()
            if found is None:
                raise ProbeFault(self.Reason.MISSING, f"no Secret {' or '.join(source.secret)} in {namespace}")
            text = (found.get("data") or {}).get(source.key)
            if not text:
                raise ProbeFault(self.Reason.MISSING, f"no {source.key} in the Secret {name} of {namespace}")
            blob = base64.b64decode(text)
        if not blob.strip():
            raise ProbeFault(self.Reason.MISSING, "it is empty")
        if len(blob) > MAX_BYTES:
            raise ProbeFault(self.Reason.MALFORMED, f"more than {MAX_BYTES} bytes")
        return blob

    def _judge_signature(self, signed: Signed) -> Iterator[Finding]:
        trusted = self.settings.trusted_keys
        if signed.kid is not None and signed.kid not in trusted:
            known = ", ".join(sorted(trusted))
            yield Finding.of(self.Reason.UNTRUSTED_KID, f"{quoted(signed.kid)} is not one of {known}")
            return
        # One that names no key is tried with all of them.
        keys = [trusted[signed.kid]] if signed.kid is not None else trusted.values()
        for key in keys:
            try:
                public_key(key).verify(signed.signature, signed.covered)
                return
            except InvalidSignature:
                continue
        which = f"the key {signed.kid}" if signed.kid is not None else "any of the trusted keys"
        yield Finding.of(self.Reason.SIGNATURE_INVALID, f"does not verify with {which}")

    def _end(self, path: str, document: Any, where: str, findings: list[Finding]) -> float | None:
        """The end of a licence in Unix seconds; None when it has none, or when that cannot be told."""
        value = find(path, document) if path else None
        if value is None:
            findings += _not_there(where, "expires_at", path)
            return None
        try:
            return unix_time(value)
        except ProbeFault:
            raise ProbeFault(self.Reason.MALFORMED, f"{path} is {quoted(str(value))}, not a time") from None

    async def _compare(
        self, ctx: ProbeContext, running: Running, document: Any, expires_at: float | None
    ) -> list[Finding]:
        headers = {name: value.reveal() for name, value in running.headers.items()}
        findings: list[Finding] = []
        try:
            async with asyncio.timeout(ctx.remaining() * _SHARE):
                answer = await fetch(ctx, running.login, "GET", running.url, headers=headers, tls=running.tls)
            runs = answer.expect(200).json()
            differing = [*self._differing(running, document, runs, findings)]
            runs_until = self._end(running.expires_at, runs, "running", findings)
        except (ProbeFault, OSError) as error:
            told = explain(error)
            if told.reason == CommonReason.CONTRACT_MISSING:
                return [told]
            detail = f"which licence runs cannot be told: {told.detail}"
            return [Finding.of(CommonReason.DEPENDENCY_UNKNOWN, detail)]
        # Documents round the end to a day; a renewal moves it by more.
        if expires_at is not None and runs_until is not None and abs(expires_at - runs_until) > DAY:
            differing.append(f"installed {_until(expires_at)}, running {_until(runs_until)}")
        if differing:
            findings.append(Finding.of(self.Reason.DIFFERS_FROM_RUNNING, "; ".join(differing)))
        return findings

    def _differing(self, running: Running, document: Any, runs: Any, findings: list[Finding]) -> Iterator[str]:
        """How what is installed differs from what runs; what is not where it should be goes to ``findings``."""
        for name in ("tier", "seats", "tenants", "entitlements"):
            here, there = getattr(self.settings.claims, name), getattr(running, name)
            if not here or not there:
                continue
            installed, present = _unordered(find(here, document)), _unordered(find(there, runs))
            if installed is None:
                findings += _not_there("claims", name, here)
            elif present is None:
                findings += _not_there("running", name, there)
            elif installed != present:
                yield f"{name}: installed {quoted(str(installed))}, running {quoted(str(present))}"


def _not_there(where: str, name: str, path: str) -> list[Finding]:
    """Nothing when there is no path: then it has none."""
    if not path:
        return []
    what = "the licence" if where == "claims" else "what runs"
    detail = f"`{path}` finds nothing in {what}: set {where}.{name}, to nothing when there is none"
    return [Finding.of(CommonReason.CONTRACT_MISSING, detail, name)]


def _unordered(value: Any) -> Any:
    """A list in an order of its own: that of entitlements means nothing."""
    return sorted(value, key=str) if isinstance(value, list) else value


def _read(path: str, missing: ReasonEnum) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ProbeFault(missing, f"{path} does not exist") from error


def _until(at: float | None) -> str:
    return f"until {datetime.fromtimestamp(at, UTC).date().isoformat()}" if at is not None else "without an end"

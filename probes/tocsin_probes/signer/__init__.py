"""Kind ``signer``: the service that holds the keys does each of its operations, and does it right.

Its protocol is configuration (`contract`, `operations`), its results are verified here (`checks`): what a signer says
about itself proves nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, model_validator

from tocsin.sdk import (
    ByteCount,
    CommonReason,
    Finding,
    Gauge,
    Outcome,
    Probe,
    ProbeContext,
    ProbeFault,
    ProbeSettings,
    Seconds,
    Secret,
    Status,
    Words,
)
from tocsin.sdk.faults import explain, quoted
from tocsin.sdk.http import CERTIFICATE_EXPIRY, origin, shown_url
from tocsin.sdk.json_paths import JsonPath, find
from tocsin_probes.signer import checks
from tocsin_probes.signer.contract import Part, Request
from tocsin_probes.signer.credentials import Auth, certificate_expires_at, jwt_expires_at, moment
from tocsin_probes.signer.operations import Operations
from tocsin_probes.signer.reasons import Reason as SignerReason
from tocsin_probes.signer.transport import GrpcTransport, HttpTransport, Transport

_OPERATION_OK = Gauge("tocsin_signer_operation_ok", "Whether the operation's result was right.", ("operation",))
_OPERATION_SECONDS = Gauge(
    "tocsin_signer_operation_seconds", "How long the signer took for the operation's request.", ("operation",)
)
_CREDENTIAL_EXPIRY = Gauge(
    "tocsin_signer_credential_expiry_timestamp_seconds",
    "When a credential or signing certificate ends.",
    ("credential",),
)

Refusal = Literal["key_unknown", "key_disabled", "wrong_key", "sealed", "credential_expired", "mode_mismatch"]


def _endpoint(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("grpc", "grpcs"):
        origin(url)
        return url
    if not parts.hostname or not parts.port or parts.path.strip("/") or parts.username:
        raise ValueError(f"{quoted(url)} is not grpc://HOST:PORT")
    return url.rstrip("/")


class ModeQuery(Part):
    """Where the signer says its mode."""

    request: Request = Request(method="GET")
    extract: JsonPath
    """JMESPath of the mode in the answer."""


class PlatformSettings(Part):
    """What the platform's own variables say about its signer, so that they can be compared with what is probed."""

    mode: str = ""
    """``SIGNER_MODE``."""
    endpoint: str = ""
    """The signer's address as the platform is given it."""
    timeout: Seconds = 0.0
    """An operation that takes longer is ``too_slow``: the platform's workers have given up by then."""
    key_ids: Words = ()
    """When given, the operations' ``key_id`` must be among them."""
    tsa_url: str = ""
    """When given, a signed PDF must carry a timestamp."""


class Signer(Probe):
    """Each operation of a signing service is done, and its result verified: decrypt, HMAC, PAdES, receipts, EVM."""

    kind = "signer"
    gauges = (_OPERATION_OK, _OPERATION_SECONDS, _CREDENTIAL_EXPIRY, CERTIFICATE_EXPIRY)
    Reason = SignerReason

    class Settings(ProbeSettings):
        endpoint: Annotated[str, AfterValidator(_endpoint)]
        """``http://``, ``https://``, ``grpc://`` or ``grpcs://``, host and port."""
        operations: Operations = Operations()
        """By name, how each is asked for and verified: decrypt, hmac, hmac_verify, pades_sign, receipt_sign,
        tx_sign. Without any the contract is missing."""
        auth: Auth = Auth()
        headers: Mapping[str, Secret] = {}
        """Sent with each request (as metadata over gRPC)."""
        errors: Mapping[Refusal, Words] = {}
        """By reason, texts in the signer's error answers that mean it: ``key_unknown: encryption key not found``."""
        expected_mode: str = ""
        """The mode that the signer, and the platform's setting, must be in."""
        mode: ModeQuery | None = None
        expected_tsa_url: str = ""
        """The timestamp authority that is probed elsewhere; the platform's ``tsa_url`` must be the same."""
        platform: PlatformSettings = PlatformSettings()
        descriptor_file: str = ""
        """For gRPC, a descriptor set (``protoc --include_imports --descriptor_set_out``); by default the signer is
        asked by reflection."""
        max_bytes: ByteCount = 8 << 20
        """An answer that is larger is refused."""

        @model_validator(mode="after")
        def _one_protocol(self) -> Self:
            requests = {name: operation.request for name, operation in self.operations.named()}
            if self.mode is not None:
                requests["mode"] = self.mode.request
            if self.auth.check is not None:
                requests["auth.check"] = self.auth.check.request
            for name, request in requests.items():
                if self.grpc and (request.rpc.count("/") != 1 or request.path):
                    raise ValueError(f"{name}: over gRPC a request has `rpc: package.Service/Method` and no `path`")
                if not self.grpc and request.rpc:
                    raise ValueError(f"{name}: `rpc` is for an endpoint of grpc:// or grpcs://")
            if self.mode is not None and not self.expected_mode:
                raise ValueError("`mode` is asked for, and `expected_mode` is not set")
            return self

        @property
        def grpc(self) -> bool:
            return self.endpoint.startswith("grpc")

        def targets(self) -> tuple[str, ...]:
            return (self.endpoint,) if self.grpc else (origin(self.endpoint),)

    settings: Settings

    async def run(self, ctx: ProbeContext) -> Outcome:
        settings = self.settings
        named = dict(settings.operations.named())
        if not named:
            return Outcome.bad(CommonReason.CONTRACT_MISSING, "no operation is configured")
        transport = self._transport(ctx)
        try:
            findings = [*lint(settings), *await self._credentials(ctx)]
            refused = await self._check(ctx, transport)
            findings += refused
            if not _dead(refused):
                findings += await self._mode(ctx, transport)
                findings += await self._operations(ctx, transport)
            elif any(finding.status is Status.FAILED for finding in refused):
                for name in named:
                    ctx.measure(_OPERATION_OK, False, operation=name)
        finally:
            await transport.close()
        if settings.auth.check is not None and not refused:
            findings = [_allowed_but_refused(finding) for finding in findings]
        if settings.auth.platform_credentials:
            findings = [_blamed_on_signer(finding) for finding in findings]
        return Outcome.of(findings, f"{', '.join(named)}: done and verified")

    def _transport(self, ctx: ProbeContext) -> Transport:
        settings = self.settings
        headers = {name.lower(): value.reveal() for name, value in settings.headers.items()}
        if settings.auth.bearer is not None:
            headers["authorization"] = f"Bearer {settings.auth.bearer.reveal()}"
        tls = settings.auth.tls()
        if settings.grpc:
            return GrpcTransport(ctx, settings.endpoint, headers, tls, settings.max_bytes, settings.descriptor_file)
        return HttpTransport(ctx, settings.endpoint, headers, tls, settings.max_bytes)

    async def _operations(self, ctx: ProbeContext, transport: Transport) -> list[Finding]:
        """All operations side by side, so that one that hangs does not hide the others."""
        operations, found = self.settings.operations, []
        session = checks.Session(ctx, transport, self.settings.errors)
        jobs: dict[str, Awaitable[list[Finding]]] = {}
        if operations.decrypt:
            jobs["decrypt"] = session.decrypt(operations.decrypt)
        if operations.hmac:
            jobs["hmac"] = session.hmac(operations.hmac, operations.hmac_verify)
        if operations.pades_sign:
            jobs["pades_sign"] = session.pades_sign(self._stamped(operations.pades_sign), self.settings.auth.days)
        if operations.receipt_sign:
            jobs["receipt_sign"] = session.receipt_sign(operations.receipt_sign)
        if operations.tx_sign:
            jobs["tx_sign"] = session.tx_sign(operations.tx_sign)
        for name, outcome in zip(jobs, await asyncio.gather(*map(self._in_time(ctx), jobs.items())), strict=True):
            found += [replace(finding, component=finding.component or name) for finding in outcome]
        for name, seconds in session.seconds.items():
            ctx.measure(_OPERATION_SECONDS, seconds, operation=name)
            limit = self.settings.platform.timeout
            if limit and seconds > limit:
                detail = f"{seconds:.2f} s, the platform gives up after {limit:g} s"
                found.append(Finding.of(SignerReason.TOO_SLOW, detail, name))
        if session.certificate_expires_at is not None:
            ctx.measure(CERTIFICATE_EXPIRY, session.certificate_expires_at)
            found += self._ending(ctx, session.certificate_expires_at, "tls")
        if session.signing_certificate_expires_at is not None:
            ends = session.signing_certificate_expires_at
            ctx.measure(_CREDENTIAL_EXPIRY, ends, credential="signing_certificate")
            found += self._ending(ctx, ends, "pades_sign")
        told = {
            finding.component: finding.status
            for finding in found
            if finding.reason != CommonReason.CERTIFICATE_EXPIRING
        }
        for name, _ in operations.named():
            if told.get(name) is not Status.UNKNOWN:
                ctx.measure(_OPERATION_OK, name not in told, operation=name)
        return found

    def _in_time(self, ctx: ProbeContext) -> Any:
        budget = ctx.remaining() - min(0.25, ctx.timeout / 10)

        async def run(job: tuple[str, Awaitable[list[Finding]]]) -> list[Finding]:
            try:
                async with asyncio.timeout(budget):
                    return await job[1]
            except Exception as error:  # noqa: BLE001 - as the runner would, but for this operation alone
                return [explain(error, Status.UNKNOWN)]

        return run

    def _stamped(self, operation: Any) -> Any:
        if not self.settings.platform.tsa_url:
            return operation
        return operation.model_copy(update={"verify": operation.verify.model_copy(update={"timestamp": True})})

    async def _credentials(self, ctx: ProbeContext) -> list[Finding]:
        """What the credentials themselves say about their end."""
        auth, ends = self.settings.auth, {}
        if auth.bearer is not None:
            ends["bearer"] = jwt_expires_at(auth.bearer.reveal())
        if auth.client_cert_file:
            ends["client_certificate"] = await asyncio.to_thread(certificate_expires_at, auth.client_cert_file)
        found: list[Finding] = []
        for credential, end in ends.items():
            if end is not None:
                ctx.measure(_CREDENTIAL_EXPIRY, end, credential=credential)
                found += self._ending(ctx, end, credential)
        return found

    async def _check(self, ctx: ProbeContext, transport: Transport) -> list[Finding]:
        """Whether the credential lives, when there is a request that tells."""
        check = self.settings.auth.check
        if check is None:
            return []
        session = checks.Session(ctx, transport, self.settings.errors)
        try:
            document = (await session.ask("auth", check.request, (200,), {})).document
            end = moment(find(check.expires, document)) if check.expires else None
        except (ProbeFault, OSError) as error:
            return [replace(explain(error, Status.UNKNOWN), component="auth")]
        if end is None:
            return []
        ctx.measure(_CREDENTIAL_EXPIRY, end, credential="token")
        return self._ending(ctx, end, "token")

    def _ending(self, ctx: ProbeContext, end: float, component: str) -> list[Finding]:
        left = (end - ctx.now()) / 86400
        if left <= 0 and component != "pades_sign":
            return [Finding.of(SignerReason.CREDENTIAL_EXPIRED, f"ended {-left:.1f} days ago", component)]
        if 0 < left < self.settings.auth.days:
            return [Finding.of(CommonReason.CERTIFICATE_EXPIRING, f"{left:.1f} days left", component)]
        return []

    async def _mode(self, ctx: ProbeContext, transport: Transport) -> list[Finding]:
        query = self.settings.mode
        if query is None:
            return []
        session = checks.Session(ctx, transport, self.settings.errors)
        try:
            said = find(query.extract, (await session.ask("mode", query.request, (200,), {})).document)
        except (ProbeFault, OSError) as error:
            return [replace(explain(error, Status.UNKNOWN), component="mode")]
        if said == self.settings.expected_mode:
            return []
        return [Finding.of(SignerReason.MODE_MISMATCH, f"the signer says {quoted(str(said))}", "mode")]


def lint(settings: Signer.Settings) -> Iterator[Finding]:
    """What the platform's own settings contradict. Pure."""
    platform = settings.platform
    if platform.mode and settings.expected_mode and platform.mode != settings.expected_mode:
        detail = f"the platform's mode is {quoted(platform.mode)}, not {quoted(settings.expected_mode)}"
        yield Finding.of(SignerReason.MODE_MISMATCH, detail, "settings")
    if platform.endpoint and platform.endpoint.rstrip("/") != settings.endpoint.rstrip("/"):
        yield Finding.of(SignerReason.SETTINGS_DISAGREE, "the platform's endpoint is not the probed one", "endpoint")
    for name, operation in settings.operations.named():
        if platform.key_ids and operation.key_id and operation.key_id not in platform.key_ids:
            detail = f"{name} is probed with the key {operation.key_id}, which is not among the platform's"
            yield Finding.of(SignerReason.SETTINGS_DISAGREE, detail, "key_ids")
    pades = settings.operations.pades_sign
    if pades and pades.verify.timestamp and "tsa_url" in platform.model_fields_set and not platform.tsa_url:
        detail = "a timestamp is demanded, and the platform has no timestamp authority set"
        yield Finding.of(SignerReason.SETTINGS_DISAGREE, detail, "tsa")
    yield from _same_tsa(settings)


def _same_tsa(settings: Signer.Settings) -> Iterator[Finding]:
    named, probed = settings.platform.tsa_url.rstrip("/"), settings.expected_tsa_url.rstrip("/")
    if named and probed and named != probed:
        detail = f"the platform's timestamp authority is {shown_url(named)}, the probed one {shown_url(probed)}"
        yield Finding.of(SignerReason.SETTINGS_DISAGREE, detail, "tsa")


def _dead(refused: list[Finding]) -> bool:
    """Whether the check of the credential says that no operation can work."""
    return any(finding.reason != CommonReason.CERTIFICATE_EXPIRING for finding in refused)


def _allowed_but_refused(finding: Finding) -> Finding:
    """The credential lives, so an operation that refuses it forbids the operation."""
    if finding.reason != CommonReason.CREDENTIALS_REJECTED:
        return finding
    return Finding.of(CommonReason.FORBIDDEN, finding.detail, finding.component)


def _blamed_on_signer(finding: Finding) -> Finding:
    if finding.reason != CommonReason.CREDENTIALS_REJECTED:
        return finding
    return Finding.of(CommonReason.UNAUTHORIZED, finding.detail, finding.component)

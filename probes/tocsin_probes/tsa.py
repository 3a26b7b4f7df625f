"""Kind ``tsa``: a timestamp authority stamps a fresh digest, and the stamp holds. RFC 3161."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha512
from pathlib import Path
from typing import Annotated

from cryptography import x509
from pydantic import Field
from rfc3161_client import (
    TimestampRequestBuilder,
    TimeStampResponse,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

from tocsin.sdk import (
    CommonReason,
    Finding,
    Gauge,
    Outcome,
    Probe,
    ProbeContext,
    ProbeFault,
    ProbeSettings,
    ReasonEnum,
    Seconds,
    Secret,
    TlsSettings,
)
from tocsin.sdk.faults import quoted
from tocsin.sdk.http import CERTIFICATE_EXPIRY, HttpUrl, certificate_finding, origin

_SKEW = Gauge("tocsin_tsa_skew_seconds", "How far the authority's time is ahead of ours; negative when it is behind.")
_SIGNER_EXPIRY = Gauge("tocsin_tsa_certificate_expiry_timestamp_seconds", "End of validity of the signing certificate.")

_GRANTED = (0, 1)
"""PKIStatus granted and grantedWithMods. RFC 3161 section 2.4.2."""

_STATUS = {2: "rejection", 3: "waiting", 4: "revocation warning", 5: "revocation notification"}
_TYPE = {"content-type": "application/timestamp-query"}
MAX_REPLY_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Asked:
    """What was sent, and when, in Unix seconds."""

    digest: bytes
    nonce: int
    sent_at: float
    received_at: float


class Tsa(Probe):
    """A timestamp authority's stamp over a fresh digest: imprint, nonce, signature, policy and time."""

    kind = "tsa"
    gauges = (_SKEW, _SIGNER_EXPIRY, CERTIFICATE_EXPIRY)

    class Settings(ProbeSettings):
        url: HttpUrl
        """The time-stamp server that is asked, as the platform asks it."""
        ca_file: str
        """PEM of the certificates that are trusted: roots, and intermediates that the stamps do not carry."""
        policy: Annotated[str, Field(pattern=r"^(\d+(\.\d+)+)?$")] = ""
        """The object identifier that stamps must be made under; empty: any."""
        max_skew: Seconds = 5.0
        """How far the authority's time may be from ours, beyond the accuracy that it states."""
        headers: Mapping[str, Secret] = {}
        tls: TlsSettings = TlsSettings()
        certificate_days: Annotated[float, Field(ge=0)] = 14
        """A certificate with fewer days left is ``certificate_expiring``."""

        def targets(self) -> tuple[str, ...]:
            return (origin(self.url),)

    class Reason(ReasonEnum):
        REFUSED = "refused", "The authority refuses to stamp a well-formed request."
        IMPRINT_MISMATCH = "imprint_mismatch", "The stamp is over another digest than the one that was sent."
        NONCE_MISMATCH = "nonce_mismatch", "The stamp answers another request: its nonce is not the one that was sent."
        POLICY_MISMATCH = "policy_mismatch", "The stamp was made under another policy than the configured one."
        SIGNATURE_INVALID = "signature_invalid", "The stamp's signature does not hold against the trusted certificates."
        TIME_SKEW = "time_skew", "The stamp's time is too far from ours: one of the two clocks is wrong."

    settings: Settings

    async def run(self, ctx: ProbeContext) -> Outcome:
        settings = self.settings
        message = secrets.token_bytes(32)
        request = TimestampRequestBuilder().data(message).build()
        sent_at = ctx.now()
        answer = await ctx.http.fetch(
            "POST",
            settings.url,
            headers={**_TYPE, **{name: value.reveal() for name, value in settings.headers.items()}},
            body=request.as_bytes(),
            max_bytes=MAX_REPLY_BYTES,
            tls=settings.tls,
        )
        asked = Asked(sha512(message).digest(), request.nonce or 0, sent_at, ctx.now())
        if answer.status in (400, 422):
            return Outcome.bad(self.Reason.REFUSED, f"HTTP {answer.status}: {quoted(answer.body, 200)}")
        answer.expect(200, 201)
        try:
            reply = decode_timestamp_response(answer.body)
        except ValueError as error:
            what = f"no RFC 3161 reply ({error}); it begins {quoted(answer.body)}"
            raise ProbeFault(CommonReason.UNEXPECTED_BODY, what) from error
        if reply.status not in _GRANTED:
            said = " ".join(map(str, reply.status_string or ()))
            status = _STATUS.get(reply.status, str(reply.status))
            return Outcome.bad(self.Reason.REFUSED, f"{status} {quoted(said, 200)}")
        try:
            stamped_at = reply.tst_info.gen_time
            findings = await asyncio.to_thread(lambda: list(self._judge(reply, asked)))
            signer = await asyncio.to_thread(signing_certificate, reply)
        except ValueError as error:
            # Granted, and no stamp in it, or one whose parts are not what they must be: read only when they are used.
            raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"granted, without a stamp: {error}") from error
        if signer is not None:
            ends = signer.not_valid_after_utc.timestamp()
            ctx.measure(_SIGNER_EXPIRY, ends)
            ending = certificate_finding(ends, ctx.now(), settings.certificate_days)
            findings += [replace(ending, component="signer")] if ending else []
        if answer.certificate_expires_at is not None:
            ctx.measure(CERTIFICATE_EXPIRY, answer.certificate_expires_at)
            findings += filter(
                None, [certificate_finding(answer.certificate_expires_at, ctx.now(), settings.certificate_days)]
            )
        ctx.measure(_SKEW, skew_of(stamped_at, asked))
        return Outcome.of(findings, f"stamped at {stamped_at.isoformat()}")

    def _judge(self, reply: TimeStampResponse, asked: Asked) -> Iterator[Finding]:
        """Everything that is wrong with a granted reply. On a worker thread: the signature takes milliseconds."""
        info = reply.tst_info
        if info.message_imprint.message != asked.digest:
            yield Finding.of(self.Reason.IMPRINT_MISMATCH, "another digest")
        if info.nonce != asked.nonce:
            yield Finding.of(self.Reason.NONCE_MISMATCH, "no nonce" if info.nonce is None else "another nonce")
        if self.settings.policy and info.policy.dotted_string != self.settings.policy:
            yield Finding.of(self.Reason.POLICY_MISMATCH, f"policy {info.policy.dotted_string}")
        try:
            roots = trusted(self.settings.ca_file)
            # Its own comparison of imprint and nonce ends at the first; ours have been made.
            VerifierBuilder(roots=roots).build().verify(reply, info.message_imprint.message)
        except VerificationError as error:
            yield Finding.of(self.Reason.SIGNATURE_INVALID, str(error)[:200])
        skew = skew_of(info.gen_time, asked)
        if abs(skew) > self.settings.max_skew + accuracy_of(reply):
            side = "ahead of" if skew > 0 else "behind"
            yield Finding.of(self.Reason.TIME_SKEW, f"{abs(skew):.1f} s {side} our clock")


def skew_of(stamped: datetime, asked: Asked) -> float:
    """Seconds by which a stamp's time lies outside the time of the request; 0 when inside. Stamps are in seconds."""
    moment = stamped.timestamp()
    if moment > asked.received_at:
        return moment - asked.received_at
    return min(0.0, moment + 1 - asked.sent_at)


def accuracy_of(reply: TimeStampResponse) -> float:
    """The accuracy in seconds that the authority states; 0 when it states none."""
    stated = reply.tst_info.accuracy
    if stated is None:
        return 0.0
    return float((stated.seconds or 0) + (stated.millis or 0) / 1e3 + (stated.micros or 0) / 1e6)


def trusted(file: str) -> list[x509.Certificate]:
    """The certificates of a PEM file. Raises `ProbeFault` (credentials_missing)."""
    try:
        return x509.load_pem_x509_certificates(Path(file).read_bytes())
    except (OSError, ValueError) as error:
        raise ProbeFault(CommonReason.CREDENTIALS_MISSING, f"no certificates in {file}: {error}") from error


def signing_certificate(reply: TimeStampResponse) -> x509.Certificate | None:
    """The certificate that a reply says it was signed with; None when the reply does not carry it."""
    signers = {(info.issuer, info.serial_number) for info in reply.signed_data.signer_infos}
    carried = map(x509.load_der_x509_certificate, reply.signed_data.certificates)
    return next((each for each in carried if (each.issuer, each.serial_number) in signers), None)

"""Kind ``tls``: a certificate that clients trust, for the right name, and for long enough."""

from __future__ import annotations

import asyncio
import ssl
from typing import Annotated, Final

from cryptography import x509
from pydantic import Field

from tocsin.model import CommonReason, Outcome, ReasonEnum
from tocsin.sdk import Probe, ProbeContext, ProbeSettings, TlsSettings
from tocsin.sdk.dial import Address, dial, split_address
from tocsin.sdk.faults import quoted
from tocsin.sdk.http import CERTIFICATE_EXPIRY


class Tls(Probe):
    """A TLS handshake as a client verifies it: chain, name, and days left."""

    kind = "tls"
    gauges = (CERTIFICATE_EXPIRY,)

    class Settings(ProbeSettings):
        address: Address
        """``host:port``."""
        server_name: str = ""
        """The name that the certificate must be for, and that is asked for (SNI); by default the address's host."""
        tls: TlsSettings = TlsSettings()
        certificate_days: Annotated[float, Field(ge=0)] = 14
        """A certificate with fewer days left is ``certificate_expiring``."""

        def targets(self) -> tuple[str, ...]:
            return (f"tcp://{self.address}",)

    class Reason(ReasonEnum):
        NAME_MISMATCH = "name_mismatch", "The certificate is not for the name that clients use."
        SELF_SIGNED = "self_signed", "The certificate, or the root it comes with, is signed by itself and not trusted."
        CHAIN_INCOMPLETE = (
            "chain_incomplete",
            "An issuer is missing: the server does not send an intermediate, or its root is not trusted here.",
        )

    settings: Settings

    async def run(self, ctx: ProbeContext) -> Outcome:
        context = ctx.http.tls_context(self.settings.tls)
        try:
            certificate = await self._shown(ctx, context)
        except ssl.SSLCertVerificationError as error:
            reason = _BY_VERIFY_CODE.get(error.verify_code, CommonReason.TLS_ERROR)
            try:
                # Once more without verifying, to say what it is that cannot be verified.
                certificate = await self._shown(ctx, self._unverified())
            except OSError:
                return Outcome.bad(reason, error.verify_message)
            ctx.measure(CERTIFICATE_EXPIRY, certificate.not_valid_after_utc.timestamp())
            return Outcome.bad(reason, f"{error.verify_message}; {_described(certificate)}")
        expires = certificate.not_valid_after_utc.timestamp()
        ctx.measure(CERTIFICATE_EXPIRY, expires)
        days = (expires - ctx.now()) / 86400
        if days < self.settings.certificate_days:
            return Outcome.bad(CommonReason.CERTIFICATE_EXPIRING, f"{days:.1f} days left; {_described(certificate)}")
        return Outcome.ok(f"{days:.0f} days left")

    def _unverified(self) -> ssl.SSLContext:
        context, tls = ssl.create_default_context(), self.settings.tls
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if tls.client_cert_file:
            context.load_cert_chain(tls.client_cert_file, tls.client_key_file)
        return context

    async def _shown(self, ctx: ProbeContext, context: ssl.SSLContext) -> x509.Certificate:
        """The server's own certificate."""
        host, port = split_address(self.settings.address)
        async with ctx.permits.request(self.settings.targets()[0]):
            transport, _ = await dial(
                asyncio.Protocol, host, port, tls=context, server_name=self.settings.server_name or host
            )
            try:
                encoded = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
            finally:
                transport.abort()
        return x509.load_der_x509_certificate(encoded)


_BY_VERIFY_CODE: Final = {
    2: Tls.Reason.CHAIN_INCOMPLETE,
    10: CommonReason.CERTIFICATE_EXPIRED,
    18: Tls.Reason.SELF_SIGNED,
    19: Tls.Reason.SELF_SIGNED,
    20: Tls.Reason.CHAIN_INCOMPLETE,
    21: Tls.Reason.CHAIN_INCOMPLETE,
    62: Tls.Reason.NAME_MISMATCH,
    64: Tls.Reason.NAME_MISMATCH,
}
"""openssl-verification-options(1) and x509_vfy.h: X509_V_ERR_*."""


def _described(certificate: x509.Certificate) -> str:
    """For whom, by whom and until when, bounded: a certificate may name hundreds of hosts."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = [str(name.value) for name in extension.value]
    except (x509.ExtensionNotFound, ValueError):
        names = []
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    issuer = quoted(certificate.issuer.rfc4514_string(), 120)
    return f"it is for {quoted(shown, 200)}, issued by {issuer}, valid until {certificate.not_valid_after_utc:%Y-%m-%d}"

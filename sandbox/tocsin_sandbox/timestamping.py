"""A timestamp authority over HTTP, RFC 3161 section 3.4. The stamps are real; the clock is this machine's."""

from __future__ import annotations

import asyncio
import datetime
from dataclasses import dataclass

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID


@dataclass(frozen=True, slots=True)
class Stamping:
    """A root and the certificate that stamps under it."""

    root: x509.Certificate
    certificate: x509.Certificate
    key: rsa.RSAPrivateKey

    @classmethod
    def create(cls, name: str) -> Stamping:
        root_key, key = rsa.generate_private_key(65537, 2048), rsa.generate_private_key(65537, 2048)
        root_name, own_name = (
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)]) for text in (f"{name} Root", name)
        )
        root = (
            _begun(root_name, root_name, root_key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(root_key, hashes.SHA256())
        )
        own = (
            _begun(own_name, root_name, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
            .sign(root_key, hashes.SHA256())
        )
        return cls(root, own, key)


@dataclass(slots=True)
class TimestampAuthority:
    """``strange`` stamps under a root that nobody trusts."""

    own: Stamping
    stranger: Stamping
    strange: bool = False

    @classmethod
    def create(cls) -> TimestampAuthority:
        return cls(Stamping.create("Practice Timestamps"), Stamping.create("Stranger"))

    def root_certificate(self) -> str:
        """PEM."""
        return self.own.root.public_bytes(serialization.Encoding.PEM).decode()

    def build(self) -> web.Application:
        app = web.Application(client_max_size=1 << 16)
        app.router.add_post("/", self._stamp)
        return app

    async def _stamp(self, request: web.Request) -> web.Response:
        try:
            reply = await asyncio.to_thread(self._answer, await request.read())
        except ValueError as error:
            return web.Response(text=str(error), status=400)
        return web.Response(body=reply, content_type="application/timestamp-reply")

    def _answer(self, asked: bytes) -> bytes:
        from asn1crypto import keys, tsp
        from asn1crypto import x509 as asn1
        from pyhanko.sign.timestamps.dummy_client import DummyTimeStamper
        from pyhanko_certvalidator.registry import SimpleCertificateStore

        with_ = self.stranger if self.strange else self.own
        certificates = [
            asn1.Certificate.load(each.public_bytes(serialization.Encoding.DER))
            for each in (with_.certificate, with_.root)
        ]
        store = SimpleCertificateStore()  # type: ignore[no-untyped-call]  # as the library is
        store.register_multiple(certificates)
        private = with_.key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        stamper = DummyTimeStamper(certificates[0], keys.PrivateKeyInfo.load(private), store)
        return bytes(stamper.request_tsa_response(tsp.TimeStampReq.load(asked)).dump())


def _begun(subject: x509.Name, issuer: x509.Name, key: rsa.RSAPrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=90))
    )

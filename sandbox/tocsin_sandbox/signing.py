"""A signer over HTTP. Published are the operations' names (decrypt, hmac, hmac_verify, pades_sign, receipt_sign, later
transaction signing) and that a mode, key ids and bearer or mTLS material exist; the protocol is the sandbox's own.

``POST /v1/OPERATION`` with a bearer token and base64 in JSON. All cryptography is real.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import datetime
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import pkcs12

KEY_ID = "practice-1"
MODE = "remote"
PLAINTEXT = b"tocsin probe"
"""What the ciphertext that a probe is given decrypts to."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority and one signing certificate of it."""

    root: x509.Certificate
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls, name: str) -> Authority:
        root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{name} Root")])
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{name} Signer")])
        root = _certificate(issuer, issuer, root_key.public_key(), root_key, authority=True)
        return cls(root, _certificate(subject, issuer, key.public_key(), root_key, authority=False), key)


@dataclass(slots=True)
class Signer:
    """The keys, and what is wrong with them. The ``strange_*`` flags answer with keys that nobody trusts."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    accepted_token: str = ""
    mode: str = MODE
    key_ids: frozenset[str] = frozenset({KEY_ID})
    wrong_plaintext: bool = False
    accepts_tampered: bool = False
    strange_hmac_key: bool = False
    strange_receipt_key: bool = False
    strange_authority: bool = False
    unsigned_documents: bool = False
    hmac_key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    cipher_key: bytes = field(default_factory=lambda: AESGCM.generate_key(256))
    receipt_key: ed25519.Ed25519PrivateKey = field(default_factory=ed25519.Ed25519PrivateKey.generate)
    transaction_key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256K1()))
    authority: Authority = field(default_factory=lambda: Authority.create("Practice"))
    stranger: Authority = field(default_factory=lambda: Authority.create("Stranger"))

    def __post_init__(self) -> None:
        self.accepted_token = self.token

    def ciphertext(self) -> str:
        """`PLAINTEXT` under the signer's key, base64."""
        nonce = secrets.token_bytes(12)
        return _text(nonce + AESGCM(self.cipher_key).encrypt(nonce, PLAINTEXT, None))

    def hmac_key_text(self) -> str:
        """Base64."""
        return _text(self.hmac_key)

    def receipt_public_key(self) -> str:
        """PEM."""
        return _pem(self.receipt_key.public_key())

    def root_certificate(self) -> str:
        """PEM."""
        return self.authority.root.public_bytes(serialization.Encoding.PEM).decode()

    def build(self) -> web.Application:
        app = web.Application(client_max_size=8 << 20)
        app.router.add_get("/v1/status", self._status)
        app.router.add_post("/v1/{operation}", self._operate)
        return app

    async def _status(self, request: web.Request) -> web.Response:
        self._authenticate(request)
        return web.json_response({"mode": self.mode, "key_ids": sorted(self.key_ids)})

    async def _operate(self, request: web.Request) -> web.Response:
        self._authenticate(request)
        try:
            asked = await request.json()
            if asked.get("key_id") not in self.key_ids:
                return web.json_response({"error": "key_unknown"}, status=404)
            answer = await self.operate(request.match_info["operation"], asked)
        except (ValueError, KeyError, AttributeError, TypeError, binascii.Error, InvalidTag):
            return web.json_response({"error": "bad_request"}, status=400)
        if answer is None:
            return web.json_response({"error": "operation_unknown"}, status=404)
        return web.json_response(answer)

    async def operate(self, operation: str, asked: dict[str, Any]) -> dict[str, Any] | None:
        """The answer of one operation; None when there is none of that name. Raises `ValueError`, `KeyError`."""
        match operation:
            case "decrypt":
                sealed = _bytes(asked["ciphertext"])
                plain = AESGCM(self.cipher_key).decrypt(sealed[:12], sealed[12:], None)
                return {"plaintext": _text(plain[::-1] if self.wrong_plaintext else plain)}
            case "hmac":
                return {"mac": _text(self._mac(_bytes(asked["message"])))}
            case "hmac_verify":
                right = hmac.compare_digest(self._mac(_bytes(asked["message"])), _bytes(asked["mac"]))
                return {"valid": right or self.accepts_tampered}
            case "receipt_sign":
                key = ed25519.Ed25519PrivateKey.generate() if self.strange_receipt_key else self.receipt_key
                return {"signature": _text(key.sign(_bytes(asked["message"]))), "key_id": KEY_ID}
            case "tx_sign":
                signature = self.transaction_key.sign(_bytes(asked["digest"]), ec.ECDSA(Prehashed(hashes.SHA256())))
                r, s = decode_dss_signature(signature)
                return {"r": hex(r), "s": hex(s), "public_key": _pem(self.transaction_key.public_key())}
            case "pades_sign":
                document = _bytes(asked["document"])
                if not self.unsigned_documents:
                    authority = self.stranger if self.strange_authority else self.authority
                    document = await asyncio.to_thread(sign_document, document, authority)
                return {"document": _text(document)}
        return None

    def _mac(self, message: bytes) -> bytes:
        key = hashlib.sha256(self.hmac_key).digest() if self.strange_hmac_key else self.hmac_key
        return hmac.digest(key, message, "sha256")

    def _authenticate(self, request: web.Request) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.encode(), self.accepted_token.encode()):
            raise web.HTTPUnauthorized(text='{"error":"unauthorized"}', content_type="application/json")


def sign_document(document: bytes, authority: Authority) -> bytes:
    """A PAdES baseline B signature over the whole file (ETSI EN 319 142-1). Blocks; raises `ValueError` for no PDF."""
    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
    from pyhanko.pdf_utils.misc import PdfError
    from pyhanko.sign import PdfSignatureMetadata, SimpleSigner, sign_pdf
    from pyhanko.sign.fields import SigSeedSubFilter

    bundle = pkcs12.serialize_key_and_certificates(
        b"signer", authority.key, authority.certificate, [authority.root], serialization.NoEncryption()
    )
    signer = SimpleSigner.load_pkcs12_data(bundle, other_certs=[])
    meta = PdfSignatureMetadata(field_name="Signature1", subfilter=SigSeedSubFilter.PADES, md_algorithm="sha256")
    output = BytesIO()
    try:
        sign_pdf(IncrementalPdfFileWriter(BytesIO(document)), meta, signer, output=output)
    except PdfError as error:
        raise ValueError(str(error)) from error
    return output.getvalue()


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    authority: bool,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.KeyUsage(
        digital_signature=not authority, content_commitment=not authority, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=authority, crl_sign=authority,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=90))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


def _pem(key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) -> str:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)

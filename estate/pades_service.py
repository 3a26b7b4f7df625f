"""The process behind `estate.servers.pades_signer`: signs PDFs with pyHanko, rightly or wrongly.

`POST /sign` takes a PDF and gives it back signed. `POST /fault` with a name out of `FAULTS` changes how, until the
next; an empty one is right again. Its two authorities are made at the first start, in the folder it is given.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import hashlib
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

from asn1crypto import core, tsp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign import signers
from pyhanko.sign.fields import SigSeedSubFilter
from pyhanko.sign.timestamps.api import TimeStamper

from estate.ports import LOOPBACK

FAULTS = (
    "unsigned",
    "appended",
    "short_range",
    "altered",
    "untrusted",
    "expired",
    "no_timestamp",
    "bad_timestamp",
    "replayed",
    "html",
)

_AUTHORITIES = ("trusted", "other")


def encode_once() -> None:
    """Let asn1crypto encode each structure once when it is asked for its bytes.

    Version 1.5.1 asks for the contents of one that was built, not parsed, twice, and a third time when its length ends
    in 0x80, which it takes for an indefinite one (X.690 section 8.1.3.6: only 0x80 alone is). That multiplies with each
    structure around it: of 44 signatures 31 took 0.7 to 19 s.
    """

    def sparing(dump: Callable[..., bytes]) -> Callable[..., bytes]:
        def encoded(value: Any, force: bool = False) -> bytes:
            if force or (value._header is not None and value._header[1:] == b"\x80"):
                return dump(value, force)
            contents = value.contents  # encodes what has changed, and then forgets the header
            if value._header is None:
                made = core._dump_header(value.class_, value.method, value.tag, contents)
                for number, tag in value.explicit or ():
                    made = core._dump_header(number, 1, tag, made + contents) + made
                value._header, value._trailer = made, b""
            return bytes(value._header + contents + value._trailer)

        return encoded

    kinds: tuple[Any, ...] = (core.Sequence, core.SequenceOf)  # and Set and SetOf, which inherit it
    for kind in kinds:
        kind.dump = sparing(kind.dump)


class RemoteTimeStamper(TimeStamper):
    """Asks a timestamp authority over HTTP. RFC 3161 section 3.4."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    async def async_request_tsa_response(self, req: tsp.TimeStampReq) -> tsp.TimeStampResp:
        asked = urllib.request.Request(self._url, req.dump(), {"Content-Type": "application/timestamp-query"})
        # One request at a time is served, so there is nobody to keep waiting.
        with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: ASYNC210
            return tsp.TimeStampResp.load(answer.read())


def make_authorities(folder: Path) -> None:
    """For each: `NAME-ca.pem`, and `NAME.pem` with `NAME.key` that it certified; `trusted-expired.*` besides."""
    now = datetime.datetime.now(datetime.UTC)
    year = datetime.timedelta(days=365)
    for authority in _AUTHORITIES:
        ca_key = ec.generate_private_key(ec.SECP256R1())
        ca = _certificate(f"Estate {authority} CA", ca_key, None, None, now - 2 * year, now + 10 * year)
        (folder / f"{authority}-ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
        for name, begin, end in (
            (authority, now - datetime.timedelta(hours=1), now + year),
            (f"{authority}-expired", now - year, now - datetime.timedelta(hours=1)),
        ):
            key = ec.generate_private_key(ec.SECP256R1())
            certificate = _certificate(f"Estate {name} signer", key, ca, ca_key, begin, end)
            (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
            (folder / f"{name}.key").write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey | None,
    begin: datetime.datetime,
    end: datetime.datetime,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    authority = issuer is None
    usage = x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=not authority,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(issuer_key or key, hashes.SHA256())
    )


class Service:
    """What is signed, by the fault that is set."""

    def __init__(self, folder: Path, tsa_url: str) -> None:
        self._folder = folder
        self._tsa_url = tsa_url
        self._first: bytes | None = None
        self.fault = ""

    def sign(self, document: bytes) -> bytes:
        if self.fault == "unsigned":
            return document
        if self.fault == "html":
            return b"<html><body>Bad gateway</body></html>"
        if self.fault == "replayed" and self._first is not None:
            return self._first
        signed = self._signed(document)
        self._first = self._first or signed
        if self.fault == "appended":
            return _appended(signed)
        if self.fault == "short_range":
            return _short_range(signed, self._signer())
        if self.fault == "bad_timestamp":
            return _bad_timestamp(signed)
        if self.fault == "altered":
            return signed.replace(b"It certifies nothing", b"It certifies a thing", 1)
        return signed

    def _signed(self, document: bytes) -> bytes:
        stamper = RemoteTimeStamper(self._tsa_url) if self._tsa_url and self.fault != "no_timestamp" else None
        metadata = signers.PdfSignatureMetadata(field_name="Signature", subfilter=SigSeedSubFilter.PADES)
        out = signers.sign_pdf(
            IncrementalPdfFileWriter(BytesIO(document)), metadata, signer=self._signer(), timestamper=stamper
        )
        return bytes(out.getbuffer())

    def _signer(self) -> signers.Signer:
        name = {"untrusted": "other", "expired": "trusted-expired"}.get(self.fault, "trusted")
        files = (self._folder / f"{name}.key", self._folder / f"{name}.pem")
        return signers.SimpleSigner.load(*map(str, files))


def _appended(signed: bytes) -> bytes:
    """With an update behind the signature that changes what the page says."""
    writer = IncrementalPdfFileWriter(BytesIO(signed))
    stream = writer.root["/Pages"]["/Kids"][0]["/Contents"]
    stream._data = stream.data.replace(b"nothing", b"all of it")
    stream._encoded_data = None
    reference = writer.root["/Pages"]["/Kids"][0].raw_get("/Contents")
    writer.mark_update(reference)
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


def _short_range(signed: bytes, signer: signers.Signer) -> bytes:
    """With a sound signature over a byte range that ends before the file does. ISO 32000-2 section 12.8.1."""
    start = signed.rindex(b"/ByteRange")
    opening, closing = signed.index(b"[", start), signed.index(b"]", start)
    numbers = [int(number) for number in signed[opening + 1 : closing].split()]
    numbers[3] -= 10
    text = b" ".join(b"%d" % number for number in numbers)
    signed = signed[: opening + 1] + text.ljust(closing - opening - 1) + signed[closing:]
    first, size, second, rest = numbers
    covered = signed[first : first + size] + signed[second : second + rest]
    digest = hashlib.sha256(covered).digest()
    made = asyncio.run(signer.async_sign(digest, "sha256", use_pades=True)).dump().hex().encode()
    hole = second - size - 2
    return signed[: size + 1] + made.ljust(hole, b"0") + signed[second - 1 :]


def _bad_timestamp(signed: bytes) -> bytes:
    """With a changed bit at the end of the CMS structure: the timestamp's signature, which the other does not cover."""
    start = signed.rindex(b"/Contents <") + len(b"/Contents <")
    size = 4 + int(signed[start + 4 : start + 8], 16)  # 30 82 and two bytes of length. X.690 section 8.1.3
    last = start + 2 * size - 1
    return signed[:last] + b"%x" % (int(signed[last : last + 1], 16) ^ 1) + signed[last + 1 :]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--tsa", default="")
    given = parser.parse_args()
    if not (given.folder / "trusted-ca.pem").exists():
        make_authorities(given.folder)
    encode_once()
    service = Service(given.folder, given.tsa)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, b"ready")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            if self.path == "/fault":
                service.fault = body.decode()
                known = not service.fault or service.fault in FAULTS
                self._answer(200 if known else 404, b"")
            elif self.path == "/sign":
                self._answer(200, service.sign(body), "application/pdf")
            else:
                self._answer(404, b"")

        def _answer(self, status: int, body: bytes, media_type: str = "text/plain") -> None:
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    HTTPServer((LOOPBACK, given.port), Handler).serve_forever()


if __name__ == "__main__":
    main()

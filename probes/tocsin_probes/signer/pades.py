"""A PDF to be signed that says what it is, and what is wrong with its signature when it comes back.

Blocking and CPU-heavy (tens of milliseconds): called on a worker thread. Nothing is fetched: neither revocation lists
nor missing certificates. Sources: ISO 32000-2 section 12.8 (byte ranges), ETSI EN 319 142-1 (PAdES), pyHanko's
validation.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from asn1crypto import pem, x509
from pyhanko.pdf_utils.decode_limits import DecodeLimits, DocumentDecodeBudget, StreamDecodeLimits
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation import async_validate_pdf_signature
from pyhanko.sign.validation.status import PdfSignatureStatus, SignatureCoverageLevel
from pyhanko_certvalidator import ValidationContext

from tocsin.sdk import CommonReason, Finding, ProbeFault
from tocsin_probes.signer.reasons import Reason

# What it warns of is what is found here.
logging.getLogger("pyhanko").setLevel(logging.CRITICAL)
logging.getLogger("pyhanko_certvalidator").setLevel(logging.CRITICAL)

MAX_DECODED_BYTES = 8 << 20
"""How much all streams of a document may be once they are decompressed. One page and its signature are far less, and a
few hundred kilobytes can be made to become a gigabyte."""

_LIMITS = DecodeLimits(
    per_stream=StreamDecodeLimits(max_output_size=MAX_DECODED_BYTES),
    document_budget=DocumentDecodeBudget(base_allowance=MAX_DECODED_BYTES, max_ratio=1),
)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a signed PDF must show. The files are PEM."""

    content: bytes
    """The content stream of the one page that was to be signed."""
    trust_file: str
    timestamp: bool = False
    timestamp_trust_file: str = ""
    certificate_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong, and when the signing certificate ends (Unix seconds; None when there is no signature)."""

    findings: tuple[Finding, ...]
    certificate_expires_at: float | None = None


def page_content(nonce: str) -> bytes:
    """The text of the page, unlike that of any other run."""
    lines = (
        "This document is a probe of the signing service, made by tocsin.",
        "It certifies nothing and is not stored.",
        nonce,
    )
    shown = " ".join(f"({line}) Tj T*" for line in lines)
    return f"BT /F1 12 Tf 16 TL 72 770 Td {shown} ET".encode("ascii")


def unsigned_document(content: bytes) -> bytes:
    """A PDF of one page. ISO 32000-2 section 7.5."""
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    )
    made, offsets = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", []
    for index, body in enumerate(objects, 1):
        offsets.append(len(made))
        made += b"%d 0 obj\n%b\nendobj\n" % (index, body)
    table = b"0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    identity = hashlib.sha256(content).hexdigest()[:32].encode()
    trailer = b"<< /Size %d /Root 1 0 R /ID [<%b> <%b>] >>" % (len(objects) + 1, identity, identity)
    head = b"xref\n0 %d\n" % (len(objects) + 1)
    return made + head + table + b"trailer\n%b\nstartxref\n%d\n%%%%EOF\n" % (trailer, len(made))


def judge(document: bytes, expected: Expected, now: float) -> Verdict:
    """Everything that is wrong with a signed PDF at a time (Unix seconds).

    Raises `ProbeFault` when it is no PDF, and when a trust file cannot be read.
    """
    if not document.startswith(b"%PDF-"):
        raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"not a PDF; it begins {document[:20]!r}")
    try:
        reader = PdfFileReader(BytesIO(document), strict=False, decode_limits=_LIMITS)
        signatures = list(reader.embedded_regular_signatures)
        content = _content_of(reader)
    except Exception as error:  # noqa: BLE001 - pyHanko stumbles over a document that is built wrongly in any way there is
        return Verdict((Finding.of(Reason.SIGNATURE_INVALID, f"the PDF cannot be read: {error}"),))
    if not signatures:
        return Verdict((Finding.of(Reason.SIGNATURE_MISSING, f"{len(document)} bytes of PDF without a signature"),))
    signature = signatures[-1]
    try:
        certificate = signature.signer_cert
        status = _validated(signature, expected, now)
    except ProbeFault:
        raise
    except Exception as error:  # noqa: BLE001 - and over a signature
        return Verdict((Finding.of(Reason.SIGNATURE_INVALID, f"{type(error).__name__}: {error}"),))
    wrong_page = content != expected.content
    findings = tuple(_findings(status, certificate, expected, now, wrong_page))
    return Verdict(findings, certificate.not_valid_after.timestamp())


def _findings(
    status: PdfSignatureStatus, certificate: x509.Certificate, expected: Expected, now: float, wrong_page: bool
) -> Iterator[Finding]:
    whole = status.coverage is SignatureCoverageLevel.ENTIRE_FILE
    if not (status.intact and status.valid):
        yield Finding.of(Reason.SIGNATURE_INVALID, "the signed bytes or the signature were changed")
        return
    if not whole:
        covered = status.coverage.name.lower().replace("_", " ") if status.coverage else "nothing"
        yield Finding.of(Reason.SIGNATURE_PARTIAL, f"it covers {covered}, not the entire file")
    if wrong_page:
        yield Finding.of(Reason.OTHER_CONTENT, "the page is not the one that was to be signed")
    fingerprint = hashlib.sha256(certificate.dump()).hexdigest()
    if expected.certificate_sha256 and fingerprint != _bare(expected.certificate_sha256):
        yield Finding.of(Reason.WRONG_KEY, f"signed with the certificate {fingerprint[:16]}…")
    if not status.trusted:
        subject = certificate.subject.human_friendly[:120]
        ended = certificate.not_valid_after.timestamp() < now
        reason = CommonReason.CERTIFICATE_EXPIRED if ended else Reason.CERTIFICATE_NOT_TRUSTED
        yield Finding.of(reason, f"{subject} ({_indication(status)})")
    stamp = status.timestamp_validity
    if stamp is None:
        if expected.timestamp:
            yield Finding.of(Reason.TIMESTAMP_MISSING, "the signature carries no timestamp")
    elif not (stamp.intact and stamp.valid):
        yield Finding.of(Reason.TIMESTAMP_INVALID, "the timestamp's signature does not hold")
    elif not stamp.trusted and expected.timestamp:
        subject = stamp.signing_cert.subject.human_friendly[:120]
        yield Finding.of(Reason.CERTIFICATE_NOT_TRUSTED, f"timestamp by {subject} ({_indication(stamp)})")


def _validated(signature: Any, expected: Expected, now: float) -> PdfSignatureStatus:
    context = _trusting(expected.trust_file, now)
    stamp_context = _trusting(expected.timestamp_trust_file or expected.trust_file, now)
    validation = async_validate_pdf_signature(signature, context, stamp_context, skip_diff=True)
    return asyncio.run(validation)


def _trusting(file: str, now: float) -> ValidationContext:
    try:
        data = Path(file).read_bytes()
        roots = [x509.Certificate.load(der) for _, _, der in pem.unarmor(data, multiple=True)]
    except (OSError, ValueError) as error:
        raise ProbeFault(CommonReason.CREDENTIALS_MISSING, f"no trust roots in {file}: {error}") from error
    moment = datetime.fromtimestamp(now, UTC)
    return ValidationContext(trust_roots=roots, allow_fetching=False, moment=moment)


def _content_of(reader: PdfFileReader) -> bytes:
    page = reader.root["/Pages"]["/Kids"][0]
    contents = page["/Contents"]
    streams = contents if isinstance(contents, list) else [contents]
    return b"\n".join(stream.get_object().data for stream in streams)


def _indication(status: Any) -> str:
    problem = status.trust_problem_indic
    return problem.name.lower().replace("_", " ") if problem is not None else "no path to a trust root"


def _bare(fingerprint: str) -> str:
    return fingerprint.replace(":", "").lower()

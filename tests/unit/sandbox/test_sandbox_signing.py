"""The simulated signer, operation by operation, verified by what a relying party has."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pyhanko.pdf_utils import writer
from pyhanko.pdf_utils.reader import PdfFileReader

from tocsin_sandbox.signing import PLAINTEXT, Signer


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.fixture(scope="module")
def made() -> Signer:
    return Signer()


@pytest.fixture
def signer(made: Signer) -> Signer:
    made.wrong_plaintext = made.accepts_tampered = made.strange_hmac_key = made.strange_receipt_key = False
    made.strange_authority = made.unsigned_documents = False
    return made


async def operate(signer: Signer, operation: str, **asked: Any) -> dict[str, Any]:
    answer = await signer.operate(operation, asked)
    assert answer is not None
    return answer


async def test_the_known_ciphertext_decrypts_to_the_known_plaintext_unless_it_is_broken(signer: Signer) -> None:
    plain = await operate(signer, "decrypt", ciphertext=signer.ciphertext())
    assert base64.b64decode(plain["plaintext"]) == PLAINTEXT
    signer.wrong_plaintext = True
    assert await operate(signer, "decrypt", ciphertext=signer.ciphertext()) != plain


async def test_its_own_mac_is_accepted_and_a_tampered_message_refused(signer: Signer) -> None:
    mac = (await operate(signer, "hmac", message=encoded(b"m")))["mac"]
    assert await operate(signer, "hmac_verify", message=encoded(b"m"), mac=mac) == {"valid": True}
    assert await operate(signer, "hmac_verify", message=encoded(b"n"), mac=mac) == {"valid": False}


async def test_a_verifier_may_be_made_to_accept_everything(signer: Signer) -> None:
    signer.accepts_tampered = True
    assert await operate(signer, "hmac_verify", message=encoded(b"m"), mac=encoded(b"x")) == {"valid": True}


async def test_a_receipt_verifies_against_the_published_key_and_a_strangers_does_not(signer: Signer) -> None:
    key = load_pem_public_key(signer.receipt_public_key().encode())
    assert isinstance(key, Ed25519PublicKey)
    key.verify(base64.b64decode((await operate(signer, "receipt_sign", message=encoded(b"m")))["signature"]), b"m")
    signer.strange_receipt_key = True
    strange = (await operate(signer, "receipt_sign", message=encoded(b"m")))["signature"]
    with pytest.raises(InvalidSignature):
        key.verify(base64.b64decode(strange), b"m")


@pytest.mark.parametrize(("strange", "issuer"), [(False, "Practice Root"), (True, "Stranger Root")])
async def test_a_document_is_signed_by_a_certificate_of_its_authority(
    signer: Signer, strange: bool, issuer: str
) -> None:
    signer.strange_authority = strange
    document = base64.b64decode((await operate(signer, "pades_sign", document=encoded(blank())))["document"])
    [signature] = PdfFileReader(BytesIO(document)).embedded_signatures
    assert signature.signer_cert.issuer.native["common_name"] == issuer
    assert signature.compute_integrity_info() is None
    assert signature.coverage.name == "ENTIRE_FILE"


async def test_an_unsigned_document_comes_back_as_it_went(signer: Signer) -> None:
    signer.unsigned_documents = True
    assert base64.b64decode((await operate(signer, "pades_sign", document=encoded(blank())))["document"]) == blank()


async def test_what_is_no_document_is_refused(signer: Signer) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        await operate(signer, "pades_sign", document=encoded(b"no document"))


async def test_an_unknown_operation_has_no_answer(signer: Signer) -> None:
    assert await signer.operate("rm", {}) is None


def blank() -> bytes:
    document = writer.PdfFileWriter()
    page = writer.PageObject(
        contents=document.add_object(writer.generic.StreamObject(stream_data=b"")), media_box=(0, 0, 100, 100)
    )
    document.insert_page(page)
    output = BytesIO()
    document.write(output)
    # The writer makes a new file identifier each time, which would make two blanks differ.
    return BLANK.setdefault("document", output.getvalue())


BLANK: dict[str, bytes] = {}

"""The six operations as configuration: how each is asked for, and by what its result is verified."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from tocsin.sdk import CommonReason, ProbeFault, Secret
from tocsin_probes.signer.contract import Encoding, Part, Request, Response, decoded
from tocsin_probes.signer.ethereum import MAX_CHAIN_ID, MAX_NONCE
from tocsin_probes.signer.signatures import Hash, PublicKey, read_public_key

MESSAGE = "This is a probe of the signing service, made by tocsin. It means nothing. {nonce}"


def _fresh(text: str) -> str:
    if "{nonce}" not in text:
        raise ValueError("a message needs `{nonce}`: one that is always the same proves no work")
    return text


Message = Annotated[str, AfterValidator(_fresh)]
"""A text to be signed; ``{nonce}`` is different in each run."""


class Operation(Part):
    """What all operations have."""

    placeholders: ClassVar[frozenset[str]] = frozenset()

    key_id: str = ""
    """Put in place of ``{key_id}``; when the response names the key it used, it must be this one."""
    request: Request
    response: Response = Response()

    @model_validator(mode="after")
    def _known_placeholders(self) -> Self:
        known = {*self.placeholders, "key_id"}
        strange = sorted(self.request.placeholders() - known)
        if strange:
            choices = ", ".join(f"{{{name}}}" for name in sorted(known))
            raise ValueError(f"{{{strange[0]}}} is not one of {choices}")
        if "key_id" in self.request.placeholders() and not self.key_id:
            raise ValueError("the request has `{key_id}`, and `key_id` is not set")
        return self


class KnownPlaintext(Part):
    ciphertext: str = ""
    """Put in place of ``{ciphertext}``, as it is."""
    plaintext: Secret
    encoding: Encoding = "raw"
    """How ``plaintext`` is written here."""

    def holds(self, found: bytes) -> bool:
        return hmac.compare_digest(found, _configured("plaintext", self.plaintext.reveal(), self.encoding))


class Decrypt(Operation):
    """A known ciphertext gives its known plaintext."""

    placeholders = frozenset({"ciphertext"})
    verify: KnownPlaintext


class SharedMac(Part):
    """By what an HMAC is verified. Without ``key`` and ``expected`` the operation ``hmac_verify`` must accept it."""

    key: Secret | None = None
    key_encoding: Encoding = "raw"
    hash: Hash = "sha256"
    message: str = MESSAGE
    """``{nonce}`` is different in each run."""
    expected: str = ""
    """The HMAC of a ``message`` without ``{nonce}``, for a key that is not shared; written in the response's
    encoding."""

    @model_validator(mode="after")
    def _fresh_or_known(self) -> Self:
        if not self.expected:
            _fresh(self.message)
        elif self.key is not None or "{nonce}" in self.message:
            raise ValueError("`expected` is for a `message` without `{nonce}`, and for want of `key`")
        return self

    def mac_of(self, message: bytes, encoding: Encoding) -> bytes | None:
        """What the HMAC must be; None when only the signer can say."""
        if self.key is not None:
            return hmac.digest(_configured("key", self.key.reveal(), self.key_encoding), message, self.hash)
        return _configured("expected", self.expected, encoding) if self.expected else None


class Hmac(Operation):
    """An HMAC of a fresh message."""

    placeholders = frozenset({"message"})
    verify: SharedMac = SharedMac()


class Refusals(Part):
    wrong_key_id: str = ""
    """Another key id, with which the verifier must not accept; needs ``{key_id}`` in the request."""
    statuses: tuple[int, ...] = (400, 404, 409, 422)
    """Statuses by which the verifier says no."""


class HmacVerify(Operation):
    """The verifier accepts the HMAC of the operation ``hmac`` and nothing near it. Its result is true or false."""

    placeholders = frozenset({"message", "mac", "mac_text"})
    verify: Refusals = Refusals()

    @model_validator(mode="after")
    def _asks_about_the_key(self) -> Self:
        if self.verify.wrong_key_id and "key_id" not in self.request.placeholders():
            raise ValueError("`wrong_key_id` needs `{key_id}` in the request")
        if not self.response.extract:
            raise ValueError("the response needs `extract`: a JMESPath that gives true or false")
        return self


class SignatureBy(Part):
    """By what a signature is verified."""

    public_keys: Annotated[Mapping[str, str], Field(min_length=1)]
    """By key id, PEM, or base64 of a raw Ed25519 key. A signature by another than the operation's ``key_id`` is
    ``wrong_key``."""
    hash: Hash = "sha256"
    padding: Literal["pss", "pkcs1v15"] = "pss"
    """For RSA."""
    form: Literal["der", "raw"] = "der"
    """For ECDSA: DER, or r and s side by side."""
    message: Message = MESSAGE

    @model_validator(mode="after")
    def _readable(self) -> Self:
        for text in self.public_keys.values():
            read_public_key(text)
        return self

    def keys(self) -> dict[str, PublicKey]:
        return {key_id: read_public_key(text) for key_id, text in self.public_keys.items()}


class ReceiptSign(Operation):
    """A signature over a fresh message."""

    placeholders = frozenset({"message", "digest"})
    verify: SignatureBy

    @model_validator(mode="after")
    def _knows_its_key(self) -> Self:
        if self.key_id and self.key_id not in self.verify.public_keys:
            raise ValueError(f"`public_keys` has no {self.key_id!r}, which is `key_id`")
        if not self.key_id and len(self.verify.public_keys) > 1:
            raise ValueError("several `public_keys` need a `key_id` that says which is right")
        return self


class SignedPdf(Part):
    trust_file: str
    """PEM of the roots that the signing certificate must lead to."""
    timestamp: bool = False
    """A timestamp authority is set, so the signature must carry its timestamp."""
    timestamp_trust_file: str = ""
    """PEM of the roots for the timestamp; by default those of the signature."""
    certificate_sha256: str = ""
    """Fingerprint of the one certificate that is right, in hex."""


class PadesSign(Operation):
    """A PDF that says that it is a probe comes back with a valid signature over the whole file."""

    placeholders = frozenset({"document"})
    verify: SignedPdf


class SignedTransfer(Part):
    address: Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]
    """Whose key must have signed."""
    returns: Literal["transaction", "signature"] = "transaction"
    """A signed transaction, or the 65 bytes r, s, v over the ``{digest}``."""
    chain_id: Annotated[int, Field(gt=0)] = MAX_CHAIN_ID
    """No chain has it: the largest that EIP-2294 permits."""
    nonce: Annotated[int, Field(ge=0)] = MAX_NONCE


class TxSign(Operation):
    """A transaction of nothing, on a chain that does not exist, comes back signed by the right address."""

    placeholders = frozenset({"transaction", "digest", "address", "chain_id", "nonce"})
    verify: SignedTransfer


class Operations(Part):
    """The operations that are probed; at least one."""

    decrypt: Decrypt | None = None
    hmac: Hmac | None = None
    hmac_verify: HmacVerify | None = None
    pades_sign: PadesSign | None = None
    receipt_sign: ReceiptSign | None = None
    tx_sign: TxSign | None = None

    @model_validator(mode="after")
    def _verifiable(self) -> Self:
        mac = self.hmac
        if mac and mac.verify.key is None and not mac.verify.expected and self.hmac_verify is None:
            raise ValueError("hmac is verified by `verify.key`, by `verify.expected`, or by the operation hmac_verify")
        if self.hmac_verify and mac is None:
            raise ValueError("hmac_verify needs the operation hmac, whose result it verifies")
        return self

    def named(self) -> Iterator[tuple[str, Operation]]:
        """Those that are configured."""
        for name in type(self).model_fields:
            operation = getattr(self, name)
            if operation is not None:
                yield name, operation


def _configured(name: str, text: str, encoding: Encoding) -> bytes:
    """What a setting of ``verify`` stands for. Raises `ProbeFault` (contract_missing) when it is written otherwise."""
    try:
        return decoded(text, encoding)
    except ValueError:
        raise ProbeFault(CommonReason.CONTRACT_MISSING, f"`verify.{name}` is not {encoding}") from None


def digest_of(message: bytes, algorithm: Hash) -> bytes:
    return hashlib.new(algorithm, message).digest()


def tampered(data: bytes) -> bytes:
    """The same bytes but for one bit."""
    return bytes([data[0] ^ 1]) + data[1:] if data else b"\x01"

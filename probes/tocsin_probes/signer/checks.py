"""The verification of each operation: what is sent, and what the result must be."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tocsin.sdk import CommonReason, Finding, ProbeContext, ProbeFault, Status
from tocsin.sdk.faults import quoted, status_finding
from tocsin.sdk.json_paths import find
from tocsin_probes.signer import ethereum, pades
from tocsin_probes.signer.contract import Answer, Request, Result, Values, read_result
from tocsin_probes.signer.operations import (
    Decrypt,
    Hmac,
    HmacVerify,
    Operation,
    PadesSign,
    ReceiptSign,
    SignedTransfer,
    TxSign,
    digest_of,
    tampered,
)
from tocsin_probes.signer.reasons import Reason
from tocsin_probes.signer.signatures import verifies
from tocsin_probes.signer.transport import Transport


class Session:
    """One run's conversation with the signer. ``seconds``: how long it took for each operation's first request."""

    def __init__(self, ctx: ProbeContext, transport: Transport, errors: Mapping[Any, tuple[str, ...]]) -> None:
        self._ctx, self._transport, self._errors = ctx, transport, errors
        self.seconds: dict[str, float] = {}
        self.certificate_expires_at: float | None = None
        self.signing_certificate_expires_at: float | None = None

    async def decrypt(self, operation: Decrypt) -> list[Finding]:
        """The known ciphertext's plaintext."""
        result = await self._result("decrypt", operation, {"ciphertext": operation.verify.ciphertext})
        if operation.verify.holds(result.value):
            return []
        return [Finding.of(Reason.WRONG_PLAINTEXT, f"{len(result.value)} bytes that are not the known plaintext")]

    async def hmac(self, operation: Hmac, verifier: HmacVerify | None) -> list[Finding]:
        """The HMAC, compared where it can be, and taken to the verifier."""
        message = _message(operation.verify.message)
        result = await self._result("hmac", operation, {"message": message})
        expected = operation.verify.mac_of(message, operation.response.encoding)
        found = []
        if expected is not None and result.value != expected:
            found.append(Finding.of(Reason.HMAC_MISMATCH, "not the HMAC of the message with the shared key", "hmac"))
        if verifier is not None:
            found += await self._hmac_verify(verifier, message, result)
        return found

    async def _hmac_verify(self, operation: HmacVerify, message: bytes, mac: Result) -> list[Finding]:
        """Accepts what ``hmac`` gave; refuses another message, another HMAC and another key."""

        async def accepts(message: bytes, mac: Result, key_id: str, *, right: bool = False) -> bool:
            values: Values = {"message": message, "mac": mac.value, "mac_text": mac.text, "key_id": key_id}
            return await self._accepts(operation, values, right=right)

        try:
            if not await accepts(message, mac, operation.key_id, right=True):
                return [Finding.of(Reason.HMAC_MISMATCH, "the verifier refuses the signer's own HMAC", "hmac_verify")]
            wrong = {
                "a changed message": (tampered(message), mac, operation.key_id),
                "a changed HMAC": (message, mac.with_value(tampered(mac.value)), operation.key_id),
            }
            if operation.verify.wrong_key_id:
                wrong["the wrong key id"] = (message, mac, operation.verify.wrong_key_id)
            accepted = [what for what, values in wrong.items() if await accepts(*values)]
        except ProbeFault as fault:
            return [replace(fault.finding, component="hmac_verify")]
        if accepted:
            return [Finding.of(Reason.TAMPERED_ACCEPTED, f"accepts {' and '.join(accepted)}", "hmac_verify")]
        return []

    async def receipt_sign(self, operation: ReceiptSign) -> list[Finding]:
        """A signature by the one right key."""
        verify = operation.verify
        message = _message(verify.message)
        result = await self._result(
            "receipt_sign", operation, {"message": message, "digest": digest_of(message, verify.hash)}
        )

        def signers() -> list[str]:
            options: Any = {"algorithm": verify.hash, "rsa_padding": verify.padding, "form": verify.form}
            keys = verify.keys().items()
            return [key_id for key_id, key in keys if verifies(key, result.value, message, **options)]

        found = await asyncio.to_thread(signers)
        if not found:
            return [Finding.of(Reason.SIGNATURE_INVALID, f"{len(result.value)} bytes that no known key signed")]
        if operation.key_id and operation.key_id not in found:
            return [Finding.of(Reason.WRONG_KEY, f"signed with the key {found[0]}, not {operation.key_id}")]
        return []

    async def pades_sign(self, operation: PadesSign, days: float) -> list[Finding]:
        """A signed PDF, whole, trusted and timestamped."""
        verify = operation.verify
        content = pades.page_content(secrets.token_hex(16))
        document = await asyncio.to_thread(pades.unsigned_document, content)
        result = await self._result("pades_sign", operation, {"document": document})
        expected = pades.Expected(
            content, verify.trust_file, verify.timestamp, verify.timestamp_trust_file, verify.certificate_sha256
        )
        verdict = await asyncio.to_thread(pades.judge, result.value, expected, self._ctx.now())
        self.signing_certificate_expires_at = verdict.certificate_expires_at
        if verdict.findings:
            self._ctx.attach("signed.pdf", result.value, "application/pdf")
        return list(verdict.findings)

    async def tx_sign(self, operation: TxSign) -> list[Finding]:
        """The transaction of nothing, signed by the right address."""
        verify = operation.verify
        transfer = ethereum.Transfer(verify.chain_id, verify.nonce)
        unsigned = transfer.unsigned()
        digest = ethereum.keccak256(unsigned)
        values: Values = {
            "transaction": unsigned,
            "digest": digest,
            "address": verify.address,
            "chain_id": hex(verify.chain_id),
            "nonce": hex(verify.nonce),
        }
        result = await self._result("tx_sign", operation, values)
        return await asyncio.to_thread(_judge_transaction, verify, digest, result.value)

    async def ask(self, name: str, request: Request, statuses: tuple[int, ...], values: Values) -> Answer:
        """An answer of an expected status; raises `ProbeFault` with what any other one means."""
        started = self._ctx.clock.monotonic()
        answer = await self._transport.call(request, values)
        self.seconds.setdefault(name, self._ctx.clock.monotonic() - started)
        if answer.certificate_expires_at is not None:
            self.certificate_expires_at = answer.certificate_expires_at
        if answer.status not in statuses:
            raise self._refusal(answer)
        return answer

    async def _result(self, name: str, operation: Operation, values: Values) -> Result:
        response = operation.response
        answer = await self.ask(name, operation.request, response.status, {"key_id": operation.key_id, **values})
        try:
            result = read_result(response, answer)
        except ProbeFault as fault:
            raise self._refusal(answer, fault) from fault
        used = str(find(response.key_id, answer.document)) if response.key_id else operation.key_id
        if used != operation.key_id:
            raise ProbeFault(Reason.WRONG_KEY, f"the signer used the key {quoted(used)}, not {operation.key_id}")
        return result

    async def _accepts(self, operation: HmacVerify, values: Values, *, right: bool) -> bool:
        """The verifier's word. A refusal by status counts as no only where no is right."""
        statuses = operation.response.status + (() if right else operation.verify.statuses)
        answer = await self.ask("hmac_verify", operation.request, statuses, values)
        if answer.status not in operation.response.status:
            return False
        said = find(operation.response.extract, answer.document)
        if not isinstance(said, bool):
            detail = f"`{operation.response.extract}` gives {quoted(str(said))}, not true or false"
            raise ProbeFault(CommonReason.UNEXPECTED_BODY, detail)
        return said

    def _refusal(self, answer: Answer, otherwise: ProbeFault | None = None) -> ProbeFault:
        """What an answer means that is no result: by the configured texts, then by its status."""
        text = answer.body[:4096].decode("utf-8", "replace")
        for reason, texts in self._errors.items():
            for known in texts:
                if known in text:
                    return ProbeFault(Reason(reason), f"HTTP {answer.status}: {quoted(known)}")
        if otherwise is not None:
            return otherwise
        finding = status_finding(answer.status, f"HTTP {answer.status}: {quoted(text)}", Status.UNKNOWN)
        return ProbeFault(CommonReason(finding.reason), finding.detail)


def _message(template: str) -> bytes:
    return template.replace("{nonce}", secrets.token_hex(16)).encode()


def _judge_transaction(verify: SignedTransfer, digest: bytes, signed: bytes) -> list[Finding]:
    """Who signed what. On a worker thread: the recovery takes ten milliseconds."""
    try:
        if verify.returns == "signature":
            if len(signed) != 65:
                raise ValueError(f"a signature has 65 bytes, not {len(signed)}")
            r, s = int.from_bytes(signed[:32], "big"), int.from_bytes(signed[32:64], "big")
            address = ethereum.recover(digest, r, s, (signed[64] - 27) % 2 if signed[64] >= 27 else signed[64])
        else:
            made = ethereum.parse_transaction(signed)
            if (made.chain_id, made.nonce, made.value, made.data) != (verify.chain_id, verify.nonce, 0, b""):
                detail = f"chain id {made.chain_id}, nonce {made.nonce}, value {made.value}"
                return [Finding.of(Reason.OTHER_CONTENT, f"it signed a transaction with {detail}")]
            address = ethereum.recover(made.digest, made.r, made.s, made.odd)
    except ValueError as error:
        return [Finding.of(Reason.SIGNATURE_INVALID, str(error))]
    if address != verify.address.lower():
        return [Finding.of(Reason.WRONG_KEY, f"signed by {address}, not {verify.address}")]
    return []

"""Faults of the signer: the incident page's "Signer Outage"."""

from __future__ import annotations

from tocsin_sandbox.estate import Estate
from tocsin_sandbox.fault import Act, Fault
from tocsin_sandbox.serving import Mood
from tocsin_sandbox.signing import KEY_ID, MODE


async def _stop(estate: Estate) -> None:
    await estate.signing.stop()


async def _start(estate: Estate) -> None:
    await estate.signing.start()


def _set(name: str, value: object) -> Act:
    async def act(estate: Estate) -> None:
        setattr(estate.signer, name, value)

    return act


def _mood(mood: Mood) -> Act:
    async def act(estate: Estate) -> None:
        estate.signing.mood = mood

    return act


async def _accept_token(estate: Estate) -> None:
    estate.signer.accepted_token = estate.signer.token


def _fault(name: str, title: str, effect: str, probe: str, reason: str, cause: Act, undo: Act) -> Fault:
    return Fault(name, title, effect, "wipe", "signer-outage", f"wipe-signer{probe}", reason, cause, undo)


def _flag(name: str, title: str, effect: str, probe: str, reason: str, flag: str) -> Fault:
    return _fault(name, title, effect, probe, reason, _set(flag, True), _set(flag, False))


FAULTS = (
    _fault(
        "signer-stopped", "The signer is down", "Its server is stopped: connections are refused.",
        "", "connection_refused", _stop, _start,
    ),
    _fault(
        "signer-silent", "The signer accepts and never answers", "Requests are taken and left unanswered.",
        "", "timeout", _mood(Mood.SILENT), _mood(Mood.NORMAL),
    ),
    _fault(
        "signer-token-expired", "The signer's bearer token is no longer valid", "The configured token gets 401.",
        "-decrypt", "credentials_rejected", _set("accepted_token", "another token"), _accept_token,
    ),
    _fault(
        "signer-key-unknown", "The signer lost the key", "The configured key id is unknown: 404 key_unknown.",
        "-decrypt", "key_unknown", _set("key_ids", frozenset()), _set("key_ids", frozenset({KEY_ID})),
    ),
    _fault(
        "signer-mode-changed", "The signer runs in another mode", "Its status says development.",
        "-decrypt", "mode_mismatch", _set("mode", "development"), _set("mode", MODE),
    ),
    _flag(
        "signer-wrong-plaintext", "The signer decrypts to something else", "Plaintexts come back reversed.",
        "-decrypt", "wrong_plaintext", "wrong_plaintext",
    ),
    _flag(
        "signer-hmac-key-changed", "The signer's HMAC key was replaced", "MACs are made with another key.",
        "-hmac", "hmac_mismatch", "strange_hmac_key",
    ),
    _flag(
        "signer-accepts-tampered", "The signer accepts tampered messages", "hmac_verify says valid to everything.",
        "-hmac", "tampered_accepted", "accepts_tampered",
    ),
    _flag(
        "signer-receipt-key-changed", "Receipts are signed with another key", "A new key signs each receipt.",
        "-receipts", "signature_invalid", "strange_receipt_key",
    ),
    _flag(
        "signer-untrusted", "Certificates are signed by a stranger", "PDFs are signed under another root.",
        "-pades", "certificate_not_trusted", "strange_authority",
    ),
    _flag(
        "signer-unsigned", "Certificates come back unsigned", "PDFs come back as they went.",
        "-pades", "signature_missing", "unsigned_documents",
    ),
)  # fmt: skip

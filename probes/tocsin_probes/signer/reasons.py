"""What can be wrong with a signer."""

from __future__ import annotations

from tocsin.sdk import ReasonEnum, Severity


class Reason(ReasonEnum):
    WRONG_PLAINTEXT = "wrong_plaintext", "Decrypting the known ciphertext does not give the known plaintext."
    HMAC_MISMATCH = "hmac_mismatch", "The signer's HMAC is not the message's, or its verifier refuses its own HMAC."
    TAMPERED_ACCEPTED = (
        "tampered_accepted",
        "The verifier accepts a changed message, a changed HMAC or a wrong key id: it proves nothing.",
    )
    SIGNATURE_MISSING = "signature_missing", "The PDF came back without a signature."
    SIGNATURE_PARTIAL = "signature_partial", "The signature covers only a part of the PDF."
    SIGNATURE_INVALID = "signature_invalid", "The signature does not hold against the expected key or content."
    WRONG_KEY = "wrong_key", "The signer used another key than the expected one."
    OTHER_CONTENT = "other_content", "The signer signed something else than what it was given."
    CERTIFICATE_NOT_TRUSTED = (
        "certificate_not_trusted",
        "The signing certificate, or the timestamp's, does not lead to the trust root.",
    )
    TIMESTAMP_MISSING = "timestamp_missing", "The signed PDF has no timestamp, although a timestamp authority is set."
    TIMESTAMP_INVALID = "timestamp_invalid", "The signed PDF's timestamp does not hold."
    KEY_UNKNOWN = "key_unknown", "The signer does not know the key id, or the key is gone."
    KEY_DISABLED = "key_disabled", "The signer knows the key, and its policy forbids the use."
    SEALED = "sealed", "The signer runs, and its keys are locked away: sealed, or not logged in to its HSM."
    MODE_MISMATCH = "mode_mismatch", "The signer, or the platform's setting of it, is in another mode than expected."
    TOO_SLOW = "too_slow", "An operation took longer than the platform's own timeout for it."
    CREDENTIAL_EXPIRED = "credential_expired", "The bearer token or the client certificate is past its end."
    SETTINGS_DISAGREE = (
        "settings_disagree",
        "The platform's signer settings do not agree with each other or with what is probed.",
        Severity.TICKET,
    )

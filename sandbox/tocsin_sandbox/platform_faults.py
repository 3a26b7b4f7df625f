"""Faults of Wipe's own parts: its API, public verification, licences and billing, workers, mail and backup."""

from __future__ import annotations

from tocsin_sandbox.fault import Act, Fault
from tocsin_sandbox.identity import AUDIENCE, User
from tocsin_sandbox.platform_acts import (
    NO_PROOFS,
    assign,
    assign_in_realm,
    back_up,
    fire,
    forget_anchor,
    forget_backup,
    forget_lines,
    keep_files,
    lines,
    lose_files,
    mood,
    proofs,
    quiet,
    recall_anchor,
    sql,
    start,
    start_maintenance,
    stop,
    stop_maintenance,
)
from tocsin_sandbox.serving import Mood
from tocsin_sandbox.wipe_environment import REST_SECONDS

_API = "api-outage"
_ABUSE = "public-verification-abuse"
_LICENSE = "license-or-billing"
_QUEUES = "queues-and-workers"
_BACKUP = "backup"


def _fault(
    name: str,
    title: str,
    effect: str,
    incident: str,
    probe: str,
    reason: str,
    cause: Act,
    undo: Act,
    knob: str = "",
    lingers: float = 0.0,
) -> Fault:
    return Fault(name, title, effect, "wipe", incident, probe, reason, cause, undo, knob, lingers=lingers)


_MARK = """jsonb_build_object('fault', true)"""
_ERROR = "level=error msg=failed"

FAULTS = (
    _fault(
        "api-stopped", "Wipe's API is down", "Its server is stopped: connections are refused.",
        _API, "wipe-api", "connection_refused", stop("wipe"), start("wipe"),
    ),
    _fault(
        "api-errors", "Wipe's API answers with errors", "Every request is answered 500.",
        _API, "wipe-api", "server_error", mood("wipe", Mood.ERROR), mood("wipe", Mood.NORMAL),
    ),
    _fault(
        "telemetry-stopped", "The platform's metrics and logs are away", "Collector, Prometheus and Loki are stopped.",
        _API, "wipe-telemetry", "connection_refused", stop("telemetry"), start("telemetry"),
    ),
    _fault(
        "api-refuses-tokens", "The API refuses every token", "It answers 401 to fresh and valid tokens.",
        "keycloak-outage", "wipe-token-exawipe", "token_not_accepted",
        assign("wipe_api", "rejects_tokens", True), assign("wipe_api", "rejects_tokens", False),
    ),
    _fault(
        "test-user-locked", "The probe's own test user is locked", "Keycloak refuses its password; others can log in.",
        "keycloak-outage", "wipe-token-exawipe", "credentials_rejected",
        assign_in_realm("exawipe", "user", User.LOCKED), assign_in_realm("exawipe", "user", User.ENABLED),
        lingers=REST_SECONDS + 1,
    ),
    _fault(
        "token-forged", "Tokens are signed with a key that is not published", "A strange key signs by the known kid.",
        "keycloak-outage", "wipe-token-exawipe", "signature_invalid",
        assign_in_realm("exawipe", "foreign_key", True), assign_in_realm("exawipe", "foreign_key", False),
    ),
    _fault(
        "keycloak-clock-ahead", "Keycloak's clock is ten minutes ahead", "Fresh tokens are valid only later.",
        "keycloak-outage", "wipe-token-exawipe", "clock_skew",
        assign_in_realm("exawipe", "clock", 600.0), assign_in_realm("exawipe", "clock", 0.0),
    ),
    _fault(
        "token-audience-changed", "Tokens are no longer for the API", "Their aud names something else.",
        "keycloak-outage", "wipe-token-exawipe", "aud_mismatch",
        assign_in_realm("exawipe", "audience", "another-api"), assign_in_realm("exawipe", "audience", AUDIENCE),
    ),
    _fault(
        "provisioning-refused", "The realm master grants nothing", "It is disabled: the service account is refused.",
        "keycloak-outage", "wipe-provisioning", "grant_refused",
        assign_in_realm("master", "enabled", False), assign_in_realm("master", "enabled", True),
    ),
    _fault(
        "api-token-errors", "The API's log is full of JWT errors", "50 lines about keys that are not in the JWKS.",
        "keycloak-outage", "wipe-api-token-errors", "threshold_exceeded",
        lines("api", "level=error msg=\"jwt: key not found in jwks, token invalid\"", 50), forget_lines,
    ),
    _fault(
        "api-unauthorized", "Many requests get 401", "60 answers of 401 within five minutes.",
        "keycloak-outage", "wipe-api-unauthorized", "threshold_exceeded",
        lines("api", "level=warn status=401 path=/api/v1/usage msg=unauthorized", 60), forget_lines,
    ),
    _fault(
        "signer-alert", "The platform's own signer alert fires", "WipeSignerFailures fires for pades_sign.",
        "signer-outage", "wipe-signer-failures", "firing",
        fire("WipeSignerFailures", operation="pades_sign"), quiet("WipeSignerFailures"),
    ),
    _fault(
        "proof-worker-errors", "The proof worker logs errors", "50 error lines of the proof worker.",
        "signer-outage", "wipe-proof-worker-errors", "threshold_exceeded",
        lines("proof-worker", _ERROR, 50), forget_lines,
    ),
    _fault(
        "tsa-stopped", "The timestamp authority is down", "Its server is stopped: connections are refused.",
        "signer-outage", "wipe-tsa", "connection_refused", stop("stamping"), start("stamping"),
    ),
    _fault(
        "tsa-untrusted", "Timestamps come from a stranger", "Stamps are signed under another root.",
        "signer-outage", "wipe-tsa", "signature_invalid",
        assign("timestamps", "strange", True), assign("timestamps", "strange", False),
    ),
    _fault(
        "certificate-files-lost", "Certificates are issued without their files", "Newest rows name missing objects.",
        "storage-outage", "wipe-certificate-pdf", "object_missing", lose_files, keep_files, "files",
    ),
    _fault(
        "certificate-json-lost", "Certificates are issued without their files", "As above, seen by their JSON.",
        "storage-outage", "wipe-certificate-json", "object_missing", lose_files, keep_files, "files",
    ),
    _fault(
        "storage-errors-logged", "Workers log storage errors", "20 lines of AccessDenied in the API's log.",
        "storage-outage", "wipe-storage-errors", "threshold_exceeded",
        lines("api", "level=warn msg=\"put object: AccessDenied\"", 20), forget_lines,
    ),
    _fault(
        "anchor-alert", "The platform's own anchor alert fires", "WipeAnchorFailures fires there.",
        "chain-or-anchor-outage", "wipe-anchor-failures", "firing",
        fire("WipeAnchorFailures"), quiet("WipeAnchorFailures"),
    ),
    _fault(
        "anchor-worker-errors", "The anchor worker logs errors", "50 error lines of the anchor worker.",
        "chain-or-anchor-outage", "wipe-anchor-worker-errors", "threshold_exceeded",
        lines("anchor-worker", _ERROR, 50), forget_lines,
    ),
    _fault(
        "explorer-stopped", "The chain's explorer is away", "It is stopped, and the captcha's siteverify with it.",
        "chain-or-anchor-outage", "wipe-chain-explorer", "connection_refused", stop("others"), start("others"),
    ),
    _fault(
        "anchor-not-replayable", "A dead anchor job must not be replayed", "Its certificate does not exist any more.",
        "chain-or-anchor-outage", "wipe-anchor-replay-ineligible", "too_many",
        sql("INSERT INTO dead_letter_jobs (queue, payload, error, attempts) VALUES ('certificates.to_anchor', "
             f"{_MARK} || jsonb_build_object('certificate_id', 'gone'), 'timeout', 8)"),
        sql("DELETE FROM dead_letter_jobs WHERE payload ? 'fault'"),
    ),
    _fault(
        "verification-flood", "Public verification is flooded", "3,000 refusals for its rate within the last minutes.",
        _ABUSE, "wipe-verification-events", "rate_high",
        sql("INSERT INTO verification_logs (result, source_ip) SELECT 'RATE_LIMITED', "
             "('198.51.100.' || n % 250)::inet FROM generate_series(1, 3000) n"),
        sql("DELETE FROM verification_logs WHERE result = 'RATE_LIMITED'"),
    ),
    _fault(
        "verification-scan", "Somebody guesses certificates", "300 unknown certificates, all from one address.",
        _ABUSE, "wipe-verification-events", "share_high",
        sql("INSERT INTO verification_logs (result, source_ip) "
             "SELECT 'UNKNOWN_CERTIFICATE', '203.0.113.9' FROM generate_series(1, 450)"),
        sql("DELETE FROM verification_logs WHERE source_ip = '203.0.113.9'"),
    ),
    _fault(
        "verification-leaks", "Public answers name tenants", "/verify tells tenant and organization.",
        _ABUSE, "wipe-verify-anchored", "leaks_internals",
        assign("wipe_api", "leaks", True), assign("wipe_api", "leaks", False),
    ),
    _fault(
        "verification-wrong", "An anchored certificate is reported as not anchored", "Its transaction hash is gone.",
        _ABUSE, "wipe-verify-anchored", "assertion_failed", forget_anchor, recall_anchor,
    ),
    _fault(
        "captcha-refused", "The captcha's operator does not know our secret", "siteverify says invalid-input-secret.",
        _ABUSE, "wipe-captcha", "assertion_failed",
        assign("elsewhere", "knows_secret", False), assign("elsewhere", "knows_secret", True),
    ),
    _fault(
        "proxy-few-sources", "One address asks for most", "500 lines of the proxy's log have one source.",
        _ABUSE, "wipe-proxy-sources", "threshold_exceeded",
        lines("proxy", "path=/verify/x", 500, "203.0.113.9"), forget_lines,
    ),
    _fault(
        "license-expired", "No licence grant is active", "The only grant ended yesterday.",
        _LICENSE, "wipe-license-grants", "too_few",
        sql("UPDATE license_grants SET valid_until = current_date - 1"),
        sql("UPDATE license_grants SET valid_until = current_date + 335"), "validity",
    ),
    _fault(
        "license-ending", "A licence grant ends soon", "The only grant ends in ten days.",
        _LICENSE, "wipe-license-ending", "too_many",
        sql("UPDATE license_grants SET valid_until = current_date + 10"),
        sql("UPDATE license_grants SET valid_until = current_date + 335"), "validity",
    ),
    _fault(
        "license-revoked", "A grant with allocations was revoked", "The only grant is revoked.",
        _LICENSE, "wipe-license-revoked", "too_many",
        sql("UPDATE license_grants SET revoked_at = now()"), sql("UPDATE license_grants SET revoked_at = NULL"),
    ),
    _fault(
        "license-overallocated", "A child holds more licences than its parent", "9,000 of the parent's 8,000.",
        _LICENSE, "wipe-license-allocations", "too_many",
        sql("UPDATE license_allocations SET quantity = 9000 WHERE parent_id = 1"),
        sql("UPDATE license_allocations SET quantity = 5000 WHERE parent_id = 1"),
    ),
    _fault(
        "license-used-up", "An allocation is almost used up", "4,800 of 5,000 are consumed.",
        _LICENSE, "wipe-license-quota", "too_many",
        sql("UPDATE license_allocations SET consumed = 4800 WHERE parent_id = 1"),
        sql("UPDATE license_allocations SET consumed = 0"), "consumed",
    ),
    _fault(
        "license-overconsumed", "More licences are consumed than allocated", "6,000 of 5,000 are consumed.",
        _LICENSE, "wipe-license-consumption", "too_many",
        sql("UPDATE license_allocations SET consumed = 6000 WHERE parent_id = 1"),
        sql("UPDATE license_allocations SET consumed = 0"), "consumed",
    ),
    _fault(
        "proofs-awaiting-license", "Proofs wait for a licence", "30 proofs of two hours ago are AWAITING_LICENSE.",
        _LICENSE, "wipe-proofs-awaiting-license", "too_many", proofs("AWAITING_LICENSE", "2 hours", 30), NO_PROOFS,
    ),
    _fault(
        "report-missing", "Last month's report is missing", "Its row is deleted.",
        _LICENSE, "wipe-monthly-report", "too_few", sql("DELETE FROM monthly_reports"),
        sql("INSERT INTO monthly_reports (period) VALUES (date_trunc('month', now() - interval '1 month')) "
             "ON CONFLICT DO NOTHING"),
    ),
    _fault(
        "report-worker-errors", "The report worker logs errors", "20 error lines of the report worker.",
        _LICENSE, "wipe-report-worker-errors", "threshold_exceeded",
        lines("report-worker", _ERROR, 20), forget_lines,
    ),
    _fault(
        "maintenance-late", "The maintenance worker rests", "Its latest pass was two days ago.",
        _LICENSE, "wipe-maintenance-worker", "late", stop_maintenance, start_maintenance,
    ),
    _fault(
        "receipt-chain-reported", "The maintenance worker reports a broken chain", "It logs a mismatch of receipts.",
        _LICENSE, "wipe-maintenance-output", "threshold_exceeded",
        lines("maintenance-worker", "level=error msg=\"receipt chain broken: mismatch\"", 1), forget_lines,
    ),
    _fault(
        "retry-storm", "Jobs are tried again and again", "30 jobs are on their fifth attempt.",
        _QUEUES, "wipe-retry-storm", "too_many",
        sql("INSERT INTO jobs (queue, status, attempts, payload) SELECT 'notifications.to_send', 'running', 5, "
             f"{_MARK} FROM generate_series(1, 30)"),
        sql("DELETE FROM jobs WHERE payload ? 'fault'"),
    ),
    _fault(
        "proofs-stalled", "Proofs stand still while they are signed", "5 proofs have been SIGNING for two hours.",
        _QUEUES, "wipe-proofs-stalled", "too_old", proofs("SIGNING", "2 hours", 5), NO_PROOFS,
    ),
    _fault(
        "proofs-failed", "Many proofs fail", "50 proofs of the last hour are FAILED.",
        _QUEUES, "wipe-proofs-failed", "too_many", proofs("FAILED", "1 hour", 50), NO_PROOFS,
    ),
    _fault(
        "proof-not-replayable", "A dead proof job must not be replayed", "Its proof was certified meanwhile.",
        _QUEUES, "wipe-replay-ineligible", "too_many",
        sql("INSERT INTO dead_letter_jobs (queue, payload, error, attempts) SELECT 'proofs.validated', "
             f"{_MARK} || jsonb_build_object('proof_id', id), 'timeout', 8 FROM proofs "
             "WHERE status = 'CERTIFIED' LIMIT 1"),
        sql("DELETE FROM dead_letter_jobs WHERE payload ? 'fault'"),
    ),
    _fault(
        "queue-alert", "A queue alert of the platform fires", "WipeQueueJobFailures fires.",
        _QUEUES, "wipe-queue-alerts", "firing", fire("WipeQueueJobFailures"), quiet("WipeQueueJobFailures"),
    ),
    _fault(
        "mail-stopped", "No mail can be sent", "The mail server is stopped: connections are refused.",
        _QUEUES, "wipe-mail", "connection_refused", stop("mail"), start("mail"),
    ),
    _fault(
        "backup-late", "There is no fresh backup", "The latest was two days ago.",
        _BACKUP, "wipe-backup", "late", forget_backup, back_up,
    ),
)  # fmt: skip

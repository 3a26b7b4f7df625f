"""Faults of the platform's own parts: its API, public verification, licences and billing, workers, mail and backup."""

from __future__ import annotations

import os
import time

from tocsin_sandbox.chain import CHAIN_ID
from tocsin_sandbox.estate import Estate
from tocsin_sandbox.fault import Act, Fault
from tocsin_sandbox.identity import AUDIENCE, User
from tocsin_sandbox.serving import Mood, Site
from tocsin_sandbox.wipe import DATABASE, ORGANIZATION, TENANT
from tocsin_sandbox.wipe_environment import REST_SECONDS

_API = "api-outage"
_ABUSE = "public-verification-abuse"
_LICENSE = "license-or-billing"
_QUEUES = "queues-and-workers"
_BACKUP = "backup"
_DAY = 86400.0


def _sql(*statements: str) -> Act:
    async def act(estate: Estate) -> None:
        await estate.database.execute_each(statements, database=DATABASE)

    return act


def _set(part: str, name: str, value: object) -> Act:
    async def act(estate: Estate) -> None:
        setattr(getattr(estate, part), name, value)

    return act


def _stop(part: str) -> Act:
    async def act(estate: Estate) -> None:
        await getattr(estate, part).stop()

    return act


def _start(part: str) -> Act:
    async def act(estate: Estate) -> None:
        await getattr(estate, part).start()

    return act


def _mood(part: str, mood: Mood) -> Act:
    async def act(estate: Estate) -> None:
        site: Site = getattr(estate, part)
        site.mood = mood

    return act


def _lines(service: str, text: str, count: int, source: str = "") -> Act:
    async def act(estate: Estate) -> None:
        for _ in range(count):
            estate.observability.log(service, text, source=source, planted=True)

    return act


async def _forget_lines(estate: Estate) -> None:
    estate.observability.forget()


def _fire(alert: str, **labels: str) -> Act:
    async def act(estate: Estate) -> None:
        estate.observability.firing[alert] = labels

    return act


def _quiet(alert: str) -> Act:
    async def act(estate: Estate) -> None:
        estate.observability.firing.pop(alert, None)

    return act


async def _stop_maintenance(estate: Estate) -> None:
    estate.life.maintained = False
    await estate.database.execute(
        "UPDATE maintenance_runs SET finished_at = now() - interval '2 days'", database=DATABASE
    )


async def _start_maintenance(estate: Estate) -> None:
    estate.life.maintained = True
    await estate.database.execute("UPDATE maintenance_runs SET finished_at = now()", database=DATABASE)


async def _forget_backup(estate: Estate) -> None:
    then = time.time() - 2 * _DAY
    os.utime(estate.wipe_backup, (then, then))


async def _back_up(estate: Estate) -> None:
    estate.wipe_backup.touch()


async def _lose_files(estate: Estate) -> None:
    estate.life.loses_files = True
    await estate.database.execute(
        "INSERT INTO certificates "
        "(tenant_id, organization_id, status, anchor_chain_id, anchor_tx_hash, pdf_key, json_key) "
        f"VALUES ('{TENANT}', '{ORGANIZATION}', 'CERTIFIED', 'lost', 'fault', 'lost.pdf', 'lost.json')",
        database=DATABASE,
    )


async def _keep_files(estate: Estate) -> None:
    """The rows whose files were never written go, or they would stay lost for ever."""
    async with estate.life.between_pulses:
        estate.life.loses_files = False
        await estate.database.execute("DELETE FROM certificates WHERE anchor_chain_id = 'lost'", database=DATABASE)
        await estate.database.execute(
            "DELETE FROM certificates WHERE created_at > now() - interval '1 hour' AND id::text <> $1",
            estate.life.certificate,
            database=DATABASE,
        )


async def _forget_anchor(estate: Estate) -> None:
    await estate.database.execute(
        "UPDATE certificates SET anchor_chain_id = anchor_tx_hash, anchor_tx_hash = '' WHERE id = $1::text::uuid "
        "AND anchor_tx_hash <> ''",
        estate.life.certificate,
        database=DATABASE,
    )


async def _recall_anchor(estate: Estate) -> None:
    await estate.database.execute(
        "UPDATE certificates SET anchor_tx_hash = anchor_chain_id, anchor_chain_id = $2 WHERE id = $1::text::uuid "
        "AND anchor_tx_hash = ''",
        estate.life.certificate,
        str(CHAIN_ID),
        database=DATABASE,
    )


def _realm(realm: str, name: str, value: object) -> Act:
    async def act(estate: Estate) -> None:
        setattr(estate.identity.realms[realm], name, value)

    return act


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


def _proofs(status: str, age: str, count: int) -> Act:
    return _sql(
        "INSERT INTO proofs (tenant_id, organization_id, status, object_key, created_at) "
        f"SELECT '{TENANT}', '{ORGANIZATION}', '{status}', 'fault', now() - interval '{age}' "
        f"FROM generate_series(1, {count})"
    )


_NO_PROOFS = _sql("DELETE FROM proofs WHERE object_key = 'fault'")
_MARK = """jsonb_build_object('fault', true)"""
_ERROR = "level=error msg=failed"

FAULTS = (
    _fault(
        "api-stopped", "Wipe's API is down", "Its server is stopped: connections are refused.",
        _API, "wipe-api", "connection_refused", _stop("wipe"), _start("wipe"),
    ),
    _fault(
        "api-errors", "Wipe's API answers with errors", "Every request is answered 500.",
        _API, "wipe-api", "server_error", _mood("wipe", Mood.ERROR), _mood("wipe", Mood.NORMAL),
    ),
    _fault(
        "telemetry-stopped", "The platform's metrics and logs are away", "Collector, Prometheus and Loki are stopped.",
        _API, "wipe-telemetry", "connection_refused", _stop("telemetry"), _start("telemetry"),
    ),
    _fault(
        "api-refuses-tokens", "The API refuses every token", "It answers 401 to fresh and valid tokens.",
        "keycloak-outage", "wipe-token-exawipe", "token_not_accepted",
        _set("wipe_api", "rejects_tokens", True), _set("wipe_api", "rejects_tokens", False),
    ),
    _fault(
        "test-user-locked", "The probe's own test user is locked", "Keycloak refuses its password; others can log in.",
        "keycloak-outage", "wipe-token-exawipe", "credentials_rejected",
        _realm("exawipe", "user", User.LOCKED), _realm("exawipe", "user", User.ENABLED), lingers=REST_SECONDS + 1,
    ),
    _fault(
        "token-forged", "Tokens are signed with a key that is not published", "A strange key signs by the known kid.",
        "keycloak-outage", "wipe-token-exawipe", "signature_invalid",
        _realm("exawipe", "foreign_key", True), _realm("exawipe", "foreign_key", False),
    ),
    _fault(
        "keycloak-clock-ahead", "Keycloak's clock is ten minutes ahead", "Fresh tokens are valid only later.",
        "keycloak-outage", "wipe-token-exawipe", "clock_skew",
        _realm("exawipe", "clock", 600.0), _realm("exawipe", "clock", 0.0),
    ),
    _fault(
        "token-audience-changed", "Tokens are no longer for the API", "Their aud names something else.",
        "keycloak-outage", "wipe-token-exawipe", "aud_mismatch",
        _realm("exawipe", "audience", "another-api"), _realm("exawipe", "audience", AUDIENCE),
    ),
    _fault(
        "provisioning-refused", "The realm master grants nothing", "It is disabled: the service account is refused.",
        "keycloak-outage", "wipe-provisioning", "grant_refused",
        _realm("master", "enabled", False), _realm("master", "enabled", True),
    ),
    _fault(
        "api-token-errors", "The API's log is full of JWT errors", "50 lines about keys that are not in the JWKS.",
        "keycloak-outage", "wipe-api-token-errors", "threshold_exceeded",
        _lines("api", "level=error msg=\"jwt: key not found in jwks, token invalid\"", 50), _forget_lines,
    ),
    _fault(
        "api-unauthorized", "Many requests get 401", "60 answers of 401 within five minutes.",
        "keycloak-outage", "wipe-api-unauthorized", "threshold_exceeded",
        _lines("api", "level=warn status=401 path=/api/v1/usage msg=unauthorized", 60), _forget_lines,
    ),
    _fault(
        "signer-alert", "The platform's own signer alert fires", "WipeSignerFailures fires for pades_sign.",
        "signer-outage", "wipe-signer-failures", "firing",
        _fire("WipeSignerFailures", operation="pades_sign"), _quiet("WipeSignerFailures"),
    ),
    _fault(
        "proof-worker-errors", "The proof worker logs errors", "50 error lines of the proof worker.",
        "signer-outage", "wipe-proof-worker-errors", "threshold_exceeded",
        _lines("proof-worker", _ERROR, 50), _forget_lines,
    ),
    _fault(
        "tsa-stopped", "The timestamp authority is down", "Its server is stopped: connections are refused.",
        "signer-outage", "wipe-tsa", "connection_refused", _stop("stamping"), _start("stamping"),
    ),
    _fault(
        "tsa-untrusted", "Timestamps come from a stranger", "Stamps are signed under another root.",
        "signer-outage", "wipe-tsa", "signature_invalid",
        _set("timestamps", "strange", True), _set("timestamps", "strange", False),
    ),
    _fault(
        "certificate-files-lost", "Certificates are issued without their files", "Newest rows name missing objects.",
        "storage-outage", "wipe-certificate-pdf", "object_missing", _lose_files, _keep_files, "files",
    ),
    _fault(
        "certificate-json-lost", "Certificates are issued without their files", "As above, seen by their JSON.",
        "storage-outage", "wipe-certificate-json", "object_missing", _lose_files, _keep_files, "files",
    ),
    _fault(
        "storage-errors-logged", "Workers log storage errors", "20 lines of AccessDenied in the API's log.",
        "storage-outage", "wipe-storage-errors", "threshold_exceeded",
        _lines("api", "level=warn msg=\"put object: AccessDenied\"", 20), _forget_lines,
    ),
    _fault(
        "anchor-alert", "The platform's own anchor alert fires", "WipeAnchorFailures fires there.",
        "chain-or-anchor-outage", "wipe-anchor-failures", "firing",
        _fire("WipeAnchorFailures"), _quiet("WipeAnchorFailures"),
    ),
    _fault(
        "anchor-worker-errors", "The anchor worker logs errors", "50 error lines of the anchor worker.",
        "chain-or-anchor-outage", "wipe-anchor-worker-errors", "threshold_exceeded",
        _lines("anchor-worker", _ERROR, 50), _forget_lines,
    ),
    _fault(
        "explorer-stopped", "The chain's explorer is away", "It is stopped, and the captcha's siteverify with it.",
        "chain-or-anchor-outage", "wipe-chain-explorer", "connection_refused", _stop("others"), _start("others"),
    ),
    _fault(
        "anchor-not-replayable", "A dead anchor job must not be replayed", "Its certificate does not exist any more.",
        "chain-or-anchor-outage", "wipe-anchor-replay-ineligible", "too_many",
        _sql("INSERT INTO dead_letter_jobs (queue, payload, error, attempts) VALUES ('certificates.to_anchor', "
             f"{_MARK} || jsonb_build_object('certificate_id', 'gone'), 'timeout', 8)"),
        _sql("DELETE FROM dead_letter_jobs WHERE payload ? 'fault'"),
    ),
    _fault(
        "verification-flood", "Public verification is flooded", "3,000 refusals for its rate within the last minutes.",
        _ABUSE, "wipe-verification-events", "rate_high",
        _sql("INSERT INTO verification_logs (result, source_ip) SELECT 'RATE_LIMITED', "
             "('198.51.100.' || n % 250)::inet FROM generate_series(1, 3000) n"),
        _sql("DELETE FROM verification_logs WHERE result = 'RATE_LIMITED'"),
    ),
    _fault(
        "verification-scan", "Somebody guesses certificates", "300 unknown certificates, all from one address.",
        _ABUSE, "wipe-verification-events", "share_high",
        _sql("INSERT INTO verification_logs (result, source_ip) "
             "SELECT 'UNKNOWN_CERTIFICATE', '203.0.113.9' FROM generate_series(1, 450)"),
        _sql("DELETE FROM verification_logs WHERE source_ip = '203.0.113.9'"),
    ),
    _fault(
        "verification-leaks", "Public answers name tenants", "/verify tells tenant and organization.",
        _ABUSE, "wipe-verify-anchored", "leaks_internals",
        _set("wipe_api", "leaks", True), _set("wipe_api", "leaks", False),
    ),
    _fault(
        "verification-wrong", "An anchored certificate is reported as not anchored", "Its transaction hash is gone.",
        _ABUSE, "wipe-verify-anchored", "assertion_failed", _forget_anchor, _recall_anchor,
    ),
    _fault(
        "captcha-refused", "The captcha's operator does not know our secret", "siteverify says invalid-input-secret.",
        _ABUSE, "wipe-captcha", "assertion_failed",
        _set("elsewhere", "knows_secret", False), _set("elsewhere", "knows_secret", True),
    ),
    _fault(
        "proxy-few-sources", "One address asks for most", "500 lines of the proxy's log have one source.",
        _ABUSE, "wipe-proxy-sources", "threshold_exceeded",
        _lines("proxy", "path=/verify/x", 500, "203.0.113.9"), _forget_lines,
    ),
    _fault(
        "license-expired", "No licence grant is active", "The only grant ended yesterday.",
        _LICENSE, "wipe-license-grants", "too_few",
        _sql("UPDATE license_grants SET valid_until = current_date - 1"),
        _sql("UPDATE license_grants SET valid_until = current_date + 335"), "validity",
    ),
    _fault(
        "license-ending", "A licence grant ends soon", "The only grant ends in ten days.",
        _LICENSE, "wipe-license-ending", "too_many",
        _sql("UPDATE license_grants SET valid_until = current_date + 10"),
        _sql("UPDATE license_grants SET valid_until = current_date + 335"), "validity",
    ),
    _fault(
        "license-revoked", "A grant with allocations was revoked", "The only grant is revoked.",
        _LICENSE, "wipe-license-revoked", "too_many",
        _sql("UPDATE license_grants SET revoked_at = now()"), _sql("UPDATE license_grants SET revoked_at = NULL"),
    ),
    _fault(
        "license-overallocated", "A child holds more licences than its parent", "9,000 of the parent's 8,000.",
        _LICENSE, "wipe-license-allocations", "too_many",
        _sql("UPDATE license_allocations SET quantity = 9000 WHERE parent_id = 1"),
        _sql("UPDATE license_allocations SET quantity = 5000 WHERE parent_id = 1"),
    ),
    _fault(
        "license-used-up", "An allocation is almost used up", "4,800 of 5,000 are consumed.",
        _LICENSE, "wipe-license-quota", "too_many",
        _sql("UPDATE license_allocations SET consumed = 4800 WHERE parent_id = 1"),
        _sql("UPDATE license_allocations SET consumed = 0"), "consumed",
    ),
    _fault(
        "license-overconsumed", "More licences are consumed than allocated", "6,000 of 5,000 are consumed.",
        _LICENSE, "wipe-license-consumption", "too_many",
        _sql("UPDATE license_allocations SET consumed = 6000 WHERE parent_id = 1"),
        _sql("UPDATE license_allocations SET consumed = 0"), "consumed",
    ),
    _fault(
        "proofs-awaiting-license", "Proofs wait for a licence", "30 proofs of two hours ago are AWAITING_LICENSE.",
        _LICENSE, "wipe-proofs-awaiting-license", "too_many", _proofs("AWAITING_LICENSE", "2 hours", 30), _NO_PROOFS,
    ),
    _fault(
        "report-missing", "Last month's report is missing", "Its row is deleted.",
        _LICENSE, "wipe-monthly-report", "too_few", _sql("DELETE FROM monthly_reports"),
        _sql("INSERT INTO monthly_reports (period) VALUES (date_trunc('month', now() - interval '1 month')) "
             "ON CONFLICT DO NOTHING"),
    ),
    _fault(
        "report-worker-errors", "The report worker logs errors", "20 error lines of the report worker.",
        _LICENSE, "wipe-report-worker-errors", "threshold_exceeded",
        _lines("report-worker", _ERROR, 20), _forget_lines,
    ),
    _fault(
        "maintenance-late", "The maintenance worker rests", "Its latest pass was two days ago.",
        _LICENSE, "wipe-maintenance-worker", "late", _stop_maintenance, _start_maintenance,
    ),
    _fault(
        "receipt-chain-reported", "The maintenance worker reports a broken chain", "It logs a mismatch of receipts.",
        _LICENSE, "wipe-maintenance-output", "threshold_exceeded",
        _lines("maintenance-worker", "level=error msg=\"receipt chain broken: mismatch\"", 1), _forget_lines,
    ),
    _fault(
        "retry-storm", "Jobs are tried again and again", "30 jobs are on their fifth attempt.",
        _QUEUES, "wipe-retry-storm", "too_many",
        _sql("INSERT INTO jobs (queue, status, attempts, payload) SELECT 'notifications.to_send', 'running', 5, "
             f"{_MARK} FROM generate_series(1, 30)"),
        _sql("DELETE FROM jobs WHERE payload ? 'fault'"),
    ),
    _fault(
        "proofs-stalled", "Proofs stand still while they are signed", "5 proofs have been SIGNING for two hours.",
        _QUEUES, "wipe-proofs-stalled", "too_old", _proofs("SIGNING", "2 hours", 5), _NO_PROOFS,
    ),
    _fault(
        "proofs-failed", "Many proofs fail", "50 proofs of the last hour are FAILED.",
        _QUEUES, "wipe-proofs-failed", "too_many", _proofs("FAILED", "1 hour", 50), _NO_PROOFS,
    ),
    _fault(
        "proof-not-replayable", "A dead proof job must not be replayed", "Its proof was certified meanwhile.",
        _QUEUES, "wipe-replay-ineligible", "too_many",
        _sql("INSERT INTO dead_letter_jobs (queue, payload, error, attempts) SELECT 'proofs.validated', "
             f"{_MARK} || jsonb_build_object('proof_id', id), 'timeout', 8 FROM proofs "
             "WHERE status = 'CERTIFIED' LIMIT 1"),
        _sql("DELETE FROM dead_letter_jobs WHERE payload ? 'fault'"),
    ),
    _fault(
        "queue-alert", "A queue alert of the platform fires", "WipeQueueJobFailures fires.",
        _QUEUES, "wipe-queue-alerts", "firing", _fire("WipeQueueJobFailures"), _quiet("WipeQueueJobFailures"),
    ),
    _fault(
        "mail-stopped", "No mail can be sent", "The mail server is stopped: connections are refused.",
        _QUEUES, "wipe-mail", "connection_refused", _stop("mail"), _start("mail"),
    ),
    _fault(
        "backup-late", "There is no fresh backup", "The latest was two days ago.",
        _BACKUP, "wipe-backup", "late", _forget_backup, _back_up,
    ),
)  # fmt: skip

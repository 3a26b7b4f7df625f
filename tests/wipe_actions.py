"""What can be done to Wipe's real estate: the actions that drills/wipe.yaml names as ``estate``, each with what undoes it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from estate.process import Server
from estate.servers.sigv4 import Credentials
from estate.web import request
from tests.wipe_configuration import MISSING, configuration
from tests.wipe_estate import WipeEstate
from tests.wipe_signer import DATA, MAC, MODE, RECEIPT
from tests.wipe_simulators import SMOKE_TENANT, UNAUTHORIZED
from tocsin_sandbox.chain import CHAIN_ID, SENDER
from tocsin_sandbox.faults import BY_NAME
from tocsin_sandbox.identity import AUDIENCE, CLIENT_ID, USERNAME
from tocsin_sandbox.serving import Mood
from tocsin_sandbox.wipe import BUCKETS

__all__ = ["ACTIONS", "MISSING", "Act", "configuration"]

Act = Callable[[WipeEstate], object]
Pair = tuple[Act, Act]

_CERTIFICATES, _EXPORTS = BUCKETS["S3_BUCKET_CERTIFICATES"], BUCKETS["S3_BUCKET_EXPORTS"]
_NOBODY = "0x" + "11" * 20
_PATIENCE = 30.0


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {_PATIENCE:g} s for {what}")
        time.sleep(0.1)


def stopped(server: Callable[[WipeEstate], Server]) -> Pair:
    return lambda e: server(e).stop(), lambda e: server(e).start()


def killed(server: Callable[[WipeEstate], Server]) -> Pair:
    return lambda e: server(e).kill(), lambda e: server(e).start()


def frozen(server: Callable[[WipeEstate], Server]) -> Pair:
    return lambda e: server(e).pause(), lambda e: server(e).resume()


def site_stopped(name: str) -> Pair:
    """Of a simulator."""
    return (
        lambda e: e.loop.call(getattr(e, name).stop()),
        lambda e: e.loop.call(getattr(e, name).start()),
    )


def flag(part: str, name: str, bad: object, good: object) -> Pair:
    """Of a simulator."""
    return (
        lambda e: setattr(getattr(e, part), name, bad),
        lambda e: setattr(getattr(e, part), name, good),
    )


def switched(name: str) -> Pair:
    """What the sandbox's switch of this name does, to the real database or to a simulator."""
    fault = BY_NAME[name]

    def as_sandbox(estate: WipeEstate) -> Any:
        return SimpleNamespace(
            database=estate.cluster,
            life=estate.life,
            observability=estate.observability,
            wipe_backup=estate.backup,
        )

    return (
        lambda e: e.loop.call(fault.cause(as_sandbox(e))),
        lambda e: e.loop.call(fault.undo(as_sandbox(e))),
    )


def statements(cause: str, undo: str) -> Pair:
    return lambda e: e.sql(cause), lambda e: e.sql(undo)


def granted(grant: str, until: str, revoked: str) -> Pair:
    """One more grant with an allocation. It begins tomorrow: no proof lives by it."""
    return statements(
        "INSERT INTO license_grants (grant_id, tenant_id, quantity, valid_from, valid_until, revoked_at) "
        f"VALUES ('{grant}', '{SMOKE_TENANT}', 10, current_date + 1, {until}, {revoked}); "
        f"INSERT INTO license_allocations (grant_id, organization_id, quantity) VALUES ('{grant}', '{SMOKE_TENANT}', 5)",
        f"DELETE FROM license_allocations WHERE grant_id = '{grant}'; "
        f"DELETE FROM license_grants WHERE grant_id = '{grant}'",
    )


def logged(service: str, line: str, count: int) -> Pair:
    return lambda e: e.log(service, line, count), lambda e: e.observability.forget()


def repeated(act: Act, shown: Act) -> Pair:
    """Again and again until it is undone, and begun when the platform's own monitoring shows it."""

    def begin(estate: WipeEstate) -> None:
        estate.repeat(lambda: act(estate))
        until(lambda: shown(estate), "the platform's monitoring")

    return begin, lambda e: e.stop_repeating()


def counted(name: str, alert: str) -> Pair:
    """The platform counts failures, and so its own alert fires."""
    return repeated(lambda e: e.exporter.counts.update({name: 5}), lambda e: alert in e.prometheus.firing())


def may(variable: str, *operations: str) -> Pair:
    """tocsin's credential for the bucket of a variable may do only this."""
    bucket = BUCKETS[f"S3_BUCKET_{variable}"]
    return lambda e: e.allow(bucket, *operations), lambda e: e.give_key(bucket, e.minio.session())


# Keycloak


def rename_realm(estate: WipeEstate) -> None:
    estate.keycloak.admin("PUT", "/exawipe", {"realm": "exawipe-renamed"})


def rename_realm_back(estate: WipeEstate) -> None:
    estate.keycloak.admin("PUT", "/exawipe-renamed", {"realm": "exawipe"})


def without_audience(realm: str) -> Pair:
    def cause(estate: WipeEstate) -> None:
        client = estate.keycloak.client(realm, CLIENT_ID)
        path = f"/{realm}/clients/{client['id']}/protocol-mappers/models"
        for mapper in estate.keycloak.admin("GET", path).json():
            if mapper["protocolMapper"] == "oidc-audience-mapper":
                estate.keycloak.admin("DELETE", f"{path}/{mapper['id']}")

    return cause, lambda e: e.keycloak.add_audience(realm, CLIENT_ID, AUDIENCE)


def lock_user(estate: WipeEstate) -> None:
    estate.keycloak.lock_user("exawipe", USERNAME, client_id=CLIENT_ID, client_secret=estate.client_secret)


def unlock_user(estate: WipeEstate) -> None:
    estate.keycloak.unlock_user("exawipe", USERNAME)
    estate.keycloak.update_realm("exawipe", bruteForceProtected=False)


def ask_without_right(estate: WipeEstate) -> None:
    """Requests that the API refuses, as its own counter then shows."""
    for _ in range(10):
        request("GET", f"{estate.api.url}/api/v1/usage", headers={"Authorization": "Bearer stale"}).expect(401)


def service_accounts(allowed: bool) -> Act:
    return lambda e: e.keycloak.update_client("master", CLIENT_ID, serviceAccountsEnabled=allowed)


# Signer and timestamps


def restart_tsa(estate: WipeEstate) -> None:
    """Its certificate is made anew, and nobody was told to trust it."""
    estate.tsa.restart()


def start_tsa(estate: WipeEstate) -> None:
    estate.tsa.start()
    estate.trust_tsa()


def without_key(name: str) -> Pair:
    return lambda e: e.signer.vault.delete_key(name), lambda e: e.signer.restore(name)


def signing_wrongly(fault: str) -> Pair:
    return lambda e: e.pdf_signer.set_fault(fault), lambda e: e.pdf_signer.set_fault("")


# Storage


def drilled_certificate(estate: WipeEstate) -> str:
    """The newest certificate, made for drills."""
    found = estate.query(f"SELECT id FROM certificates WHERE tenant_id = '{SMOKE_TENANT}'")
    if found:
        return found[0][0]
    certificate = estate.certify()
    estate.sql(f"UPDATE certificates SET tenant_id = '{SMOKE_TENANT}' WHERE id = '{certificate}'")
    return certificate


def forget_certificate(estate: WipeEstate) -> None:
    estate.sql(f"DELETE FROM certificates WHERE tenant_id = '{SMOKE_TENANT}'")


def of_newest(column: str, act: Callable[[WipeEstate, str], object]) -> Pair:
    """Something happens to one of the newest certificate's files."""

    def cause(estate: WipeEstate) -> None:
        certificate = drilled_certificate(estate)
        act(estate, estate.query(f"SELECT {column} FROM certificates WHERE id = '{certificate}'")[0][0])

    return cause, forget_certificate


def lost_download(kind: str) -> Pair:
    """A file of the certificate that is downloaded is gone; the newest one's, which is sampled, are there."""

    def key(estate: WipeEstate) -> str:
        return estate.query(f"SELECT {kind}_key FROM certificates WHERE id = '{estate.life.certificate}'")[0][0]

    def cause(estate: WipeEstate) -> None:
        drilled_certificate(estate)
        estate.lost[kind] = estate.minio.get(_CERTIFICATES, key(estate))
        estate.minio.delete(_CERTIFICATES, key(estate))

    def undo(estate: WipeEstate) -> None:
        estate.minio.put(_CERTIFICATES, key(estate), estate.lost.pop(kind))
        forget_certificate(estate)

    return cause, undo


# Smoke of the whole path


def leave_proofs_uncertified(estate: WipeEstate) -> None:
    """From now on, and the last one was certified long ago."""
    estate.wipe_api.certifies = False
    mine = f"tenant_id = '{SMOKE_TENANT}' AND status = 'CERTIFIED'"
    until(
        lambda: not estate.query(f"SELECT 1 FROM proofs WHERE {mine} AND created_at > now() - interval '1 second'"),
        "rest",
    )
    estate.sql(f"UPDATE proofs SET created_at = now() - interval '3 hours' WHERE {mine}")


def certify_proofs(estate: WipeEstate) -> None:
    estate.wipe_api.certifies = True
    estate.sql(f"UPDATE proofs SET status = 'CERTIFIED' WHERE tenant_id = '{SMOKE_TENANT}' AND status = 'RECEIVED'")


# Chain


def add_fork(estate: WipeEstate) -> None:
    """The second provider has the same chain id, other blocks, and a few of them less."""
    fork = estate.forked_node
    fork.mine(max(1, estate.anvil.block_number() - fork.block_number() - 2))
    estate.second_provider.write_text(fork.url)


def add_laggard(estate: WipeEstate) -> None:
    """The second provider has the same blocks, as far as it has come."""
    until(lambda: estate.anvil.block_number() - estate.lagging_node.block_number() > 25, "the chain to move on")
    estate.second_provider.write_text(estate.lagging_node.url)


def one_provider(estate: WipeEstate) -> None:
    estate.second_provider.write_text(estate.anvil.url)


def roll_back(estate: WipeEstate) -> None:
    """The chain loses the blocks that hold the newest anchor."""
    certificate = drilled_certificate(estate)
    number = estate.query(f"SELECT anchor_tx_hash FROM certificates WHERE id = '{certificate}'")[0][0]
    until(lambda: estate.anvil.rpc("eth_getTransactionReceipt", number), "the anchor to be mined")
    mined = int(estate.anvil.rpc("eth_getTransactionReceipt", number)["blockNumber"], 16)
    estate.anvil.roll_back(estate.anvil.block_number() - mined + 1)


# Public verification


def verified(count: int, asked_for: str) -> Pair:
    """So many unknown certificates from one source, among many more verifications by others. ``asked_for``: by ``n``."""
    return statements(
        "INSERT INTO verification_logs (result, source_ip, asked_for) "
        f"SELECT 'UNKNOWN_CERTIFICATE', '203.0.113.77', {asked_for} FROM generate_series(1, {count}) AS n; "
        "INSERT INTO verification_logs (result, source_ip) "
        f"SELECT 'VALID', '203.0.113.78' FROM generate_series(1, {2 * count})",
        "DELETE FROM verification_logs WHERE source_ip IN ('203.0.113.77', '203.0.113.78')",
    )


def invent_anchor(estate: WipeEstate) -> None:
    """An unanchored certificate is said to be anchored; it is too old to be the one that is looked up."""
    estate.sql(
        "UPDATE certificates SET anchor_tx_hash = '0xinvented', created_at = created_at - interval '1 day' "
        f"WHERE id = '{estate.unanchored}'"
    )


def forget_invented_anchor(estate: WipeEstate) -> None:
    estate.sql(
        f"UPDATE certificates SET anchor_tx_hash = '', created_at = created_at + interval '1 day' WHERE id = '{estate.unanchored}'"
    )


# Database and backup


def stop_archiving(estate: WipeEstate) -> None:
    failures = "SELECT failed_count FROM pg_stat_archiver"
    before = estate.query(failures)
    estate.database.archive_full.touch()
    until(lambda: estate.query(failures) != before, "archiving to fail")


def age(path: Callable[[WipeEstate], Any]) -> Pair:
    def cause(estate: WipeEstate) -> None:
        then = time.time() - 2 * 86400
        os.utime(path(estate), (then, then))

    return cause, lambda e: os.utime(path(e))


def cut_receipts(estate: WipeEstate) -> None:
    estate.sql("CREATE TABLE kept AS SELECT * FROM receipts WHERE seq > 197; DELETE FROM receipts WHERE seq > 197")


def put_receipts_back(estate: WipeEstate) -> None:
    estate.sql("INSERT INTO receipts SELECT * FROM kept; DROP TABLE kept")


ACTIONS: dict[str, Pair] = {
    # Keycloak
    "kill-keycloak": killed(lambda e: e.keycloak),
    "freeze-keycloak": frozen(lambda e: e.keycloak),
    "stop-keycloak-database": stopped(lambda e: e.keycloak_database),
    "disable-realm": (
        lambda e: e.keycloak.set_enabled("exawipe", False),
        lambda e: e.keycloak.set_enabled("exawipe", True),
    ),
    "rename-realm": (rename_realm, rename_realm_back),
    "move-issuer": (
        lambda e: e.keycloak.set_frontend_url("exawipe", "http://elsewhere.invalid"),
        lambda e: e.keycloak.set_frontend_url("exawipe", None),
    ),
    "rotate-realm-key": (lambda e: e.keycloak.rotate_keys("exawipe"), lambda e: None),
    "rotate-master-key": (lambda e: e.keycloak.rotate_keys("master"), lambda e: None),
    "drop-audience": without_audience("exawipe"),
    "drop-master-audience": without_audience("master"),
    "lock-test-user": (lock_user, unlock_user),
    "refuse-service-accounts": (service_accounts(False), service_accounts(True)),
    "refuse-tokens": flag("wipe_api", "rejects_tokens", True, False),
    "send-stale-tokens": repeated(
        ask_without_right, lambda e: (e.prometheus.value(f"sum(rate({UNAUTHORIZED}[6s]))") or 0) > 3
    ),
    "log-token-errors": logged("api", 'level=error msg="jwt: key not found in jwks, token invalid"', 50),
    # Signer
    "kill-signer": killed(lambda e: e.signer.vault),
    "freeze-signer": frozen(lambda e: e.signer.vault),
    "seal-signer": (lambda e: e.signer.vault.seal(), lambda e: e.signer.vault.unseal()),
    "revoke-signer-token": (lambda e: e.signer.revoke_token(), lambda e: e.signer.give_token()),
    "lose-hmac-key": without_key(MAC),
    "replace-data-key": (lambda e: e.signer.replace(DATA), lambda e: e.signer.restore(DATA)),
    "disable-data-key": (lambda e: e.signer.disable(DATA), lambda e: e.signer.restore(DATA)),
    "rotate-hmac-key": (lambda e: e.signer.vault.rotate_key(MAC), lambda e: e.signer.restore(MAC)),
    "rotate-receipt-key": (lambda e: e.signer.vault.rotate_key(RECEIPT), lambda e: e.signer.restore(RECEIPT)),
    "change-signer-mode": (lambda e: e.signer.set_mode("development"), lambda e: e.signer.set_mode(MODE)),
    "leave-pdf-unsigned": signing_wrongly("unsigned"),
    "sign-pdf-in-part": signing_wrongly("appended"),
    "sign-pdf-as-stranger": signing_wrongly("untrusted"),
    "sign-pdf-without-timestamp": signing_wrongly("no_timestamp"),
    "kill-transaction-signer": killed(lambda e: e.signing_node),
    "stop-tsa": (lambda e: e.tsa.stop(), start_tsa),
    "restart-tsa": (restart_tsa, lambda e: e.trust_tsa()),
    "count-signer-failures": counted('wipe_signer_failures_total{operation="pades_sign"}', "WipeSignerFailures"),
    "log-proof-worker-errors": logged("proof-worker", "level=error msg=failed", 50),
    # Storage
    "stop-storage": stopped(lambda e: e.minio),
    "freeze-storage": frozen(lambda e: e.minio),
    "delete-bucket": (lambda e: e.minio.delete_bucket(_EXPORTS), lambda e: e.minio.create_bucket(_EXPORTS)),
    "deny-write": may("EXPORTS", "list", "read", "delete", "bucket"),
    "deny-read": may("EXPORTS", "list", "write", "delete", "bucket"),
    "deny-delete": may("EXPORTS", "list", "read", "write", "bucket"),
    "deny-list": may("EXPORTS", "read", "write", "delete", "bucket"),
    "deny-proofs": may("PROOFS", "list", "read", "bucket"),
    "deny-certificates": may("CERTIFICATES", "list", "write", "delete", "bucket"),
    "deny-binaries": may("BINARIES", "list", "bucket"),
    "deny-billing-drop": may("BILLING_DROP", "list", "read", "bucket"),
    "lose-downloaded-pdf": lost_download("pdf"),
    "lose-downloaded-json": lost_download("json"),
    "revoke-storage-key": (
        lambda e: e.give_key(_EXPORTS, Credentials("revoked-key", "revoked-secret", "revoked-token")),
        lambda e: e.give_key(_EXPORTS, e.minio.session()),
    ),
    "delete-certificate-pdf": of_newest("pdf_key", lambda e, key: e.minio.delete(_CERTIFICATES, key)),
    "change-certificate-json": of_newest("json_key", lambda e, key: e.minio.put(_CERTIFICATES, key, b"{}")),
    "log-storage-errors": logged("api", 'level=warn msg="put object: AccessDenied"', 20),
    # Database
    "stop-database": stopped(lambda e: e.database),
    "freeze-database": frozen(lambda e: e.database),
    "make-database-read-only": (
        lambda e: e.sql("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"),
        lambda e: e.sql("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()"),
    ),
    "take-connections": (lambda e: e.hold_connections(87), lambda e: e.loop.call(e.release())),
    "close-database": (
        lambda e: e.database.allow_connections("wipe", False),
        lambda e: e.database.allow_connections("wipe", True),
    ),
    # Queues and workers
    "age-jobs": switched("jobs-old"),
    "pile-up-jobs": switched("queue-backlog"),
    "bury-job": switched("dead-letter"),
    "rename-jobs-table": switched("jobs-table-missing"),
    "retry-jobs": switched("retry-storm"),
    "stall-proofs": switched("proofs-stalled"),
    "fail-proofs": switched("proofs-failed"),
    "bury-certified-proof": switched("proof-not-replayable"),
    "count-job-failures": counted("wipe_job_failures_total", "WipeQueueJobFailures"),
    "stop-mail": site_stopped("mail"),
    # Chain
    "stop-chain": stopped(lambda e: e.anvil),
    "freeze-chain": frozen(lambda e: e.anvil),
    "mine-nothing": (lambda e: e.anvil.set_mining(), lambda e: e.anvil.set_mining(every_seconds=1)),
    "change-chain-id": (
        lambda e: e.anvil.rpc("anvil_setChainId", 1),
        lambda e: e.anvil.rpc("anvil_setChainId", CHAIN_ID),
    ),
    "empty-sender": (lambda e: e.anvil.set_balance(SENDER, 0), lambda e: e.anvil.set_balance(SENDER, 10**22)),
    "forbid-sender": (lambda e: e.authorize(_NOBODY), lambda e: e.authorize(SENDER)),
    "roll-back-chain": (roll_back, forget_certificate),
    "add-forked-provider": (add_fork, one_provider),
    "add-lagging-provider": (add_laggard, one_provider),
    "leave-certificates-unanchored": switched("certificates-unanchored"),
    "bury-lost-anchor": switched("anchor-not-replayable"),
    "count-anchor-failures": counted("wipe_anchor_failures_total", "WipeAnchorFailures"),
    "log-anchor-worker-errors": logged("anchor-worker", "level=error msg=failed", 50),
    "stop-explorer": site_stopped("explorer"),
    # The API
    "stop-api": site_stopped("api"),
    "break-api": flag("api", "mood", Mood.ERROR, Mood.NORMAL),
    "silence-api": flag("api", "mood", Mood.SILENT, Mood.NORMAL),
    "keep-api-starting": flag("wipe_api", "starting", True, False),
    "count-api-errors": counted("wipe_http_errors_total", "WipeHTTP5xxRate"),
    "refuse-proofs": flag("wipe_api", "takes_proofs", False, True),
    "leave-proofs-uncertified": (leave_proofs_uncertified, certify_proofs),
    "stop-collector": site_stopped("collector"),
    "seed-developer-data": (
        lambda e: e.seed_dev.write_text("true"),
        lambda e: e.seed_dev.write_text("false"),
    ),
    # Public verification
    "flood-verification": switched("verification-flood"),
    "scan-certificates": switched("verification-scan"),
    "leak-internals": flag("wipe_api", "leaks", True, False),
    "leak-internals-of-nothing": flag("wipe_api", "leaks_unknown", True, False),
    "widen-rate-limit": (lambda e: e.rate_limit.write_text("100000"), lambda e: e.rate_limit.write_text("60")),
    "verify-from-one-source": verified(300, "'known'"),
    "scan-from-one-source": verified(150, "n::text"),
    "invent-anchor": (invent_anchor, forget_invented_anchor),
    "forget-anchor": switched("verification-wrong"),
    "forget-captcha-secret": flag("elsewhere", "knows_secret", False, True),
    "log-one-source": (
        lambda e: e.log("proxy", "path=/verify/x", 500, "203.0.113.9"),
        lambda e: e.observability.forget(),
    ),
    # Licences and billing
    "expire-licence": switched("license-expired"),
    "let-licence-end": granted("GRANT-ENDING", "current_date + 10", "NULL"),
    "revoke-licence": granted("GRANT-REVOKED", "current_date + 335", "now()"),
    "overallocate-licence": statements(
        "INSERT INTO license_allocations (grant_id, parent_id, organization_id, quantity) "
        f"VALUES ('GRANT-PRACTICE', 1, '{SMOKE_TENANT}', 4900)",
        f"DELETE FROM license_allocations WHERE organization_id = '{SMOKE_TENANT}' AND parent_id = 1",
    ),
    "use-licence-up": switched("license-used-up"),
    "miscount-licence": statements(
        "UPDATE license_allocations SET consumed = -1 WHERE id = 1",
        "UPDATE license_allocations SET consumed = 0 WHERE id = 1",
    ),
    "hold-proofs-for-licence": switched("proofs-awaiting-license"),
    "lose-report": switched("report-missing"),
    "rest-maintenance": switched("maintenance-late"),
    "cut-receipts": (cut_receipts, put_receipts_back),
    "log-broken-receipts": logged("maintenance-worker", 'level=error msg="receipt chain broken: mismatch"', 1),
    "count-waiting-proofs": counted("wipe_proofs_awaiting_license_total", "WipeProofsAwaitingLicense"),
    "log-report-worker-errors": logged("report-worker", "level=error msg=failed", 20),
    # Backup
    "age-backup": age(lambda e: e.backup),
    "stop-archiving": (stop_archiving, lambda e: e.database.archive_full.unlink()),
}
"""What a drill's ``estate`` names: how it is caused, how it is undone."""

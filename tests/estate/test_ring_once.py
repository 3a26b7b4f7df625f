"""A fault in a real server arrives as one page that opens at the right section, and goes when the fault goes.

The bundled profile runs against Keycloak (on a PostgreSQL of its own), MinIO and PostgreSQL; rules and routing are the
shipped ones, with shorter times. Faults of different incidents are caused together where they are independent: each must
still give its own one page.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from estate.servers.keycloak import Keycloak
from estate.servers.minio import Credentials, MinIO
from estate.servers.postgresql import PostgreSQL
from tests.bell import Bell, links
from tests.daemon import Daemon
from tocsin import data
from tocsin_sandbox.bell import RESEND

pytestmark = [pytest.mark.estate, pytest.mark.timeout(600)]

BUCKETS = {
    "S3_BUCKET_PROOFS": "wipe-proofs",
    "S3_BUCKET_CERTIFICATES": "wipe-certificates",
    "S3_BUCKET_BINARIES": "wipe-binaries",
    "S3_BUCKET_EXPORTS": "wipe-exports",
    "S3_BUCKET_BILLING_DROP": "wipe-billing-drop",
}
WATCHED = {f"wipe-bucket-{name}" for name in ("proofs", "certificates", "binaries", "exports", "billing-drop")} | {
    "wipe-keycloak-db", "wipe-keycloak-health", "wipe-realm-master", "wipe-realm-exawipe", "wipe-storage-health",
    "wipe-db", "wipe-queues", "wipe-dead-letters", "wipe-unanchored-certificates",
}  # fmt: skip
"""What of the profile is rung here. The rest is switched off: its real servers are not part of this estate."""
SCHEMA = """
CREATE TABLE jobs (id bigserial PRIMARY KEY, queue text NOT NULL, status text NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON jobs (queue, status, created_at);
CREATE TABLE dead_jobs (id bigserial PRIMARY KEY, queue text NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE certificates (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant_id uuid, organization_id uuid,
  status text, anchor_chain_id text, anchor_tx_hash text NOT NULL DEFAULT '', created_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON certificates (created_at) WHERE anchor_tx_hash = '';
INSERT INTO jobs (queue, status) SELECT q, 'done' FROM unnest(ARRAY['proofs.validated', 'certificates.to_anchor',
  'notifications.to_send', 'billing.exports', 'reports.monthly', 'proofs.retry']) q;
INSERT INTO certificates (status, anchor_chain_id, anchor_tx_hash) SELECT 'CERTIFIED', '31337', '0x' || i FROM generate_series(1, 100) i;
"""


@dataclass
class Platform:
    """Wipe's real parts, its daemon and its bell."""

    keycloak: Keycloak
    keycloak_db: PostgreSQL
    minio: MinIO
    database: PostgreSQL
    daemon: Daemon
    bell: Bell
    exports_key: Path

    def give_exports(self, credentials: Credentials) -> None:
        """Rotates the credential that tocsin reads for the exports bucket, as a secret store would."""
        for name, text in (
            ("id", credentials.access_key),
            ("secret", credentials.secret_key),
            ("token", credentials.session_token or ""),
        ):
            (self.exports_key / name).write_text(text)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("ring")
    with ExitStack() as stack:
        database, keycloak_db, minio = PostgreSQL(), PostgreSQL(), MinIO()
        with ThreadPoolExecutor() as pool:
            list(pool.map(stack.enter_context, (database, keycloak_db, minio)))
        keycloak = stack.enter_context(Keycloak(database=keycloak_db))
        keycloak.create_realm("exawipe")
        database.create_database("wipe")
        database.execute(SCHEMA, database="wipe")
        for bucket in BUCKETS.values():
            minio.create_bucket(bucket)
        exports_key = folder / "exports"
        exports_key.mkdir()
        environment = {
            **BUCKETS,
            "KEYCLOAK_MASTER_ISSUER": keycloak.issuer("master"),
            "KEYCLOAK_EXAWIPE_ISSUER": keycloak.issuer("exawipe"),
            "KEYCLOAK_JWKS_CACHE_TTL": "1s",
            "TOCSIN_WIPE_KEYCLOAK_HEALTH_URL": f"{keycloak.management_url}/health/ready",
            "TOCSIN_WIPE_KEYCLOAK_DATABASE_DSN": keycloak_db.dsn(keycloak.database_name),
            "TOCSIN_WIPE_S3_ENDPOINT": minio.url,
            "TOCSIN_WIPE_S3_HEALTH_URL": f"{minio.url}/minio/health/live",
            "TOCSIN_WIPE_S3_ACCESS_KEY_ID": minio.root.access_key,
            "TOCSIN_WIPE_S3_SECRET_ACCESS_KEY": minio.root.secret_key,
            "TOCSIN_WIPE_DATABASE_DSN": database.dsn("wipe"),
            "TOCSIN_WIPE_JOBS_TIME_COLUMN": "created_at",
            "TOCSIN_WIPE_JOBS_WAITING_STATUSES": "queued,retry",
            "TOCSIN_WIPE_DLQ_TABLE": "dead_jobs",
        }
        env_file = folder / "wipe.env"
        env_file.write_text("".join(f"{name}={value}\n" for name, value in environment.items()))
        quick = "{every: 3s, timeout: 2s, retry_every: 500ms}"
        profile = yaml.safe_load((data.folder("profiles") / "wipe.yaml").read_text("utf-8"))["probes"]
        assert profile.keys() >= WATCHED
        off = "".join(f"  {name}: {{enabled: false}}\n" for name in profile if name not in WATCHED)
        own_times = [name for name in sorted(WATCHED) if {"every", "timeout"} & profile[name].keys()]
        config = folder / "tocsin.yaml"
        config.write_text(
            f"version: 1\nprofiles: [wipe]\nenv_file: {env_file}\ndefaults: {quick}\n"
            + "caps: {default: {requests_per_minute: 6000}}\nprobes:\n"
            + "".join(f"  {name}: {quick}\n" for name in own_times if name != "wipe-bucket-exports")
            + off
            + "  wipe-bucket-exports:\n    every: 3s\n    timeout: 2s\n    retry_every: 500ms\n"
            + f"    access_key_id: ${{file:{exports_key}/id}}\n"
            + f"    secret_access_key: ${{file:{exports_key}/secret}}\n"
            + f"    session_token: ${{file:{exports_key}/token}}\n"
        )
        daemon = Daemon(folder, ["--config", str(config)])
        bell = Bell(folder / "rules", f"127.0.0.1:{daemon.port}", f"--rules.alert.resend-delay={RESEND}")
        found = Platform(keycloak, keycloak_db, minio, database, daemon, bell, exports_key)
        found.give_exports(minio.session())
        stack.enter_context(daemon)
        stack.enter_context(bell)
        all_ok(found)
        yield found


def all_ok(platform: Platform) -> None:
    def ok() -> bool:
        probes = platform.daemon.probes()
        return bool(probes) and all(probe["status"] == "ok" for probe in probes.values())

    try:
        platform.daemon.until(ok, "to find everything well", 60)
    except AssertionError as error:
        bad = {name: (p["status"], p["reason"], p["detail"]) for name, p in platform.daemon.probes().items()}
        raise AssertionError(f"{bad}\n{error}") from None


@dataclass(frozen=True)
class Fault:
    incident: str
    cause: Callable[[Platform], object]
    undo: Callable[[Platform], object]
    section: str


DISABLED = Fault(
    "keycloak-outage",
    lambda p: p.keycloak.set_enabled("exawipe", False),
    lambda p: p.keycloak.set_enabled("exawipe", True),
    "wipe/keycloak-outage#oidc_realm.realm_disabled",
)
MOVED = Fault(
    "keycloak-outage",
    lambda p: p.keycloak.set_frontend_url("exawipe", "http://elsewhere.invalid"),
    lambda p: p.keycloak.set_frontend_url("exawipe", None),
    "wipe/keycloak-outage#oidc_realm.issuer_mismatch",
)
KILLED = Fault(
    "keycloak-outage",
    lambda p: p.keycloak.kill(),
    lambda p: p.keycloak.start(),
    "wipe/keycloak-outage#http.connection_refused",
)
KEYCLOAK_DATABASE_STOPPED = Fault(
    "keycloak-outage",
    lambda p: p.keycloak_db.stop(),
    lambda p: p.keycloak_db.start(),
    "wipe/keycloak-outage#postgres.connection_refused",
)
BUCKET_DELETED = Fault(
    "storage-outage",
    lambda p: p.minio.delete_bucket("wipe-certificates"),
    lambda p: p.minio.create_bucket("wipe-certificates"),
    "wipe/storage-outage#s3_bucket.bucket_missing",
)
WRITE_DENIED = Fault(
    "storage-outage",
    lambda p: p.give_exports(p.minio.credentials("wipe-exports", "list", "read", "delete", "bucket")),
    lambda p: p.give_exports(p.minio.session()),
    "wipe/storage-outage#s3_bucket.write_denied",
)
JOB_DEAD = Fault(
    "queues-and-workers",
    lambda p: p.database.execute("INSERT INTO dead_jobs (queue) VALUES ('proofs.validated')", database="wipe"),
    lambda p: p.database.execute("DELETE FROM dead_jobs", database="wipe"),
    "wipe/queues-and-workers#job_queue.dead_letters",
)
DATABASE_STOPPED = Fault(
    "database-outage",
    lambda p: p.database.stop(),
    lambda p: p.database.start(),
    "wipe/database-outage#postgres.connection_refused",
)


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param((DISABLED, BUCKET_DELETED, JOB_DEAD), id="realm-disabled-bucket-deleted-job-dead"),
        pytest.param((MOVED, WRITE_DENIED), id="issuer-moved-write-denied"),
        pytest.param((KILLED, DATABASE_STOPPED), id="keycloak-killed-database-stopped"),
        pytest.param((KEYCLOAK_DATABASE_STOPPED,), id="keycloak-database-stopped"),
    ],
)
def test_each_fault_is_one_page_at_its_section_and_resolves(platform: Platform, faults: tuple[Fault, ...]) -> None:
    all_ok(platform)
    since = time.time()
    for fault in faults:
        fault.cause(platform)
    try:
        for fault in faults:
            assert links(platform.bell.page(fault.incident, "firing", since)) == {fault.section}
        platform.bell.settle()
    finally:
        for fault in faults:
            fault.undo(platform)
    for fault in faults:
        platform.bell.page(fault.incident, "resolved", since, 120)
    platform.bell.settle()
    platform.bell.assert_only(since, {fault.incident for fault in faults})


def test_a_failed_probe_whose_own_credential_then_expires_stays_alerting(platform: Platform) -> None:
    all_ok(platform)
    since = time.time()
    WRITE_DENIED.cause(platform)
    platform.bell.page("storage-outage", "firing", since)
    platform.give_exports(Credentials("expired-key", "expired-secret", "expired-token"))
    daemon = platform.daemon
    try:
        daemon.until(
            lambda: daemon.probes()["wipe-bucket-exports"]["state"]["status"] == "unknown", "not to be able to tell"
        )
        assert daemon.value("tocsin_probe_alerting", probe="wipe-bucket-exports") == 1
        assert daemon.value("tocsin_probe_reason", probe="wipe-bucket-exports", reason="credentials_rejected") == 1
        platform.bell.settle()
        pages = platform.bell.pages(since)
        assert [item.status for item in pages] == ["firing"], [(page.received_at, page.body) for page in pages]
    finally:
        platform.give_exports(platform.minio.session())
    platform.bell.page("storage-outage", "resolved", since, 60)
    platform.bell.settle()
    platform.bell.assert_only(since, {"storage-outage"})

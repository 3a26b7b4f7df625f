"""Wipe's real parts with a daemon and a bell beside them, and what can be done to them: the actions of drills.

To drill another probe here: start what it looks at, name its variables in `environment`, add its name to `PROBES` and its
faults to `ACTIONS`, and name the action as ``estate`` in drills/wipe.yaml.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from estate.servers.keycloak import Keycloak
from estate.servers.minio import Credentials, MinIO
from estate.servers.postgresql import PostgreSQL
from tests.bell import GROUP_INTERVAL, Bell
from tests.daemon import Daemon
from tocsin.paging.drills.catalogue import Drill
from tocsin.paging.drills.judging import Notification
from tocsin.paging.drills.listening import what_is_bad
from tocsin_sandbox.bell import RESEND, notification

ROOT = Path(__file__).parents[2]
EVERY = 3
"""Seconds between two runs of a probe."""

PROBES = (
    "wipe-keycloak-db",
    "wipe-keycloak-health",
    "wipe-realm-master",
    "wipe-realm-exawipe",
    "wipe-storage-health",
    "wipe-bucket-proofs",
    "wipe-bucket-certificates",
    "wipe-bucket-binaries",
    "wipe-bucket-exports",
    "wipe-bucket-billing-drop",
    "wipe-db",
    "wipe-queues",
    "wipe-dead-letters",
    "wipe-unanchored-certificates",
)
BUCKETS = {
    "S3_BUCKET_PROOFS": "wipe-proofs",
    "S3_BUCKET_CERTIFICATES": "wipe-certificates",
    "S3_BUCKET_BINARIES": "wipe-binaries",
    "S3_BUCKET_EXPORTS": "wipe-exports",
    "S3_BUCKET_BILLING_DROP": "wipe-billing-drop",
}
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

    def allow_exports(self, *operations: str) -> None:
        """Rotates it to one that may do only this."""
        self.give_exports(self.minio.credentials("wipe-exports", *operations))

    def sql(self, *statements: str) -> None:
        for statement in statements:
            self.database.execute(statement, database="wipe")


@contextmanager
def wipe_platform(folder: Path) -> Iterator[Platform]:
    """Everything started; the daemon watches `PROBES`."""
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
        exports_key = folder / "exports"
        exports_key.mkdir()
        config = folder / "tocsin.yaml"
        config.write_text(yaml.safe_dump(_configuration(env_file, exports_key)))
        daemon = Daemon(folder, ["--config", str(config)])
        bell = Bell(folder / "rules", f"127.0.0.1:{daemon.port}", f"--rules.alert.resend-delay={RESEND}")
        found = Platform(keycloak, keycloak_db, minio, database, daemon, bell, exports_key)
        found.give_exports(minio.session())
        stack.enter_context(daemon)
        stack.enter_context(bell)
        yield found


def _configuration(env_file: Path, exports_key: Path) -> dict[str, object]:
    quick = {"every": f"{EVERY}s", "timeout": "2s", "retry_every": "500ms"}
    bundled = yaml.safe_load((ROOT / "profiles/wipe.yaml").read_text())["probes"]
    probes: dict[str, dict[str, object]] = {
        name: dict(quick) if name in PROBES else {"enabled": False} for name in bundled
    }
    probes["wipe-bucket-exports"] |= {
        "access_key_id": f"${{file:{exports_key}/id}}",
        "secret_access_key": f"${{file:{exports_key}/secret}}",
        "session_token": f"${{file:{exports_key}/token}}",
    }
    return {
        "version": 1,
        "profiles": ["wipe"],
        "env_file": str(env_file),
        "caps": {"default": {"requests_per_minute": 6000}},
        "probes": probes,
    }


Act = Callable[[Platform], object]

ACTIONS: dict[str, tuple[Act, Act]] = {
    "disable-realm": (
        lambda p: p.keycloak.set_enabled("exawipe", False),
        lambda p: p.keycloak.set_enabled("exawipe", True),
    ),
    "move-issuer": (
        lambda p: p.keycloak.set_frontend_url("exawipe", "http://elsewhere.invalid"),
        lambda p: p.keycloak.set_frontend_url("exawipe", None),
    ),
    "kill-keycloak": (lambda p: p.keycloak.kill(), lambda p: p.keycloak.start()),
    "freeze-keycloak": (lambda p: p.keycloak.pause(), lambda p: p.keycloak.resume()),
    "stop-keycloak-database": (lambda p: p.keycloak_db.stop(), lambda p: p.keycloak_db.start()),
    "stop-storage": (lambda p: p.minio.stop(), lambda p: p.minio.start()),
    "freeze-storage": (lambda p: p.minio.pause(), lambda p: p.minio.resume()),
    "delete-bucket": (
        lambda p: p.minio.delete_bucket("wipe-certificates"),
        lambda p: p.minio.create_bucket("wipe-certificates"),
    ),
    "deny-write": (
        lambda p: p.allow_exports("list", "read", "delete", "bucket"),
        lambda p: p.give_exports(p.minio.session()),
    ),
    "deny-read": (
        lambda p: p.allow_exports("list", "write", "delete", "bucket"),
        lambda p: p.give_exports(p.minio.session()),
    ),
    "deny-delete": (
        lambda p: p.allow_exports("list", "read", "write", "bucket"),
        lambda p: p.give_exports(p.minio.session()),
    ),
    "revoke-storage-key": (
        lambda p: p.give_exports(Credentials("revoked-key", "revoked-secret", "revoked-token")),
        lambda p: p.give_exports(p.minio.session()),
    ),
    "stop-database": (lambda p: p.database.stop(), lambda p: p.database.start()),
    "freeze-database": (lambda p: p.database.pause(), lambda p: p.database.resume()),
    "make-database-read-only": (
        lambda p: p.sql("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"),
        lambda p: p.sql("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()"),
    ),
    "bury-job": (
        lambda p: p.sql("INSERT INTO dead_jobs (queue) VALUES ('certificates.to_anchor')"),
        lambda p: p.sql("DELETE FROM dead_jobs"),
    ),
    "age-jobs": (
        lambda p: p.sql(
            "INSERT INTO jobs (queue, status, created_at) "
            "SELECT 'billing.exports', 'queued', now() - interval '2 hours' FROM generate_series(1, 20)"
        ),
        lambda p: p.sql("DELETE FROM jobs WHERE status = 'queued'"),
    ),
    "pile-up-jobs": (
        lambda p: p.sql(
            "INSERT INTO jobs (queue, status) SELECT 'notifications.to_send', 'queued' FROM generate_series(1, 2000)"
        ),
        lambda p: p.sql("DELETE FROM jobs WHERE status = 'queued'"),
    ),
    "rename-jobs-table": (
        lambda p: p.sql("ALTER TABLE jobs RENAME TO jobs_renamed"),
        lambda p: p.sql("ALTER TABLE jobs_renamed RENAME TO jobs"),
    ),
    "leave-certificates-unanchored": (
        lambda p: p.sql(
            "INSERT INTO certificates (status, anchor_chain_id, created_at) "
            "SELECT 'CERTIFIED', 'drill', now() - interval '3 hours' FROM generate_series(1, 60)"
        ),
        lambda p: p.sql("DELETE FROM certificates WHERE anchor_chain_id = 'drill'"),
    ),
}
"""What a drill's ``estate`` names: how it is caused, how it is undone."""


@dataclass(frozen=True)
class EstateStage:
    """The real servers as the stage of drills."""

    platform: Platform

    async def well(self, drills: Sequence[Drill]) -> str:
        return await what_is_bad(self.platform.daemon.url, {drill.group for drill in drills})

    async def cause(self, drill: Drill) -> None:
        await asyncio.to_thread(ACTIONS[drill.estate][0], self.platform)

    async def undo(self, drill: Drill) -> None:
        await asyncio.to_thread(ACTIONS[drill.estate][1], self.platform)


@dataclass(frozen=True)
class EstateBell:
    """A real Prometheus and Alertmanager as the bell of drills."""

    platform: Platform
    receiver: str = "page"
    settle_seconds: float = 2.0 * GROUP_INTERVAL + 1

    async def heard(self, since: float) -> list[Notification]:
        came = self.platform.bell.receiver.notifications()
        return [
            notification(item.path.removeprefix("/"), item.body, item.received_at)
            for item in came
            if item.received_at >= since and item.path != "/watchdog"
        ]

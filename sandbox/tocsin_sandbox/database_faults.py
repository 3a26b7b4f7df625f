"""Faults of Wipe's database, its queues and its certificates: real rows, real locks, a server really stopped."""

from __future__ import annotations

from tocsin_sandbox.estate import Estate
from tocsin_sandbox.fault import Act, Fault
from tocsin_sandbox.postgresql import CONNECTIONS
from tocsin_sandbox.wipe import DATABASE, ORGANIZATION, TENANT
from tocsin_sandbox.wipe_environment import STALLED_SECONDS

_HELD_SHARE = 0.9
_WORKED = "proofs.validated"


async def _stop(estate: Estate) -> None:
    await estate.database.stop()


async def _start(estate: Estate) -> None:
    await estate.database.start()


async def _freeze(estate: Estate) -> None:
    estate.database.freeze()


async def _thaw(estate: Estate) -> None:
    estate.database.thaw()


def _sql(*statements: str) -> Act:
    async def act(estate: Estate) -> None:
        await estate.database.execute_each(statements, database=DATABASE)

    return act


async def _saturate(estate: Estate) -> None:
    while len(estate.held) < round(CONNECTIONS * _HELD_SHARE):
        estate.held.append(await estate.database.connect(DATABASE))


async def _release(estate: Estate) -> None:
    await estate.release()


async def _stop_worker(estate: Estate) -> None:
    estate.life.idle_queues.add(_WORKED)
    await estate.database.execute("INSERT INTO jobs (queue) VALUES ($1)", _WORKED, database=DATABASE)


async def _start_worker(estate: Estate) -> None:
    estate.life.idle_queues.discard(_WORKED)
    await estate.database.execute("UPDATE jobs SET status = 'done' WHERE queue = $1", _WORKED, database=DATABASE)


async def _forget_jobs(estate: Estate) -> None:
    await estate.database.execute("DELETE FROM jobs WHERE payload ? 'fault'", database=DATABASE)


def _fault(
    name: str,
    title: str,
    effect: str,
    incident: str,
    probe: str,
    reason: str,
    cause: Act,
    undo: Act,
    develops: float = 0.0,
) -> Fault:
    return Fault(name, title, effect, "wipe", incident, probe, reason, cause, undo, develops=develops)


_MARK = """'{"fault": true}'"""
_DATABASE = "database-outage"
_QUEUES = "queues-and-workers"
_ANCHORS = "chain-or-anchor-outage"
_UNANCHORED = f"""INSERT INTO certificates (tenant_id, organization_id, status, created_at, anchor_chain_id)
    SELECT '{TENANT}', '{ORGANIZATION}', 'CERTIFIED_NO_ANCHOR', now() - interval '3 hours', 'fault'
    FROM generate_series(1, 60)"""

FAULTS = (
    _fault(
        "database-stopped", "Wipe's PostgreSQL is down", "The server is shut down: connections are refused.",
        _DATABASE, "wipe-db", "connection_refused", _stop, _start,
    ),
    _fault(
        "database-silent", "Wipe's PostgreSQL hangs", "Its processes are stopped (SIGSTOP): it accepts, never answers.",
        _DATABASE, "wipe-db", "timeout", _freeze, _thaw,
    ),
    _fault(
        "database-read-only", "Wipe's database takes no writes", "default_transaction_read_only is on for the server.",
        _DATABASE, "wipe-db", "read_only",
        _sql("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"),
        _sql("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()"),
    ),
    _fault(
        "database-saturated", "Almost all database connections are taken",
        f"{_HELD_SHARE:.0%} of the {CONNECTIONS} connections are held open.",
        _DATABASE, "wipe-db", "saturated", _saturate, _release,
    ),
    _fault(
"worker-stopped", "The proof worker takes no jobs", "proofs.validated is no longer consumed; its jobs pile up.",
        _QUEUES, "wipe-queues", "stalled", _stop_worker, _start_worker, develops=STALLED_SECONDS + 1,
    ),
    _fault(
        "jobs-old", "Exports have waited for two hours", "20 jobs of billing.exports, two hours old, are not taken.",
        _QUEUES, "wipe-queues", "backlog",
        _sql(f"INSERT INTO jobs (queue, payload, created_at) SELECT 'billing.exports', {_MARK}, "
             "now() - interval '2 hours' FROM generate_series(1, 20)"),
        _forget_jobs,
    ),
    _fault(
        "queue-backlog", "Notifications pile up", "2,000 fresh jobs wait in notifications.to_send.",
        _QUEUES, "wipe-queues", "backlog",
        _sql(f"INSERT INTO jobs (queue, payload) SELECT 'notifications.to_send', {_MARK} "
             "FROM generate_series(1, 2000)"),
        _forget_jobs,
    ),
    _fault(
        "dead-letter", "An anchor job was dead-lettered", "A row of certificates.to_anchor is in the dead letters.",
        _QUEUES, "wipe-dead-letters", "dead_letters",
        _sql("WITH waiting AS (INSERT INTO certificates (tenant_id, organization_id, status, created_at, "
             f"anchor_chain_id) VALUES ('{TENANT}', '{ORGANIZATION}', 'CERTIFIED_NO_ANCHOR', "
             "now() - interval '10 minutes', 'fault') RETURNING id) "
             "INSERT INTO dead_letter_jobs (queue, payload, error, attempts) "
             "SELECT 'certificates.to_anchor', jsonb_build_object('fault', true, 'certificate_id', id), "
             "'insufficient funds for gas', 8 FROM waiting"),
        _sql("DELETE FROM certificates WHERE id::text IN (SELECT payload->>'certificate_id' FROM dead_letter_jobs "
             "WHERE payload ? 'fault')", "DELETE FROM dead_letter_jobs WHERE payload ? 'fault'"),
    ),
    _fault(
        "jobs-table-missing", "The jobs table is gone", "The table is renamed to jobs_renamed.",
        _QUEUES, "wipe-queues", "table_missing",
        _sql("ALTER TABLE IF EXISTS jobs RENAME TO jobs_renamed"),
        _sql("ALTER TABLE IF EXISTS jobs_renamed RENAME TO jobs"),
    ),
    _fault(
        "jobs-column-renamed", "A column of jobs was renamed", "jobs.created_at is renamed to enqueued_at.",
        _QUEUES, "wipe-queues", "column_missing",
        _sql("ALTER TABLE jobs RENAME COLUMN created_at TO enqueued_at"),
        _sql("DO $$ BEGIN ALTER TABLE jobs RENAME COLUMN enqueued_at TO created_at; "
             "EXCEPTION WHEN undefined_column THEN NULL; END $$"),
    ),
    _fault(
        "certificates-unanchored", "Certificates stay without an anchor",
        "60 certificates of three hours ago have no transaction hash.",
        _ANCHORS, "wipe-unanchored-certificates", "too_many",
        _sql(_UNANCHORED), _sql("DELETE FROM certificates WHERE anchor_chain_id = 'fault'"),
    ),
    _fault(
        "certificates-denied", "The monitor may no longer read certificates", "SELECT is revoked from its role.",
        _ANCHORS, "wipe-unanchored-certificates", "permission_denied",
        _sql("REVOKE SELECT ON certificates FROM tocsin"), _sql("GRANT SELECT ON certificates TO tocsin"),
    ),
)  # fmt: skip

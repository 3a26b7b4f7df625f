"""What every query of the Wipe profile costs a database with 5 million jobs and a million certificates and proofs.

python -m bench.sql_queries [--jobs 5000000] [--others 1000000]

The server itself says what ran, how, and for how long (auto_explain), while each probe of the profile runs as the daemon
runs it. The schema and its indexes are the practice estate's.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import asyncpg

from estate.servers.postgresql import PostgreSQL
from tests.probing import probe_once
from tocsin.config import Registry, Sources, load
from tocsin.model import ProbeSpec
from tocsin.sdk import Probe, ProbeContext
from tocsin_probes.chain_rpc import ChainRpc
from tocsin_probes.chain_rpc.anchor import recorded

DATABASE = "wipe"
MOST_MILLISECONDS = 200.0
BIG = ("jobs", "certificates", "proofs", "verification_logs")
"""Tables that grow with the platform's use; one of the others is read as a whole more cheaply than by an index."""

ELSEWHERE = {"wipe-receipt-chain": "the hash-chain walk has a benchmark of its own, bench.chain.compare"}
"""Probes that read the database and are not measured here, and why."""

_EXPLAINING = {
    "shared_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_timing": "off",
    "auto_explain.log_analyze": "on",
    "max_wal_size": "8GB",
    "shared_buffers": "128MB",
}
_LOGGED = re.compile(r"duration: ([\d.]+) ms  plan:\n(.*?)(?=\n\d{4}-\d\d-\d\d |\Z)", re.DOTALL)
_WHOLE = re.compile(r"Seq Scan on (\w+)")

_FILL = (
    """INSERT INTO jobs (queue, status, attempts, created_at)
    SELECT (ARRAY['proofs.validated', 'certificates.to_anchor', 'notifications.to_send', 'billing.exports'])[1 + n % 4],
      CASE WHEN n % 50 = 0 THEN 'queued' WHEN n % 5000 = 1 THEN 'running' ELSE 'done' END, n % 4,
      now() - n * interval '1 second'
    FROM generate_series(1, {jobs}) AS n""",
    """INSERT INTO proofs (tenant_id, organization_id, status, object_key, created_at)
    SELECT '{tenant}', '{tenant}',
      CASE WHEN n <= 300 THEN (ARRAY['AWAITING_LICENSE', 'SIGNING', 'FAILED'])[1 + n % 3]
           ELSE (ARRAY['CERTIFIED', 'REJECTED', 'CERTIFIED_NO_ANCHOR'])[1 + n % 3] END,
      n || '.der', now() - n * interval '1 minute'
    FROM generate_series(1, {others}) AS n""",
    """INSERT INTO certificates (tenant_id, organization_id, status, anchor_chain_id, anchor_tx_hash, pdf_key, json_key,
      created_at)
    SELECT '{tenant}', '{tenant}', CASE WHEN n % 100 = 0 THEN 'CERTIFIED_NO_ANCHOR' ELSE 'CERTIFIED' END, '1',
      CASE WHEN n % 100 = 0 THEN '' ELSE '0x' || md5(n::text) || md5(n::text) END, n || '.pdf', n || '.json',
      now() - n * interval '1 minute'
    FROM generate_series(1, {others}) AS n""",
    """INSERT INTO dead_letter_jobs (queue, payload, error, attempts)
    SELECT 'proofs.validated', jsonb_build_object('proof_id', id), 'timeout', 8 FROM (SELECT id FROM proofs LIMIT {dead})
    AS dead UNION ALL SELECT 'certificates.to_anchor', jsonb_build_object('certificate_id', id), 'timeout', 8
    FROM (SELECT id FROM certificates LIMIT {dead}) AS dead""",
    """INSERT INTO verification_logs (result, source_ip, created_at)
    SELECT CASE WHEN n % 3 = 0 THEN 'RATE_LIMITED' ELSE 'VALID' END, ('198.51.100.' || n % 250)::inet,
      now() - n * interval '100 milliseconds'
    FROM generate_series(1, {others}) AS n""",
    "VACUUM ANALYZE",
)

_TENANT = "11111111-1111-4111-8111-111111111111"


@dataclass(frozen=True)
class Cost:
    """What one statement of a probe cost. ``whole``: big tables that were read as a whole."""

    probe: str
    milliseconds: float
    whole: tuple[str, ...]
    plan: str


@contextmanager
def filled(jobs: int, others: int) -> Iterator[PostgreSQL]:
    """A server with the practice estate's schema: jobs of which one in 50 waits, and ``others`` rows in the other big
    tables: one in 100 certificates unanchored, a log of some days with 3,000 events in the last five minutes."""
    with PostgreSQL(settings=_EXPLAINING) as server:
        server.create_database(DATABASE)
        asyncio.run(_fill(server.dsn(DATABASE), jobs, others))
        yield server


async def _fill(dsn: str, jobs: int, others: int) -> None:
    connection = await asyncpg.connect(dsn, server_settings={"auto_explain.log_min_duration": "-1"})
    try:
        await connection.execute(files("tocsin_sandbox").joinpath("wipe.sql").read_text("utf-8"))
        for statement in _FILL:
            sizes = {"jobs": jobs, "others": others, "dead": min(5000, others // 10), "tenant": _TENANT}
            await connection.execute(statement.format(**sizes))
    finally:
        await connection.close()


def specs(dsn: str, **more: str) -> Mapping[str, ProbeSpec]:
    """The profile's probes that have a query of their own, as an operator of that schema configures them. ``more``: further
    variables."""
    variables = {
        "TOCSIN_WIPE_DATABASE_DSN": dsn,
        "TOCSIN_WIPE_KEYCLOAK_DATABASE_DSN": dsn,
        "TOCSIN_WIPE_JOBS_TIME_COLUMN": "created_at",
        "TOCSIN_WIPE_JOBS_WAITING_STATUSES": "queued",
        "TOCSIN_WIPE_DLQ_TABLE": "dead_letter_jobs",
        "TOCSIN_WIPE_CERTIFICATE_PDF_KEY_COLUMN": "pdf_key",
        "TOCSIN_WIPE_CERTIFICATE_JSON_KEY_COLUMN": "json_key",
        "TOCSIN_WIPE_VERIFICATION_LOG_SOURCE_COLUMN": "source_ip",
        "TOCSIN_WIPE_REPORTS_TABLE": "monthly_reports",
        "TOCSIN_WIPE_MAINTENANCE_QUERY": "SELECT finished_at FROM maintenance_runs",
        "TOCSIN_WIPE_SMOKE_ENABLED": "true",
        "TOCSIN_WIPE_SMOKE_TENANT": _TENANT,
        "BLOCKCHAIN_ENABLED": "true",
        "TOCSIN_WIPE_CHAIN_RPC_URL": "http://127.0.0.1:9",
        "TOCSIN_WIPE_CHAIN_ID": "1",
        "TOCSIN_WIPE_CHAIN_SENDER": "0x" + "1" * 40,
        "TOCSIN_WIPE_CHAIN_REGISTRY": "0x" + "2" * 40,
        "TOCSIN_WIPE_CHAIN_PERMISSION_CALL": "0x1",
        "TOCSIN_WIPE_S3_ENDPOINT": "http://127.0.0.1:9",
        "TOCSIN_WIPE_S3_ACCESS_KEY_ID": "nobody",
        "TOCSIN_WIPE_S3_SECRET_ACCESS_KEY": "nothing",
        "S3_BUCKET_CERTIFICATES": "certificates",
        **more,
    }
    configuration = load(Sources(None, profiles=("wipe",), environ=variables), Registry.discover())
    asking = {name: spec for name, spec in configuration.probes.items() if _asks(spec)}
    unset = {name: spec.missing for name, spec in asking.items() if spec.settings is None and name not in ELSEWHERE}
    assert not unset, unset
    return {name: spec for name, spec in asking.items() if name not in ELSEWHERE}


def _asks(spec: ProbeSpec) -> bool:
    kinds = ("job_queue", "sql_rows", "event_rate", "postgres", "chain_rpc", "s3_object", "hash_chain")
    return spec.kind in kinds or (spec.kind == "heartbeat" and getattr(spec.settings, "query", None) is not None)


class _Anchor(Probe):
    """What the chain's probe asks the database, without the chain."""

    Reason = ChainRpc.Reason

    async def run(self, ctx: ProbeContext) -> Any:
        await recorded(ctx, self.settings.anchor)


async def costs(server: PostgreSQL, spec: ProbeSpec) -> list[Cost]:
    """Of every statement of one run, from the server's log. Raises `AssertionError` when there was none."""
    kind: type[Probe] = _Anchor if spec.kind == "chain_rpc" else Registry.discover()[spec.kind]
    before = len(server.log.read_bytes())
    seen = await probe_once(kind(spec.settings), timeout=60.0)
    logged = server.log.read_bytes()[before:].decode()
    found = [
        Cost(spec.name, float(milliseconds), tuple(t for t in _WHOLE.findall(plan) if t in BIG), plan)
        for milliseconds, plan in _LOGGED.findall(logged)
    ]
    assert found, f"{spec.name} asked the database nothing: {seen.detail}"
    return found


async def _report(server: PostgreSQL) -> bool:
    worst: list[Cost] = []
    for spec in specs(server.dsn(DATABASE)).values():
        # The second run: what the first one read is then in memory, as it is between two runs of a daemon.
        await costs(server, spec)
        worst.append(max(await costs(server, spec), key=lambda cost: (bool(cost.whole), cost.milliseconds)))
    for cost in sorted(worst, key=lambda cost: -cost.milliseconds):
        print(
            f"{cost.milliseconds:8.1f} ms  {cost.probe}  {'reads all of ' + ', '.join(cost.whole) if cost.whole else ''}"
        )
    return all(not cost.whole and cost.milliseconds < MOST_MILLISECONDS for cost in worst)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=5_000_000)
    parser.add_argument("--others", type=int, default=1_000_000)
    sizes = parser.parse_args()
    with filled(sizes.jobs, sizes.others) as server:
        sys.exit(0 if asyncio.run(_report(server)) else 1)


if __name__ == "__main__":
    main()

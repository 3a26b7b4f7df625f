"""The doctor on the sandbox: from addresses and credentials alone it finds what the sandbox's own configuration says."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from estate.servers.postgresql import PostgreSQL
from tocsin.cli.application import app
from tocsin.config.envfile import parse_env_file
from tocsin.doctor.examining import examine
from tocsin.doctor.questions import Questions, questions_of
from tocsin_sandbox import environment
from tocsin_sandbox.session import Plan, Session
from tocsin_sandbox.wipe import DATABASE

pytestmark = pytest.mark.estate


USUAL = {
    "TOCSIN_WIPE_JOBS_ENDED_STATUSES": "done",
    "TOCSIN_WIPE_JOBS_ATTEMPTS_COLUMN": "attempts",
    "TOCSIN_WIPE_PROOFS_TABLE": "proofs",
    "TOCSIN_WIPE_PROOFS_TIME_COLUMN": "created_at",
    "TOCSIN_WIPE_PROOFS_ID_COLUMN": "id",
    "TOCSIN_WIPE_PROOFS_STATUS_COLUMN": "status",
    "TOCSIN_WIPE_PROOFS_TENANT_COLUMN": "tenant_id",
    "TOCSIN_WIPE_PROOFS_ORGANIZATION_COLUMN": "organization_id",
    "TOCSIN_WIPE_CERTIFICATES_TABLE": "certificates",
    "TOCSIN_WIPE_VERIFICATION_LOG_TABLE": "verification_logs",
    "TOCSIN_WIPE_VERIFICATION_LOG_TIME_COLUMN": "created_at",
    "TOCSIN_WIPE_VERIFICATION_LOG_RESULT_COLUMN": "result",
    "TOCSIN_WIPE_GRANTS_TABLE": "license_grants",
    "TOCSIN_WIPE_GRANTS_FROM_COLUMN": "valid_from",
    "TOCSIN_WIPE_GRANTS_UNTIL_COLUMN": "valid_until",
    "TOCSIN_WIPE_ALLOCATIONS_TABLE": "license_allocations",
    "TOCSIN_WIPE_ALLOCATIONS_PARENT_COLUMN": "parent_id",
    "TOCSIN_WIPE_ALLOCATIONS_USED_COLUMN": "consumed",
    "TOCSIN_WIPE_REPORTS_PERIOD_COLUMN": "period",
}
"""What the sandbox has where the profile's default is right, so that its environment does not set it."""

ELSEWHERE = """
    CREATE SCHEMA work;
    CREATE TABLE work.jobs (id bigint, queue text, status text, retry_count int, available_at timestamptz);
    INSERT INTO work.jobs SELECT n, 'q', CASE n % 3 WHEN 0 THEN 'ready' WHEN 1 THEN 'claimed' ELSE 'completed' END, 0, now()
        FROM generate_series(1, 30) AS n;
    CREATE INDEX ON work.jobs (status, id);
    CREATE TABLE jobs_dlq (id bigint, queue_name text, proof_id uuid, certificate_id uuid, failed_at timestamptz);
    CREATE TABLE proofs (proof_id uuid PRIMARY KEY, state text, tenant uuid, org_id uuid, submitted_at timestamptz);
    CREATE TABLE certificate (id uuid PRIMARY KEY, status text, anchor_tx_hash text, created_at timestamptz,
        pdf_object_key text, pdf_checksum text, canonical_key text, canonical_hash text);
    CREATE TABLE verification_log (verified_at timestamp, outcome text, client_ip inet, certificate_number text);
    CREATE TABLE grants (grant_id text, starts_on date, ends_on date);
    CREATE TABLE allocations (grant_id text, organization_id uuid, quantity int, used int, parent_allocation_id uuid);
    CREATE TABLE reports (month date);
    CREATE TABLE consumption_receipts (seq bigint, receipt_hash bytea, prev_hash bytea);
    CREATE TABLE chain_verifications (completed_at timestamptz);
"""


async def test_the_doctor_finds_tables_columns_and_values_under_other_names(
    postgresql: PostgreSQL, database: str
) -> None:
    postgresql.execute(ELSEWHERE, database=database)
    findings = await examine(asked(), {"TOCSIN_WIPE_DATABASE_DSN": postgresql.dsn(database)})
    found = {p.variable.removeprefix("TOCSIN_WIPE_"): p.value for p in findings.proposals if p.value}
    assert found == {
        "JOBS_TABLE": "work.jobs",
        "JOBS_TIME_COLUMN": "available_at",
        "JOBS_WAITING_STATUSES": "ready",
        "JOBS_RUNNING_STATUSES": "claimed",
        "JOBS_ENDED_STATUSES": "completed",
        "JOBS_ATTEMPTS_COLUMN": "retry_count",
        "DLQ_TABLE": "jobs_dlq",
        "DLQ_QUEUE_COLUMN": "queue_name",
        "DLQ_TIME_COLUMN": "failed_at",
        "DLQ_PROOF_ID": "proof_id",
        "DLQ_CERTIFICATE_ID": "certificate_id",
        "PROOFS_TABLE": "proofs",
        "PROOFS_TIME_COLUMN": "submitted_at",
        "PROOFS_ID_COLUMN": "proof_id",
        "PROOFS_STATUS_COLUMN": "state",
        "PROOFS_TENANT_COLUMN": "tenant",
        "PROOFS_ORGANIZATION_COLUMN": "org_id",
        "CERTIFICATES_TABLE": "certificate",
        "CERTIFICATE_PDF_KEY_COLUMN": "pdf_object_key",
        "CERTIFICATE_PDF_CHECKSUM": "pdf_checksum",
        "CERTIFICATE_JSON_KEY_COLUMN": "canonical_key",
        "CERTIFICATE_JSON_CHECKSUM": "canonical_hash",
        "ANCHOR_PAYLOAD_COLUMN": "canonical_hash",
        "VERIFICATION_LOG_TABLE": "verification_log",
        "VERIFICATION_LOG_TIME_COLUMN": "verified_at",
        "VERIFICATION_LOG_RESULT_COLUMN": "outcome",
        "VERIFICATION_LOG_SOURCE_COLUMN": "client_ip",
        "VERIFICATION_LOG_IDENTIFIER_COLUMN": "certificate_number",
        "GRANTS_TABLE": "grants",
        "GRANTS_FROM_COLUMN": "starts_on",
        "GRANTS_UNTIL_COLUMN": "ends_on",
        "ALLOCATIONS_TABLE": "allocations",
        "ALLOCATIONS_PARENT_COLUMN": "parent_allocation_id",
        "ALLOCATIONS_USED_COLUMN": "used",
        "REPORTS_TABLE": "reports",
        "REPORTS_PERIOD_COLUMN": "month",
        "RECEIPTS_TABLE": "consumption_receipts",
        "RECEIPTS_ORDER": "seq",
        "RECEIPTS_MAC_COLUMN": "receipt_hash",
        "RECEIPTS_PREVIOUS_COLUMN": "prev_hash",
        "MAINTENANCE_QUERY": "SELECT completed_at FROM chain_verifications",
    }
    assert dict(findings.indexes) == {
        "wipe-queues": "CREATE INDEX CONCURRENTLY ON work.jobs (queue, status, available_at);",
        "wipe-dead-letters": "CREATE INDEX CONCURRENTLY ON jobs_dlq (queue_name, failed_at);",
        "wipe-proofs-stalled": "CREATE INDEX CONCURRENTLY ON proofs (state, submitted_at);",
        "wipe-unanchored-certificates": "CREATE INDEX CONCURRENTLY ON certificate (anchor_tx_hash);",
        "wipe-certificate-pdf": "CREATE INDEX CONCURRENTLY ON certificate (created_at);",
        "wipe-verification-events": "CREATE INDEX CONCURRENTLY ON verification_log (verified_at);",
    }


async def test_a_status_that_few_jobs_have_is_found_by_the_server_s_statistics(
    postgresql: PostgreSQL, database: str
) -> None:
    postgresql.execute(
        """CREATE TABLE jobs (queue text, status text);
        INSERT INTO jobs SELECT 'q', 'done' FROM generate_series(1, 100000);
        INSERT INTO jobs SELECT 'q', 'queued' FROM generate_series(1, 5000); ANALYZE""",
        database=database,
    )
    findings = await examine(asked(), {"TOCSIN_WIPE_DATABASE_DSN": postgresql.dsn(database)})
    proposed = {proposal.variable: proposal.value for proposal in findings.proposals}
    assert proposed["TOCSIN_WIPE_JOBS_WAITING_STATUSES"] == "queued"


def asked() -> Questions:
    questions = questions_of("wipe")
    assert questions is not None
    return questions


async def test_the_doctor_proposes_what_the_sandbox_is_configured_with_and_only_reads(tmp_path: Path) -> None:
    questions = asked()
    async with await Session(Plan(), lambda name: None).start() as session:
        estate = session.estate
        whole = environment.variables(estate)
        # A job that waits, so that its status can be seen.
        await estate.database.execute(
            "INSERT INTO jobs (queue, payload) VALUES ('reports.monthly', '{\"fault\": true}')", database=DATABASE
        )
        bare = {name: value for name, value in whole.items() if name not in questions.questions}
        # Keycloak's management port is another one, which an operator knows.
        bare["KEYCLOAK_MASTER_ISSUER"] = estate.keycloak_management.url
        findings = await examine(questions, bare)
        proposed = {proposal.variable: proposal.value for proposal in findings.proposals}
        assert findings.troubles == []
        assert proposed == {name: whole.get(name, USUAL.get(name, "")) for name in questions.questions}
        assert findings.indexes == []
        await estate.database.execute("DROP INDEX jobs_open", database=DATABASE)
        (index,) = (await examine(questions, bare)).indexes
        assert index == ("wipe-queues", "CREATE INDEX CONCURRENTLY ON jobs (queue, status, created_at);")
        env = tmp_path / "wipe.env"
        env.write_text(environment.render_env_file(bare))
        target = tmp_path / "proposal.env"
        await _write(env, target)
        written = parse_env_file(target.read_bytes(), "proposal.env", {})
        assert written == {name: value for name, value in proposed.items() if value}


async def _write(env: Path, target: Path) -> None:
    command = (sys.executable, "-m", "tocsin.cli", "doctor", "--profile", "wipe", "--env-file", env, "--write", target)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")}
    for expected in (0, 2):  # the second time the file is there already, and is left alone
        process = await asyncio.create_subprocess_exec(*map(str, command), env=clean)
        assert await process.wait() == expected


def test_without_a_database_the_doctor_says_so_and_fails() -> None:
    dsn = "postgresql://u:hush@127.0.0.1:1/wipe"
    result = CliRunner().invoke(app, ["doctor", "--profile", "wipe"], env={"TOCSIN_WIPE_DATABASE_DSN": dsn})
    assert result.exit_code == 1
    assert "the database of TOCSIN_WIPE_DATABASE_DSN: connection_refused" in result.output
    assert "hush" not in result.output


def test_a_profile_without_questions_is_a_usage_error() -> None:
    result = CliRunner().invoke(app, ["doctor", "--profile", "nobody"])
    assert (result.exit_code, result.output) == (2, "tocsin doctor: there are no questions about the profile nobody\n")

"""The Wipe profile's own queries on the practice estate's schema: what they find, and what they must not miss."""

from __future__ import annotations

from importlib.resources import files

import pytest

from bench.sql_queries import specs
from estate.servers.postgresql import PostgreSQL
from tests.probing import Probed, probe_once
from tocsin.config import Registry
from tocsin_sandbox.wipe import ORGANIZATION, TENANT

pytestmark = pytest.mark.estate

DEAD = "INSERT INTO dead_letter_jobs (queue, payload, error, attempts) VALUES"


class Wipe:
    """The platform's database, and the profile's probes of it."""

    def __init__(self, server: PostgreSQL, database: str) -> None:
        self.dsn = server.dsn(database)
        self._server, self._database = server, database
        self.sql(files("tocsin_sandbox").joinpath("wipe.sql").read_text("utf-8"))

    def sql(self, statement: str) -> list[tuple[str, ...]]:
        return self._server.execute(statement, database=self._database)

    def made(self, statement: str) -> str:
        """The id of the one row that the INSERT makes."""
        return self.sql(f"{statement} RETURNING id")[0][0]

    async def probe(self, name: str, **variables: str) -> Probed:
        spec = specs(self.dsn, **variables)[name]
        return await probe_once(Registry.discover()[spec.kind](spec.settings))


@pytest.fixture
def wipe(postgresql: PostgreSQL, database: str) -> Wipe:
    return Wipe(postgresql, database)


def proof(status: str) -> str:
    return (
        "INSERT INTO proofs (tenant_id, organization_id, status, object_key) "
        f"VALUES ('{TENANT}', '{ORGANIZATION}', '{status}', 'x')"
    )


def certificate(status: str, anchor: str, age: str = "1 hour", key: str = "x") -> str:
    return (
        "INSERT INTO certificates (tenant_id, organization_id, status, anchor_tx_hash, created_at, pdf_key) "
        f"VALUES ('{TENANT}', '{ORGANIZATION}', '{status}', '{anchor}', now() - interval '{age}', '{key}')"
    )


async def test_dead_letters_of_proofs_are_eligible_or_not_and_both_are_counted(wipe: Wipe) -> None:
    probe = "wipe-replay-ineligible"
    assert (await wipe.probe(probe)).verdict == ("ok", None)
    failed, certified = wipe.made(proof("FAILED")), wipe.made(proof("CERTIFIED"))
    wipe.sql(f"""{DEAD} ('proofs.validated', '{{"proof_id": "{failed}"}}', '', 8)""")
    well = await wipe.probe(probe)
    assert well.verdict == ("ok", None)
    assert well.detail == "0 rows, eligible: 1"
    assert well.measured("tocsin_rows_beside", query="eligible") == 1
    wipe.sql(f"""{DEAD} ('proofs.retry', '{{"proof_id": "{certified}"}}', '', 8),
        ('certificates.to_anchor', '{{}}', '', 8)""")
    seen = await wipe.probe(probe)
    assert seen.verdict == ("failed", "too_many")
    assert seen.detail == "1 rows, the limit is 0, eligible: 1"


@pytest.mark.parametrize(
    "payload",
    [
        "{}",
        '{"proofId": "x"}',
        '{"proof_id": ""}',
        '{"proof_id": "gone"}',
        '{"proof_id": "------------------------------------"}',
    ],
)
async def test_a_dead_letter_that_names_no_proof_is_not_eligible(wipe: Wipe, payload: str) -> None:
    wipe.sql(f"{DEAD} ('proofs.validated', '{payload}', '', 8)")
    assert (await wipe.probe("wipe-replay-ineligible")).verdict == ("failed", "too_many")
    assert (await wipe.probe("wipe-anchor-replay-ineligible")).verdict == ("ok", None)


async def test_dead_anchor_jobs_are_eligible_while_their_certificate_waits_for_an_anchor(wipe: Wipe) -> None:
    probe = "wipe-anchor-replay-ineligible"
    waiting, done = wipe.made(certificate("CERTIFIED_NO_ANCHOR", "")), wipe.made(certificate("CERTIFIED", "0x1"))
    wipe.sql(f"""{DEAD} ('certificates.to_anchor', '{{"certificate_id": "{waiting}"}}', '', 8)""")
    assert (await wipe.probe(probe)).detail == "0 rows, eligible: 1"
    wipe.sql(f"""{DEAD} ('certificates.to_anchor', '{{"certificate_id": "{done}"}}', '', 8)""")
    wipe.sql(f"""{DEAD} ('certificates.to_anchor', '{{"certificate": "{waiting}"}}', '', 8)""")
    assert (await wipe.probe(probe)).detail == "2 rows, the limit is 0, eligible: 1"


async def test_the_dead_letters_queue_column_may_have_another_name(wipe: Wipe) -> None:
    wipe.sql(f"""{DEAD} ('proofs.validated', '{{}}', '', 8), ('certificates.to_anchor', '{{}}', '', 8);
        ALTER TABLE dead_letter_jobs RENAME queue TO queue_name""")
    for probe in ("wipe-replay-ineligible", "wipe-anchor-replay-ineligible"):
        seen = await wipe.probe(probe, TOCSIN_WIPE_DLQ_QUEUE_COLUMN="queue_name")
        assert seen.verdict == ("failed", "too_many"), seen.detail
        unset = await wipe.probe(probe)
        assert unset.verdict == ("unknown", "column_missing")


async def test_the_newest_certificate_that_names_no_file_is_missing_it(wipe: Wipe) -> None:
    wipe.sql(certificate("CERTIFIED", "0x1", "2 hours", "old.pdf"))
    wipe.sql(certificate("CERTIFIED", "0x1", "1 hour", ""))
    seen = await wipe.probe("wipe-certificate-pdf")
    assert seen.verdict == ("failed", "object_missing")
    assert seen.detail == "the row names no object"


async def test_quota_that_ended_with_its_grant_is_not_left_to_anybody(wipe: Wipe) -> None:
    wipe.sql("UPDATE license_allocations SET consumed = quantity WHERE id = 1")
    assert (await wipe.probe("wipe-license-quota")).verdict == ("failed", "too_many")
    for ended in ("valid_until = current_date - 1", "valid_until = current_date + 9, revoked_at = now()"):
        wipe.sql(f"UPDATE license_grants SET {ended}")
        assert (await wipe.probe("wipe-license-quota")).verdict == ("ok", None), ended


async def test_receipts_must_add_up_to_what_is_consumed(wipe: Wipe) -> None:
    wipe.sql("""CREATE TABLE receipts (quantity int); INSERT INTO receipts SELECT 1 FROM generate_series(1, 30);
        UPDATE license_allocations SET consumed = 10 * id""")
    total = {"TOCSIN_WIPE_RECEIPTS_SUM": "SELECT sum(quantity) FROM receipts"}
    assert (await wipe.probe("wipe-license-consumption", **total)).verdict == ("ok", None)
    wipe.sql("INSERT INTO receipts VALUES (1)")
    assert (await wipe.probe("wipe-license-consumption", **total)).verdict == ("failed", "too_many")
    assert (await wipe.probe("wipe-license-consumption")).verdict == ("ok", None)


@pytest.mark.parametrize(("kind", "made"), [("uuid", "md5(grant_id)::uuid"), ("bigint", "length(grant_id)")])
async def test_grants_may_be_known_by_other_than_text(wipe: Wipe, kind: str, made: str) -> None:
    wipe.sql("ALTER TABLE license_allocations DROP CONSTRAINT license_allocations_grant_id_fkey")
    for table in ("license_grants", "license_allocations"):
        wipe.sql(f"ALTER TABLE {table} ALTER grant_id TYPE {kind} USING {made}")
    probes = ("wipe-license-consumption", "wipe-license-allocations", "wipe-license-quota", "wipe-license-grants")
    for probe in probes:
        seen = await wipe.probe(probe)
        assert seen.verdict == ("ok", None), f"{probe}: {seen.detail}"
    wipe.sql("UPDATE license_allocations SET consumed = -1 WHERE id = 1")
    seen = await wipe.probe("wipe-license-consumption", TOCSIN_WIPE_RECEIPTS_SUM="SELECT 5")
    assert seen.verdict == ("failed", "too_many")
    assert seen.detail.startswith("2 rows, ")


async def test_a_job_on_its_third_attempt_is_found_in_every_open_status(wipe: Wipe) -> None:
    for status, verdict in (("queued", "failed"), ("running", "failed"), ("done", "ok")):
        wipe.sql(f"""TRUNCATE jobs; INSERT INTO jobs (queue, status, attempts)
            SELECT 'proofs.retry', '{status}', 3 FROM generate_series(1, 21)""")
        assert (await wipe.probe("wipe-retry-storm")).verdict[0] == verdict, status


async def test_the_tables_may_have_other_names(wipe: Wipe) -> None:
    wipe.sql("ALTER TABLE certificates RENAME TO issued")
    unset = await wipe.probe("wipe-unanchored-certificates")
    assert unset.verdict == ("unknown", "table_missing")
    assert unset.detail.endswith("; set TOCSIN_WIPE_CERTIFICATES_TABLE (query)")
    named = await wipe.probe("wipe-unanchored-certificates", TOCSIN_WIPE_CERTIFICATES_TABLE="issued")
    assert named.verdict == ("ok", None)


async def test_columns_of_proofs_and_grants_may_have_other_names(wipe: Wipe) -> None:
    probes = ("wipe-proofs-awaiting-license", "wipe-proofs-stalled", "wipe-proofs-failed", "wipe-replay-ineligible",
              "wipe-smoke-certified", "wipe-license-grants", "wipe-license-ending", "wipe-license-quota")  # fmt: skip
    before = {name: (await wipe.probe(name)).verdict for name in probes}
    wipe.sql("""ALTER TABLE proofs RENAME id TO proof_id; ALTER TABLE proofs RENAME status TO state;
        ALTER TABLE proofs RENAME tenant_id TO tenant; ALTER TABLE proofs RENAME organization_id TO org_id;
        ALTER TABLE license_grants RENAME valid_from TO starts_on;
        ALTER TABLE license_grants RENAME valid_until TO ends_on""")
    named = {
        "TOCSIN_WIPE_PROOFS_ID_COLUMN": "proof_id",
        "TOCSIN_WIPE_PROOFS_STATUS_COLUMN": "state",
        "TOCSIN_WIPE_PROOFS_TENANT_COLUMN": "tenant",
        "TOCSIN_WIPE_PROOFS_ORGANIZATION_COLUMN": "org_id",
        "TOCSIN_WIPE_GRANTS_FROM_COLUMN": "starts_on",
        "TOCSIN_WIPE_GRANTS_UNTIL_COLUMN": "ends_on",
    }
    assert {name: (await wipe.probe(name, **named)).verdict for name in probes} == before
    for name in probes:
        seen = await wipe.probe(name)
        assert seen.verdict == ("unknown", "column_missing"), name
        assert "; set TOCSIN_WIPE_" in seen.detail, seen.detail

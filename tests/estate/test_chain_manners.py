"""How `hash_chain` behaves towards the database that it watches, and towards what else it asks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from estate.servers.anvil import Anvil
from estate.servers.kubernetes import Kubernetes
from estate.servers.postgresql import PostgreSQL
from tests.estate.chain_platform import KEY, NAME, Platform, emptied, own_database, without_processes
from tocsin.sdk import HttpClient
from tocsin_chain.capture import verify_bundle
from tocsin_chain.forms import render, with_previous
from tocsin_chain.macs import MacKey
from tocsin_chain.memory import Memory
from tocsin_chain.segments import Segment, verify_segment
from tocsin_chain.source import Source, as_text, open_source

pytestmark = pytest.mark.estate


@pytest.fixture(scope="module")
def audited(postgresql: PostgreSQL) -> Iterator[str]:
    with own_database(postgresql) as name:
        yield name


@pytest.fixture
async def platform(
    postgresql: PostgreSQL, audited: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    monkeypatch.setenv("TOCSIN_STATE_DIR", str(tmp_path))
    made = Platform(postgresql, emptied(postgresql, audited), tmp_path)
    yield made
    await made.close()


async def test_a_role_that_may_only_select_the_table_is_enough(platform: Platform) -> None:
    await platform.write(20, "t1", "t2")
    platform.execute("CREATE ROLE auditor LOGIN PASSWORD 'auditor'; GRANT SELECT ON audit_logs TO auditor")
    try:
        platform.dsn = platform.server.dsn(platform.database, "auditor", "auditor")
        platform.probe = platform._probe()
        await platform.bootstrap()
        assert (await platform.run()).verdict == ("ok", None)
        platform.execute("DELETE FROM audit_logs WHERE seq = 5")
        assert (await platform.full_walk()).verdict == ("failed", "gap")
    finally:
        platform.execute("DROP OWNED BY auditor; DROP ROLE auditor")


async def test_every_transaction_is_read_only_short_and_limited_by_the_server(platform: Platform) -> None:
    await platform.write(4)
    settings = platform.configured(snapshot="300ms")
    source = await open_source(settings.reading("tocsin/test"), timeout=5.0, settings=settings)
    async with source.snapshot() as connection:
        shown = {
            name: await connection.fetchval(f"SHOW {name}")
            for name in (
                "transaction_read_only",
                "transaction_isolation",
                "statement_timeout",
                "lock_timeout",
                "idle_in_transaction_session_timeout",
                "application_name",
            )
        }
    await source.close()
    assert shown == {
        "transaction_read_only": "on",
        "transaction_isolation": "repeatable read",
        "statement_timeout": "300ms",
        "lock_timeout": "300ms",
        "idle_in_transaction_session_timeout": "300ms",
        "application_name": "tocsin/test",
    }


async def test_no_snapshot_outlives_a_chunk_of_a_full_walk(platform: Platform) -> None:
    await platform.write(1500, "t1", "t2")
    await platform.bootstrap()
    platform.settings["full_walk"] = {"chunk": 100, "every": "1h", "rows_per_second": 1000}
    platform.probe = platform._probe()
    watching = await asyncpg.connect(platform.dsn)
    oldest = 0.0
    begun = asyncio.get_running_loop().time()
    walking = asyncio.create_task(platform.full_walk())
    while not walking.done():
        held = await watching.fetchval(
            "SELECT max(extract(epoch FROM clock_timestamp() - xact_start)) FROM pg_stat_activity "
            "WHERE application_name LIKE 'tocsin/%' AND backend_xmin IS NOT NULL"
        )
        oldest = max(oldest, float(held or 0.0))
        await asyncio.sleep(0.01)
    await watching.close()
    assert (await walking).verdict == ("ok", None)
    assert 0.0 < oldest < 1.0
    assert asyncio.get_running_loop().time() - begun > 1.2, "1500 rows at 1000 a second, but for the last chunk"


async def test_a_full_walk_waits_while_the_database_is_loaded(platform: Platform) -> None:
    await platform.write(1200)
    await platform.bootstrap()
    platform.settings["full_walk"] = {"chunk": 100, "every": "1h", "pause_active": 1}
    platform.probe = platform._probe()
    platform.clock.offset += 7300
    others = [await asyncpg.connect(platform.dsn) for _ in range(3)]
    sleeping = [asyncio.create_task(other.execute("SELECT pg_sleep(60)")) for other in others]
    try:
        await asyncio.sleep(0.1)
        for _ in range(3):
            await platform.run()
        walk = Memory(platform.configured(), NAME).load_walk()
        assert walk is not None
        assert 0 < walk.rows <= 400
    finally:
        for task, other in zip(sleeping, others, strict=True):
            task.cancel()
            other.terminate()
        await asyncio.gather(*sleeping, return_exceptions=True)


@pytest.mark.parametrize("index", [False, True])
async def test_holes_of_any_size_in_the_sequence_cost_little(platform: Platform, index: bool) -> None:
    """As after a backup of the sequence, or with sequences that are made of a time and a machine's number."""
    if index:
        platform.execute("CREATE INDEX ON audit_logs (tenant_id, seq)")
    platform.settings["full_walk"] = {"chunk": 100}
    platform.probe = platform._probe()
    await platform.write(300, "t1", "t2")
    platform.execute("SELECT setval('audit_logs_seq_seq', 4000000000000000000)")
    await platform.write(5, "t1")
    platform.execute("ALTER SEQUENCE audit_logs_seq_seq INCREMENT BY 1000000007")
    await platform.write(400, "t1", "t2")
    await platform.bootstrap()
    assert (await platform.full_walk()).verdict == ("ok", None)
    platform.execute(
        "UPDATE audit_logs SET action = 'x' WHERE seq = (SELECT max(seq) FROM audit_logs WHERE tenant_id = 't2')"
    )
    platform.execute("DELETE FROM audit_logs WHERE seq = 100")
    assert {one.reason for one in (await platform.full_walk()).outcome.findings} == {"modified", "gap"}


@pytest.mark.parametrize(
    ("payload", "columns"),
    [
        ({"sql": "prev_hmac || '|' || tenant_id || '|' || principal || '|' || action"}, {}),
        ({"fields": ["tenant_id", "principal", "action"], "previous": "first_text"}, {"broken": True}),
    ],
)
async def test_a_form_in_sql_is_walked_and_a_wrong_one_refused(
    platform: Platform, payload: dict[str, object], columns: dict[str, bool]
) -> None:
    await platform.write(20)
    settings = platform.configured(payload=payload)
    source = await open_source(settings.reading("tocsin/test"), timeout=5.0, settings=settings)
    found = (await verify_segment(source, Segment("t1", (0,), (100,))))["t1"]
    await source.close()
    assert found.rows == 20
    assert found.intact is not columns.get("broken", False)


FORMS: dict[str, tuple[dict[str, object], str]] = {
    "lengths and canonical JSON": (
        {
            "fields": [
                "tenant_id",
                {"column": "metadata", "encoding": "jcs"},
                {"column": "created_at", "encoding": "rfc3339"},
            ],
            "framing": "length_prefixed",
        },
        "hex",
    ),
    "an object": (
        {"fields": ["tenant_id", {"column": "metadata", "encoding": "jcs"}], "framing": "jcs_object"},
        "base64",
    ),
    "lengths on the server": (
        {
            "fields": ["tenant_id", {"column": "metadata", "encoding": "json"}],
            "framing": "length_prefixed",
            "previous": "last_raw",
        },
        "base64",
    ),
}


@pytest.mark.parametrize("name", sorted(FORMS))
async def test_each_canonical_form_is_walked_and_an_edit_under_it_found(
    platform: Platform, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_processes(monkeypatch)
    payload, encoding = FORMS[name]
    platform.settings |= {"payload": payload, "mac_encoding": encoding}
    platform.probe = platform._probe()
    form = platform.configured().form()
    assert form is not None
    connection = await asyncpg.connect(platform.dsn)
    await connection.execute("SET TimeZone = 'UTC'")
    previous = bytes(32)
    for number in range(30):
        text = as_text(previous, encoding).decode()
        row = await connection.fetchrow(
            "INSERT INTO audit_logs (tenant_id, principal, action, metadata, prev_hmac, hmac) "
            "VALUES ('t1', 'p', 'a', $1, $2, '') RETURNING *",
            json.dumps({"z": number / 8, "a": ["ä", None]}),
            text,
        )
        message = with_previous(form, render(form, dict(row)), previous, text.encode())
        previous = MacKey(KEY.encode()).mac(message)
        stored = as_text(previous, encoding).decode()
        await connection.execute("UPDATE audit_logs SET hmac = $1 WHERE seq = $2", stored, row["seq"])
    await connection.close()
    await platform.bootstrap()
    assert (await platform.full_walk()).verdict == ("ok", None)
    platform.execute("""UPDATE audit_logs SET metadata = '{"z": 1}' WHERE seq = 7""")
    probed = await platform.full_walk()
    assert probed.verdict == ("failed", "modified")
    assert probed.measured("tocsin_audit_chain_break_sequence") == 7


async def test_a_run_costs_what_is_new_and_not_what_there_is(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hundred tenants that an index keeps apart, of which two have written."""
    without_processes(monkeypatch)
    platform.execute("CREATE INDEX ON audit_logs (tenant_id, seq)")
    await platform.write(400, *(f"t{number}" for number in range(200)))
    await platform.bootstrap()
    taken = 0
    snapshot = Source.snapshot

    def counted(source: Source, seconds: float | None = None) -> object:
        nonlocal taken
        taken += 1
        return snapshot(source, seconds)

    monkeypatch.setattr(Source, "snapshot", counted)
    await platform.write(4, "t7", "t150")
    probed = await platform.run()
    assert probed.verdict == ("ok", None)
    assert probed.detail == "4 new rows verified"
    assert taken <= 4
    platform.execute("DELETE FROM audit_logs WHERE seq = (SELECT max(seq) FROM audit_logs WHERE tenant_id = 't42')")
    assert (await platform.run()).verdict == ("failed", "tail_truncated")


async def test_a_replica_is_walked_instead_and_what_it_lacks_is_asked_for_at_the_primary(platform: Platform) -> None:
    """A copy that lacks rows in the middle: so a standby looks that catches up between two segments."""
    await platform.write(900, "t1", "t2")
    copy = f"{platform.database}_standby"
    platform.server.terminate_connections(platform.database)
    platform.server.execute(f'CREATE DATABASE "{copy}" TEMPLATE "{platform.database}"')
    try:
        platform.server.execute("DELETE FROM audit_logs WHERE seq BETWEEN 401 AND 420", database=copy)
        await platform.bootstrap()
        platform.settings["replica_dsn"] = platform.server.dsn(copy)
        platform.settings["full_walk"] = {"chunk": 100, "every": "1h", "rows_per_second": 2000}
        platform.probe = platform._probe()
        watching = await asyncpg.connect(platform.server.dsn())
        walking, seen = asyncio.create_task(platform.full_walk()), set()
        while not walking.done():
            seen |= {
                row["datname"]
                for row in await watching.fetch(
                    "SELECT datname FROM pg_stat_activity WHERE application_name LIKE 'tocsin/%/walk'"
                )
            }
            await asyncio.sleep(0.01)
        await watching.close()
        assert (await walking).verdict == ("ok", None)
        assert seen == {copy}
        both = "DELETE FROM audit_logs WHERE seq = 500"
        platform.execute(both)
        platform.server.execute(both, database=copy)
        assert (await platform.full_walk()).verdict == ("failed", "gap")
    finally:
        await platform.close()
        platform.server.drop_database(copy)


@pytest.mark.parametrize(
    ("configured", "reason", "said"),
    [
        ({"mac_column": "mac"}, "column_missing", "audit_logs has no column mac"),
        ({"order_by": ["metadata"]}, "column_missing", "cannot be ordered by metadata"),
        ({"mac_encoding": "raw"}, "column_missing", "set mac_encoding to hex or base64"),
        ({"payload": {"sql": "seq + 1"}}, "query_error", "the payload is of type bigint"),
        ({"payload": {"sql": "no_such_column"}}, "query_error", "the payload cannot be computed"),
        (
            {"order_by": ["created_at", "seq"]},
            "index_missing",
            "create an index on audit_logs (tenant_id, created_at, seq)",
        ),
    ],
)
async def test_a_table_that_is_not_as_configured_is_never_ok(
    platform: Platform, configured: dict[str, object], reason: str, said: str
) -> None:
    await platform.write(5)
    await platform.bootstrap()
    platform.execute("UPDATE pg_class SET reltuples = 200000 WHERE oid = 'audit_logs'::regclass")
    platform.settings |= configured
    platform.probe = platform._probe()
    probed = await platform.run()
    assert probed.verdict == ("unknown", reason)
    assert said in probed.detail


async def test_a_full_walk_that_does_not_end_in_time_is_told(platform: Platform) -> None:
    await platform.write(5)
    await platform.bootstrap()
    platform.settings["replica_dsn"] = platform.server.dsn("gone")
    platform.probe = platform._probe()
    platform.clock.offset += 3 * 86_400
    reasons = {one.reason for one in (await platform.run()).outcome.findings}
    assert "walk_late" in reasons


async def test_the_witness_may_be_a_config_map(
    platform: Platform, kubernetes: Kubernetes, namespace: str, tmp_path: Path
) -> None:
    token, authority = tmp_path / "token", tmp_path / "ca"
    token.write_text(kubernetes.admin_token)
    authority.write_bytes(kubernetes.authority.read_bytes())
    platform.settings["witness"] = {
        "config_map": {
            "name": "tocsin-marks",
            "namespace": namespace,
            "url": kubernetes.url,
            "token_file": str(token),
            "ca_file": str(authority),
        }
    }
    platform.probe = platform._probe()
    await platform.write(5)
    await platform.bootstrap()
    mark = Memory(platform.configured(), NAME).places.mark
    older = mark.read_bytes()
    await platform.write(2)
    assert (await platform.run()).verdict == ("ok", None)
    mark.write_bytes(older)
    assert (await platform.run()).verdict == ("failed", "rolled_back")


def _returns(sequence: int, mac: str) -> str:
    """EVM code that answers any call with two words: PUSH32, MSTORE twice, RETURN (Ethereum Yellow Paper, appendix H)."""
    return f"0x7f{sequence:064x}6000527f{mac}60205260406000f3"


async def test_an_anchored_value_shows_what_mark_and_witness_cannot(platform: Platform, anvil: Anvil) -> None:
    platform.settings["partition_by"] = ""
    contract = "0x00000000000000000000000000000000000a0c0d"
    seqs = await platform.write(20)
    (mac,) = platform.execute(f"SELECT hmac FROM audit_logs WHERE seq = {seqs[15]}")
    http = HttpClient.open()
    code = {"jsonrpc": "2.0", "id": 1, "method": "anvil_setCode", "params": [contract, _returns(seqs[15], mac[0])]}
    await http.fetch("POST", anvil.url, headers={"Content-Type": "application/json"}, body=json.dumps(code))
    await http.close()
    platform.settings["anchor"] = {"provider": anvil.url, "to": contract, "data": "0x00000000"}
    platform.probe = platform._probe()
    await platform.bootstrap()
    assert (await platform.run()).verdict == ("ok", None)
    platform.execute(f"DELETE FROM audit_logs WHERE seq >= {seqs[14]}")
    memory = Memory(platform.configured(), NAME)
    memory.places.mark.unlink()
    await platform.bootstrap()
    for _ in range(3):
        probed = await platform.run()
        assert probed.verdict == ("failed", "tail_truncated")
        assert probed.measured("tocsin_audit_chain_open_breaks", kind="tail_truncated") == 1.0
    (bundle,) = (platform.state / "chain" / "evidence" / NAME).glob("2*")
    assert verify_bundle(bundle) == []
    # Made anew with the right key, and mark and witness with it.
    for seq in seqs[14:]:
        platform.execute(f"SELECT setval('audit_logs_seq_seq', {seq}, false)")
        await platform.write(1)
    memory.places.mark.unlink()
    await platform.bootstrap()
    probed = await platform.run()
    assert probed.verdict == ("failed", "forked")
    assert probed.measured("tocsin_audit_chain_break_sequence") == seqs[15]
    platform.settings["anchor"]["provider"] = "http://127.0.0.1:9"
    platform.probe = platform._probe()
    assert (await platform.run()).verdict == ("unknown", "dependency_unknown")

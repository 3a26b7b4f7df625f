"""How `hash_chain` behaves towards the database that it watches, and towards what else it asks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from estate.servers.anvil import Anvil
from estate.servers.kubernetes import Kubernetes
from estate.servers.postgresql import PostgreSQL
from tests.estate.chain_platform import NAME, Platform
from tocsin.sdk import HttpClient
from tocsin_chain.memory import Memory
from tocsin_chain.segments import Segment, verify_segment
from tocsin_chain.source import open_source

pytestmark = pytest.mark.estate


@pytest.fixture
async def platform(
    postgresql: PostgreSQL, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    monkeypatch.setenv("TOCSIN_STATE_DIR", str(tmp_path))
    made = Platform(postgresql, database, tmp_path)
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
    probed = await platform.run()
    assert probed.verdict == ("failed", "tail_truncated")
    platform.settings["anchor"]["provider"] = "http://127.0.0.1:9"
    platform.probe = platform._probe()
    assert (await platform.run()).verdict == ("unknown", "dependency_unknown")

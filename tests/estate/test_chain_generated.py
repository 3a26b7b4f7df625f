"""The generated chains of the unit tests, in a real table: both walks together tell what the docs' table says."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from estate.servers.postgresql import PostgreSQL
from tests.estate.chain_platform import NAME, Platform, emptied, own_database, without_processes
from tests.unit.chain import chain_tampering as tampering
from tocsin_chain.marks import OpenBreak
from tocsin_chain.memory import Memory
from tocsin_chain.recall import unsealed
from tocsin_chain.seeing import SEEING, Mode

pytestmark = pytest.mark.estate

SCHEMA = """
    CREATE TABLE chained (seq bigint PRIMARY KEY, tenant text NOT NULL, payload bytea, key_id text, previous bytea,
                          mac bytea, at timestamptz);
"""
CASES = {case.name: case for case in SEEING}
NOT_OF_THE_TABLE = ("restore_older", "restore_older_and_go_on")
ONE = [name for name in tampering.EDITS if name not in NOT_OF_THE_TABLE and "older_mark" not in name]


@pytest.fixture(scope="module")
def audited(postgresql: PostgreSQL) -> Iterator[str]:
    with own_database(postgresql) as name:
        yield name


@pytest.fixture
async def platform(
    postgresql: PostgreSQL, audited: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    monkeypatch.setenv("TOCSIN_STATE_DIR", str(tmp_path))
    without_processes(monkeypatch)
    made = Platform(postgresql, emptied(postgresql, audited), tmp_path)
    made.execute(SCHEMA)
    yield made
    await made.close()


def settings(mode: Mode, covers_order: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "table": "chained",
        "partition_by": "tenant",
        "mac_column": "mac",
        "previous_column": "previous",
        "mac_encoding": "raw",
        "time_column": "at",
        "settle": "1ms",
        "full_walk": {"chunk": 100},
    }
    if mode is Mode.LINKAGE_MARK:
        return {**fields, "mode": "linkage", "payload": None, "keys": [], "key_id_column": ""}
    number = "convert_to(seq::text || '|', 'UTF8') || " if covers_order else ""
    keys = [{"id": name, "secret": tampering.KEYS[name].decode()} for name in ("k1", "k2")]
    return {**fields, "payload": {"sql": f"{number}payload"}, "keys": keys, "key_id_column": "key_id"}


async def load(connection: asyncpg.Connection, rows: list[tampering.Stored]) -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    records = [
        (row.seq, row.tenant, row.payload, row.key_id, row.previous, row.mac, begin + timedelta(seconds=row.time))
        for row in rows
    ]
    async with connection.transaction():
        await connection.execute("DELETE FROM chained")
        await connection.copy_records_to_table("chained", records=records)


async def told(platform: Platform) -> list[OpenBreak]:
    """What is open after a run, a full walk, and another run, in order."""
    await platform.run()
    await platform.full_walk()
    await platform.run()
    memory = Memory(platform.configured(), NAME)
    return sorted(unsealed(memory.key(), NAME, memory.places.mark.read_bytes()).open, key=lambda item: item.found.first)


async def tried(platform: Platform, connection: asyncpg.Connection, seed: int) -> None:
    """One or several edits in the first of some interleaved chains; the mark at its end, or before all that changes."""
    rng = random.Random(seed)
    mode = rng.choice([Mode.LINKAGE_MARK, Mode.HMAC_MARK])
    names = [rng.choice(ONE)] if rng.random() < 0.5 else rng.choices(tampering.INSIDE, k=rng.choice([2, 3, 4]))
    covers_order = names[0] in tampering.COVERS_ORDER or rng.random() < 0.5
    behind = all(name in tampering.INSIDE for name in names) and rng.random() < 0.5
    table = tampering.grown(rng, 14 * len(names) + rng.randrange(30), covers_order)
    others = [tampering.grown(rng, rng.randrange(8, 40), covers_order, 4 * at) for at in range(1, 1 + rng.randrange(3))]
    elsewhere = [row for other in others for row in other.rows]
    platform.settings = settings(mode, covers_order)
    platform.probe = platform._probe()
    for file in (platform.state / "chain").glob(f"{NAME}.mark*"):
        file.unlink()
    await load(connection, [*(table.rows[:2] if behind else table.rows), *elsewhere])
    await platform.bootstrap()
    if len(names) == 1:
        tampering.EDITS[names[0]](table, 0, len(table.rows))
    else:
        for at in reversed(range(len(names))):
            tampering.EDITS[names[at]](table, 14 * at, 14 * at + 14)
    await load(connection, [*table.rows, *elsewhere])
    expected = [
        (CASES[name].seen[mode], low, high)
        for name, (_, low, high) in zip(names, reversed(table.expected), strict=True)
        if CASES[name].seen[mode]
    ]
    found = await told(platform)
    said = (seed, mode, names, behind, expected, [(item.chain, item.found) for item in found])
    assert [(item.chain, item.found.kind) for item in found] == [("t0", kind) for kind, _, _ in expected], said
    assert all(low <= item.found.first <= high for item, (_, low, high) in zip(found, expected, strict=True)), said
    await platform.close()


async def _many(platform: Platform, index: bool, seeds: range) -> None:
    platform.execute("CREATE INDEX ON chained (tenant, seq)" if index else "SELECT 1")
    connection = await asyncpg.connect(platform.dsn)
    try:
        for seed in seeds:
            await tried(platform, connection, seed)
    finally:
        await connection.close()


@pytest.mark.parametrize("index", [False, True])
async def test_both_walks_tell_of_generated_edits_what_the_table_says(platform: Platform, index: bool) -> None:
    await _many(platform, index, range(12))


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("index", [False, True])
async def test_both_walks_tell_of_a_thousand_generated_edits_what_the_table_says(
    platform: Platform, index: bool
) -> None:
    await _many(platform, index, range(1000, 1500))

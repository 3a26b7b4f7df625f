"""`hash_chain` beside eight writers, and killed again and again: no false break, and always a valid mark."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from estate.servers.postgresql import PostgreSQL
from tests.estate.chain_platform import NAME, Platform, append
from tocsin.sdk import HttpClient
from tocsin_chain import operations
from tocsin_chain.memory import Memory
from tocsin_chain.recall import unsealed

pytestmark = pytest.mark.estate

WRITERS = 8
ROWS_PER_SECOND = 500


@pytest.fixture
async def platform(
    postgresql: PostgreSQL, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    monkeypatch.setenv("TOCSIN_STATE_DIR", str(tmp_path))
    made = Platform(postgresql, database, tmp_path)
    made.settings["full_walk"] = {"every": "3s", "chunk": 500}
    made.probe = made._probe()
    yield made
    await made.close()


async def _writer(dsn: str, number: int, seconds: float) -> None:
    """A share of the rows of ``seconds``, of two tenants (one shared by all writers); some transactions roll back, some
    commit late. Where the machine is slower than that, it takes longer, and is as many rows."""
    rng = random.Random(number)
    connection = await asyncpg.connect(dsn)
    loop = asyncio.get_running_loop()
    due = loop.time()
    until = due + seconds
    try:
        while due < until:
            tenant = rng.choice(["shared", f"t{number}", f"t{number}"])
            transaction = connection.transaction()
            await transaction.start()
            for _ in range(rng.choice([1, 1, 2])):
                await append(connection, tenant, f"writer{number}", f"did {rng.random()}")
                due += WRITERS / ROWS_PER_SECOND
            if rng.random() < 0.02:
                await asyncio.sleep(rng.random() * 0.3)
            if rng.random() < 0.1:
                await transaction.rollback()
            else:
                await transaction.commit()
            await asyncio.sleep(max(0.0, due - loop.time()))
    finally:
        await connection.close()


async def _beside_writers(platform: Platform, seconds: float) -> None:
    await platform.write(50, "shared", "t0", "t1")
    await platform.bootstrap()
    begun = time.monotonic()
    writing = asyncio.gather(*(_writer(platform.dsn, number, seconds) for number in range(WRITERS)))
    verdicts, walks = [], set()
    while not writing.done():
        probed = await platform.run(5.0)
        verdicts.append((probed.verdict, probed.detail))
        walks |= {
            m.value for m in probed.measurements if m.gauge.name == "tocsin_audit_chain_full_walk_timestamp_seconds"
        }
    await writing
    took = time.monotonic() - begun
    assert [verdict for verdict in verdicts if verdict[0] != ("ok", None)] == []
    assert (await platform.full_walk()).verdict == ("ok", None)
    assert len(walks) >= 3
    (counted,) = platform.execute("SELECT count(*) FROM audit_logs")
    print(f"{counted[0]} rows in {took:.0f} s, {len(verdicts)} runs, {len(walks)} full walks")
    assert int(counted[0]) > 0.8 * ROWS_PER_SECOND * seconds, "a tenth of the transactions is rolled back"
    memory = Memory(platform.configured(), NAME)
    marks = unsealed(memory.key(), NAME, memory.places.mark.read_bytes())
    assert sum(mark.head.rows for mark in marks.chains.values()) == int(counted[0])


async def test_eight_writers_for_twenty_seconds_raise_no_false_break(platform: Platform) -> None:
    await _beside_writers(platform, 20.0)


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_eight_writers_for_five_minutes_raise_no_false_break(platform: Platform) -> None:
    await _beside_writers(platform, 300.0)


async def test_a_transaction_that_commits_late_is_neither_missed_nor_a_break(platform: Platform) -> None:
    """Its sequence is lower than those of other tenants that were committed, and verified, before it."""
    await platform.write(6, "a", "b")
    await platform.bootstrap()
    late = await asyncpg.connect(platform.dsn)
    transaction = late.transaction()
    await transaction.start()
    seq = await append(late, "a", "slow", "late commit")
    await platform.write(4, "b")
    for _ in range(3):
        assert (await platform.run()).verdict == ("ok", None)
    await transaction.commit()
    await late.close()
    probed = await platform.run()
    assert probed.verdict == ("ok", None)
    assert probed.measured("tocsin_audit_chain_verified_sequence", chain="a") == seq


_WALKER = """
import asyncio, sys
from tests.estate.chain_platform import NAME, Platform
from tests.probing import RealClock, probe_once
from tocsin_chain.settings import HashChainSettings
from tocsin_probes import hash_chain
from tocsin_probes.hash_chain import HashChain

hash_chain.SAVE_EVERY = 0.0

async def main():
    settings = HashChainSettings.model_validate_json(sys.argv[1])
    probe = HashChain(settings)
    clock = RealClock(offset=float(sys.argv[2]))
    print("begun", flush=True)
    for _ in range(200):
        probed = await probe_once(probe, 10.0, clock=clock)
        print(probed.verdict, flush=True)
        clock.offset += 5
if __name__ == "__main__":
    asyncio.run(main())
"""


_MARK_WRITER = """
import asyncio, json, os, random, signal, sys, time
from pathlib import Path
from tests.estate.chain_platform import NAME
from tocsin_chain.marks import ChainMark, Marks, Point
from tocsin_chain.memory import Memory
from tocsin_chain.recall import recall
from tocsin_chain.settings import HashChainSettings
from tocsin_chain.vault import create_key

memory = Memory(HashChainSettings.model_validate_json(sys.argv[1]), NAME)
key = create_key(memory.places.key)
points = tuple(Point((at,), bytes(32), at) for at in range(16))
first = Marks(NAME, "", chains={f"t{at}": ChainMark(points[0], points[-1], points) for at in range(20)})

def known():
    found = recall(key, NAME, memory.places.mark.read_bytes(), memory.witness.path.read_bytes(), has_witness=True,
                   writer=memory.writer())
    assert found.doubt is None, found.detail
    assert len(found.marks.chains) == 20
    return found.marks

async def write(marks, times, begun=None):
    for at in range(times):
        marks, problem = await memory.save(None, marks, float(at))
        assert not problem, problem
        if begun is not None and at == 0:
            os.write(begun, b"x")

def killed():
    rng = random.Random(11)
    asyncio.run(write(first, 1))
    torn, generation = 0, 1
    for _ in range(int(sys.argv[2])):
        marks = known()
        reading, begun = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                asyncio.run(write(marks, 1_000_000, begun))
            finally:
                os._exit(1)
        os.close(begun)
        os.read(reading, 1)
        os.close(reading)
        time.sleep(rng.random() * 0.03)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), status
        now = known().generations[memory.writer()]
        assert now >= generation
        generation = now
        left = list(memory.places.mark.parent.glob(".*.new")) + list(memory.witness.path.parent.glob(".*.new"))
        torn += bool(left)
        for file in left:
            file.unlink()
    print(json.dumps({"torn": torn, "generation": generation}))

killed()
"""


async def _saved_anew(walk: Path) -> None:
    def state() -> int:
        return walk.stat().st_mtime_ns if walk.exists() else 0

    before, until = state(), time.monotonic() + 30.0
    while state() in (0, before):
        assert time.monotonic() < until, "no walk was begun"
        await asyncio.sleep(0.01)


def _session(leader: int) -> list[str]:
    """The processes of a session, after they had a moment to see that its leader is gone."""
    for _ in range(50):
        listed = subprocess.run(
            ["ps", "-o", "pid=,args=", "-s", str(leader)], capture_output=True, text=True, check=False
        )
        lines = [line for line in listed.stdout.splitlines() if line.strip()]
        if not lines:
            return []
        time.sleep(0.1)
    return lines


async def _killed(platform: Platform, times: int, tmp_path: Path) -> None:
    """Kills the walking process at random moments: in a full walk, and while marks are written."""
    script = tmp_path / "walker.py"
    script.write_text(_WALKER)
    await platform.write(3000, "t1", "t2")
    await platform.bootstrap()
    rng = random.Random(7)
    memory = Memory(platform.configured(), NAME)
    settings = platform.configured(full_walk={"every": "4s", "chunk": 100, "rows_per_second": 1000})
    plain = settings.model_dump(mode="json", by_alias=True, exclude_none=True)
    plain |= {"dsn": platform.dsn, "keys": [{"id": "k1", "secret": "the platform's audit key"}]}
    seen_walks = 0
    for number in range(times):
        process = subprocess.Popen(  # noqa: ASYNC220 - a moment, and then it is read in a thread
            [sys.executable, str(script), json.dumps(plain), str(100 * number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert process.stdout is not None
        await asyncio.to_thread(process.stdout.readline)
        await platform.write(rng.randrange(5), "t1", "t2")
        if number % 3:
            await _saved_anew(memory.places.walk)
        await asyncio.sleep(rng.random() * 0.3)
        os.kill(process.pid, signal.SIGKILL)
        said = await asyncio.to_thread(process.stdout.read)
        process.wait()
        process.stdout.close()
        assert b"failed" not in said
        assert b"unknown" not in said
        unsealed(memory.key(), NAME, memory.places.mark.read_bytes())
        walk = memory.load_walk()
        seen_walks += walk is not None and walk.rows > 0
        assert list(memory.places.mark.parent.glob("*.mark.walk")) == [] or walk is not None
        left = [int(line.split()[0]) for line in await asyncio.to_thread(_session, process.pid)]
        assert left == []
    # Two of three are killed soon after a walk has saved where it stands; a few of those may have ended by then.
    assert seen_walks >= times // 4
    platform.clock.offset += 100 * times
    assert (await platform.full_walk()).verdict == ("ok", None)


async def test_killed_at_any_moment_it_resumes_with_a_valid_mark(platform: Platform, tmp_path: Path) -> None:
    await _killed(platform, 4, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_killed_a_hundred_times_it_resumes_with_a_valid_mark(platform: Platform, tmp_path: Path) -> None:
    await _killed(platform, 100, tmp_path)


async def test_killed_a_hundred_times_while_it_writes_its_mark_there_is_always_a_valid_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both, the mark and its witness, each kill at a random moment of a process that does nothing but write them."""
    monkeypatch.setenv("TOCSIN_STATE_DIR", str(tmp_path / "state"))
    script = tmp_path / "writer.py"
    script.write_text(_MARK_WRITER)
    plain = {
        "dsn": "postgresql://127.0.0.1/none",
        "table": "t",
        "mac_column": "m",
        "previous_column": "p",
        "witness": {"file": str(tmp_path / "witness")},
    }
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(script), json.dumps(plain), "100"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["torn"] >= 5, said
    assert said["generation"] > 100, said


async def test_a_walk_that_was_stopped_goes_on_where_it_stood(platform: Platform) -> None:
    platform.settings["full_walk"] = {"every": "1h", "chunk": 100}
    platform.probe = platform._probe()
    await platform.write(1200, "t1", "t2")
    await platform.bootstrap()
    http = HttpClient.open()
    ctx = platform.context(http)
    memory = Memory(platform.configured(), NAME)
    seen: list[int] = []

    class Stopped(Exception):
        pass

    def stop(progress: object) -> None:
        rows = progress.rows  # type: ignore[attr-defined]
        seen.append(rows)
        memory.save_walk(progress)  # type: ignore[arg-type]
        if rows >= 500 and len(seen) < 9:
            raise Stopped

    with pytest.raises(Stopped):
        await operations.walk(ctx, platform.configured(), workers=1, report=stop)
    stopped_at = seen[-1]
    progress, found, _ = await operations.walk(
        ctx, platform.configured(), workers=1, report=lambda one: seen.append(one.rows)
    )
    await http.close()
    assert found == []
    assert progress.rows == 1200
    assert seen[len(seen) - 1] > seen[0]
    assert min(seen[seen.index(stopped_at) + 1 :]) > stopped_at


async def test_a_transaction_left_open_blinds_the_walk_only_for_a_while(platform: Platform) -> None:
    seqs = await platform.write(6, "a")
    await platform.bootstrap()
    open_ = await asyncpg.connect(platform.dsn)
    transaction = open_.transaction()
    await transaction.start()
    await append(open_, "b", "intruder", "stays open")
    await platform.write(6, "a")
    platform.execute(f"DELETE FROM audit_logs WHERE seq = (SELECT min(seq) FROM audit_logs WHERE seq > {seqs[-1]} + 2)")
    assert (await platform.run()).verdict == ("ok", None)
    platform.clock.offset += 301
    assert (await platform.run()).verdict == ("failed", "gap")
    await transaction.rollback()
    await open_.close()

"""The full walk beside a COPY drain, an in-database walk and a plain loop, on one PostgreSQL, in one run.

    python -m bench.chain.compare                      one million rows, every contestant three times, in turn
    python -m bench.chain.compare --sizes 100000,1000000,10000000   memory and incremental cost at each size

All numbers are rows per second of the best of the rounds, and ratios; the machine's other work shows in the spread.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import os
import platform
import sys
import tempfile
import time
import timeit
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import uvloop

from estate.servers.postgresql import PostgreSQL
from tests.probing import RealClock, probe_once
from tocsin.sdk import HttpClient
from tocsin_chain import operations
from tocsin_chain.macs import MacKey
from tocsin_chain.segments import Workers
from tocsin_chain.settings import HashChainSettings
from tocsin_chain.source import Source, open_source
from tocsin_probes.hash_chain import HashChain

KEY = b"the key of the platform, 32 byte"
PAYLOAD = 250
START = datetime(2026, 1, 1, tzinfo=UTC)
SCHEMA = """
    CREATE TABLE audit_logs (seq bigint PRIMARY KEY, payload bytea NOT NULL, prev_hmac bytea NOT NULL,
                             hmac bytea NOT NULL, created_at timestamptz NOT NULL);
"""
DRAIN = "SELECT seq, payload, prev_hmac, hmac FROM audit_logs"
IN_DATABASE = """
    SELECT count(*) FROM (
        SELECT hmac <> hmac(prev_hmac || payload, '{key}', 'sha256') OR prev_hmac <> lag(hmac) OVER (ORDER BY seq) AS bad
        FROM audit_logs) walked WHERE bad
"""


def rows(first: int, count: int, previous: bytes) -> Iterator[tuple[Any, ...]]:
    key = MacKey(KEY)
    for seq in range(first, first + count):
        payload = (b"%020d " % seq).ljust(PAYLOAD, b".")
        mac = key.mac(previous + payload)
        yield (seq, payload, previous, mac, START + timedelta(milliseconds=seq))
        previous = mac


async def grow(connection: Any, have: int, want: int) -> None:
    """Adds rows up to ``want``."""
    previous = b"\0" * 32
    if have:
        previous = await connection.fetchval("SELECT hmac FROM audit_logs ORDER BY seq DESC LIMIT 1")
    columns = ["seq", "payload", "prev_hmac", "hmac", "created_at"]
    await connection.copy_records_to_table("audit_logs", records=rows(have + 1, want - have, previous), columns=columns)


async def drain(connection: Any, query: str) -> int:
    async def sink(data: bytes) -> None:
        nonlocal size
        size += len(data)

    size = 0
    await connection.copy_from_query(query, output=sink, format="binary")
    return size


async def plain_loop(connection: Any) -> None:
    """What one would write first: a server-side cursor and ``hmac.new`` for each row."""
    previous = b"\0" * 32
    async with connection.transaction():
        async for record in connection.cursor(f"{DRAIN} ORDER BY seq", prefetch=5000):
            expected = hmac.new(KEY, record["prev_hmac"] + record["payload"], hashlib.sha256).digest()
            assert record["prev_hmac"] == previous
            assert hmac.compare_digest(expected, record["hmac"])
            previous = record["hmac"]


def one_mac() -> dict[str, int]:
    """Nanoseconds of one MAC over a payload, best of five: two precomputed states, and `hmac.digest`."""
    message, key, count = b"." * PAYLOAD, MacKey(KEY), 20_000
    contestants = {"two_states": lambda: key.mac(message), "hmac_digest": lambda: hmac.digest(KEY, message, "sha256")}
    return {
        name: round(1e9 * min(timeit.repeat(contestant, number=count, repeat=5)) / count)
        for name, contestant in contestants.items()
    }


class Watch:
    """The delay of the event loop and the resident memory of this process and its children, while it is open."""

    def __init__(self) -> None:
        self.delays: list[float] = []
        self.own_rss = 0
        self.children: dict[int, int] = {}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Watch]:
        delays, memory = asyncio.create_task(self._delays()), asyncio.create_task(self._memory())
        try:
            yield self
        finally:
            delays.cancel()
            memory.cancel()

    async def _delays(self) -> None:
        while True:
            asked = time.perf_counter()
            await asyncio.sleep(0.005)
            self.delays.append(time.perf_counter() - asked - 0.005)

    async def _memory(self) -> None:
        while True:
            await asyncio.to_thread(self._look)
            await asyncio.sleep(0.2)

    def _look(self) -> None:
        own = psutil.Process()
        with suppress(psutil.Error):
            self.own_rss = max(self.own_rss, own.memory_info().rss)
            for child in own.children(recursive=True):
                if "python" in child.name():
                    used = child.memory_info().rss
                    self.children[child.pid] = max(self.children.get(child.pid, 0), used)

    def p99(self) -> float:
        return sorted(self.delays)[int(len(self.delays) * 0.99)] if self.delays else 0.0

    def megabytes(self) -> tuple[float, float]:
        """The largest of this process, and of any one worker."""
        return self.own_rss / 1e6, max(self.children.values(), default=0) / 1e6


def settings(dsn: str, workers: int) -> HashChainSettings:
    return HashChainSettings.model_validate(
        {
            "dsn": dsn,
            "table": "audit_logs",
            "mac_column": "hmac",
            "previous_column": "prev_hmac",
            "mode": "hmac",
            "payload": {"fields": [{"column": "payload", "encoding": "raw"}]},
            "keys": [{"secret": KEY.decode()}],
            "full_walk": {"chunk": 50_000, "workers": workers, "every": "365d"},
        }
    )


class OurWalk:
    """Full walks with processes that stay, as in the daemon; the drains' session stays open, too."""

    def __init__(self, chosen: HashChainSettings, source: Source, workers: int, *, yielding: bool) -> None:
        self.chosen, self.source = chosen, source
        self.pool = Workers(chosen.reading("tocsin/bench"), source.layout, workers, yielding=yielding)
        self.watch = Watch()

    async def __call__(self) -> float:
        """Seconds of one walk."""
        began = time.perf_counter()
        progress = await operations.walk_all(
            self.source, self.chosen, "bench", time.time(), workers=self.pool.count, pool=self.pool
        )
        seconds = time.perf_counter() - began
        assert progress.summaries[""].intact
        return seconds


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def compare(server: PostgreSQL, count: int, rounds: int, workers: int) -> dict[str, Any]:
    dsn = server.dsn()
    connection = await asyncpg.connect(dsn)
    source = await open_source(
        settings(dsn, workers).reading("tocsin/bench"), timeout=5.0, settings=settings(dsn, workers)
    )
    walk_fast = OurWalk(settings(dsn, workers), source, workers, yielding=False)
    walk_behind = OurWalk(settings(dsn, workers), source, workers, yielding=True)
    await walk_fast()
    await walk_behind()
    contestants: dict[str, Callable[[], Awaitable[float]]] = {
        "copy_drain": lambda: timed(lambda: drain(connection, DRAIN)),
        "copy_drain_in_order": lambda: timed(lambda: drain(connection, f"{DRAIN} ORDER BY seq")),
        "tocsin_walk": walk_fast,
        "pgcrypto_lag": lambda: timed(lambda: connection.fetchval(IN_DATABASE.format(key=KEY.decode()))),
        "plain_loop": lambda: timed(lambda: plain_loop(connection)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            seconds[name].append(await contestant())
    async with walk_behind.watch.open():
        for _ in range(rounds):
            await walk_behind()
    await connection.close()
    walk_fast.pool.close()
    walk_behind.pool.close()
    await source.close()
    rates = {name: count / min(times) for name, times in seconds.items()}
    walk = rates["tocsin_walk"]
    watch = walk_behind.watch
    own, worker = watch.megabytes()
    return {
        "rows": count,
        "rows_per_second": {name: round(rate) for name, rate in rates.items()},
        "seconds": {name: [round(each, 2) for each in times] for name, times in seconds.items()},
        "walk_to_drain": round(walk / rates["copy_drain"], 2),
        "walk_to_drain_in_order": round(walk / rates["copy_drain_in_order"], 2),
        "walk_to_plain_loop": round(walk / rates["plain_loop"], 2),
        "walk_to_pgcrypto": round(walk / rates["pgcrypto_lag"], 2),
        "loop_delay_p99_ms": round(1000 * watch.p99(), 2),
        "rss_mb": {"process": round(own), "worker": round(worker)},
    }


async def incremental(server: PostgreSQL, count: int, state: Path) -> dict[str, Any]:
    """Milliseconds of a run of the probe with ten new rows, and with none, on a table of ``count`` rows."""
    os.environ["TOCSIN_STATE_DIR"] = str(state)
    chosen = settings(server.dsn(), 2)
    http = HttpClient.open()
    clock = RealClock()
    from tests.estate.chain_platform import Platform

    ctx = Platform.context.__get__(type("Bare", (), {"clock": clock})())(http)
    watch = Watch()
    async with watch.open():
        began = time.perf_counter()
        await operations.bootstrap(ctx, chosen, workers=2)
        walked = time.perf_counter() - began
    probe = HashChain(chosen)
    connection = await asyncpg.connect(server.dsn())
    assert (await probe_once(probe, clock=clock)).verdict == ("ok", None)
    times = []
    for round_ in range(10):
        await grow(connection, count + 10 * round_, count + 10 * round_ + 10)
        probed = await probe_once(probe, clock=clock, http=http)
        assert probed.detail == "10 new rows verified"
        times.append(1000 * probed.duration_seconds)
    await connection.close()
    await probe.close()
    await http.close()
    own, worker = watch.megabytes()
    return {
        "rows": count,
        "full_walk_rows_per_second": round(count / walked),
        "ten_new_rows_ms": {"median": round(sorted(times)[5], 1), "worst": round(max(times), 1)},
        "rss_mb": {"process": round(own), "worker": round(worker)},
        "loop_delay_p99_ms": round(1000 * watch.p99(), 2),
    }


async def main(arguments: argparse.Namespace) -> dict[str, Any]:
    server = PostgreSQL(
        settings={"shared_buffers": "512MB", "max_wal_size": "8GB", "wal_level": "minimal", "max_wal_senders": "0"}
    )
    server.start()
    try:
        server.execute("CREATE EXTENSION pgcrypto;" + SCHEMA)
        report: dict[str, Any] = {
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            "mac_ns": one_mac(),
        }
        connection = await asyncpg.connect(server.dsn())
        have = 0
        for size in arguments.sizes:
            await grow(connection, have, size)
            await connection.execute("VACUUM ANALYZE audit_logs")
            if size == arguments.compare:
                report["compare"] = await compare(server, size, arguments.rounds, arguments.workers)
            if arguments.incremental:
                with tempfile.TemporaryDirectory() as state:
                    report.setdefault("sizes", []).append(await incremental(server, size, Path(state)))
                await connection.execute(f"DELETE FROM audit_logs WHERE seq > {size}")
            have = size
        await connection.close()
        return report
    finally:
        server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=lambda text: [int(part) for part in text.split(",")], default=[1_000_000])
    parser.add_argument("--compare", type=int, default=1_000_000, help="at which size all contestants walk")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--incremental", action="store_true", help="also the incremental run, at each size")
    json.dump(uvloop.run(main(parser.parse_args())), sys.stdout, indent=2)
    print()

"""CPU per HTTP probe run: the whole daemon against blackbox_exporter, on the same nginx, in turn in one run.

    python -m bench.http_probes [--probes 200] [--seconds 30] [--rounds 3]

What is counted is user and system time of the process under test (``/proc/PID/stat``), nothing else: blackbox_exporter is
asked for each probe by a driver whose own time is not counted, as Prometheus would ask; tocsin runs its own schedule and
is scraped every 15 s. Second figures: resident memory at 1,000 probes every 30 s, and the lateness of its schedule.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

from estate.ports import reserve_port
from estate.servers.blackbox import Blackbox
from estate.servers.nginx import Nginx

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, in seconds. proc(5), fields 14 and 15 of stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_bytes(pid: int) -> int:
    match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(match[1]) * 1024 if match else 0


class Daemon:
    """``tocsin run`` on a configuration of ``count`` HTTP probes at one interval."""

    def __init__(self, url: str, count: int, every: str) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="tocsin-bench-")
        self.port = reserve_port()
        config = Path(self.folder.name) / "tocsin.yaml"
        probe = f"{{kind: http, system: bench, incident: bench, every: {every}, timeout: 900ms, url: '{url}', expect: {{status: [200]}}}}"
        lines = ["version: 1", "caps: {default: {concurrency: 64, requests_per_minute: 60000}}", "probes:"]
        config.write_text("\n".join(lines + [f"  bench-{number:04}: {probe}" for number in range(count)]))
        environment = {
            **os.environ,
            "TOCSIN_LISTEN": f"127.0.0.1:{self.port}",
            "TOCSIN_STATE_DIR": self.folder.name,
            "TOCSIN_LOG_LEVEL": "warning",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tocsin.cli", "run", "--config", str(config)], env=environment
        )

    async def metrics(self) -> str:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}/metrics") as answer:
            return await answer.text()

    async def ready(self) -> None:
        for _ in range(100):
            await asyncio.sleep(0.1)
            try:
                if "tocsin_probe_runs_total" in await self.metrics():
                    return
            except aiohttp.ClientError:
                continue
        raise RuntimeError("tocsin did not start within 10 s")

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)
        self.folder.cleanup()


def runs_of(metrics: str) -> float:
    """Finished runs in all; every one must be ok, or something else was measured."""
    assert not re.search(r'outcome="(failed|unknown)"\} [1-9]', metrics), "the target is not well"
    return sum(
        float(line.rpartition(" ")[2]) for line in metrics.splitlines() if line.startswith("tocsin_probe_runs_total{")
    )


async def tocsin_round(url: str, probes: int, seconds: float) -> float:
    """CPU seconds for one run of one probe."""
    daemon = Daemon(url, probes, "1s")
    try:
        await daemon.ready()
        await asyncio.sleep(3)
        runs, cpu, started = runs_of(await daemon.metrics()), cpu_seconds(daemon.process.pid), time.monotonic()
        while time.monotonic() - started < seconds:
            await asyncio.sleep(min(15.0, seconds))
            now = runs_of(await daemon.metrics())
        return (cpu_seconds(daemon.process.pid) - cpu) / (now - runs)
    finally:
        daemon.close()


async def blackbox_round(exporter: Blackbox, url: str, probes: int, seconds: float) -> float:
    """CPU seconds for one probe, asked as Prometheus asks: over kept-alive connections, spread over each second."""
    asked = 0

    async def target(session: aiohttp.ClientSession, number: int) -> None:
        nonlocal asked
        await asyncio.sleep(number / probes)
        next_due = time.monotonic()
        while time.monotonic() < end:
            async with session.get(
                f"{exporter.url}/probe",
                params={"target": url, "module": "http_2xx"},
                headers={"Accept-Encoding": "gzip"},
            ) as answer:
                await answer.read()
            asked += 1
            next_due += 1
            await asyncio.sleep(max(0.0, next_due - time.monotonic()))

    end = time.monotonic() + seconds
    cpu = cpu_seconds(exporter.pid)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(target(session, number) for number in range(probes)))
    return (cpu_seconds(exporter.pid) - cpu) / asked


async def at_scale(url: str, seconds: float) -> dict[str, float]:
    """Memory and lateness of 1,000 probes every 30 s, over at least one interval."""
    daemon = Daemon(url, 1000, "30s")
    try:
        await daemon.ready()
        await asyncio.sleep(seconds)
        metrics = await daemon.metrics()
        buckets = [
            (float(match[1]), float(match[2]))
            for match in re.finditer(r'tocsin_scheduler_lag_seconds_bucket\{le="([^"]+)"\} (\S+)', metrics)
        ]
        total = buckets[-1][1]
        p99 = next(bound for bound, count in buckets if count >= 0.99 * total)
        return {
            "resident_mib": resident_bytes(daemon.process.pid) / 2**20,
            "lateness_p99_at_most_seconds": p99,
            "runs": runs_of(metrics),
        }
    finally:
        daemon.close()


async def compare(probes: int, seconds: float, rounds: int, scale_seconds: float) -> dict[str, object]:
    with Nginx() as nginx, Blackbox() as exporter:
        url = nginx.write("health", "ok")
        ours, theirs = [], []
        for _ in range(rounds):
            theirs.append(await blackbox_round(exporter, url, probes, seconds))
            ours.append(await tocsin_round(url, probes, seconds))
        ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
        return {
            "machine": f"{os.cpu_count()} cores",
            "probes_per_second": probes,
            "tocsin_us_per_probe": [round(1e6 * value) for value in ours],
            "blackbox_us_per_probe": [round(1e6 * value) for value in theirs],
            "ratio_median": round(statistics.median(ratios), 3),
            "ratio_worst": round(max(ratios), 3),
            "at_1000_probes_every_30s": await at_scale(url, scale_seconds),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probes", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale-seconds", type=float, default=65)
    options = parser.parse_args()
    print(
        json.dumps(
            asyncio.run(compare(options.probes, options.seconds, options.rounds, options.scale_seconds)), indent=2
        )
    )


if __name__ == "__main__":
    main()

"""`heartbeat` from files and metrics, and the settings that it refuses."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.probing import Probed, RealClock, probe_once
from tocsin_probes.heartbeat import Heartbeat


async def beat(clock: RealClock | None = None, **own: Any) -> Probed:
    settings = Heartbeat.Settings.model_validate({"max_age": "10m"} | own)
    return await probe_once(Heartbeat(settings), clock=clock)


async def test_a_file_is_as_alive_as_its_last_change(tmp_path: Path) -> None:
    backup = tmp_path / "last-backup"
    assert (await beat(file=str(backup))).verdict == ("failed", "never_seen")
    backup.touch()
    assert (await beat(file=str(backup))).verdict == ("ok", None)
    assert (await beat(RealClock(601), file=str(backup))).verdict == ("failed", "late")
    assert (await beat(RealClock(-600), file=str(backup))).verdict == ("unknown", "in_future")


async def test_a_file_that_cannot_be_looked_at_is_our_own_trouble(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert (await beat(file=str(tmp_path / "file" / "below"))).verdict == ("unknown", "credentials_missing")


@asynccontextmanager
async def serving(body: bytes, status: int = 200) -> AsyncIterator[str]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %d OK\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/metrics"


METRICS = b"""# TYPE backup_last_success_timestamp_seconds gauge
backup_last_success_timestamp_seconds{job="a"} 1000
backup_last_success_timestamp_seconds{job="b"} 2000
"""


async def test_the_newest_matching_sample_of_a_metric_is_the_sign_of_life() -> None:
    async with serving(METRICS) as url:
        for labels, measured in (({}, 2000.0), ({"job": "a"}, 1000.0)):
            seen = await beat(metric={"url": url, "name": "backup_last_success_timestamp_seconds", "labels": labels})
            assert seen.verdict == ("failed", "late")
            assert seen.measured("tocsin_heartbeat_timestamp_seconds") == measured
        assert (await beat(metric={"url": url, "name": "other"})).verdict == ("failed", "never_seen")


@pytest.mark.parametrize("line", ["  beat 1000", '{"beat"} 1000', "beat\t1000", 'beat {a="b"} 1000'])
async def test_a_sample_is_found_however_its_line_begins(line: str) -> None:
    others = "".join(f"other_{number} 1\n" for number in range(60))
    async with serving(f"# HELP other_0 {'x' * 5000}\n{others}{line}\n".encode()) as url:
        seen = await beat(metric={"url": url, "name": "beat"})
        assert seen.measured("tocsin_heartbeat_timestamp_seconds") == 1000
        assert (await beat(metric={"url": url, "name": "absent"})).verdict == ("failed", "never_seen")


async def test_an_answer_that_is_no_metrics_is_told() -> None:
    async with serving(b"<html> not { metrics") as url:
        assert (await beat(metric={"url": url, "name": "x"})).verdict == ("failed", "unexpected_body")
    async with serving(METRICS, 503) as url:
        assert (await beat(metric={"url": url, "name": "x"})).verdict == ("failed", "server_error")


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
async def test_a_metric_that_is_no_time_is_told(value: str, tmp_path: Path) -> None:
    body = f'beat{{job="a"}} {value}\nbeat{{job="b"}} 1000\n'.encode()
    (written := tmp_path / "row").touch()
    async with serving(body) as url:
        seen = await beat(metric={"url": url, "name": "beat", "labels": {"job": "a"}})
        assert (seen.verdict, seen.measurements) == (("failed", "unexpected_body"), ())
        beside = await beat(metric={"url": url, "name": "beat"})
        assert beside.measured("tocsin_heartbeat_timestamp_seconds") == 1000
        counted = await beat(RealClock(700), file=str(written), activity={"url": url, "name": "beat"})
        assert counted.verdict == ("unknown", "dependency_unknown")


class Traffic:
    """A counter of requests, as it stands at the time."""

    def __init__(self, **counted: float) -> None:
        self.counted = counted

    def text(self) -> str:
        lines = [f'requests_total{{path="/{path}"}} {count}' for path, count in self.counted.items()]
        return "\n".join(["# TYPE requests_total counter", *lines, ""])

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            body = self.text().encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/metrics"


async def test_what_is_silent_when_there_is_nothing_to_do_is_late_only_when_there_was(tmp_path: Path) -> None:
    written, clock, traffic = tmp_path / "row", RealClock(), Traffic(query=5, metrics=100)
    written.touch()
    memory: dict[str, Any] = {}
    async with traffic.served() as url:
        activity = {"url": url, "name": "requests_total", "labels": {"path": "/query"}}
        probe = Heartbeat(
            Heartbeat.Settings.model_validate({"max_age": "10m", "file": str(written), "activity": activity})
        )

        async def look() -> Probed:
            return await probe_once(probe, clock=clock, memory=memory)

        assert (await look()).verdict == ("ok", None)
        traffic.counted["query"] += 1  # counted a little after its row
        clock.offset += 500
        assert (await look()).verdict == ("ok", None)
        clock.offset += 8 * 3600
        traffic.counted["metrics"] += 1000
        quiet = await look()
        assert quiet.verdict == ("ok", None), "a quiet night"
        assert quiet.detail.endswith("and there was nothing to do")
        traffic.counted["query"] += 3
        late = await look()
        assert late.verdict == ("failed", "late")
        assert late.detail.endswith("3 counted meanwhile")
        traffic.counted = {"metrics": 1, "query": 2}  # started anew
        assert (await look()).verdict == ("failed", "late")
        os.utime(written, (clock.wall(), clock.wall()))
        assert (await look()).verdict == ("ok", None)
        clock.offset += 601
        traffic.counted = {"metrics": 5}
        assert (await look()).verdict == ("ok", None), "started anew, and nothing since"
        traffic.counted = {"query": 1}
        assert (await look()).verdict == ("failed", "late")


async def test_without_its_counter_an_old_sign_of_life_is_not_judged(tmp_path: Path) -> None:
    written = tmp_path / "row"
    written.touch()
    for url in ("http://127.0.0.1:1/metrics", None):
        async with Traffic().served() as empty:
            own = {"file": str(written), "activity": {"url": url or empty, "name": "requests_total"}}
            assert (await beat(**own)).verdict == ("ok", None)
            assert (await beat(RealClock(700), **own)).verdict == ("unknown", "dependency_unknown")


async def test_a_source_that_is_set_to_nothing_is_a_missing_contract(tmp_path: Path) -> None:
    """As unset variables leave a file and the address of a metric."""
    unset = {"file": "", "metric": {"url": "", "name": ""}, "activity": {"url": "", "name": "x"}}
    assert (await beat(**unset)).verdict == ("unknown", "contract_missing")
    assert (await beat(**{**unset, "file": str(tmp_path)})).verdict == ("ok", None)


@pytest.mark.parametrize(
    "own",
    [
        {},
        {"file": "a", "metric": {"url": "http://a.test/", "name": "m"}},
        {"query": "SELECT 1"},
        {"dsn": "postgresql://db/app"},
        {"dsn": "postgresql://db/app", "query": "SELECT 1", "file": "a"},
        {"file": "a", "time_zone": "Europe/Nowhere"},
        {"file": "a", "time_zone": "../etc"},
    ],
)
def test_exactly_one_source_is_set(own: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Heartbeat.Settings.model_validate({"max_age": "10m"} | own)


def test_targets_are_what_is_asked() -> None:
    def targets(**own: Any) -> tuple[str, ...]:
        return Heartbeat.Settings.model_validate({"max_age": "10m"} | own).targets()

    assert targets(file=os.devnull) == ()
    assert targets(metric={"url": "http://a.test/metrics", "name": "m"}) == ("http://a.test:80",)
    assert targets(dsn="postgresql://u:p@db/app", query="SELECT 1") == ("postgresql://db:5432",)


async def test_signs_that_come_late_themselves_are_late_however_busy_it_is(tmp_path: Path) -> None:
    """A writer, or a replica, that is an hour behind: each look sees a newer sign, and each is too old."""
    written, clock, traffic = tmp_path / "row", RealClock(), Traffic(query=5)
    memory: dict[str, Any] = {}
    verdicts = []
    async with traffic.served() as url:
        activity = {"url": url, "name": "requests_total"}
        probe = Heartbeat(
            Heartbeat.Settings.model_validate({"max_age": "15m", "file": str(written), "activity": activity})
        )
        for _ in range(4):
            written.touch()
            os.utime(written, (clock.wall() - 3600, clock.wall() - 3600))
            verdicts.append((await probe_once(probe, clock=clock, memory=memory)).verdict)
            traffic.counted["query"] += 1000
            clock.offset += 60
        assert verdicts == [("ok", None), *[("failed", "late")] * 3]
        # Looked at seldom, a sign is old when it is first seen: what it was for has been counted before.
        clock.offset += 8 * 3600
        os.utime(written, (clock.wall() - 1800, clock.wall() - 1800))
        assert (await probe_once(probe, clock=clock, memory=memory)).verdict == ("ok", None)


@pytest.mark.parametrize(
    "hostile", [b'beat{a="' + b'\\"' * 300_000 + b'"} 1', b"beat{" + b'a="b",' * 60_000 + b'c="d"} 1']
)
async def test_a_line_that_would_take_seconds_to_read_is_refused_or_passed_over(hostile: bytes) -> None:
    async with serving(hostile + b"\n") as url:
        began = asyncio.get_running_loop().time()
        seen = await beat(metric={"url": url, "name": "beat"})
        assert seen.verdict == ("failed", "unexpected_body")
        assert "a line of more than 4096 characters" in seen.detail
    async with serving(b"other" + hostile[4:] + b"\nbeats 1\nbeat 1000\n") as url:
        seen = await beat(metric={"url": url, "name": "beat"})
        assert seen.measured("tocsin_heartbeat_timestamp_seconds") == 1000
    assert asyncio.get_running_loop().time() - began < 1.0

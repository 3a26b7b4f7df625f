"""The session that SQL kinds run in, on a real PostgreSQL: its limits, its end, and what its errors become."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from estate.servers.postgresql import PostgreSQL
from tests.probing import FreePermits, Probed, probe_once
from tocsin.sdk import Outcome, Probe, ProbeContext, ProbeSettings, ReasonEnum, Secret
from tocsin.sdk.postgres import read_only, targets_of

# Servers of their own are started here; the fixture is asked for because it installs them.
pytestmark = [pytest.mark.estate, pytest.mark.usefixtures("postgresql")]


class Ask(Probe):
    """Runs one statement in the session that every SQL kind gets."""

    kind = "ask"

    class Settings(ProbeSettings):
        dsn: Secret
        statement: str = "SELECT 1"

    class Reason(ReasonEnum):
        NEVER = "never", "Not given."

    async def run(self, ctx: ProbeContext) -> Outcome:
        async with read_only(ctx, self.settings.dsn) as connection:
            return Outcome.ok(str(await connection.fetchval(self.settings.statement)))


async def ask(dsn: str, statement: str = "SELECT 1", timeout: float = 5.0, **surroundings: Any) -> Probed:
    return await probe_once(Ask(Ask.Settings(dsn=Secret(dsn), statement=statement)), timeout, **surroundings)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    """One that tests here may freeze and restart."""
    with PostgreSQL(settings={"ssl": "off"}) as started:
        yield started


def running(server: PostgreSQL) -> list[tuple[str, ...]]:
    return server.execute(
        "SELECT pid, state, query FROM pg_stat_activity WHERE application_name LIKE 'tocsin/%' AND state <> 'idle'"
    )


async def begun(server: PostgreSQL) -> None:
    """Returns when the server works on the probe's statement."""
    for _ in range(200):
        if await asyncio.to_thread(running, server):
            return
    raise AssertionError("the statement did not begin")


async def test_the_session_says_whose_it_is_and_cannot_write(server: PostgreSQL) -> None:
    assert (await ask(server.dsn(), "SHOW application_name")).detail == "tocsin/the-probe"
    assert (await ask(server.dsn(), "SHOW transaction_read_only")).detail == "on"
    refused = await ask(server.dsn(), "CREATE TABLE written (id int)")
    assert refused.outcome.reason is not None
    assert "read-only transaction" in refused.detail


async def test_the_server_is_told_limits_a_little_below_what_the_run_has(server: PostgreSQL) -> None:
    for setting, least, most in (
        ("statement_timeout", 1500, 2000),
        ("lock_timeout", 750, 1000),
        ("idle_in_transaction_session_timeout", 1500, 2000),
    ):
        shown = await ask(server.dsn(), f"SELECT setting::int FROM pg_settings WHERE name = '{setting}'", timeout=2.0)
        assert least <= int(shown.detail) <= most, setting


async def test_a_statement_that_takes_too_long_is_a_timeout_by_the_server_s_own_word(server: PostgreSQL) -> None:
    slow = await ask(server.dsn(), "SELECT pg_sleep(60)", timeout=1.0)
    assert slow.verdict == ("failed", "timeout")
    assert "57014" in slow.detail
    assert slow.duration_seconds < 1.5
    assert running(server) == []


async def test_a_run_that_is_cancelled_leaves_no_statement_running(server: PostgreSQL) -> None:
    task = asyncio.create_task(ask(server.dsn(), "SELECT pg_sleep(60)", timeout=30.0))
    await begun(server)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert running(server) == []


async def test_a_locked_table_is_a_timeout_that_names_the_lock(server: PostgreSQL) -> None:
    server.execute("CREATE TABLE locked (id int)")
    holder = await asyncpg.connect(server.dsn())
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE locked")
            waiting = await ask(server.dsn(), "SELECT count(*) FROM locked", timeout=1.0)
    finally:
        await holder.close()
    assert waiting.verdict == ("failed", "timeout")
    assert "lock" in waiting.detail


async def test_a_frozen_server_ends_the_run_in_time_and_the_statement_when_it_thaws(server: PostgreSQL) -> None:
    task = asyncio.create_task(ask(server.dsn(), "SELECT pg_sleep(60)", timeout=2.0))
    await begun(server)
    server.pause()
    try:
        stuck = await task
        frozen = await ask(server.dsn(), timeout=0.5)
    finally:
        server.resume()
    assert stuck.verdict == ("failed", "timeout")
    assert stuck.duration_seconds < 2.5
    assert frozen.verdict == ("failed", "timeout")
    assert frozen.duration_seconds < 1.0
    ends = time.monotonic() + 5.0
    while running(server):
        assert time.monotonic() < ends, "the statement outlived its run"


async def test_each_refusal_is_told_apart(server: PostgreSQL) -> None:
    server.create_role("nobody", "right", "NOLOGIN")
    expected = {
        server.dsn(password="wrong"): ("unknown", "credentials_rejected"),
        server.dsn(user="stranger"): ("unknown", "credentials_rejected"),
        server.dsn(user="nobody", password="right"): ("unknown", "credentials_rejected"),
        server.dsn("absent"): ("failed", "not_found"),
        server.dsn() + "?sslmode=require": ("failed", "tls_error"),
        "postgresql://postgres@127.0.0.1:1/postgres": ("failed", "connection_refused"),
        "postgresql://postgres@localhost:1/postgres": ("failed", "connection_refused"),
        "postgresql:///postgres?host=/absent&port=5432": ("failed", "connection_refused"),
        "postgresql://postgres@name.invalid/postgres": ("failed", "dns_failure"),
        server.dsn() + "?sslmode=verify-full&sslrootcert=/absent.pem": ("unknown", "credentials_missing"),
        "mysql://u:hidden@127.0.0.1/db": ("unknown", "credentials_missing"),
        "postgresql://u:hid/den@127.0.0.1:5432/db": ("unknown", "credentials_missing"),
        "postgresql://u:hid#den@127.0.0.1:5432/db": ("unknown", "credentials_missing"),
    }
    for dsn, verdict in expected.items():
        told = await ask(dsn)
        assert told.verdict == verdict, (dsn, told.detail)
        for secret in ("hid", "wrong", server.password):
            assert secret not in told.detail


async def test_statements_that_the_server_refuses_are_told_apart(server: PostgreSQL) -> None:
    server.create_role("reader", "right")
    server.execute("CREATE TABLE private (id int)")
    expected = {
        "SELECT 1 FROM absent": "unexpected_body",
        "SELECT absent FROM private": "unexpected_body",
        "SELEC": "unexpected_body",
        "SELECT 1/0": "unexpected_body",
        "SELECT 1 FROM private": "credentials_rejected",
    }
    for statement, reason in expected.items():
        told = await ask(server.dsn(user="reader", password="right"), statement)
        assert (told.outcome.reason or "ok") == reason, (statement, told.detail)


async def test_a_session_that_the_server_ends_is_a_reset_connection(server: PostgreSQL) -> None:
    task = asyncio.create_task(ask(server.dsn(), "SELECT pg_sleep(60)", timeout=10.0))
    await begun(server)
    server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tocsin/the-probe'")
    assert (await task).verdict == ("failed", "connection_reset")


async def test_a_name_with_two_addresses_that_both_refuse_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()

    async def both(host: str, port: int, **options: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("127.0.0.1", "127.0.0.2")]

    monkeypatch.setattr(loop, "getaddrinfo", both)
    told = await ask("postgresql://u:p@two.test:1/db?sslmode=disable")
    assert told.verdict == ("failed", "connection_refused")


async def test_a_server_that_crashes_in_mid_statement_is_a_reset_connection() -> None:
    with PostgreSQL() as server:
        task = asyncio.create_task(ask(server.dsn(), "SELECT pg_sleep(60)", timeout=10.0))
        await begun(server)
        server.kill()
        assert (await task).verdict == ("failed", "connection_reset")


async def test_something_that_is_not_postgresql_is_not_ours_to_blame() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        for mode in ("disable", "prefer", "require"):
            told = await ask(f"postgresql://u:p@127.0.0.1:{port}/db?sslmode={mode}", timeout=2.0)
            assert told.outcome.status.value == "failed", (mode, told.detail)


async def test_urls_as_the_platforms_write_them_work(server: PostgreSQL) -> None:
    for dsn in (
        server.dsn() + "?pool_max_conns=10&sslmode=disable",
        server.dsn().replace("postgresql://", "postgresql+asyncpg://"),
        server.dsn().replace("postgresql://", "postgres://"),
        f"host=127.0.0.1 port={server.port} user=postgres password='{server.password}' dbname=postgres",
        f"postgresql://postgres:{server.password}@/postgres?host={server.data}&port={server.port}",
    ):
        assert (await ask(dsn)).verdict == ("ok", None), dsn


async def test_a_permit_is_asked_for_each_connection_by_its_target(server: PostgreSQL) -> None:
    permits = FreePermits()
    await ask(server.dsn(), permits=permits)
    assert permits.asked == [f"postgresql://127.0.0.1:{server.port}"]
    assert targets_of(Secret(server.dsn())) == (f"postgresql://127.0.0.1:{server.port}",)


async def test_no_session_stays_open_after_a_run(server: PostgreSQL) -> None:
    for _ in range(5):
        await ask(server.dsn())
    assert server.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'tocsin/%'") == [("0",)]


async def test_a_run_is_no_rollback_in_the_server_s_statistics(server: PostgreSQL) -> None:
    server.create_database("counted")
    for _ in range(5):
        await ask(server.dsn("counted"))
    counted = "SELECT xact_commit, xact_rollback FROM pg_stat_database WHERE datname = 'counted'"
    for _ in range(100):
        ((commits, rollbacks),) = server.execute(counted)
        if int(commits) >= 5:
            # Counted when the sessions' processes have ended.
            break
    assert int(commits) >= 5
    assert int(rollbacks) == 0

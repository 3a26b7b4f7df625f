"""`postgres` on real servers: a primary, its streaming replica, one that is full, one that recovers."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import pytest

from estate.servers.postgresql import PostgreSQL
from tests.probing import Probed, RealClock, probe_once
from tocsin_probes.postgres import Postgres

# Servers of their own are started here; the fixture is asked for because it installs them.
pytestmark = [pytest.mark.estate, pytest.mark.usefixtures("postgresql")]


class Replica(PostgreSQL):
    """A hot standby that streams from ``primary``, made by pg_basebackup."""

    def __init__(self, primary: PostgreSQL) -> None:
        super().__init__(password=primary.password)
        self._primary = primary

    def prepare(self) -> None:
        if not self.data.exists():
            subprocess.run(
                [
                    str(self._binaries / "pg_basebackup"),
                    f"--pgdata={self.data}",
                    f"--dbname={self._primary.dsn()}?application_name=standby",
                    "--write-recovery-conf",
                    "--checkpoint=fast",
                    "--no-sync",
                ],
                cwd="/",
                capture_output=True,
                check=True,
            )
            subprocess.run(["chown", "-R", "--reference", str(self._primary.data), str(self.data)], check=True)
            self.folder.chmod(0o711)


@pytest.fixture(scope="module")
def primary() -> Iterator[PostgreSQL]:
    with PostgreSQL(settings={"max_connections": "20", "superuser_reserved_connections": "3"}) as started:
        started.create_role("plain", "plain")
        started.create_role("monitor", "monitor")
        started.execute("GRANT pg_monitor TO monitor")
        yield started


@pytest.fixture(scope="module")
def replica(primary: PostgreSQL) -> Iterator[PostgreSQL]:
    with Replica(primary) as started:
        yield started


async def look(server: PostgreSQL, user: str = "monitor", database: str = "postgres", **settings: Any) -> Probed:
    return await probe_once(Postgres(Postgres.Settings(dsn=server.dsn(database, user, user), **settings)))


async def test_a_primary_that_is_well_is_ok_and_measured_for_any_role(primary: PostgreSQL) -> None:
    for user in ("monitor", "plain"):
        seen = await look(primary, user)
        assert seen.verdict == ("ok", None), seen.detail
        assert seen.measured("tocsin_postgres_connections_limit") == 17
        assert 1 <= seen.measured("tocsin_postgres_connections") <= 5


async def test_a_replica_is_read_only_where_writes_are_expected(replica: PostgreSQL) -> None:
    assert (await look(replica)).verdict == ("failed", "read_only")
    assert (await look(replica, expect_writable=False)).verdict == ("ok", None)


async def test_a_server_that_is_read_only_by_configuration_is_told_from_a_role_that_is(primary: PostgreSQL) -> None:
    primary.execute("ALTER ROLE monitor SET default_transaction_read_only = on")
    try:
        assert (await look(primary)).verdict == ("ok", None)
    finally:
        primary.execute("ALTER ROLE monitor RESET default_transaction_read_only")
    primary.execute("CREATE DATABASE frozen; ALTER DATABASE frozen SET default_transaction_read_only = on")
    assert (await look(primary, database="frozen")).verdict == ("failed", "read_only")


async def test_connections_in_use_saturate_before_they_run_out(primary: PostgreSQL) -> None:
    async with AsyncExitStack() as stack:

        async def take(count: int, user: str) -> None:
            for _ in range(count):
                connection = await asyncpg.connect(primary.dsn(user=user, password=user))
                stack.push_async_callback(connection.close)

        await take(10, "plain")
        saturated = await look(primary, limits={"connections_percent": 60})
        assert saturated.verdict == ("failed", "saturated")
        assert (await look(primary, limits={"connections_percent": 85})).verdict == ("ok", None)
        with pytest.raises(asyncpg.TooManyConnectionsError):
            await take(10, "plain")
        assert (await look(primary)).verdict == ("failed", "too_many_connections")


async def test_an_old_transaction_is_a_ticket_or_unknown_where_it_is_hidden(primary: PostgreSQL) -> None:
    limits = {"transaction_age": "50ms"}
    holder = await asyncpg.connect(primary.dsn())
    try:
        async with holder.transaction():
            await holder.execute("SELECT pg_sleep(0.1)")
            seen = await look(primary, limits=limits)
            hidden = await look(primary, "plain", limits=limits)
    finally:
        await holder.close()
    assert seen.verdict == ("failed", "transaction_too_old")
    assert seen.outcome.severity == "ticket"
    assert seen.measured("tocsin_postgres_oldest_transaction_seconds") >= 0.1
    assert hidden.verdict == ("unknown", "permission_denied")
    assert (await look(primary, limits={"transaction_age": "1h"})).verdict == ("ok", None)


async def test_a_replica_that_stops_replaying_lags_on_both_sides(primary: PostgreSQL, replica: PostgreSQL) -> None:
    limits = {"lag": "200ms"}
    idle = await look(replica, expect_writable=False, limits=limits)
    assert idle.verdict == ("ok", None), idle.detail
    replica.execute("SELECT pg_wal_replay_pause()")
    try:
        primary.execute("CREATE TABLE written (id int)")
        await asyncio.to_thread(replica.execute, "SELECT pg_sleep(0.5)")
        primary.execute("INSERT INTO written SELECT generate_series(1, 1000)")
        await asyncio.to_thread(replica.execute, "SELECT pg_sleep(0.5)")
        behind = await look(replica, expect_writable=False, limits=limits)
        ahead = await look(primary, limits=limits)
        hidden = await look(primary, "plain", limits=limits)
    finally:
        replica.execute("SELECT pg_wal_replay_resume()")
    assert behind.verdict == ("failed", "lagging"), behind.detail
    assert behind.measured("tocsin_postgres_replication_lag_seconds", replica="this") > 0.5
    assert ahead.verdict == ("failed", "lagging"), ahead.detail
    assert hidden.verdict == ("unknown", "permission_denied")


async def test_a_replica_that_must_be_connected_and_is_not_is_missing(primary: PostgreSQL, replica: PostgreSQL) -> None:
    assert replica.running
    for user in ("monitor", "plain"):
        assert (await look(primary, user, limits={"replicas": 1})).verdict == ("ok", None)
        assert (await look(primary, user, limits={"replicas": 2})).verdict == ("failed", "replica_missing")


async def test_wal_that_is_written_and_not_archived_is_told_and_an_idle_server_is_well() -> None:
    archiving = {"archive_mode": "on", "archive_command": "true", "wal_level": "replica"}
    with PostgreSQL(settings=archiving) as server:
        server.create_role("monitor", "monitor")
        memory: dict[str, Any] = {}

        async def run(after: float) -> Probed:
            settings = Postgres.Settings.model_validate(
                {"dsn": server.dsn(user="monitor", password="monitor"), "limits": {"archive_age": "15m"}}
            )
            return await probe_once(Postgres(settings), memory=memory, clock=RealClock(after))

        for hours in (0, 1):
            assert (await run(hours * 3600)).verdict == ("ok", None)
        server.execute("SELECT pg_switch_wal()")
        for _ in range(200):
            if server.execute("SELECT archived_count > 0 FROM pg_stat_archiver") == [("t",)]:
                break
        assert (await run(0)).verdict == ("ok", None)
        assert (await run(3600)).verdict == ("ok", None)
        server.settings["archive_command"] = "false"
        server.restart()
        server.execute("CREATE TABLE written AS SELECT generate_series(1, 50000); SELECT pg_switch_wal()")
        assert (await run(3600)).verdict == ("ok", None)
        assert (await run(3600 + 890)).verdict == ("ok", None)
        seen = await run(3600 + 910)
        assert seen.verdict == ("failed", "not_archived"), seen.detail
        assert seen.measured("tocsin_postgres_unarchived_bytes") > 1 << 20


async def test_a_server_that_was_set_back_and_archives_nothing_is_told_though_it_once_did() -> None:
    archiving = {"archive_mode": "on", "archive_command": "false", "wal_level": "replica"}
    with PostgreSQL(settings=archiving) as server:
        memory: dict[str, Any] = {"archived_to": 5 << 40, "written": [[6 << 40, 0.0]]}

        async def run(after: float) -> Probed:
            settings = Postgres.Settings.model_validate({"dsn": server.dsn(), "limits": {"archive_age": "15m"}})
            return await probe_once(Postgres(settings), memory=memory, clock=RealClock(after))

        assert (await run(0)).verdict == ("ok", None)
        server.execute("CREATE TABLE written AS SELECT generate_series(1, 50000); SELECT pg_switch_wal()")
        assert (await run(10)).measured("tocsin_postgres_unarchived_bytes") > 1 << 20
        assert (await run(920)).verdict == ("failed", "not_archived")


class PacedArchive(PostgreSQL):
    """Archives a segment once the test lets it, instead of trying in vain and resting for a minute."""

    def __init__(self) -> None:
        super().__init__(settings={"archive_mode": "on", "wal_level": "replica"})
        let = f"test -e {self.folder}/%f -o -e {self.folder}/all"
        self.settings["archive_command"] = f"until {let}; do sleep 0.02; done"

    def let(self, segment: str) -> None:
        (self.folder / segment).touch()


async def test_an_archiver_that_falls_behind_is_told_though_it_moves() -> None:
    with PacedArchive() as server:
        server.create_role("monitor", "monitor")
        server.execute("CREATE TABLE t (v text)")
        memory: dict[str, Any] = {}

        async def run(after: float) -> Probed:
            settings = Postgres.Settings.model_validate(
                {"dsn": server.dsn(user="monitor", password="monitor"), "limits": {"archive_age": "15m"}}
            )
            return await probe_once(Postgres(settings), memory=memory, clock=RealClock(after))

        def write_a_segment() -> str:
            server.execute("INSERT INTO t SELECT md5(n::text) FROM generate_series(1, 2000) n")
            ((name,),) = server.execute("SELECT pg_walfile_name(pg_switch_wal())")
            return name

        async def archived(name: str) -> None:
            server.let(name)
            for _ in range(400):
                if server.execute(f"SELECT last_archived_wal >= '{name}' FROM pg_stat_archiver") == [("t",)]:
                    return
                await asyncio.to_thread(server.execute, "SELECT pg_sleep(0.1)")
            raise AssertionError(f"{name} is not archived")

        # Two segments are written in each quarter of an hour and one of them is archived.
        verdicts, waiting = [], []
        for quarter in range(4):
            waiting += [write_a_segment(), write_a_segment()]
            verdicts.append((await run(quarter * 870)).outcome.reason)
            await archived(waiting.pop(0))
        server.let("all")
        assert verdicts == [None, None, None, "not_archived"]


async def test_a_limit_for_archiving_on_a_server_that_archives_nothing_is_unknown(primary: PostgreSQL) -> None:
    seen = await look(primary, limits={"archive_age": "15m"})
    assert seen.verdict == ("unknown", "archiving_off"), seen.detail
    assert seen.detail == "archive_mode is off: unset limits.archive_age, or watch what archives"
    assert (await look(primary)).verdict == ("ok", None)


async def test_a_replica_that_lost_its_primary_lags(primary: PostgreSQL, replica: PostgreSQL) -> None:
    replica.execute("ALTER SYSTEM SET primary_conninfo = ''; SELECT pg_reload_conf()")
    try:
        for _ in range(100):
            if replica.execute("SELECT count(*) FROM pg_stat_wal_receiver") == [("0",)]:
                break
        seen = await look(replica, expect_writable=False, limits={"lag": "100ms"})
    finally:
        replica.execute("ALTER SYSTEM RESET primary_conninfo; SELECT pg_reload_conf()")
    assert seen.verdict == ("failed", "lagging"), seen.detail


async def test_a_replica_that_never_had_a_primary_is_unknown_where_lag_is_judged() -> None:
    with PostgreSQL() as server:
        server.create_role("monitor", "monitor")
        server.stop()
        (server.data / "standby.signal").touch()
        server.start()
        seen = await look(server, expect_writable=False, limits={"lag": "1h"})
        unjudged = await look(server, expect_writable=False)
    assert seen.verdict == ("unknown", "dependency_unknown"), seen.detail
    assert not [each for each in seen.measurements if each.gauge.name == "tocsin_postgres_replication_lag_seconds"]
    assert unjudged.verdict == ("ok", None)


async def test_a_database_that_is_missing_or_closed_is_told(primary: PostgreSQL) -> None:
    assert (await look(primary, database="absent")).verdict == ("failed", "database_missing")
    primary.execute("CREATE DATABASE closed ALLOW_CONNECTIONS false")
    assert (await look(primary, database="closed")).verdict == ("failed", "database_missing")


async def test_a_role_that_may_not_connect_is_our_own_trouble(primary: PostgreSQL) -> None:
    primary.execute("CREATE DATABASE private; REVOKE CONNECT ON DATABASE private FROM PUBLIC")
    assert (await look(primary, "plain", database="private")).verdict == ("unknown", "credentials_rejected")


class Recovering(PostgreSQL):
    """A server that can be started without waiting for more than its refusal: pg_isready ends with 1."""

    refuses = False

    def ready(self) -> bool:
        if not self.refuses:
            return super().ready()
        command = [str(self._binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 1


async def test_a_server_that_recovers_is_starting_up() -> None:
    with Recovering() as server:
        server.create_role("monitor", "monitor")
        server.stop()
        # Archive recovery waits for its command, and serves nobody before it is consistent.
        (server.data / "recovery.signal").touch()
        server.settings |= {"restore_command": "sleep 60", "hot_standby": "off"}
        server.refuses = True
        server.start()
        seen = await look(server)
        server.kill()
    assert seen.verdict == ("failed", "starting_up"), seen.detail

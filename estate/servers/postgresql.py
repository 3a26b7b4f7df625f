"""PostgreSQL 15: one cluster on loopback, passwords by SCRAM, no fsync.

Facts: PostgreSQL 15 documentation, initdb, psql, 19.1 "The PostgreSQL User Account", 19.5 "Shutting Down the Server",
31 "Reliability" (what fsync off gives up: nothing that a test needs).
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import ClassVar
from urllib.parse import quote

from estate.install import ensure
from estate.ports import LOOPBACK, reserve_port
from estate.process import Server

SUPERUSER = "postgres"
_FIELD, _RECORD = "\x1f", "\x1e"


class SqlError(Exception):
    """psql reported an error; the text is its message."""


class PostgreSQL(Server):
    """One cluster. `settings` are lines of postgresql.conf, on top of what makes a short-lived server fast."""

    name: ClassVar[str] = "postgresql"
    # "Fast shutdown": SIGTERM would wait for every client to leave.
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT

    def __init__(self, *, settings: Mapping[str, str] | None = None, password: str = "estate-postgres") -> None:
        self._binaries = ensure("postgresql")
        super().__init__()
        self.port = reserve_port()
        self.password = password
        self.data = self.folder / "data"
        self.settings: dict[str, str] = {
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "shared_buffers": "32MB",
            "max_connections": "200",
            **(settings or {}),
        }

    @property
    def _as_owner(self) -> list[str]:
        # initdb and postgres refuse to run as root.
        if os.geteuid() != 0:
            return []
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]

    def prepare(self) -> None:
        if self.data.exists():
            return
        secret = self.folder / "password"
        secret.write_text(self.password)
        if os.geteuid() == 0:
            # The server's user must be able to pass through the folder and to own what is in it.
            self.folder.chmod(0o711)
            owner = pwd.getpwnam("postgres")
            os.chown(secret, owner.pw_uid, owner.pw_gid)
            self.data.mkdir(0o700)
            os.chown(self.data, owner.pw_uid, owner.pw_gid)
        subprocess.run(
            [
                *self._as_owner,
                str(self._binaries / "initdb"),
                f"--pgdata={self.data}",
                f"--username={SUPERUSER}",
                f"--pwfile={secret}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ],
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
        )
        secret.unlink()

    def command(self) -> Sequence[str]:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": str(self.data),
            **self.settings,
        }
        return [
            *self._as_owner,
            str(self._binaries / "postgres"),
            "-D",
            str(self.data),
            *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
        ]

    def ready(self) -> bool:
        done = subprocess.run(
            [str(self._binaries / "pg_isready"), "-q", "-h", LOOPBACK, "-p", str(self.port), "-t", "2"], check=False
        )
        return done.returncode == 0

    def dsn(self, database: str = "postgres", user: str = SUPERUSER, password: str | None = None) -> str:
        """A libpq connection URI, as asyncpg takes it."""
        secret = self.password if password is None else password
        return f"postgresql://{quote(user)}:{quote(secret, safe='')}@{LOOPBACK}:{self.port}/{quote(database)}"

    def execute(
        self, sql: str, *, database: str = "postgres", user: str = SUPERUSER, password: str | None = None
    ) -> list[tuple[str, ...]]:
        """Run one or several statements, each in its own transaction, and return all rows as text. Raises SqlError."""
        done = subprocess.run(
            [
                shutil.which("psql") or str(self._binaries / "psql"),
                "--no-psqlrc",
                "--quiet",
                "--no-align",
                "--tuples-only",
                f"--field-separator={_FIELD}",
                f"--record-separator={_RECORD}",
                "--set=ON_ERROR_STOP=1",
                self.dsn(database, user, password),
            ],
            input=sql,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if done.returncode:
            raise SqlError(done.stderr.strip())
        out = done.stdout.rstrip("\n")
        return [tuple(record.split(_FIELD)) for record in out.split(_RECORD) if record] if out else []

    def create_role(self, name: str, password: str, options: str = "LOGIN") -> None:
        """Create a role; `options` as in CREATE ROLE."""
        self.execute(f"CREATE ROLE {_identifier(name)} WITH {options} PASSWORD {_literal(password)}")

    def create_database(self, name: str, *, owner: str = SUPERUSER) -> str:
        """Create an empty database and return its DSN for the superuser."""
        self.execute(f"CREATE DATABASE {_identifier(name)} OWNER {_identifier(owner)}")
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, ending its connections."""
        self.execute(f"DROP DATABASE IF EXISTS {_identifier(name)} WITH (FORCE)")

    def terminate_connections(self, database: str) -> int:
        """End every connection to a database. Returns how many there were."""
        return len(
            self.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                f"WHERE datname = {_literal(database)} AND pid <> pg_backend_pid()"
            )
        )

    def allow_connections(self, database: str, allowed: bool) -> None:
        """Let the database be connected to, or refuse every new connection (55000)."""
        self.execute(f"ALTER DATABASE {_identifier(database)} WITH ALLOW_CONNECTIONS {'true' if allowed else 'false'}")


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

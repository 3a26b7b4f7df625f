"""Fixtures that lend tests the real servers, each started once a run, when the first test asks for it.

What the collected tests need is installed before the first of them runs: a build takes minutes, and a test's own time
limit is not for that. A server that a test left frozen or dead is healthy again for the next one.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from estate import install
from estate.process import Server
from estate.recipes import InstallError
from estate.servers.alertmanager import Alertmanager
from estate.servers.anvil import Anvil
from estate.servers.blackbox import Blackbox
from estate.servers.keycloak import Keycloak
from estate.servers.kubernetes import Kubernetes
from estate.servers.minio import MinIO
from estate.servers.nginx import Nginx
from estate.servers.postgresql import PostgreSQL
from estate.servers.prometheus import Prometheus
from estate.servers.receiver import Receiver
from estate.servers.tsa import TimestampAuthority
from estate.servers.vault import Vault

S = TypeVar("S", bound=Server)

_INSTALLED_FOR: dict[str, tuple[str, ...]] = {
    "estate": ("postgresql", "minio", "keycloak"),
    "keycloak": ("keycloak",),
    "realm": ("keycloak",),
    "keycloak_on_postgresql": ("postgresql", "keycloak"),
    "minio": ("minio",),
    "bucket": ("minio",),
    "postgresql": ("postgresql",),
    "database": ("postgresql",),
    "vault": ("vault",),
    "tsa": ("tsa",),
    "anvil": ("anvil",),
    "kubernetes": ("kubernetes", "etcd", "crds", "helm"),
    "namespace": ("kubernetes", "etcd", "crds", "helm"),
    "prometheus_factory": ("prometheus",),
    "alertmanager_factory": ("alertmanager",),
    "nginx_factory": ("nginx",),
    "blackbox": ("blackbox",),
}

_numbers = itertools.count(1)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install every server that a collected test asks for. A failure ends the run: nothing is skipped."""
    # Under xdist the process that hands out the tests collects none.
    if session.config.option.collectonly:
        return
    fixtures = {name for item in getattr(session, "items", ()) for name in getattr(item, "fixturenames", ())}
    wanted = [server for name in fixtures for server in _INSTALLED_FOR.get(name, ())]
    try:
        install.install([entry for entry in install.resolve(wanted) if not entry.installed])
    except InstallError as error:
        pytest.exit(f"the estate cannot be installed:\n{error}", returncode=1)


class Lent:
    """The servers of this run: each is started once, by whoever asks first, and stopped at the end."""

    def __init__(self) -> None:
        self._started: dict[type[Server], Server] = {}
        self._locks: dict[type[Server], threading.Lock] = {}
        self._stack = ExitStack()
        self._lock = threading.Lock()

    def get(self, kind: type[S], make: Callable[[], S] | None = None) -> S:
        """The run's server of this class. Threads that want different ones do not wait for each other."""
        with self._lock:
            lock = self._locks.setdefault(kind, threading.Lock())
        with lock:
            found = self._started.get(kind)
            if found is None:
                found = (make or kind)()
                found.__enter__()
                with self._lock:
                    self._stack.push(found.__exit__)
                    self._started[kind] = found
        assert isinstance(found, kind)
        return found

    def heal(self) -> None:
        """Resume what is frozen, start what is dead, and wait until all are ready, if there was any such."""
        started = list(self._started.values())
        if any(server.paused or not server.running for server in started):
            # In the order of their first start, so that a database is there before what stands on it.
            for server in started:
                _wake(server)
                server.await_ready()

    def close(self) -> None:
        """Stop all, the last started first."""
        self._stack.close()


@dataclass(frozen=True)
class Estate:
    """The three servers that most probes of both platforms look at."""

    keycloak: Keycloak
    minio: MinIO
    postgresql: PostgreSQL


@pytest.fixture(scope="session")
def lent_servers() -> Iterator[Lent]:
    """The servers of this run."""
    lent = Lent()
    try:
        yield lent
    finally:
        lent.close()


@pytest.fixture(autouse=True)
def _heal_servers(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    # Looked up only in tests that used it: a unit test must not create it.
    if "lent_servers" in request.fixturenames:
        lent: Lent = request.getfixturevalue("lent_servers")
        lent.heal()


@pytest.fixture(scope="session")
def estate(lent_servers: Lent) -> Estate:
    """Keycloak, MinIO and PostgreSQL, started in parallel."""
    with ThreadPoolExecutor(max_workers=3) as pool:
        keycloak = pool.submit(lent_servers.get, Keycloak)
        minio = pool.submit(lent_servers.get, MinIO)
        postgresql = pool.submit(lent_servers.get, PostgreSQL)
    return Estate(keycloak.result(), minio.result(), postgresql.result())


@pytest.fixture(scope="session")
def keycloak(lent_servers: Lent) -> Keycloak:
    """Keycloak on its embedded database."""
    return lent_servers.get(Keycloak)


@pytest.fixture(scope="session")
def minio(lent_servers: Lent) -> MinIO:
    """MinIO."""
    return lent_servers.get(MinIO)


@pytest.fixture(scope="session")
def postgresql(lent_servers: Lent) -> PostgreSQL:
    """PostgreSQL."""
    return lent_servers.get(PostgreSQL)


class _KeycloakOnPostgreSQL(Keycloak):
    """A class of its own, so that a run can have one of each."""


@pytest.fixture(scope="session")
def keycloak_on_postgresql(lent_servers: Lent) -> Keycloak:
    """Keycloak with the run's PostgreSQL as its database: for faults of that database."""
    database = lent_servers.get(PostgreSQL)
    return lent_servers.get(
        _KeycloakOnPostgreSQL, lambda: _KeycloakOnPostgreSQL(database=database, database_name=_unique("keycloak"))
    )


@pytest.fixture(scope="session")
def vault(lent_servers: Lent) -> Vault:
    """Vault with the transit engine."""
    return lent_servers.get(Vault)


@pytest.fixture(scope="session")
def tsa(lent_servers: Lent) -> TimestampAuthority:
    """An RFC 3161 timestamp authority."""
    return lent_servers.get(TimestampAuthority)


@pytest.fixture(scope="session")
def anvil(lent_servers: Lent) -> Anvil:
    """An EVM node."""
    return lent_servers.get(Anvil)


@pytest.fixture(scope="session")
def kubernetes(lent_servers: Lent) -> Kubernetes:
    """A Kubernetes API server."""
    return lent_servers.get(Kubernetes)


@pytest.fixture(scope="session")
def blackbox(lent_servers: Lent) -> Blackbox:
    """The blackbox exporter with its `http_2xx` module."""
    return lent_servers.get(Blackbox)


@pytest.fixture
def realm(keycloak: Keycloak) -> Iterator[str]:
    """The name of a fresh realm."""
    name = _unique("realm")
    keycloak.create_realm(name)
    yield name
    _dispose(keycloak, lambda: keycloak.delete_realm(name))


@pytest.fixture
def bucket(minio: MinIO) -> Iterator[str]:
    """The name of a fresh bucket."""
    name = _unique("bucket")
    minio.create_bucket(name)
    yield name
    _dispose(minio, lambda: minio.delete_bucket(name))


@pytest.fixture
def database(postgresql: PostgreSQL) -> Iterator[str]:
    """The name of a fresh database (its DSN: `postgresql.dsn(database)`)."""
    name = _unique("database")
    postgresql.create_database(name)
    yield name
    _dispose(postgresql, lambda: postgresql.drop_database(name))


@pytest.fixture
def namespace(kubernetes: Kubernetes) -> str:
    """The name of a fresh namespace. It stays: no controller would finish its deletion."""
    name = _unique("namespace")
    kubernetes.create_namespace(name)
    return name


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A webhook receiver of this test's own."""
    with Receiver() as made:
        yield made


@pytest.fixture
def prometheus_factory() -> Iterator[Callable[..., Prometheus]]:
    """Start a Prometheus: takes the arguments of `Prometheus`. Stopped after the test."""
    yield from _factory(Prometheus)


@pytest.fixture
def alertmanager_factory() -> Iterator[Callable[..., Alertmanager]]:
    """Start an Alertmanager: takes the arguments of `Alertmanager`. Stopped after the test."""
    yield from _factory(Alertmanager)


@pytest.fixture
def nginx_factory() -> Iterator[Callable[..., Nginx]]:
    """Start an nginx: takes the arguments of `Nginx`. Stopped after the test."""
    yield from _factory(Nginx)


def _factory(kind: type[S]) -> Iterator[Callable[..., S]]:
    with ExitStack() as stack:

        def start(*arguments: Any, **named: Any) -> S:
            made = kind(*arguments, **named)
            stack.enter_context(made)
            return made

        yield start


def _dispose(server: Server, act: Callable[[], object]) -> None:
    # The test may have frozen or killed the server; what it made must go all the same.
    _wake(server)
    act()


def _wake(server: Server) -> None:
    if server.paused:
        server.resume()
    if not server.running:
        # What a crash may have left of its other processes.
        server.kill()
        server.start()


def _unique(what: str) -> str:
    # The process id, because workers that run side by side may be given one server some day.
    return f"{what}-{os.getpid()}-{next(_numbers)}"

"""Alexandria EE on real parts: API server, kubelet's logs, orchestrator socket, nginx, PostgreSQL. Its own HTTP API is the
sandbox's simulator, which quotes what is published; it asks the real socket and verifies the real table.

The ways to the API are those of a cluster: the pod's port, the service in front of it, the ingress in front of that.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import asyncpg

from estate.servers.kubelet import Kubelet
from estate.servers.kubernetes import Kubernetes
from estate.servers.nginx import Nginx
from estate.servers.orchestrator import Orchestrator
from estate.servers.postgresql import PostgreSQL
from estate.servers.vault import Vault
from tocsin_sandbox.alexandria_api import AlexandriaApi
from tocsin_sandbox.alexandria_audit import AuditLog
from tocsin_sandbox.alexandria_cluster import NAMESPACE, AlexandriaCluster
from tocsin_sandbox.alexandria_license import License, LicenseFile
from tocsin_sandbox.alexandria_sqlite import SqliteFile
from tocsin_sandbox.kubernetes_objects import POD
from tocsin_sandbox.serving import Site, free_port

T = TypeVar("T")

INDEX = '<!doctype html><html><head><title>Alexandria</title></head><body><div id="root"></div></body></html>'


class RealDatabase:
    """A PostgreSQL of the estate, as the sandbox's platform uses one."""

    def __init__(self, server: PostgreSQL) -> None:
        self.server = server

    def dsn(self, user: str, password: str, database: str) -> str:
        return self.server.dsn(database, user, password)

    async def connect(self, database: str = "postgres") -> asyncpg.Connection[Any]:
        return await asyncpg.connect(self.server.dsn(database), timeout=5)

    async def execute(self, sql: str, *arguments: object, database: str = "postgres") -> None:
        connection = await self.connect(database)
        try:
            await connection.execute(sql, *arguments)
        finally:
            await connection.close(timeout=2)

    async def execute_each(self, statements: Sequence[str], database: str = "postgres") -> None:
        for statement in statements:
            await self.execute(statement, database=database)


class Loop:
    """A thread with an event loop, for the simulator."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="alexandria")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, T], seconds: float = 20) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    def begin(self, work: Coroutine[Any, Any, None]) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)


class AlexandriaEstate:
    """The platform's parts, well when the context is entered. ``license_file``: what is in the licence's Secret;
    ``backup``: the file whose time says when the database was saved; ``sqlite``: a database in a file, as one published
    page has it."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tocsin-alexandria-")))
            self.license_file = LicenseFile(folder / "license.key")
            self.backup = folder / "backup.dump"
            self.backup.touch()
            self.sqlite = SqliteFile(folder / "alexandria.db")
            self.kubernetes = stack.enter_context(Kubernetes())
            self.kubernetes.create_namespace(NAMESPACE)
            self.kubelet = stack.enter_context(Kubelet(self.kubernetes, "node-1"))
            self.cluster = AlexandriaCluster(
                call=lambda method, path, body: self.kubernetes.call(method, path, body).status,
                write_log=lambda container, line: self.kubelet.write(NAMESPACE, POD, container, line, time.time()),
                rotate_log=lambda container: self.kubelet.rotate(NAMESPACE, POD, container),
                node=self.kubelet.name,
            )
            self.cluster.furnish(self.license_file.sign(License()))
            self.orchestrator = stack.enter_context(Orchestrator())
            self.database = stack.enter_context(PostgreSQL())
            self.vault = stack.enter_context(Vault())
            self.loop = stack.enter_context(Loop())
            life = self.loop.begin(self.cluster.run())
            stack.callback(lambda: self.loop.call(asyncio.sleep(0)))
            stack.callback(life.cancel)
            self.audit_log = AuditLog(RealDatabase(self.database))  # type: ignore[arg-type]
            self.loop.call(self.audit_log.furnish())
            self.api = AlexandriaApi(self.orchestrator.socket, self.audit_log)
            self.site = Site(free_port(), self.api.build)
            self.start_api()
            stack.callback(self.stop_api)
            self.service = stack.enter_context(Nginx(self._proxied))
            self.ingress = stack.enter_context(Nginx(self._served))
            self.service.write("index.html", INDEX)
            self.install(self.api.license)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def _proxied(self) -> str:
        return f"location / {{ proxy_pass {self.site.url}; }}"

    @property
    def _served(self) -> str:
        return f"location / {{ proxy_pass {self.service.url}; }}"

    # The API and the ways to it

    def start_api(self) -> None:
        self.loop.call(self.site.start())

    def stop_api(self) -> None:
        self.loop.call(self.site.stop())

    def serve_dashboard(self) -> None:
        """The service leads to the dashboard's nginx: it proxies the published prefixes, the rest is its start page."""
        self.service.locations = (
            f"location ~ ^/(v1|admin|auth)/ {{ proxy_pass {self.site.url}; }} "
            "location / { try_files $uri /index.html; }"
        )
        self.service.reload()

    def serve_api(self) -> None:
        self.service.locations = self._proxied
        self.service.reload()

    def serve_page_at(self, path: str) -> None:
        """The ingress answers one path by itself, with a page."""
        self.ingress.locations = (
            f"location = {path} {{ default_type text/html; return 200 '<!doctype html><title>Alexandria</title>'; }} "
            + self._served
        )
        self.ingress.reload()

    def serve_all(self) -> None:
        self.ingress.locations = self._served
        self.ingress.reload()

    def install(self, license: License) -> None:
        """Put a licence into its Secret, and where it is read."""
        self.license_file.install(license)
        self.cluster.install(self.license_file.path.read_text())

    # The audit log

    def live(self, rows: int = 2) -> None:
        """Some traffic is recorded."""
        for _ in range(rows):
            self.loop.call(self.audit_log.pulse())

    def sql(self, statement: str) -> None:
        self.database.execute(statement, database="alexandria")

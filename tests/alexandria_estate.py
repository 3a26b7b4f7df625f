"""Alexandria EE on real parts: API server, kubelet's logs, orchestrator socket, nginx, PostgreSQL. Its own HTTP API is the
sandbox's simulator, which quotes what is published; it asks the real socket and verifies the real table.

The ways to the API are those of a cluster: the pod's port, the service in front of it, the ingress in front of that.
"""

from __future__ import annotations

import asyncio
import base64
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import asyncpg

from estate.servers.kubelet import Kubelet
from estate.servers.kubernetes import Kubernetes
from estate.servers.nginx import Nginx
from estate.servers.orchestrator import Orchestrator
from estate.servers.postgresql import PostgreSQL
from tests.kubernetes_pods import INSTANCE, create_alexandria, healthy, running, status
from tocsin_sandbox.alexandria_api import AlexandriaApi
from tocsin_sandbox.alexandria_audit import AuditLog
from tocsin_sandbox.alexandria_license import License, LicenseFile
from tocsin_sandbox.serving import Site, free_port

T = TypeVar("T")

POD = "alexandria-0"
DEPLOYMENTS = "/apis/apps/v1/namespaces/alexandria/deployments"
RELEASE = "sh.helm.release.v1.alexandria-ee.v1"
INDEX = '<!doctype html><html><head><title>Alexandria</title></head><body><div id="root"></div></body></html>'

USERS = """
CREATE TABLE users (id bigserial PRIMARY KEY, created_at timestamptz NOT NULL);
INSERT INTO users (created_at) SELECT now() - i * interval '1 hour' FROM generate_series(1, 100) i;
"""
"""A table that only grows, beside the audit log. The platform does not publish its own."""


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
    page has it; ``api_started``: the api container (Unix time)."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.api_started = time.time() - 600
        self._repeated: dict[str, Future[None]] = {}

    def __enter__(self) -> Self:
        with self._stack as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tocsin-alexandria-")))
            self.license_file = LicenseFile(folder / "license.key")
            self.backup = folder / "backup.dump"
            self.backup.touch()
            self.sqlite = folder / "alexandria.db"
            with closing(sqlite3.connect(self.sqlite)) as database:
                database.execute("CREATE TABLE tenants (slug TEXT)")
            self.kubernetes = stack.enter_context(Kubernetes())
            self.namespace = "alexandria"
            self.kubernetes.create_namespace(self.namespace)
            self.kubelet = stack.enter_context(Kubelet(self.kubernetes, "node-1"))
            self.create_pod()
            self._furnish_release()
            self.furnish_dsn()
            self.orchestrator = stack.enter_context(Orchestrator())
            self.database = stack.enter_context(PostgreSQL())
            self.loop = stack.enter_context(Loop())
            stack.callback(self.cease)
            self.audit_log = AuditLog(RealDatabase(self.database))  # type: ignore[arg-type]
            self.loop.call(self.audit_log.furnish())
            self.sql(USERS)
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

    # The pod, its logs and Secrets

    def create_pod(self) -> None:
        create_alexandria(self.kubernetes, self.namespace, POD, nodeName=self.kubelet.name)
        self.pod()

    def drop_pod(self) -> None:
        path = f"/api/v1/namespaces/{self.namespace}/pods/{POD}"
        self.kubernetes.call("DELETE", path, {"gracePeriodSeconds": 0}).expect(200)

    def pod(self, **containers: Any) -> None:
        """Write the pod's status with these containers in another state than well."""
        well = {"api": self.running_api()}
        self.kubernetes.set_pod_status(self.namespace, POD, status(*healthy(**well | containers)))

    def running_api(self, **more: Any) -> dict[str, Any]:
        """The status of the api container, which was started when it was."""
        return running("api", seconds=time.time() - self.api_started, **more)

    def restart_api(self) -> None:
        """The api container is started anew, and reads its licence."""
        self.api_started = time.time() + 1  # times of the API have whole seconds
        self.pod()

    def install(self, license: License) -> None:
        """Put a licence into its Secret."""
        self.license_file.install(license)
        self.secret("alexandria-ee-license", {"license.key": self.license_file.path.read_text()})

    def _furnish_release(self) -> None:
        """What the opt-in probes look at: a Deployment and a Helm release."""
        template = {"metadata": {"labels": INSTANCE}, "spec": {"containers": [{"name": "api", "image": "none"}]}}
        spec = {"selector": {"matchLabels": INSTANCE}, "template": template}
        self.kubernetes.call("POST", DEPLOYMENTS, {"metadata": {"name": "alexandria-ee"}, "spec": spec}).expect(201)
        labels = {
            "owner": "helm",
            "name": "alexandria-ee",
            "status": "deployed",
            "version": "1",
            "modifiedAt": "1700000000",
        }
        body = {"metadata": {"name": RELEASE, "labels": labels}, "type": "helm.sh/release.v1"}
        self.kubernetes.call("POST", "/api/v1/namespaces/alexandria/secrets", body).expect(201)

    def log(self, line: str, container: str = "api") -> None:
        self.kubelet.write(self.namespace, POD, container, line, time.time())

    def repeat(self, name: str, act: Callable[[], object]) -> None:
        """Do it now and every two seconds until it must `cease`, as a fault that lasts shows itself again and again."""

        async def again() -> None:
            while True:
                act()
                await asyncio.sleep(2)

        self._repeated[name] = self.loop.begin(again())

    def cease(self, name: str = "") -> None:
        """End what is repeated under this name, or everything."""
        for each in [name] if name else list(self._repeated):
            ended = self._repeated.pop(each)
            if not ended.cancel():
                ended.result()
            self.loop.call(asyncio.sleep(0))  # what was being done is done by then

    def secret(self, name: str, values: dict[str, str]) -> None:
        """Create or replace a Secret."""
        self.drop_secret(name)
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        body = {"metadata": {"name": name}, "data": data}
        self.kubernetes.call("POST", f"/api/v1/namespaces/{self.namespace}/secrets", body).expect(201)

    def furnish_dsn(self) -> None:
        self.secret("alexandria-ee", {"database-dsn": "postgresql://alex@db/alexandria"})

    def drop_secret(self, name: str) -> None:
        self.kubernetes.call("DELETE", f"/api/v1/namespaces/{self.namespace}/secrets/{name}")

    # The audit log

    def live(self, rows: int = 2) -> None:
        """Some traffic is recorded."""
        for _ in range(rows):
            self.loop.call(self.audit_log.pulse())

    def sql(self, statement: str) -> None:
        self.database.execute(statement, database="alexandria")

"""Alexandria's profile against its API as published, behind a real nginx that is its dashboard.

Facts: the pages /operations/incident-response, /operations/upgrade, /api/admin, /api/auth, /api/federation, /api/llm and
/deployment/helm-kubernetes of the platform's documentation; each answer says which.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from socket import AF_UNIX
from socket import socket as unix_socket
from typing import Any

import pytest

from estate.servers.nginx import Nginx
from estate.servers.vault import Vault
from tests.probing import Probed, probe_once
from tests.unit.probes.lying_servers import answering, by_path, serving
from tests.unit.probes.test_license_quota_probe import licence
from tocsin.config import Configuration, Registry, Sources, load
from tocsin_sandbox.alexandria_api import AlexandriaApi
from tocsin_sandbox.serving import Site, free_port

pytestmark = pytest.mark.estate


class NewVault(Vault):
    """One that nobody has initialised."""

    def ready(self) -> bool:
        return self.health() == 501


REGISTRY = Registry.discover()

DASHBOARD = """
    location /v1/ { proxy_pass http://127.0.0.1:PORT; }
    location /admin/ { proxy_pass http://127.0.0.1:PORT; }
    location /auth/ { proxy_pass http://127.0.0.1:PORT; }
    location / { try_files $uri /index.html; }
"""
"""helm-kubernetes: nginx on port 80, which proxies /v1/*, /admin/* and /auth/* to the API; anything else is its page."""

INGRESS = "location / { proxy_pass http://127.0.0.1:PORT; }"


@dataclass
class Api:
    """The API on port 8080, well. A test changes what it answers."""

    ready: Any = field(default_factory=lambda: answering("", status="200 OK"))  # incident-response: 200 when healthy
    license: Any = field(default_factory=licence)  # upgrade, license-renewal
    admin_license: Any = field(default_factory=licence)  # licensing
    status: Any = field(default_factory=lambda: {"orchestrator": "up", "api": "up", "utils": "down"})  # api/admin
    setup: Any = field(default_factory=lambda: {"needs_setup": False})  # api/auth
    providers: Any = field(default_factory=lambda: {"providers": []})  # api/federation
    backends: Any = field(  # api/llm
        default_factory=lambda: [{"name": "a", "is_default": True, "enabled": True, "status": "active"}]
    )

    @asynccontextmanager
    async def served(self) -> AsyncIterator[int]:
        def said(what: Any) -> Any:
            return what if callable(what) else answering(json.dumps(what))

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            routes = {
                "/ready": self.ready,
                "/license": said(self.license),
                "/admin/license": said(self.admin_license),
                "/admin/status": said(self.status),
                "/auth/setup": said(self.setup),
                "/auth/providers": said(self.providers),
                "/admin/llm": said(self.backends),
            }
            await by_path(routes)(reader, writer)

        async with serving(handler) as port:
            yield port


def configured(url: str, service: str = "", pod: str = "") -> Configuration:
    environ = {
        "TOCSIN_ALEXANDRIA_URL": url,
        "TOCSIN_ALEXANDRIA_SERVICE_URL": service,
        "TOCSIN_ALEXANDRIA_POD_URL": pod,
        "TOCSIN_ALEXANDRIA_ADMIN_TOKEN": "an-access-token",
        "TOCSIN_ALEXANDRIA_ENTITLEMENTS": "oidc, audit_export",
    }
    return load(Sources(profiles=("alexandria",), environ=environ), REGISTRY)


async def look(configuration: Configuration, name: str) -> Probed:
    spec = configuration.probes[name]
    return await probe_once(REGISTRY[spec.kind](spec.settings))


OVER_HTTP = (
    "alexandria-ready",
    "alexandria-license-json",
    "alexandria-license",
    "alexandria-license-entitlements",
    "alexandria-admin-status",
    "alexandria-default-backend",
    "alexandria-auth-providers",
    "alexandria-setup-closed",
)


async def test_a_platform_that_is_well_is_well_for_every_probe() -> None:
    async with Api().served() as port:
        configuration = configured(f"http://127.0.0.1:{port}")
        for name in OVER_HTTP:
            assert (await look(configuration, name)).verdict == ("ok", None), name


FAULTS: list[tuple[str, dict[str, Any], str, str, str]] = [
    (
        "orchestrator down",
        {"ready": answering("", status="503")},
        "alexandria-ready-pod",
        "failed",
        "orchestrator_down",
    ),
    ("ready fails otherwise", {"ready": answering("", status="500")}, "alexandria-ready", "failed", "server_error"),
    ("licence is no JSON", {"license": answering("oops")}, "alexandria-license-json", "failed", "unexpected_body"),
    ("licence lacks fields", {"license": {"tier": "x"}}, "alexandria-license-json", "failed", "assertion_failed"),
    ("seats", {"license": licence(current_seats=100)}, "alexandria-license", "failed", "seats_exhausted"),
    ("tenants", {"license": licence(current_tenants=10)}, "alexandria-license", "failed", "tenants_exhausted"),
    (
        "entitlement",
        {"admin_license": licence(entitlements=["oidc"])},
        "alexandria-license-entitlements",
        "failed",
        "entitlement_missing",
    ),
    (
        "orchestrator as the administration sees it",
        {"status": {"orchestrator": "down", "api": "up", "utils": "up"}},
        "alexandria-admin-status",
        "failed",
        "assertion_failed",
    ),
    (
        "token expired",
        {"status": answering("", status="401")},
        "alexandria-admin-status",
        "unknown",
        "credentials_rejected",
    ),
    (
        "default backend disabled",
        {"backends": [{"is_default": True, "enabled": False, "status": "active"}]},
        "alexandria-default-backend",
        "failed",
        "assertion_failed",
    ),
    ("no backend", {"backends": {"backends": []}}, "alexandria-default-backend", "failed", "assertion_failed"),
    ("open setup", {"setup": {"needs_setup": True}}, "alexandria-setup-closed", "failed", "assertion_failed"),
    ("providers", {"providers": {"error": "x"}}, "alexandria-auth-providers", "failed", "assertion_failed"),
]


@pytest.mark.parametrize(("fault", "answers", "name", "status", "reason"), FAULTS, ids=[each[0] for each in FAULTS])
async def test_each_fault_is_told_by_its_probe(
    fault: str, answers: dict[str, Any], name: str, status: str, reason: str
) -> None:
    async with Api(**answers).served() as port:
        url = f"http://127.0.0.1:{port}"
        assert (await look(configured(url, url, url), name)).verdict == (status, reason)


async def test_from_three_places_the_innermost_that_fails_is_where_the_path_breaks(
    nginx_factory: Callable[..., Nginx],
) -> None:
    places = ("alexandria-ready-pod", "alexandria-ready-service", "alexandria-ready")
    licences = ("alexandria-license-pod", "alexandria-license-service", "alexandria-license-json")
    api = Api()
    async with api.served() as port:
        service = await asyncio.to_thread(nginx_factory, INGRESS.replace("PORT", str(port)))
        ingress = await asyncio.to_thread(nginx_factory, INGRESS.replace("PORT", str(service.port)))
        configuration = configured(ingress.url, service.url, f"http://127.0.0.1:{port}")

        async def matrix(names: tuple[str, ...] = places) -> list[str | None]:
            return [(await look(configuration, name)).outcome.reason for name in names]

        assert await matrix() == await matrix(licences) == [None, None, None]
        api.ready = answering("", status="503")
        assert await matrix() == ["orchestrator_down", "server_error", "server_error"]
        assert await matrix(licences) == [None, None, None]
        api.license = answering("oops")
        assert await matrix(licences) == ["unexpected_body"] * 3
        api.license = licence()
        api.ready = answering("", status="200 OK")
        # The Service's port is the dashboard, whose page answers 200 to anything.
        service.write("index.html", "<!doctype html><title>Alexandria</title>")
        service.locations = DASHBOARD.replace("PORT", str(port))
        await asyncio.to_thread(service.reload)
        assert await matrix() == await matrix(licences) == [None, "html_instead_of_json", "html_instead_of_json"]
        for name in ("alexandria-ready-service", "alexandria-license-service"):
            assert "the Service's port 80 may be the dashboard's nginx" in (await look(configuration, name)).detail
        assert (await look(configuration, "alexandria-license-json")).outcome.reason == "html_instead_of_json"
        assert (await look(configuration, "alexandria-license")).outcome.reason == "html_instead_of_json"
        # What the dashboard does pass on is well all the same.
        assert (await look(configuration, "alexandria-admin-status")).verdict == ("ok", None)
        service.stop()
        assert await matrix() == await matrix(licences) == [None, "connection_refused", "server_error"]
    assert configuration.probes["alexandria-ready"].depends_on[:2] == places[1::-1]
    assert configuration.probes["alexandria-license-json"].depends_on[:2] == licences[1::-1]


async def test_a_proxy_that_has_no_pod_to_lead_to_is_not_the_orchestrator() -> None:
    """Envoy's own words for it, with 503."""
    async with serving(answering("no healthy upstream", status="503")) as port:
        url = f"http://127.0.0.1:{port}"
        configuration = configured(url, url, url)
        for name in ("alexandria-ready-service", "alexandria-ready"):
            assert (await look(configuration, name)).verdict == ("failed", "server_error"), name


async def test_a_vault_that_is_sealed_or_was_never_initialised_is_told_apart(vault: Vault) -> None:
    def looking_at(url: str) -> Configuration:
        environ = {"TOCSIN_ALEXANDRIA_VAULT_ENABLED": "true", "VAULT_ADDR": url}
        environ["TOCSIN_ALEXANDRIA_DATABASE_SECRET_ENABLED"] = "false"
        return load(Sources(profiles=("alexandria",), environ=environ), REGISTRY)

    configuration = looking_at(vault.url)
    assert configuration.probes["alexandria-database-secret"].off_because.startswith("the DSN is in Vault")
    assert (await look(configuration, "alexandria-vault")).verdict == ("ok", None)
    vault.seal()
    try:
        assert (await look(configuration, "alexandria-vault")).verdict == ("failed", "sealed")
    finally:
        vault.unseal()
    assert (await look(configuration, "alexandria-vault")).verdict == ("ok", None)
    with NewVault() as new:
        assert (await look(looking_at(new.url), "alexandria-vault")).verdict == ("failed", "not_initialized")


def missing(socket: Path) -> None:
    """Nothing is at the path."""


def a_file(socket: Path) -> None:
    socket.touch()


def abandoned(socket: Path) -> None:
    """Its listener has died and left it."""
    with closing(unix_socket(AF_UNIX)) as listener:
        listener.bind(str(socket))


@pytest.mark.parametrize("spoil", [missing, a_file, abandoned])
async def test_a_fault_of_the_socket_is_seen_from_outside_without_the_sidecar(
    spoil: Callable[[Path], None], tmp_path: Path
) -> None:
    socket = tmp_path / "orchestrator.sock"
    site = Site(free_port(), AlexandriaApi(socket, None).build)  # type: ignore[arg-type]
    configuration = configured(site.url, site.url, site.url)
    assert not [
        name for name in configuration.probes if REGISTRY[configuration.probes[name].kind].kind == "grpc_socket"
    ]
    await site.start()
    try:
        async with await asyncio.start_unix_server(lambda reader, writer: writer.close(), socket):
            assert (await look(configuration, "alexandria-ready-pod")).verdict == ("ok", None)
        socket.unlink(missing_ok=True)
        spoil(socket)
        assert (await look(configuration, "alexandria-ready-pod")).verdict == ("failed", "orchestrator_down")
    finally:
        await site.stop()


@pytest.mark.parametrize(("refused", "verdict"), [("0", ("ok", None)), ("3", ("failed", "threshold_exceeded"))])
async def test_users_who_are_refused_for_the_quota_are_counted(refused: str, verdict: tuple[str, str | None]) -> None:
    found = {"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1, refused]}]}}
    asked: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        await answering(json.dumps(found))(reader, writer)

    async with serving(handler) as port:
        environ = {
            "TOCSIN_ALEXANDRIA_METRICS_ENABLED": "true",
            "TOCSIN_ALEXANDRIA_PROMETHEUS_URL": f"http://127.0.0.1:{port}",
        }
        configuration = load(Sources(profiles=("alexandria-quadlet",), environ=environ), REGISTRY)
        assert (await look(configuration, "alexandria-quota-refusals")).verdict == verdict
    assert b"402" in asked[0]

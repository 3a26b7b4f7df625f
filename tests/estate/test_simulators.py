"""The simulators do what is published about the platforms, asked over HTTP and SQL as anybody would: no probe and no
client of tocsin takes part. What a docstring quotes is from the platforms' own documentation."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from aiohttp import ClientSession, ClientTimeout

from tocsin_sandbox.session import Plan, Session

pytestmark = [pytest.mark.estate, pytest.mark.asyncio(loop_scope="module")]

QUEUES = {
    "proofs.validated", "certificates.to_anchor", "notifications.to_send", "billing.exports", "reports.monthly",
    "proofs.retry",
}  # fmt: skip


@dataclass(frozen=True)
class Asking:
    """A client of both platforms."""

    session: Session
    http: ClientSession

    async def ask(self, url: str, method: str = "GET", token: str = "", **more: Any) -> tuple[int, Any]:
        """Status, and the body: parsed when it says that it is JSON."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.http.request(method, url, headers=headers, **more) as response:
            text = await response.text()
            return response.status, json.loads(text) if "json" in response.content_type else text

    async def rows(self, dsn: str, sql: str) -> list[Any]:
        connection = await asyncpg.connect(dsn, timeout=5)
        try:
            return list(await connection.fetch(sql))
        finally:
            await connection.close(timeout=2)

    @property
    def variables(self) -> dict[str, str]:
        lines = self.session.env_file.read_text().splitlines()
        pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
        return {name: value.strip("'\"") for name, _, value in pairs}

    async def token(self, realm: str) -> str:
        variables = self.variables
        issuer = variables[f"KEYCLOAK_{realm.upper()}_ISSUER"]
        _, metadata = await self.ask(f"{issuer}/.well-known/openid-configuration")
        form = {
            "grant_type": "client_credentials",
            "client_id": variables[f"TOCSIN_WIPE_{realm.upper()}_CLIENT_ID"],
            "client_secret": variables[f"TOCSIN_WIPE_{realm.upper()}_CLIENT_SECRET"],
        }
        status, answer = await self.ask(metadata["token_endpoint"], "POST", data=form)
        assert status == 200, answer
        return str(answer["access_token"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def asking() -> AsyncIterator[Asking]:
    started = Session(Plan(), lambda name: None).start()
    async with await started as session, ClientSession(timeout=ClientTimeout(total=10)) as http:
        yield Asking(session, http)


# Wipe ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("realm", ["master", "exawipe"])
async def test_a_realm_publishes_its_issuer_and_keys_as_openid_connect_discovery_says(
    asking: Asking, realm: str
) -> None:
    """OpenID Connect Discovery 1.0, section 4.3: the issuer equals the one the metadata was asked of."""
    issuer = asking.variables[f"KEYCLOAK_{realm.upper()}_ISSUER"]
    status, metadata = await asking.ask(f"{issuer}/.well-known/openid-configuration")
    assert (status, metadata["issuer"]) == (200, issuer)
    assert issuer.endswith(f"/realms/{realm}")
    status, keys = await asking.ask(metadata["jwks_uri"])
    assert status == 200
    assert {key["use"] for key in keys["keys"]} >= {"sig"}


async def test_health_wants_no_token_and_the_apis_want_one(asking: Asking) -> None:
    """``/healthz``, ``/readyz``; ``GET /api/v1/usage`` and ``GET /admin/api/v1/license-grants`` have roles."""
    api = asking.variables["TOCSIN_WIPE_API_URL"]
    assert [(await asking.ask(f"{api}{path}"))[0] for path in ("/healthz", "/readyz")] == [200, 200]
    protected = ("/api/v1/usage", "/admin/api/v1/license-grants")
    assert [(await asking.ask(f"{api}{path}"))[0] for path in protected] == [401, 401]
    assert [(await asking.ask(f"{api}{path}", token="not.a.token"))[0] for path in protected] == [401, 401]
    token = await asking.token("exawipe")
    assert [(await asking.ask(f"{api}{path}", token=token))[0] for path in protected] == [200, 200]


async def test_readiness_knows_the_dependencies(asking: Asking) -> None:
    """Triage: ``/readyz`` and dependencies."""
    api = asking.variables["TOCSIN_WIPE_API_URL"]
    await asking.session.switches.cause("storage-stopped")
    try:
        assert (await asking.ask(f"{api}/readyz"))[0] == 503
        assert (await asking.ask(f"{api}/healthz"))[0] == 200
    finally:
        await asking.session.switches.undo("storage-stopped")
    assert (await asking.ask(f"{api}/readyz"))[0] == 200


async def test_work_lies_in_the_table_of_jobs_by_queue_and_status(asking: Asking) -> None:
    """``SELECT queue, status, count(*) FROM jobs GROUP BY queue, status``; a job comes each second, to all in turn."""
    dsn = asking.variables["TOCSIN_WIPE_DATABASE_DSN"]
    queues: set[str] = set()
    for _ in range(100):
        rows = await asking.rows(dsn, "SELECT queue, status, count(*) FROM jobs GROUP BY queue, status")
        queues = {row["queue"] for row in rows}
        if len(queues) >= len(QUEUES):
            break
        await asyncio.sleep(0.2)
    assert queues == QUEUES


async def test_the_incident_pages_query_for_unanchored_certificates_runs(asking: Asking) -> None:
    """``anchor_tx_hash`` is empty or NULL until a certificate is anchored."""
    columns = "id, tenant_id, organization_id, status, anchor_chain_id, anchor_tx_hash, created_at"
    where = "WHERE anchor_tx_hash = '' OR anchor_tx_hash IS NULL"
    dsn = asking.variables["TOCSIN_WIPE_DATABASE_DSN"]
    anchored = await asking.rows(dsn, f"SELECT {columns} FROM certificates WHERE anchor_tx_hash <> ''")
    assert anchored
    assert all(row["anchor_tx_hash"].startswith("0x") for row in anchored)
    await asking.rows(dsn, f"SELECT {columns} FROM certificates {where} ORDER BY created_at LIMIT 20")


async def test_public_verification_is_logged_and_says_nothing_internal(asking: Asking) -> None:
    """``UNKNOWN_CERTIFICATE`` for what is not there; each verification leaves a row in the application's database."""
    variables = asking.variables
    api, dsn = variables["TOCSIN_WIPE_API_URL"], variables["TOCSIN_WIPE_DATABASE_DSN"]
    count = "SELECT count(*) FROM verification_logs WHERE result = 'UNKNOWN_CERTIFICATE'"
    before = (await asking.rows(dsn, count))[0][0]
    status, answer = await asking.ask(f"{api}/verify/{uuid.uuid4()}")
    assert (status, answer) == (404, {"result": "UNKNOWN_CERTIFICATE"})
    assert (await asking.rows(dsn, count))[0][0] == before + 1
    _, answer = await asking.ask(variables["TOCSIN_WIPE_VERIFY_ANCHORED_URL"])
    assert answer["anchored"] is True
    assert not {"tenant_id", "organization_id"} & answer.keys()


async def test_both_files_of_a_certificate_are_downloaded_with_a_token_and_not_without(asking: Asking) -> None:
    """``S3_BUCKET_CERTIFICATES``: "certificate PDFs and canonical JSON"; recovery: "sample certificate PDF and canonical
    JSON downloads"."""
    token = await asking.token("exawipe")
    pdf, document = (asking.variables[f"TOCSIN_WIPE_DOWNLOAD_{kind}_URL"] for kind in ("PDF", "JSON"))
    assert [(await asking.ask(url))[0] for url in (pdf, document)] == [401, 401]
    status, body = await asking.ask(pdf, token=token)
    assert (status, body[:5], body.rstrip()[-5:]) == (200, "%PDF-", "%%EOF")
    status, answer = await asking.ask(document, token=token)
    assert (status, type(answer)) == (200, dict)
    unknown = pdf.replace(pdf.split("/")[-2], str(uuid.uuid4()))
    assert (await asking.ask(unknown, token=token))[0] == 404


# Alexandria EE ------------------------------------------------------------------------------------------------------


async def test_ready_is_503_while_nobody_answers_at_the_orchestrators_socket(asking: Asking) -> None:
    """``GET /ready``: 200 is healthy, 503 usually means that the orchestrator's gRPC socket is not up."""
    api = asking.variables["TOCSIN_ALEXANDRIA_POD_URL"]
    assert (await asking.ask(f"{api}/ready"))[0] == 200
    await asking.session.switches.cause("orchestrator-stopped")
    try:
        assert (await asking.ask(f"{api}/ready"))[0] == 503
    finally:
        await asking.session.switches.undo("orchestrator-stopped")
    assert (await asking.ask(f"{api}/ready"))[0] == 200


async def test_the_licence_has_its_published_fields(asking: Asking) -> None:
    variables = asking.variables
    api, token = variables["TOCSIN_ALEXANDRIA_POD_URL"], asking.session.estate.alexandria_api.admin.issue()
    status, public = await asking.ask(f"{api}/license")
    fields = {"tier", "expires_at", "current_seats", "max_seats", "current_tenants", "max_tenants"}
    assert (status, public.keys()) == (200, fields)
    assert (await asking.ask(f"{api}/admin/license"))[0] == 401
    status, own = await asking.ask(f"{api}/admin/license", token=token)
    fields = {"tier", "entitlements", "expires_at", "days_remaining", "grace_remaining_seconds"}
    assert (status, own.keys()) == (200, fields)
    assert own["expires_at"].endswith("Z")


async def test_administration_tells_of_the_parts_the_backends_and_the_chain(asking: Asking) -> None:
    """``GET /admin/status``, ``GET /admin/llm``, ``POST /admin/audit/verify`` with ``verified: true``."""
    variables = asking.variables
    api, token = variables["TOCSIN_ALEXANDRIA_POD_URL"], asking.session.estate.alexandria_api.admin.issue()
    _, parts = await asking.ask(f"{api}/admin/status", token=token)
    assert (parts["orchestrator"], parts["api"]) == ("up", "up")
    _, answer = await asking.ask(f"{api}/admin/llm", token=token)
    assert [(each["is_default"], each["enabled"], each["status"]) for each in answer["backends"]] == [
        (True, True, "active")
    ]
    status, answer = await asking.ask(f"{api}/admin/audit/verify", "POST", token)
    assert (status, answer["verified"]) == (200, True)


async def test_a_full_quota_is_refused_with_402(asking: Asking) -> None:
    """``{"error": "quota_exceeded", "resource": "tenants", "limit": 10, "current": 10}``."""
    variables = asking.variables
    api, token = variables["TOCSIN_ALEXANDRIA_POD_URL"], asking.session.estate.alexandria_api.admin.issue()
    await asking.session.switches.cause("tenants-exhausted")
    try:
        status, answer = await asking.ask(f"{api}/admin/tenants", "POST", token, json={"slug": "one-more"})
    finally:
        await asking.session.switches.undo("tenants-exhausted")
    assert (status, answer["error"], answer["resource"]) == (402, "quota_exceeded", "tenants")
    assert answer["limit"] == answer["current"]


async def test_audit_rows_are_chained_by_the_mac_of_the_row_before(asking: Asking) -> None:
    """``prev_hmac`` of a row is the ``hmac`` of the one before, tenant by tenant."""
    variables = asking.variables
    table = variables["TOCSIN_ALEXANDRIA_AUDIT_TABLE"]
    rows = await asking.rows(
        variables["TOCSIN_ALEXANDRIA_DATABASE_DSN"], f"SELECT tenant_id, prev_hmac, hmac FROM {table} ORDER BY seq"
    )
    newest: dict[str, str] = {}
    for row in rows:
        assert newest.get(row["tenant_id"], row["prev_hmac"]) == row["prev_hmac"]
        newest[row["tenant_id"]] = row["hmac"]
    assert len(rows) > len(newest) > 0


async def test_the_dashboards_web_server_answers_any_path_with_its_start_page(asking: Asking) -> None:
    """The service's port may be the dashboard's nginx, whose fallback answers 200 with HTML for ``/ready``."""
    service = asking.variables["TOCSIN_ALEXANDRIA_SERVICE_URL"]
    await asking.session.switches.cause("alexandria-html")
    try:
        status, page = await asking.ask(f"{service}/ready")
    finally:
        await asking.session.switches.undo("alexandria-html")
    assert status == 200
    assert page.lstrip().lower().startswith("<!doctype html>")

"""The simulators without servers behind them do what is published, asked over HTTP as anybody would: no probe and no
client of tocsin takes part. What a docstring quotes is from the documentation that it names."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import ClientSession, ClientTimeout, web

from tests.wipe_simulators import SMOKE_KEY, Api, Exporter
from tocsin_sandbox.elsewhere import Elsewhere
from tocsin_sandbox.observability import ALERTS, Observability
from tocsin_sandbox.serving import Site, free_port

Ask = Callable[..., Any]


@asynccontextmanager
async def asking(build: Callable[[], web.Application]) -> AsyncIterator[Ask]:
    """Status and body (parsed when it says that it is JSON) of a request to the application."""
    site = Site(free_port(), build)
    await site.start()
    try:
        async with ClientSession(timeout=ClientTimeout(total=5)) as http:

            async def ask(path: str, method: str = "GET", **more: Any) -> tuple[int, Any]:
                async with http.request(method, site.url + path, **more) as answer:
                    text = await answer.text()
                    return answer.status, json.loads(text) if "json" in answer.content_type else text

            yield ask
    finally:
        await site.stop()


@pytest.mark.parametrize(
    ("form", "codes"),
    [
        ({"secret": "right", "response": "token"}, ["invalid-input-response"]),
        ({"secret": "right"}, ["missing-input-response"]),
        ({"secret": "wrong", "response": "token"}, ["invalid-input-secret"]),
        ({"response": "token"}, ["missing-input-secret"]),
    ],
)
async def test_siteverify_says_in_words_what_is_wrong(form: dict[str, str], codes: list[str]) -> None:
    """Cloudflare, "Validate the token": POST with ``secret`` and ``response``; "``success``: boolean", "``error-codes``:
    array"; "``missing-input-secret``: secret parameter not provided", "``invalid-input-secret``: secret key is invalid or
    expired", "``missing-input-response``", "``invalid-input-response``: token is invalid, malformed, or expired"."""
    async with asking(Elsewhere(captcha_secret="right").build) as ask:
        assert await ask("/siteverify", "POST", data=form) == (200, {"success": False, "error-codes": codes})
        assert (await ask("/siteverify"))[0] == 405


async def test_the_explorer_is_a_page() -> None:
    """Nothing is published about it but that there is an "explorer URL" to confirm."""
    async with asking(Elsewhere().build) as ask:
        status, page = await ask("/explorer")
    assert status == 200
    assert page.startswith("<!doctype html>")


async def test_loki_answers_an_instant_query_with_a_vector() -> None:
    """Grafana Loki, "Query logs at a single point in time": ``GET /loki/api/v1/query``; ``{"status": "success", "data":
    {"resultType": "vector", "result": [{"metric": {…}, "value": [<seconds>, "<number>"]}]}}``; 400 for a bad query."""
    logs = Observability()
    for text in ("level=error msg=a", "level=info msg=b", "level=error msg=c"):
        logs.log("proof-worker", text)
    query = 'sum(count_over_time({service_name="proof-worker"} |~ "level=error" [5m]))'
    async with asking(logs.build) as ask:
        status, answer = await ask("/loki/api/v1/query?" + urlencode({"query": query}))
        nothing = await ask("/loki/api/v1/query?" + urlencode({"query": query.replace("error", "fatal")}))
        assert (await ask("/loki/api/v1/query?" + urlencode({"query": "nonsense"})))[0] == 400
    assert (status, answer["status"], answer["data"]["resultType"]) == (200, "success", "vector")
    (sample,) = answer["data"]["result"]
    assert (sample["metric"], type(sample["value"][0]), sample["value"][1]) == ({}, float, "2.0")
    assert nothing[1]["data"]["result"] == []


async def test_prometheus_tells_of_each_published_alert_whether_it_fires() -> None:
    """Prometheus, "HTTP API", "Rules": ``data.groups[].rules[]`` with ``name``, ``type: alerting``, ``health``, ``state``,
    ``lastEvaluation`` and ``alerts[]`` with ``labels`` and ``state``. The twelve names are those of the platform's page on
    observability."""
    published = {
        "WipeAPITelemetryMissing", "WipeHTTP5xxRate", "WipeQueueBacklogHigh", "WipeQueueJobFailures",
        "WipeQueueDeadLetters", "WipeQueueDLQNotEmpty", "WipeProofProcessingStalled", "WipeProofsFailed",
        "WipeProofsAwaitingLicense", "WipeSignerFailures", "WipeAnchorFailures", "WipeDBConnectionsSaturated",
    }  # fmt: skip
    assert set(ALERTS) == published
    telemetry = Observability(firing={"WipeSignerFailures": {"operation": "decrypt"}})
    async with asking(telemetry.build) as ask:
        status, answer = await ask("/api/v1/rules?type=alert")
    rules = {rule["name"]: rule for group in answer["data"]["groups"] for rule in group["rules"]}
    assert (status, answer["status"], set(rules)) == (200, "success", published)
    for name, rule in rules.items():
        firing = name == "WipeSignerFailures"
        assert (rule["type"], rule["health"], rule["state"]) == ("alerting", "ok", "firing" if firing else "inactive")
        assert datetime.fromisoformat(rule["lastEvaluation"]).tzinfo is not None
        assert [alert["labels"]["operation"] for alert in rule["alerts"]] == ["decrypt"] * firing


class Table:
    """In place of the database: what was written."""

    def __init__(self) -> None:
        self.written: list[tuple[object, ...]] = []

    async def execute(self, sql: str, *arguments: object, database: str) -> None:
        self.written.append(arguments)


RIGHT = {"Authorization": f"Bearer {SMOKE_KEY}", "Idempotency-Key": "one"}


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (RIGHT, b"\x30\x02\xff\xfe", 202),
        ({"Idempotency-Key": "one"}, b"\x30\x00", 401),
        ({**RIGHT, "Authorization": "Bearer of somebody else"}, b"\x30\x00", 401),
        ({"Authorization": RIGHT["Authorization"]}, b"\x30\x00", 400),
        (RIGHT, b"a proof in words", 400),
    ],
)
async def test_a_proof_is_der_and_needs_a_key_that_may_write_and_one_of_idempotency(
    headers: dict[str, str], body: bytes, status: int
) -> None:
    """``POST /api/v1/proofs`` wants "API key ``proofs:write``"; "protected writes require ``Idempotency-Key``"; a proof is
    "a ``.der`` file from the wipe agent". DER of more than one value begins with SEQUENCE, 0x30 (X.690, 8.9)."""
    table: Any = Table()
    nothing: Any = None
    api = Api(table, nothing, {}, Observability())
    api.exporter = Exporter()
    async with asking(api.build) as ask:
        assert (await ask("/api/v1/proofs", "POST", headers=headers, data=body))[0] == status
    assert len(table.written) == (status == 202)

"""`expect.status_reasons`: a status that means one thing for this target gets a reason of its own."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import ValidationError

from tests.probing import probe_once
from tests.unit.probes.lying_servers import answering, serving
from tocsin_probes.http import Http


async def test_a_status_that_is_named_gives_its_reason_and_others_the_common_one() -> None:
    for status, reason in ((503, "orchestrator_down"), (500, "server_error"), (401, "unauthorized")):
        async with serving(answering("", status=str(status))) as port:
            settings = {
                "url": f"http://127.0.0.1:{port}/ready",
                "expect": {"status_reasons": {503: "orchestrator_down", 401: "unauthorized"}},
            }
            probe = Http(Http.Settings.model_validate(settings))
            assert (await probe_once(probe)).verdict == ("failed", reason)


async def test_html_is_refused_where_nothing_else_is_known_of_the_body() -> None:
    expect = {"not_html": True, "status_reasons": {503: "orchestrator_down"}}
    page = "<!DOCTYPE html><title>Alexandria</title>"
    for body, status, content_type, reason in (
        ("ready", "200", "text/plain", None),
        ("", "200", "application/json", None),
        (page, "200", "text/html", "html_instead_of_json"),
        (page, "200", "text/plain", "html_instead_of_json"),
        ("", "503", "text/plain", "orchestrator_down"),
        # The proxy's own page: what it stands before was not even asked.
        (page, "503", "text/html", "server_error"),
    ):
        async with serving(answering(body, status=status, content_type=content_type)) as port:
            probe = Http(Http.Settings.model_validate({"url": f"http://127.0.0.1:{port}/ready", "expect": expect}))
            assert (await probe_once(probe)).outcome.reason == reason


def test_the_named_reasons_are_declared_once_beside_the_kinds_own() -> None:
    expect = {"status_reasons": {502: "down", 503: "down", 404: "not_found", 500: "redirected"}}
    settings = Http.Settings.model_validate({"url": "http://a.test/", "expect": expect})
    own = {info.code for info in Http.reasons()}
    assert {info.code for info in Http.reasons(settings)} - own == {"down"}
    codes = [info.code for info in Http.all_reasons(settings)]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("expect", [{"status_reasons": {200: "fine"}}, {"status_reasons": {503: "Not a code"}}])
def test_a_status_that_is_right_and_a_reason_that_is_no_code_are_refused(expect: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Http.Settings.model_validate({"url": "http://a.test/", "expect": expect})


SETUP = {"expect": {"json": ["needs_setup == `false`"]}, "unanswered": "unknown"}
PAGE = "<!DOCTYPE html><title>Alexandria</title>"


@pytest.mark.parametrize(
    ("body", "status", "verdict", "detail"),
    [
        ('{"needs_setup": false}', "200", ("ok", None), "HTTP 200, 22 bytes"),
        ('{"needs_setup": true}', "200", ("failed", "assertion_failed"), "needs_setup == `false` gave false"),
        ('{"needs_setup": true}', "502", ("unknown", "dependency_unknown"), "server_error: HTTP 502"),
        (PAGE, "200", ("unknown", "dependency_unknown"), "html_instead_of_json: "),
        ("oops", "200", ("unknown", "dependency_unknown"), "unexpected_body: "),
    ],
)
async def test_where_only_what_is_said_counts_another_answer_is_unknown(
    body: str, status: str, verdict: tuple[str, str | None], detail: str
) -> None:
    async with serving(answering(body, status=status)) as port:
        settings = Http.Settings.model_validate({"url": f"http://127.0.0.1:{port}/auth/setup", **SETUP})
        probed = await probe_once(Http(settings))
    assert probed.verdict == verdict
    assert probed.detail.startswith(detail)


async def test_where_only_what_is_said_counts_no_answer_is_unknown() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(silent) as port:
        settings = Http.Settings.model_validate({"url": f"http://127.0.0.1:{port}/auth/setup", **SETUP})
        hanging = await probe_once(Http(settings), timeout=0.2)
    refused = await probe_once(Http(settings))
    assert [probed.verdict for probed in (hanging, refused)] == [("unknown", "dependency_unknown")] * 2
    assert [probed.detail.partition(":")[0] for probed in (hanging, refused)] == ["timeout", "connection_refused"]

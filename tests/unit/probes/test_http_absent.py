"""`expect.absent`: what an answer must not hold, such as internal identifiers on a public page."""

from __future__ import annotations

import gzip
from typing import Any

import pytest

from tests.probing import probe_once
from tests.unit.probes.lying_servers import answering, serving
from tocsin_probes.http import Http

LEAKS = {"leaks_internals": ["tenant_id", "SQLSTATE"], "greets": "Hello"}


@pytest.mark.parametrize(
    ("body", "status", "reasons"),
    [
        ('{"result": "VALID"}', "200", []),
        ('{"result": "VALID", "tenant_id": "1"}', "200", ["leaks_internals"]),
        ("ERROR: SQLSTATE 42P01 of tenant_id", "200", ["leaks_internals"]),
        ("sqlstate", "200", []),
        ("Hello, tenant_id", "200", ["leaks_internals", "greets"]),
        ("panic: SQLSTATE", "500", ["server_error", "leaks_internals"]),
    ],
)
async def test_each_reason_is_given_once_when_one_of_its_texts_is_there(
    body: str, status: str, reasons: list[str]
) -> None:
    async with serving(answering(body, status=status)) as port:
        settings = {"url": f"http://127.0.0.1:{port}/verify", "expect": {"absent": LEAKS}}
        probed = await probe_once(Http(Http.Settings.model_validate(settings)))
    assert [finding.reason for finding in probed.outcome.findings] == reasons


@pytest.mark.parametrize(
    ("expect", "encoding", "reason"),
    [
        ({"absent": LEAKS}, "gzip", "unexpected_body"),
        ({"absent": LEAKS}, "GZIP", "unexpected_body"),
        ({"not_html": True}, "br", "unexpected_body"),
        ({"json": ["tenant_id"]}, "gzip", "unexpected_body"),
        ({"absent": LEAKS}, "identity", None),
        ({"absent": LEAKS}, "", None),
        ({}, "gzip", None),
    ],
)
async def test_what_is_encoded_hides_what_must_not_be_there(
    expect: dict[str, Any], encoding: str, reason: str | None
) -> None:
    """Only ``identity`` is asked for."""
    leak = gzip.compress(b'{"tenant_id": "42"}')
    said = answering(leak, status="404 Not Found", extra=f"Content-Encoding: {encoding}\r\n")
    async with serving(said) as port:
        settings = {"url": f"http://127.0.0.1:{port}/verify", "expect": {"status": [200, 404], **expect}}
        probed = await probe_once(Http(Http.Settings.model_validate(settings)))
    assert probed.outcome.reason == reason, probed.detail


async def test_an_encoding_of_nothing_hides_nothing() -> None:
    async with serving(answering("", extra="Content-Encoding: gzip\r\n")) as port:
        settings = {"url": f"http://127.0.0.1:{port}/verify", "expect": {"absent": LEAKS}}
        assert (await probe_once(Http(Http.Settings.model_validate(settings)))).verdict == ("ok", None)


def test_the_reasons_are_declared_and_the_kinds_own_are_not_declared_twice() -> None:
    expect = {"absent": {"leaks_internals": "tenant_id", "server_error": "panic"}}
    settings = Http.Settings.model_validate({"url": "http://a.test/", "expect": expect})
    own = {info.code for info in Http.reasons()}
    assert {info.code for info in Http.reasons(settings)} - own == {"leaks_internals"}

"""What the kind ``http`` sends, accepts and says."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.probing import FreePermits, Probed, RealClock, probe_once
from tests.unit.probes.lying_servers import Authority, answering, redirecting_to, serving
from tocsin.model import Reference, Secret
from tocsin_probes.http import MAX_SENT_BYTES, Http


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def configured(**settings: Any) -> Http:
    return Http(Http.Settings.model_validate(settings))


async def ask(answer: Any, **settings: Any) -> Probed:
    async with serving(answer) as port:
        return await probe_once(configured(url=f"http://127.0.0.1:{port}/health?deep=1", **settings))


UP = '{"status": "UP", "checks": [{"name": "db", "ok": true}], "count": 0}'


@pytest.mark.parametrize(
    "expect",
    [
        {},
        {"content_type": "application/json"},
        {"json": ["status == 'UP'", "checks[?name=='db'].ok | [0]", "count", "length(checks) == `1`"]},
        {"header": {"X-Frame-Options": "DENY", "content-type": ""}},
        {"status": [200, 429]},
    ],
)
async def test_an_answer_that_is_as_expected_is_ok(expect: dict[str, Any]) -> None:
    probed = await ask(answering(UP, extra="X-Frame-Options: deny, DENY\r\n"), expect=expect)
    assert probed.verdict == ("ok", None)
    assert probed.detail == f"HTTP 200, {len(UP)} bytes"


@pytest.mark.parametrize(
    ("expression", "detail"),
    [
        ("status == 'DOWN'", """status == 'DOWN' gave false; its left side is "UP\""""),
        ("missing", "missing gave null"),
        ("checks[?ok==`false`]", "checks[?ok==`false`] gave []"),
        ("length(count) > `1`", "length(count) > `1`: 'In function length(), invalid type for value: 0, expected one"),
    ],
)
async def test_an_assertion_that_does_not_hold_says_what_it_gave(expression: str, detail: str) -> None:
    probed = await ask(answering(UP), expect={"json": ["status", expression]})
    assert probed.verdict == ("failed", "assertion_failed")
    assert probed.detail.startswith(detail)


async def test_several_failed_assertions_are_one_finding() -> None:
    probed = await ask(answering(UP), expect={"json": ["a", "b"], "header": {"X-A": ""}})
    assert probed.detail == "the header X-A is absent (and 2 more)"


async def test_what_an_assertion_gave_is_bounded() -> None:
    probed = await ask(answering('{"a": "%s"}' % ("x" * 5000)), expect={"json": ["a == 'y'"]})
    assert len(probed.detail) < 200


@pytest.mark.parametrize(
    ("status", "headers", "verdict"),
    [
        ("401 Unauthorized", {}, ("failed", "unauthorized")),
        ("401 Unauthorized", {"Accept": "text/plain"}, ("failed", "unauthorized")),
        ("401 Unauthorized", {"Authorization": "Bearer x"}, ("unknown", "credentials_rejected")),
        ("403 Forbidden", {"X-Api-Key": "x"}, ("unknown", "credentials_rejected")),
        ("403 Forbidden", {}, ("failed", "forbidden")),
        ("404 Not Found", {}, ("failed", "not_found")),
        ("429 Too Many Requests", {}, ("failed", "rate_limited")),
        ("503 Service Unavailable", {}, ("failed", "server_error")),
        ("418 I'm a teapot", {}, ("failed", "unexpected_status")),
    ],
)
async def test_a_wrong_status_has_the_reason_for_it(
    status: str, headers: dict[str, str], verdict: tuple[str, str]
) -> None:
    probed = await ask(answering("{}", status=status), headers=headers)
    assert probed.verdict == verdict
    assert "deep" not in probed.detail


async def test_a_run_sends_its_identifiers_and_its_headers_and_asks_for_a_permit() -> None:
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(4))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    permits = FreePermits()
    async with serving(listen) as port:
        probe = configured(
            url=f"http://127.0.0.1:{port}/a?b=c d",
            method="POST",
            body="ping",
            headers={"USER-AGENT": "mine", "Idempotency-Key": "probe {request_id}"},
        )
        probed = await probe_once(probe, permits=permits)
    assert probed.verdict == ("ok", None)
    assert permits.asked == [f"http://127.0.0.1:{port}"] == list(probe.settings.targets())
    first, *lines = heard[0].decode().split("\r\n")
    assert first == "POST /a?b=c+d HTTP/1.1"
    assert sorted(lines) == sorted(
        [
            f"host: 127.0.0.1:{port}",
            "accept: */*",
            "accept-encoding: identity",
            "connection: close",
            "user-agent: mine",
            "idempotency-key: probe probe-0001",
            "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "x-request-id: probe-0001",
            "content-length: 4",
            "",
            "ping",
        ]
    )


async def test_a_file_is_sent_byte_for_byte_and_read_anew(tmp_path: Path) -> None:
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        heard.append(await reader.readexactly(4))
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    proof = tmp_path / "proof.der"
    async with serving(listen) as port:
        probe = configured(
            url=f"http://127.0.0.1:{port}/", method="POST", body_file=str(proof), expect={"status": [202]}
        )
        for content in (b"\x30\x02\xff\x00", b"\x30\x02\xff\x01"):
            proof.write_bytes(content)
            assert (await probe_once(probe)).verdict == ("ok", None)
    assert heard == [b"\x30\x02\xff\x00", b"\x30\x02\xff\x01"]


async def test_a_file_that_cannot_be_sent_is_the_probes_own_trouble(tmp_path: Path) -> None:
    empty, large, pipe = tmp_path / "empty", tmp_path / "large", tmp_path / "pipe"
    empty.touch()
    os.mkfifo(pipe)
    with large.open("wb") as file:
        file.truncate(MAX_SENT_BYTES + 1)
    for file_name, said in (
        (empty, "is empty"),
        (large, "is larger than"),
        (pipe, "is empty"),
        (tmp_path / "no", "cannot read"),
    ):
        probed = await ask(answering("{}"), method="POST", body_file=str(file_name))
        assert probed.verdict == ("unknown", "credentials_missing")
        assert said in probed.detail


async def test_a_redirect_is_followed_when_asked_and_another_origin_gets_no_headers() -> None:
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async with serving(listen) as there, serving(redirecting_to(f"http://127.0.0.1:{there}/new")) as here:
        headers = {"Authorization": "Bearer secret"}
        probe = configured(url=f"http://127.0.0.1:{here}/old", headers=headers, follow_redirects=True)
        assert (await probe_once(probe)).verdict == ("ok", None)
    assert heard[0].startswith(b"GET /new HTTP/1.1\r\n")
    assert b"secret" not in heard[0]


@pytest.mark.parametrize(
    ("status", "method", "reason"),
    [
        ("307 Temporary Redirect", "POST", "redirected"),
        ("308 Permanent Redirect", "POST", "redirected"),
        ("302 Found", "PUT", "redirected"),
        ("302 Found", "POST", None),
        ("303 See Other", "PUT", None),
    ],
)
async def test_another_origin_gets_no_body(status: str, method: str, reason: str | None) -> None:
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(65536))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async with serving(listen) as there, serving(redirecting_to(f"http://127.0.0.1:{there}/new", status)) as here:
        given = {"method": method, "body": "password=secret", "follow_redirects": True}
        probed = await probe_once(configured(url=f"http://127.0.0.1:{here}/old", **given))
        assert probed.outcome.reason == reason, probed.detail
    assert len(heard) == (reason is None)
    assert b"secret" not in b"".join(heard)


async def test_a_body_is_sent_on_within_its_origin() -> None:
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        heard.append(await reader.readexactly(4))
        reader.feed_data(b"\r\n\r\n")
        moved = redirecting_to("/new", "307 Temporary Redirect") if b"/old" in head else answering("")
        await moved(reader, writer)

    async with serving(listen) as port:
        given = {"method": "POST", "body": "body", "follow_redirects": True}
        assert (await probe_once(configured(url=f"http://127.0.0.1:{port}/old", **given))).verdict == ("ok", None)
    assert heard == [b"body", b"body"]


async def test_a_header_that_holds_a_line_break_is_never_sent() -> None:
    rotated = Secret(Reference("x", lambda: "x\r\nX-Evil: 1", "${file:token}"))
    probed = await ask(answering("{}"), headers={"Authorization": rotated})
    assert probed.verdict == ("unknown", "probe_error")
    assert "Evil" not in probed.detail


async def test_the_certificate_is_measured_and_its_end_announced(authority: Authority) -> None:
    certified = authority.issue("ten-days", days=10)
    async with serving(answering("{}"), tls=certified.server_context()) as port:
        settings = {"url": f"https://127.0.0.1:{port}/", "tls": {"ca_file": str(certified.ca_file)}}
        soon = await probe_once(configured(**settings))
        fine = await probe_once(configured(**settings, certificate_days=5))
    assert fine.verdict == ("ok", None)
    assert soon.verdict == ("failed", "certificate_expiring")
    assert soon.outcome.severity is not None
    assert soon.outcome.severity.value == "ticket"
    expiry = fine.measured("tocsin_certificate_expiry_timestamp_seconds")
    assert expiry == pytest.approx(time.time() + 10 * 86400, abs=60)


async def test_a_wrong_answer_outranks_a_certificate_that_ends_soon(authority: Authority) -> None:
    certified = authority.issue("soon", days=30)
    async with serving(answering("{}", status="500 Oops"), tls=certified.server_context()) as port:
        probe = configured(url=f"https://127.0.0.1:{port}/", tls={"ca_file": str(certified.ca_file)})
        probed = await probe_once(probe, clock=RealClock(offset=20 * 86400))
    assert [finding.reason for finding in probed.outcome.findings] == ["server_error", "certificate_expiring"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"url": "ftp://127.0.0.1/"}, "'ftp://127.0.0.1/' is not an http:// or https:// URL"),
        ({"url": "http://"}, "is not an http:// or https:// URL"),
        ({"url": "http://me:secret@127.0.0.1/"}, "put its user and password into a header"),
        ({"url": "http://a/", "expect": {"json": ["status =="]}}, "'status ==' is not a JMESPath expression: "),
        ({"url": "http://a/", "expect": {"json": ["size(@)"]}}, "Unknown function: size()"),
        ({"url": "http://a/", "expect": {"status": []}}, "at least 1 item"),
        ({"url": "http://a/", "method": "get"}, "should match pattern"),
        ({"url": "http://a/", "body": "a", "body_file": "b"}, "set `body` or `body_file`, not both"),
        ({"url": "http://a/", "metod": "GET"}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_setting_is_refused_at_load(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Http.Settings.model_validate(settings)
    assert said in str(caught.value)


def test_header_values_and_bodies_are_never_shown() -> None:
    settings = Http.Settings.model_validate({"url": "http://a/", "headers": {"X-Key": "hush"}, "body": "hush"})
    assert "hush" not in repr(settings) + settings.model_dump_json()


async def test_members_of_a_map_must_be_as_named_and_the_others_are_shown() -> None:
    async def parts(document: object) -> Probed:
        return await ask(answering(json.dumps(document)), expect={"members": {"names": "api, queue", "are": "up"}})

    well = await parts({"api": "up", "queue": "up", "utils": "down", "more": "up"})
    assert well.verdict == ("ok", None)
    assert well.detail.endswith("""; not judged: 'utils' is "down\"""")
    wrong = await parts({"api": "down", "utils": "up"})
    assert wrong.verdict == ("failed", "assertion_failed")
    assert wrong.detail == 'api is "down", not "up" (and 1 more)'
    assert (await parts(["api"])).verdict == ("failed", "assertion_failed")
    assert (await parts({})).detail == "there is no api (and 1 more)"


async def test_a_page_in_place_of_the_answer_is_explained_as_the_configuration_does() -> None:
    page = answering("<!doctype html><title>Dashboard</title>", extra="Content-Type: text/html\r\n")
    probed = await ask(page, expect={"not_html": True, "html_hint": "port 80 is the dashboard's"})
    assert probed.verdict == ("failed", "html_instead_of_json")
    assert probed.detail.endswith("; port 80 is the dashboard's")

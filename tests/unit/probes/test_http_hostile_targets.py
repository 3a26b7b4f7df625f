"""Every way in which a target may lie ends in its reason, in time, and in little memory; on both event loops."""

from __future__ import annotations

import asyncio
import socket
import ssl
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.probing import Probed, on_both_loops, probe_once
from tests.unit.probes.lying_servers import (
    BYTE_BY_BYTE,
    ENDLESS_CHUNKS,
    ENDLESS_GARBAGE,
    ENDLESS_HEADERS,
    ENDLESS_INTERIM,
    GIGABYTE,
    GZIP_BOMB,
    NONSENSE_CHUNKS,
    ONE_HUGE_HEADER,
    Authority,
    Handler,
    answering,
    black_hole,
    hang_up,
    nobody,
    redirecting_to,
    reset_in_mid_body,
    saying,
    serving,
    silence,
)
from tocsin.model import Reference, Secret
from tocsin_probes.http import Http

TIMEOUT = 0.4
SLACK = 0.5
MEMORY = 8 << 20


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def memory() -> Iterator[None]:
    """The peak of what Python allocates in the test stays under `MEMORY`."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY, f"{peak / 2**20:.1f} MiB"


async def ask(port: int, scheme: str = "http", **settings: object) -> Probed:
    """One run against a loopback port that expects JSON; it must end in time whatever happens."""
    settings = {"expect": {"json": ["status == 'UP'"]}, **settings}
    probe = Http(Http.Settings.model_validate({"url": f"{scheme}://127.0.0.1:{port}/health", **settings}))
    probed = await probe_once(probe, TIMEOUT)
    assert probed.duration_seconds < TIMEOUT + SLACK
    return probed


HOSTILE = {
    "a connection that is closed at once": (hang_up, "connection_reset"),
    "a reset in mid-body": (reset_in_mid_body, "connection_reset"),
    "an end before the announced length": (
        saying(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{}"),
        "connection_reset",
    ),
    "an end in mid-headers": (saying(b"HTTP/1.1 200 OK\r\nContent-"), "connection_reset"),
    "an end in mid-chunk": (
        saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"),
        "connection_reset",
    ),
    "accepting and saying nothing": (silence, "timeout"),
    "a byte a second": (BYTE_BY_BYTE, "timeout"),
    "a body of 1 GB": (GIGABYTE, "body_too_large"),
    "chunks without end": (ENDLESS_CHUNKS, "body_too_large"),
    "headers without end": (ENDLESS_HEADERS, "unexpected_body"),
    "one huge header": (ONE_HUGE_HEADER, "unexpected_body"),
    "interim answers without end": (ENDLESS_INTERIM, "unexpected_body"),
    "HTTP/0.9": (saying(b"<p>hello</p>\n"), "unexpected_body"),
    "garbage without end": (ENDLESS_GARBAGE, "unexpected_body"),
    "another protocol": (saying(b"SSH-2.0-OpenSSH_9.2\r\n"), "unexpected_body"),
    "a status that is no number": (saying(b"HTTP/1.1 OK\r\n\r\n"), "unexpected_body"),
    "a header without a colon": (saying(b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n"), "unexpected_body"),
    "two lengths": (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"), "unexpected_body"),
    "a negative length": (saying(b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}"), "unexpected_body"),
    "chunked nonsense": (NONSENSE_CHUNKS, "unexpected_body"),
    "a bomb of gzip": (GZIP_BOMB, "unexpected_body"),
    "invalid UTF-8": (answering(b'{"status": "\xff\xfe"}'), "unexpected_body"),
    "invalid JSON": (answering('{"status": '), "unexpected_body"),
    "NaN": (answering('{"status": NaN}'), "unexpected_body"),
    "a number beyond a double": (answering('{"status": 1e999}'), "unexpected_body"),
    "a number of four hundred digits": (answering("1" * 400), "unexpected_body"),
    "nothing at all": (answering(""), "unexpected_body"),
    "a hundred thousand brackets": (answering("[" * 100_000), "unexpected_body"),
    "a number of ten thousand digits": (answering("1" * 10_000), "unexpected_body"),
    "JSON of another shape": (answering("[1, 2, 3]"), "assertion_failed"),
    "a JSON string": (answering('"UP"'), "assertion_failed"),
    "the page of an application": (answering("<!doctype html><title>App</title>", content_type="text/html"),
                                   "html_instead_of_json"),
    "HTML that claims to be JSON": (answering("<html></html>"), "html_instead_of_json"),
    "a redirect": (redirecting_to("/login?state=secret"), "redirected"),
}  # fmt: skip


@pytest.mark.parametrize(("handler", "reason"), HOSTILE.values(), ids=HOSTILE)
@on_both_loops
async def test_a_lie_ends_in_its_reason_in_time_and_in_little_memory(
    handler: Handler, reason: str, memory: None
) -> None:
    async with serving(handler) as port:
        probed = await ask(port)
    assert probed.verdict == ("failed", reason), probed.detail
    assert len(probed.detail) < 700
    probed.detail.encode("utf-8")


@on_both_loops
async def test_a_wrong_media_type_is_told_apart_from_a_wrong_body() -> None:
    async with serving(answering('{"status": "UP"}', content_type="text/plain")) as port:
        probed = await ask(port, expect={"content_type": "application/json", "json": ["status == 'UP'"]})
    assert probed.verdict == ("failed", "unexpected_body")
    assert probed.detail == "Content-Type is 'text/plain', not application/json"


@on_both_loops
async def test_a_port_that_nobody_listens_on_is_refused() -> None:
    with nobody() as port:
        assert (await ask(port)).verdict == ("failed", "connection_refused")


@on_both_loops
async def test_dropped_packets_are_a_timeout() -> None:
    with black_hole() as port:
        assert (await ask(port)).verdict == ("failed", "timeout")


@on_both_loops
async def test_a_name_that_does_not_exist_is_a_dns_failure() -> None:
    probe = Http(Http.Settings.model_validate({"url": "http://nowhere.invalid/"}))
    assert (await probe_once(probe)).verdict == ("failed", "dns_failure")


@on_both_loops
async def test_a_redirect_loop_is_left_after_five_rounds() -> None:
    asked = 0

    async def round_and_round(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await redirecting_to("/again")(reader, writer)

    async with serving(round_and_round) as port:
        probed = await ask(port, follow_redirects=True)
    assert probed.verdict == ("failed", "redirected")
    assert asked == 6


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/", "http://[", "http://:x/", "javascript:alert(1)", "//"])
@on_both_loops
async def test_a_redirect_to_what_is_not_http_is_not_followed(location: str) -> None:
    async with serving(redirecting_to(location)) as port:
        assert (await ask(port, follow_redirects=True)).verdict == ("failed", "redirected")


@on_both_loops
async def test_the_query_of_a_redirect_is_not_shown() -> None:
    async with serving(redirecting_to("/login?state=secret")) as port:
        assert "secret" not in (await ask(port)).detail


@on_both_loops
async def test_an_expired_certificate_has_a_reason_of_its_own(authority: Authority) -> None:
    expired = authority.issue("expired", days=-1)
    async with serving(answering("{}"), tls=expired.server_context()) as port:
        probed = await ask(port, "https", tls={"ca_file": str(expired.ca_file)})
    assert probed.verdict == ("failed", "certificate_expired")


@on_both_loops
async def test_a_self_signed_certificate_is_a_tls_error(authority: Authority) -> None:
    alone = authority.issue("alone", self_signed=True)
    async with serving(answering("{}"), tls=alone.server_context()) as port:
        probed = await ask(port, "https", tls={"ca_file": str(alone.ca_file)})
    assert probed.verdict == ("failed", "tls_error")
    assert "self-signed certificate" in probed.detail


@on_both_loops
async def test_a_server_that_wants_another_certificate_refuses_our_own(authority: Authority) -> None:
    certified = authority.issue("strict")
    context = certified.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certified.ca_file)
    stranger = authority.issue("stranger", self_signed=True)
    # Before TLS 1.3 the refusal comes within the handshake. asyncio's own server would not send the alert.
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def refuse(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, suppress(ssl.SSLError):
            context.wrap_socket(connection, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        refusing = asyncio.create_task(asyncio.to_thread(refuse, listening))
        tls = {
            "ca_file": str(certified.ca_file),
            "client_cert_file": str(stranger.certificate_file),
            "client_key_file": str(stranger.key_file),
        }
        probed = await ask(listening.getsockname()[1], "https", tls=tls)
        await refusing
    assert probed.verdict == ("unknown", "credentials_rejected"), probed.detail


@on_both_loops
async def test_plain_text_where_tls_is_expected_is_a_tls_error() -> None:
    async with serving(repeating_banner) as port:
        assert (await ask(port, "https")).verdict == ("failed", "tls_error")


async def repeating_banner(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.example ESMTP ready when you are\r\n" * 4)
    await reader.read()


@on_both_loops
async def test_a_tls_handshake_that_hangs_is_a_timeout() -> None:
    async with serving(silence) as port:
        assert (await ask(port, "https")).verdict == ("failed", "timeout")


@on_both_loops
async def test_a_ca_file_that_is_not_there_is_our_own_trouble(tmp_path: Path) -> None:
    with nobody() as port:
        probed = await ask(port, "https", tls={"ca_file": str(tmp_path / "gone.pem")})
    assert probed.verdict == ("unknown", "credentials_missing")


@on_both_loops
async def test_a_secret_file_that_is_not_there_is_our_own_trouble(tmp_path: Path) -> None:
    def gone() -> str:
        return (tmp_path / "token").read_text()

    secret = Secret(Reference("token", gone, "${file:token}"))
    with nobody() as port:
        probed = await ask(port, headers={"Authorization": secret})
    assert probed.verdict == ("unknown", "credentials_missing")

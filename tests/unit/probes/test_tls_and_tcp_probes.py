"""What ``tls`` and ``tcp`` tell apart."""

from __future__ import annotations

import ssl
import time
from typing import Any

import pytest
from pydantic import ValidationError

from tests.probing import FreePermits, Probed, on_both_loops, probe_once
from tests.unit.probes.lying_servers import Authority, Certified, black_hole, hang_up, nobody, serving, silence
from tocsin_probes.tcp import Tcp
from tocsin_probes.tls import Tls


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


async def shake_hands(certified: Certified, **settings: Any) -> Probed:
    """One run against a server with this certificate; it says nothing after the handshake."""
    async with serving(silence, tls=certified.server_context()) as port:
        settings = {"address": f"127.0.0.1:{port}", "tls": {"ca_file": str(certified.ca_file)}, **settings}
        return await probe_once(Tls(Tls.Settings.model_validate(settings)), 2.0)


@on_both_loops
async def test_a_good_certificate_is_ok_and_its_end_is_measured(authority: Authority) -> None:
    probed = await shake_hands(authority.issue("good", days=90))
    assert probed.verdict == ("ok", None), probed.detail
    assert probed.detail == "90 days left"
    expiry = probed.measured("tocsin_certificate_expiry_timestamp_seconds")
    assert expiry == pytest.approx(time.time() + 90 * 86400, abs=60)


@on_both_loops
async def test_each_fault_of_a_certificate_has_its_reason(authority: Authority) -> None:
    faults = {
        "name_mismatch": authority.issue("elsewhere", host="elsewhere.example"),
        "self_signed": authority.issue("alone", self_signed=True),
        "chain_incomplete": authority.issue("bare", with_intermediate=False),
        "certificate_expired": authority.issue("expired", days=-2),
        "certificate_expiring": authority.issue("expiring", days=3),
    }
    for reason, certified in faults.items():
        probed = await shake_hands(certified)
        assert probed.verdict == ("failed", reason), probed.detail
        assert probed.measured("tocsin_certificate_expiry_timestamp_seconds") > 0
    assert "it is for '127.0.0.1', issued by 'CN=tocsin test issuing', valid until " in probed.detail


async def test_what_a_server_that_asks_for_our_certificate_shows_is_told(authority: Authority) -> None:
    expired, ours = authority.issue("expired-and-asking", days=-2), authority.issue("ours")
    context = expired.server_context()
    context.verify_mode, context.maximum_version = ssl.CERT_REQUIRED, ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(ours.ca_file)
    files = {"client_cert_file": str(ours.certificate_file), "client_key_file": str(ours.key_file)}
    for own, described in ((files, True), ({}, False)):
        async with serving(silence, tls=context) as port:
            made = {"address": f"127.0.0.1:{port}", "tls": {"ca_file": str(expired.ca_file), **own}}
            probed = await probe_once(Tls(Tls.Settings.model_validate(made)), 2.0)
        assert probed.verdict == ("failed", "certificate_expired"), probed.detail
        assert ("it is for '127.0.0.1'" in probed.detail) is described


async def test_a_root_that_is_not_trusted_is_a_missing_issuer(authority: Authority) -> None:
    probed = await shake_hands(authority.issue("stranger"), tls={})
    assert probed.verdict == ("failed", "chain_incomplete")


async def test_the_name_that_is_asked_for_may_differ_from_the_address(authority: Authority) -> None:
    certified = authority.issue("named", host="mail.example")
    assert (await shake_hands(certified, server_name="mail.example")).verdict == ("ok", None)
    assert (await shake_hands(certified, server_name="other.example")).verdict == ("failed", "name_mismatch")


async def test_a_certificate_for_many_names_is_described_in_a_bounded_detail(authority: Authority) -> None:
    probed = await shake_hands(authority.issue("long", host=f"{'x' * 60}.{'y' * 60}.{'z' * 60}.example"))
    assert len(probed.detail) < 600


@on_both_loops
async def test_what_speaks_no_tls_is_a_tls_error_and_silence_a_timeout() -> None:
    async def banner(reader: Any, writer: Any) -> None:
        writer.write(b"220 mail.example ESMTP\r\n" * 5)
        await reader.read()

    for handler, reason in ((banner, "tls_error"), (silence, "timeout")):
        async with serving(handler) as port:
            probed = await probe_once(Tls(Tls.Settings(address=f"127.0.0.1:{port}")), 0.4)
        assert probed.verdict == ("failed", reason), probed.detail


@on_both_loops
async def test_tcp_is_ok_when_something_accepts() -> None:
    permits = FreePermits()
    async with serving(hang_up) as port:
        probed = await probe_once(Tcp(Tcp.Settings(address=f"127.0.0.1:{port}")), permits=permits)
    assert probed.verdict == ("ok", None)
    assert probed.detail == "connected to 127.0.0.1"
    assert permits.asked == [f"tcp://127.0.0.1:{port}"]


@on_both_loops
async def test_tcp_tells_refused_from_black_holed_from_unknown_names() -> None:
    with nobody() as refusing, black_hole() as dropping:
        expected = {
            f"127.0.0.1:{refusing}": "connection_refused",
            f"localhost:{refusing}": "connection_refused",
            f"127.0.0.1:{dropping}": "timeout",
            "nowhere.invalid:1": "dns_failure",
        }
        for address, reason in expected.items():
            probed = await probe_once(Tcp(Tcp.Settings(address=address)), 0.5)
            assert probed.verdict == ("failed", reason), (address, probed.detail)


@pytest.mark.parametrize("address", ["", "host", "host:", ":80", "host:0", "host:65536", "host:http", "::1:80"])
def test_an_address_without_host_or_port_is_refused_at_load(address: str) -> None:
    with pytest.raises(ValidationError, match="write host:port, or"):
        Tcp.Settings(address=address)

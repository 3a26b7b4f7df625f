"""``tsa`` against a real timestamp authority, and against what happens to its answers on the way."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from asn1crypto import tsp

from estate.servers.tsa import TimestampAuthority
from tests.probing import Probed, RealClock, probe_once
from tests.tampering import Rewrite, tampering, unchanged
from tests.unit.probes.lying_servers import answering, serving
from tocsin_probes.tsa import Tsa

pytestmark = pytest.mark.estate


@pytest.fixture
def ca_file(tsa: TimestampAuthority, tmp_path: Path) -> str:
    file = tmp_path / "chain.pem"
    file.write_bytes(tsa.certificate_chain())
    return str(file)


async def ask(url: str, ca_file: str, *, ahead: float = 0.0, **settings: Any) -> Probed:
    probe = Tsa(Tsa.Settings.model_validate({"url": url, "ca_file": ca_file, **settings}))
    return await probe_once(probe, clock=RealClock(ahead))


async def through(
    tsa: TimestampAuthority, ca_file: str, *, rewrite: Rewrite = unchanged, asking: Rewrite = unchanged
) -> Probed:
    parts = urlsplit(tsa.url)
    with tampering(f"http://{parts.netloc}", rewrite, asking=asking) as proxy:
        return await ask(proxy + parts.path, ca_file)


def reasons(probed: Probed) -> set[str]:
    return {finding.reason for finding in probed.outcome.findings}


async def test_a_fresh_stamp_holds(tsa: TimestampAuthority, ca_file: str) -> None:
    probed = await ask(tsa.url, ca_file)
    assert probed.verdict == ("ok", None), probed.detail
    assert abs(probed.measured("tocsin_tsa_skew_seconds")) < 1
    assert probed.measured("tocsin_tsa_certificate_expiry_timestamp_seconds") > time.time()


async def test_a_chain_that_the_stamps_do_not_carry_has_to_be_in_the_trust_file(
    tsa: TimestampAuthority, ca_file: str
) -> None:
    root = Path(ca_file)
    _, begin, last = root.read_text().rpartition("-----BEGIN CERTIFICATE-----")
    root.write_text(begin + last)
    assert reasons(await ask(tsa.url, ca_file)) == {"signature_invalid"}


async def test_another_policy_than_the_configured_one_mismatches(tsa: TimestampAuthority, ca_file: str) -> None:
    assert reasons(await ask(tsa.url, ca_file, policy="1.2.3.4")) == {"policy_mismatch"}


async def test_a_signer_that_is_not_trusted_makes_the_signature_invalid(ca_file: str) -> None:
    """Each makes a key and a chain of its own at its start."""
    with TimestampAuthority() as another:
        assert (await ask(another.url, ca_file)).verdict == ("failed", "signature_invalid")


async def test_a_changed_bit_of_the_signature_makes_it_invalid(tsa: TimestampAuthority, ca_file: str) -> None:
    def rewrite(path: str, body: bytes) -> bytes:
        return body[:-1] + bytes([body[-1] ^ 1])

    assert reasons(await through(tsa, ca_file, rewrite=rewrite)) == {"signature_invalid"}


def _asking(**changes: Any) -> Rewrite:
    """A request like the one that was sent, but for some of it: the authority really stamps that."""

    def rewrite(path: str, body: bytes) -> bytes:
        request = tsp.TimeStampReq.load(body)
        for name, value in changes.items():
            request[name] = value
        return bytes(request.dump(force=True))

    return rewrite


async def test_a_stamp_over_another_digest_mismatches(tsa: TimestampAuthority, ca_file: str) -> None:
    other = {"hash_algorithm": {"algorithm": "sha512"}, "hashed_message": hashlib.sha512(b"other").digest()}
    assert reasons(await through(tsa, ca_file, asking=_asking(message_imprint=other))) == {"imprint_mismatch"}


async def test_a_stamp_for_another_request_mismatches(tsa: TimestampAuthority, ca_file: str) -> None:
    assert reasons(await through(tsa, ca_file, asking=_asking(nonce=7))) == {"nonce_mismatch"}


async def test_a_stamp_that_was_given_earlier_is_found_out(tsa: TimestampAuthority, ca_file: str) -> None:
    seen: list[bytes] = []

    def rewrite(path: str, body: bytes) -> bytes:
        seen.append(body)
        return seen[0]

    parts = urlsplit(tsa.url)
    with tampering(f"http://{parts.netloc}", rewrite) as proxy:
        assert (await ask(proxy + parts.path, ca_file)).verdict == ("ok", None)
        replayed = await ask(proxy + parts.path, ca_file)
    assert reasons(replayed) == {"imprint_mismatch", "nonce_mismatch"}


async def test_a_clock_that_differs_is_skew_in_either_direction(tsa: TimestampAuthority, ca_file: str) -> None:
    ahead = await ask(tsa.url, ca_file, ahead=-60)
    assert ahead.verdict == ("failed", "time_skew")
    assert "ahead of our clock" in ahead.detail
    assert ahead.measured("tocsin_tsa_skew_seconds") == pytest.approx(60, abs=2)
    behind = await ask(tsa.url, ca_file, ahead=60)
    assert behind.verdict == ("failed", "time_skew")
    assert "behind our clock" in behind.detail
    assert (await ask(tsa.url, ca_file, ahead=60, max_skew="2m")).verdict == ("ok", None)


async def test_a_request_that_the_authority_does_not_take_is_refused(tsa: TimestampAuthority, ca_file: str) -> None:
    weak = {"hash_algorithm": {"algorithm": "sha1"}, "hashed_message": hashlib.sha1(b"x").digest()}
    assert (await through(tsa, ca_file, asking=_asking(message_imprint=weak))).verdict == ("failed", "refused")


async def test_a_certificate_that_ends_soon_is_a_ticket(tsa: TimestampAuthority, ca_file: str) -> None:
    probed = await ask(tsa.url, ca_file, certificate_days=100000)
    assert reasons(probed) == {"certificate_expiring"}
    assert probed.outcome.severity == "ticket"


async def test_a_frozen_a_dead_and_a_wrong_place_are_told_apart(tsa: TimestampAuthority, ca_file: str) -> None:
    assert (await ask(tsa.url + "/elsewhere", ca_file)).verdict == ("failed", "not_found")
    tsa.kill()
    assert (await ask(tsa.url, ca_file)).verdict == ("failed", "connection_refused")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (bytes.fromhex("30053003020102"), "refused"),
        (bytes.fromhex("30133011020102300c0c0a") + b"not  today", "refused"),
        (b"<html>", "unexpected_body"),
        (b"", "unexpected_body"),
    ],
)
async def test_what_no_authority_answers_has_its_reason(ca_file: str, body: bytes, reason: str) -> None:
    async with serving(answering(body, content_type="application/timestamp-reply")) as port:
        probed = await ask(f"http://127.0.0.1:{port}/", ca_file)
    assert probed.verdict == ("failed", reason), probed.detail


async def test_a_trust_file_that_cannot_be_read_is_our_own_fault(tsa: TimestampAuthority, tmp_path: Path) -> None:
    assert (await ask(tsa.url, str(tmp_path / "none.pem"))).verdict == ("unknown", "credentials_missing")

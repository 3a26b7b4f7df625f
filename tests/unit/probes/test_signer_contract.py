"""The signer's contract as configuration: what is sent, what is read, and what is refused when it is written down."""

from __future__ import annotations

import datetime
import json
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey
from pydantic import ValidationError

from tests.probing import Probed, probe_once
from tests.unit.probes.lying_servers import Authority, answering, nobody, serving
from tocsin.sdk import ProbeFault
from tocsin_probes.signer import Signer
from tocsin_probes.signer.contract import Answer, Request, Response, read_result
from tocsin_probes.signer.credentials import moment

DECRYPT = {
    "request": {"path": "/decrypt", "body": {"ciphertext": "{ciphertext}"}},
    "response": {"extract": "plaintext"},
    "verify": {"ciphertext": "c", "plaintext": "known"},
}
RIGHT = answering('{"plaintext": "a25vd24="}')
ED25519 = "TwcSYghhyI0Y3t5xIIteTer6j+ctk5tG5wWYRGmVoaY="


def settings(operations: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    made = {"decrypt": DECRYPT} if operations is None else operations
    return {"endpoint": "http://127.0.0.1:1", "operations": made, **more}


async def ask(port: int, **more: Any) -> Probed:
    made = settings(**more) | {"endpoint": f"http://127.0.0.1:{port}"}
    return await probe_once(Signer(Signer.Settings.model_validate(made)))


def found(probed: Probed) -> set[tuple[str, str]]:
    return {(finding.component, finding.reason) for finding in probed.outcome.findings}


@pytest.mark.parametrize(
    ("request_settings", "content"),
    [
        (
            {"body": {"a": "{message}", "b": [1, "x{message:hex}x"]}},
            b'{"a": "bWVzc2FnZT8=", "b": [1, "x6d6573736167653fx"]}',
        ),
        ({"body": "<m>{message:raw}</m>{other}"}, b"<m>message?</m>text"),
        ({"body": "{message}", "encoding": "base64url"}, b"bWVzc2FnZT8"),
        ({"body": "{document:raw}"}, b"%PDF\xff"),
        ({"body": '{"not": "a placeholder"}'}, b'{"not": "a placeholder"}'),
        ({}, None),
    ],
)
def test_a_template_is_filled_in_by_the_encoding_that_it_names(
    request_settings: dict[str, Any], content: bytes
) -> None:
    request = Request.model_validate(request_settings)
    values = {"message": b"message?", "other": "text", "document": b"%PDF\xff"}
    assert request.content_with(values) == content


def test_bytes_that_are_no_text_do_not_go_raw_into_json() -> None:
    request = Request.model_validate({"body": {"document": "{document:raw}"}})
    with pytest.raises(ProbeFault, match="choose base64 or hex"):
        request.content_with({"document": b"\xff"})


@pytest.mark.parametrize(
    ("response", "body", "value"),
    [
        ({}, b"\x00raw", b"\x00raw"),
        ({"encoding": "hex"}, b"0x6162\n", b"ab"),
        ({"extract": "r.s"}, b'{"r": {"s": "YWI"}}', b"ab"),
        ({"extract": "s", "encoding": "base64url"}, b'{"s": "_-8"}', b"\xff\xef"),
        ({"extract": "s", "pattern": "v1:(.+)"}, b'{"s": "vault:v1:YWI="}', b"ab"),
        ({"pattern": "<sig>(.*)</sig>", "encoding": "base64"}, b"<x><sig>YWI=</sig></x>", b"ab"),
        ({"extract": "s", "encoding": "raw"}, b'{"s": "a b"}', b"a b"),
    ],
)  # fmt: skip
def test_a_result_is_found_and_decoded(response: dict[str, Any], body: bytes, value: bytes) -> None:
    assert read_result(Response.model_validate(response), Answer(200, body)).value == value


def test_a_changed_result_keeps_the_text_around_it() -> None:
    response = Response.model_validate({"extract": "s", "pattern": "v1:(.+)!"})
    result = read_result(response, Answer(200, b'{"s": "vault:v1:YWI=!"}'))
    assert result.with_value(b"other").text == "vault:v1:b3RoZXI=!"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"operations": {"encrypt": {}}}, "encrypt"),
        ({"operations": {"decrypt": {**DECRYPT, "request": {"body": "{cipher}"}}}}, "{cipher} is not one of {ciphertext}, {key_id}"),
        ({"operations": {"decrypt": {**DECRYPT, "request": {"path": "/{key_id}"}}}}, "`key_id` is not set"),
        ({"operations": {"decrypt": {**DECRYPT, "response": {"extract": "a..b"}}}}, "is not a JMESPath expression"),
        ({"operations": {"decrypt": {**DECRYPT, "response": {"pattern": "no group"}}}}, "put exactly the value into"),
        ({"operations": {"hmac": {"request": {}}}}, "hmac is verified by"),
        ({"operations": {"hmac_verify": {"request": {}, "response": {"extract": "ok"}}}}, "needs the operation hmac"),
        ({"operations": {"hmac": {"request": {}, "verify": {"key": "k", "message": "same"}}}}, "needs `{nonce}`"),
        ({"operations": {"receipt_sign": {"request": {}, "verify": {"public_keys": {"1": "x"}}}}}, "not a public key"),
        ({"operations": {"receipt_sign": {"request": {}, "key_id": "2", "verify": {"public_keys": {"1": ED25519}}}}},
         "`public_keys` has no '2'"),
        ({"operations": {"receipt_sign": {"request": {}, "verify": {"public_keys": {"1": ED25519, "2": ED25519}}}}},
         "need a `key_id`"),
        ({"operations": {"tx_sign": {"request": {}, "verify": {"address": "0x12"}}}}, "address"),
        ({"endpoint": "grpc://127.0.0.1:1"}, "over gRPC a request has `rpc"),
        ({"endpoint": "grpc://127.0.0.1"}, "is not grpc://HOST:PORT"),
        ({"endpoint": "ftp://127.0.0.1"}, "is not an http:// or https:// URL"),
        ({"operations": {"decrypt": {**DECRYPT, "request": {"rpc": "a/b"}}}}, "`rpc` is for an endpoint of grpc"),
        ({"mode": {"extract": "mode"}}, "`expected_mode` is not set"),
    ],
)  # fmt: skip
def test_a_contract_that_cannot_work_is_refused_with_what_is_wrong(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Signer.Settings.model_validate(settings() | wrong)
    assert message in str(refused.value)


async def test_no_operation_is_a_missing_contract_and_never_ok() -> None:
    probed = await ask(1, operations={})
    assert probed.verdict == ("unknown", "contract_missing")


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ({"mode": "remote"}, set()),
        ({"mode": "local"}, {("settings", "mode_mismatch")}),
        ({"endpoint": "http://elsewhere:1"}, {("endpoint", "settings_disagree")}),
        ({"key_ids": "k1, k2"}, set()),
        ({"key_ids": "k2"}, {("key_ids", "settings_disagree")}),
        ({"timeout": "10s"}, set()),
    ],
)
async def test_the_platforms_settings_must_agree_with_what_is_probed(
    platform: dict[str, Any], expected: set[tuple[str, str]]
) -> None:
    async with serving(RIGHT) as port:
        probed = await ask(
            port, platform=platform, expected_mode="remote", operations={"decrypt": {**DECRYPT, "key_id": "k1"}}
        )
    assert found(probed) == expected


def test_a_timestamp_is_not_demanded_of_a_platform_without_an_authority() -> None:
    from tocsin_probes.signer import lint

    pades = {"request": {}, "verify": {"trust_file": "roots.pem", "timestamp": True}}
    made = settings({"pades_sign": pades}, platform={"tsa_url": ""})
    assert [finding.component for finding in lint(Signer.Settings.model_validate(made))] == ["tsa"]
    del made["platform"]
    assert not list(lint(Signer.Settings.model_validate(made)))


def test_the_platforms_timestamp_authority_must_be_the_probed_one() -> None:
    from tocsin_probes.signer import lint

    for platform, expected in (("https://tsa.test/", []), ("https://other.test", ["tsa"]), ("", [])):
        made = settings(platform={"tsa_url": platform}, expected_tsa_url="https://tsa.test")
        assert [finding.component for finding in lint(Signer.Settings.model_validate(made))] == expected


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (30, set()),
        (3, {("client_certificate", "certificate_expiring")}),
        (-1, {("client_certificate", "credential_expired"), ("decrypt", "connection_reset")}),
        (None, {("decrypt", "connection_reset")}),
    ],
)
async def test_a_client_certificate_is_shown_and_its_end_announced(
    days: float | None, expected: set[tuple[str, str]], tmp_path: Path
) -> None:
    """Mutual TLS: the signer wants a certificate of its CA. None: of a stranger. (With the alert that asyncio's server
    keeps to itself it is ``credentials_rejected``: tests of the kind ``http``.)"""
    authority, stranger = Authority(tmp_path), tmp_path / "stranger"
    stranger.mkdir()
    server = authority.issue("server")
    client = Authority(stranger).issue("us") if days is None else authority.issue("us", days=days)
    context = server.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(server.ca_file)
    auth = {
        "client_cert_file": str(client.certificate_file),
        "client_key_file": str(client.key_file),
        "ca_file": str(server.ca_file),
    }
    async with serving(RIGHT, tls=context) as port:
        made = settings(auth=auth) | {"endpoint": f"https://127.0.0.1:{port}"}
        probed = await probe_once(Signer(Signer.Settings.model_validate(made)))
    assert found(probed) == expected


@pytest.mark.parametrize(("days", "expected"), [(30, set()), (3, {("bearer", "certificate_expiring")}),
                                                (-1, {("bearer", "credential_expired")})])  # fmt: skip
async def test_a_bearer_that_is_a_jwt_says_when_it_ends(days: int, expected: set[tuple[str, str]]) -> None:
    token = jwt.encode({"alg": "HS256"}, {"exp": int(time.time() + days * 86400)}, OctKey.import_key("0" * 32))
    async with serving(RIGHT) as port:
        probed = await ask(port, auth={"bearer": token})
    assert found(probed) == expected
    ends = probed.measured("tocsin_signer_credential_expiry_timestamp_seconds", credential="bearer")
    assert ends == pytest.approx(time.time() + days * 86400, abs=5)
    assert token not in str(probed)


async def test_an_opaque_bearer_is_sent_and_nothing_is_said_about_its_end() -> None:
    seen: list[bytes] = []

    async def handler(reader: Any, writer: Any) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head)
        reader.feed_data(head)
        await RIGHT(reader, writer)

    async with serving(handler) as port:
        probed = await ask(port, auth={"bearer": "opaque-token"})
    assert probed.verdict == ("ok", None)
    assert b"authorization: Bearer opaque-token\r\n" in seen[0]


async def test_a_client_certificate_that_cannot_be_read_is_our_own_fault(tmp_path: Path) -> None:
    probed = await ask(1, auth={"client_cert_file": str(tmp_path / "none.pem")})
    assert probed.verdict == ("unknown", "credentials_missing")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (answering('{"e": "no such key"}', status="400 Bad Request"), ("failed", "key_unknown")),
        (answering('{"e": "HSM is offline"}', status="503 Service Unavailable"), ("failed", "sealed")),
        (answering('{"e": "other"}', status="503 Service Unavailable"), ("failed", "server_error")),
        (answering('{"e": "no such key"}'), ("failed", "key_unknown")),
        (answering('{"e": "other"}'), ("failed", "unexpected_body")),
        (answering("<html>", content_type="text/html"), ("failed", "unexpected_body")),
        (answering("", status="401 Unauthorized"), ("unknown", "credentials_rejected")),
        (answering("", status="429 Too Many Requests"), ("failed", "rate_limited")),
        (answering("", status="404 Not Found"), ("failed", "not_found")),
        (answering('{"plaintext": "b3RoZXI="}'), ("failed", "wrong_plaintext")),
        (answering(json.dumps({"plaintext": "A" * 4000})), ("failed", "unexpected_body")),
    ],
)  # fmt: skip
async def test_an_error_answer_means_what_is_configured_or_what_its_status_says(
    answer: Any, expected: tuple[str, str]
) -> None:
    async with serving(answer) as port:
        probed = await ask(port, errors={"key_unknown": ["no such key"], "sealed": ["HSM is offline"]}, max_bytes=1000)
    assert probed.verdict == expected, probed.detail
    measured = [sample for sample in probed.measurements if sample.gauge.name == "tocsin_signer_operation_ok"]
    assert [sample.value for sample in measured] == ([] if expected[0] == "unknown" else [0.0])


async def test_operations_are_asked_side_by_side_and_one_that_fails_hides_no_other() -> None:
    receipt = {"request": {"path": "/sign", "body": "{message}"}, "verify": {"public_keys": {"1": ED25519}}}
    with nobody() as port:
        probed = await ask(port, operations={"decrypt": DECRYPT, "receipt_sign": receipt})
    assert found(probed) == {("decrypt", "connection_refused"), ("receipt_sign", "connection_refused")}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-24T00:52:44.639672044Z", datetime.datetime(2026, 11, 24, 0, 52, 44, 639672, datetime.UTC).timestamp()),
        ("2026-11-24T00:00:00", datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC).timestamp()),
        (1700000000, 1700000000.0),
        ("1700000000", 1700000000.0),
        (None, None),
        ("", None),
    ],
)  # fmt: skip
def test_the_end_of_a_credential_is_read_in_its_usual_forms(text: Any, seconds: float | None) -> None:
    assert moment(text) == seconds


def test_the_end_of_a_credential_that_is_no_time_is_refused() -> None:
    with pytest.raises(ProbeFault, match="is not a time"):
        moment("soon")


@pytest.mark.parametrize(
    ("operation", "verify", "answer"),
    [
        ("decrypt", {"ciphertext": "c", "plaintext": "not base64!", "encoding": "base64"}, RIGHT),
        ("hmac", {"key": "not base64!", "key_encoding": "base64"}, answering('{"mac": "AAAA"}')),
        ("hmac", {"expected": "not base64!", "message": "fixed"}, answering('{"mac": "AAAA"}')),
    ],
)
async def test_what_we_were_given_to_verify_by_is_a_missing_contract_when_it_cannot_be_read(
    operation: str, verify: dict[str, Any], answer: Any
) -> None:
    asked = {"request": {"path": "/"}, "response": {"extract": "plaintext || mac"}, "verify": verify}
    async with serving(answer) as port:
        probed = await ask(port, operations={operation: asked})
    assert probed.verdict == ("unknown", "contract_missing")
    assert "not base64!" not in probed.detail

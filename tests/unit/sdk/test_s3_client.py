"""How the S3 client signs, and which reason each of S3's errors gets, without a server."""

from __future__ import annotations

import base64
import datetime
import json
from typing import Any

import pytest

from tests.probing import FreePermits, RealClock
from tocsin.sdk import HttpResponse, ProbeContext, Secret
from tocsin.sdk.s3 import Bucket, S3Fault, S3Settings, session_expires_at

EXAMPLE_TIME = datetime.datetime(2013, 5, 24)
"""The time of the worked examples."""


class Scripted:
    """An HTTP client that keeps what it is asked and gives one answer."""

    def __init__(self, status: int = 200, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.answer = HttpResponse("http://s3.test/", status, headers or {}, body)
        self.asked: list[tuple[str, str, dict[str, str]]] = []

    def bound(self, ctx: ProbeContext) -> Scripted:
        return self

    async def fetch(self, method: str, url: str, *, headers: dict[str, str], **_: Any) -> HttpResponse:
        self.asked.append((method, url, headers))
        return self.answer


def bucket(http: Scripted, name: str = "examplebucket", **own: Any) -> Bucket:
    usual = {
        "access_key_id": "AKIAIOSFODNN7EXAMPLE",
        "secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "endpoint_url": "https://s3.amazonaws.com",
        "path_style": False,
    }
    ctx = ProbeContext(
        probe="p",
        system="s",
        incident="i",
        vantage="",
        timeout=5.0,
        clock=RealClock(),
        http=http,  # type: ignore[arg-type]
        permits=FreePermits(),
        trace_id="0" * 32,
        span_id="0" * 16,
        request_id="r",
        memory={},
    )
    return Bucket(ctx, S3Settings.model_validate(usual | own), name)


@pytest.mark.parametrize(
    ("call", "url", "signature"),
    [
        (
            {"method": "GET", "key": "test.txt", "headers": {"Range": "bytes=0-9"}},
            "https://examplebucket.s3.amazonaws.com/test.txt",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            {"method": "GET", "query": {"lifecycle": ""}},
            "https://examplebucket.s3.amazonaws.com/?lifecycle=",
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            {"method": "GET", "query": {"max-keys": "2", "prefix": "J"}},
            "https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
async def test_signatures_are_those_of_amazon_s_worked_examples(
    call: dict[str, Any], url: str, signature: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Amazon S3 API Reference, "Signature Calculations for the Authorization Header", examples."""
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: EXAMPLE_TIME)
    http = Scripted()
    await bucket(http).call(**call)
    ((_, asked, headers),) = http.asked
    assert asked == url
    assert headers["Authorization"].endswith(f"Signature={signature}")


async def test_path_style_puts_the_bucket_into_the_path() -> None:
    http = Scripted()
    await bucket(http, endpoint_url="http://127.0.0.1:9000/", path_style=True).call("GET", "a b/ü+1.pdf")
    assert http.asked[0][1] == "http://127.0.0.1:9000/examplebucket/a%20b/%C3%BC%2B1.pdf"


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (404, "NoSuchBucket", "not_found"),
        (404, "NoSuchKey", "not_found"),
        (403, "AccessDenied", "forbidden"),
        (403, "InvalidAccessKeyId", "credentials_rejected"),
        (403, "SignatureDoesNotMatch", "credentials_rejected"),
        (400, "ExpiredToken", "credentials_rejected"),
        (400, "AuthorizationHeaderMalformed", "credentials_rejected"),
        (403, "RequestTimeTooSkewed", "credentials_rejected"),
        (503, "SlowDown", "rate_limited"),
        (503, "ServiceUnavailable", "server_error"),
        (500, "InternalError", "server_error"),
        (400, "RequestTimeout", "timeout"),
        (301, "PermanentRedirect", "unexpected_status"),
        (409, "SomethingNew", "unexpected_status"),
    ],
)
async def test_each_error_has_its_reason_and_names_its_request(status: int, code: str, reason: str) -> None:
    body = f"<Error><Code>{code}</Code><Message>why</Message></Error>".encode()
    with pytest.raises(S3Fault, match="why") as raised:
        await bucket(Scripted(status, body, {"x-amz-request-id": "REQ1"})).call("GET")
    assert raised.value.finding.reason == reason
    assert raised.value.code == code
    assert "REQ1" in raised.value.finding.detail


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"\xff\xfe", b'<!DOCTYPE a [<!ENTITY b "c">]><Error><Code>&b;</Code></Error>']
)
async def test_an_error_that_is_not_s3_s_goes_by_its_status(body: bytes) -> None:
    with pytest.raises(S3Fault, match="without an S3 error") as raised:
        await bucket(Scripted(502, body)).call("GET")
    assert raised.value.finding.reason == "server_error"


def jwt(claims: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{payload}.c2ln"


@pytest.mark.parametrize(
    ("token", "ends"),
    [
        (jwt({"exp": 1_800_000_000}), 1_800_000_000.0),
        (jwt({}), None),
        (jwt([]), None),
        (jwt({"exp": None}), None),
        ("opaque", None),
        ("a.b.c", None),
        ("a.\N{SNOWMAN}.c", None),
        ("", None),
    ],
)
def test_the_end_of_a_session_is_known_when_its_token_says_it(token: str, ends: float | None) -> None:
    assert session_expires_at(Secret(token)) == ends
    assert session_expires_at(None) is None

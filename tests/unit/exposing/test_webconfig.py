"""The web-config file: what is read, what is refused, in which words; who passes the gate."""

from __future__ import annotations

import base64
from pathlib import Path

import bcrypt
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from tocsin.config import ConfigError
from tocsin.exposing import gate as gate_module
from tocsin.exposing.gate import Gate
from tocsin.exposing.tls import allowed_name
from tocsin.exposing.webconfig import RateLimit, WebConfig, load
from tocsin.model import Secret

HASH = bcrypt.hashpw(b"correct horse", bcrypt.gensalt(4)).decode()
FULL = """
tls_server_config:
  cert_file: server.crt
  key_file: /etc/keys/server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans: [prometheus.example]
  min_version: TLS12
  max_version: TLS13
  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]
  prefer_server_cipher_suites: true
  curve_preferences: [X25519]
http_server_config:
  http2: true
  headers:
    X-Frame-Options: sameorigin
    Strict-Transport-Security: max-age=31536000
basic_auth_users:
  prometheus: HASH
rate_limit:
  interval: 1s
  burst: 20
""".replace("HASH", HASH)


def written(folder: Path, text: str) -> Path:
    path = folder / "web.yml"
    path.write_text(text)
    return path


def test_every_key_of_the_format_is_known_and_files_are_looked_for_beside_it(tmp_path: Path) -> None:
    config = load(written(tmp_path, FULL))
    tls = config.tls_server_config
    assert tls is not None
    assert (tls.cert_file, tls.key_file) == (tmp_path / "server.crt", Path("/etc/keys/server.key"))
    assert tls.client_ca_file == tmp_path / "ca.crt"
    assert config.basic_auth_users["prometheus"].reveal() == HASH
    assert (config.rate_limit.interval, config.rate_limit.burst) == (1.0, 20)
    assert HASH not in repr(config)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("tls_server_confg: {}", 1, "unknown key; did you mean `tls_server_config`?"),
        ("tls_server_config:\n  cert_file: a\n  key_fil: b\n", 3, "unknown key; did you mean `key_file`?"),
        ("tls_server_config:\n  key_file: b\n", 1, "missing one of cert or cert_file"),
        ("tls_server_config:\n  cert_file: b\n", 1, "missing one of key or key_file"),
        ("tls_server_config: {cert_file: a, key_file: b, cert: c}", 1, "cert and cert_file are both given; give one"),
        (
            "tls_server_config: {cert_file: a, key_file: b, client_ca_file: c}",
            1,
            "a client CA is given without a client_auth_type that verifies",
        ),
        (
            "tls_server_config: {cert_file: a, key_file: b, client_auth_type: RequireAndVerifyClientCert}",
            1,
            "RequireAndVerifyClientCert needs client_ca_file or client_ca",
        ),
        (
            "tls_server_config:\n  client_auth_type: RequireAnyClientCert\n",
            2,
            "RequireAnyClientCert takes certificates that nobody verified; "
            "write RequireAndVerifyClientCert or VerifyClientCertIfGiven",
        ),
        (
            "tls_server_config: {cert_file: a, key_file: b, client_ca_file: c, "
            "client_auth_type: VerifyClientCertIfGiven, client_allowed_sans: [x]}",
            1,
            "client_allowed_sans needs client_auth_type RequireAndVerifyClientCert",
        ),
        ("tls_server_config:\n  min_version: TLS14\n", 2, "'TLS14' is not 'TLS10', 'TLS11', 'TLS12' or 'TLS13'"),
        ("tls_server_config:\n  cipher_suites: [RC4]\n", 2, "unknown cipher 'RC4'; use Go's names"),
        ("tls_server_config:\n  curve_preferences: [Curve1]\n", 2, "unknown curve 'Curve1'"),
        ("tls_server_config:\n  curve_preferences: [X25519, CurveP256]\n", 2, "this server takes one curve"),
        ("http_server_config:\n  headers: {Server: x}\n", 2, "header 'Server' cannot be configured"),
        ("http_server_config:\n  headers: {X-Frame-Options: allow}\n", 2, "X-Frame-Options is one of deny, sameorigin"),
        ("basic_auth_users:\n  alice: hunter2\n", 1, "the password of 'alice' is no bcrypt hash"),
        ("basic_auth_users:\n  a: x\n  a: y\n", 3, "a"),
        ("rate_limit:\n  burst: -1\n", 2, "should be greater than or equal to 0"),
        ("rate_limit:\n  interval: fast\n", 2, "is not a duration"),
        ("", 0, "the file is empty"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(written(tmp_path, text))
    assert any(problem.line == line and message in str(problem) for problem in refused.value.problems), refused.value
    assert "hunter2" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"web.yml: cannot be read: No such file"):
        load(tmp_path / "web.yml")


@pytest.mark.parametrize(
    ("names", "allowed"),
    [
        ((("DNS", "prometheus.example"),), True),
        ((("DNS", "sub.prometheus.example"),), False),
        ((("IP Address", "10.0.0.1"),), True),
        ((("IP Address", "0:0:0:0:0:0:0:1"),), True),
        ((("URI", "spiffe://x/y"),), True),
        ((("email", "a@b"),), False),
        ((), False),
    ],
)
def test_a_client_name_is_allowed_only_when_it_is_exactly_one_of_the_list(
    names: tuple[tuple[str, str], ...], allowed: bool
) -> None:
    listed = ("prometheus.example", "10.0.0.1", "::1", "spiffe://x/y")
    assert allowed_name({"subjectAltName": names}, listed) is allowed
    assert not allowed_name(None, listed)


def request(path: str = "/metrics", user: str | None = None, password: str = "") -> web.Request:
    encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
    headers = {"Authorization": f"Basic {encoded}"} if user is not None else {}
    return make_mocked_request("GET", path, headers=headers)


async def status(gate: Gate, asked: web.Request) -> int | None:
    refused = await gate.refusal(asked)
    return refused.status if refused is not None else None


async def test_only_the_right_password_passes_and_health_needs_none() -> None:
    gate = Gate(WebConfig(basic_auth_users={"alice": Secret(HASH)}))
    assert await status(gate, request()) == 401
    assert await status(gate, request(user="alice", password="wrong")) == 401
    assert await status(gate, request(user="bob", password="correct horse")) == 401
    assert await status(gate, request(user="alice", password="x" * 100)) == 401
    assert await status(gate, make_mocked_request("GET", "/", headers={"Authorization": "Bearer x"})) == 401
    for nonsense in ("Basic", "Basic ???", "Basic eA==", "Basic /w==", "Basic gDp4", "Basic OgA="):
        assert await status(gate, make_mocked_request("GET", "/", headers={"Authorization": nonsense})) == 401
    assert await status(gate, request(user="alice", password="correct horse")) is None
    assert await status(gate, request("/-/healthy")) is None
    assert await status(gate, request("/-/ready")) is None
    assert await status(gate, request("/-/reload")) == 401
    gate.close()


async def test_a_verified_password_is_hashed_once_and_a_wrong_one_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[bytes] = []
    checkpw = bcrypt.checkpw
    monkeypatch.setattr(gate_module.bcrypt, "checkpw", lambda word, known: hashed.append(word) or checkpw(word, known))
    gate = Gate(WebConfig(basic_auth_users={"alice": Secret(HASH)}))
    for _ in range(3):
        assert await status(gate, request(user="alice", password="correct horse")) is None
        assert await status(gate, request(user="alice", password="wrong")) == 401
    assert hashed.count(b"correct horse") == 1
    assert hashed.count(b"wrong") == 3
    gate.config = WebConfig(basic_auth_users={"alice": Secret(bcrypt.hashpw(b"new", bcrypt.gensalt(4)).decode())})
    assert await status(gate, request(user="alice", password="correct horse")) == 401
    gate.close()


async def test_the_rate_limit_lets_a_burst_pass_and_then_one_an_interval() -> None:
    now = 100.0
    gate = Gate(WebConfig(rate_limit=RateLimit(interval=2.0, burst=3)), monotonic=lambda: now)
    assert [await status(gate, request()) for _ in range(4)] == [None, None, None, 429]
    assert await status(gate, request("/-/healthy")) is None
    now += 2.0
    assert [await status(gate, request()) for _ in range(2)] == [None, 429]
    gate.close()

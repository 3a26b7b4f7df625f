"""No secret of a configuration leaves the daemon, though its targets repeat each one wherever they can."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.daemon import Daemon
from tests.process.echo import echoing
from tocsin.config import Registry

Ports = dict[str, int]
COMMON = {"system": "test", "incident": "test", "every": "1s", "timeout": "900ms", "failures_to_fail": 1}
CORE = re.compile(r"Kq7Zx\w{2}Wv93tUm")


@pytest.fixture
def ports() -> Iterator[Ports]:
    with echoing() as found:
        yield found


def dsn(name: str, ports: Ports, user: str = "early") -> str:
    return f"postgresql://{user}:${{{name}}}@127.0.0.1:{ports['postgresql']}/db?sslmode=disable"


def probes(ports: Ports) -> dict[str, dict[str, Any]]:
    """A probe for each place where a kind takes a secret; ``${S01}`` and so on are the secrets."""
    web = f"http://127.0.0.1:{ports['web']}"
    s3 = {"endpoint_url": web, "bucket": "bucket", "access_key_id": "${S01}", "secret_access_key": "${S02}"}
    columns = {"table": "audit", "mac_column": "mac", "previous_column": "previous"}
    bearer = {"Authorization": "Bearer ${S03}"}
    expect = {"json": ["said == 'x'"]}
    return {
        "http-refused": {"kind": "http", "url": f"{web}/x", "headers": bearer, "method": "POST", "body": "a=${S04}"},
        "http-asserted": {"kind": "http", "url": f"{web}/ok", "headers": {"X-Key": "${S05}"}, "expect": expect},
        "http-not-json": {"kind": "http", "url": f"{web}/plain", "headers": bearer, "expect": {**expect, "status": [500]}},
        "token": {
            "kind": "oidc_token", "issuer": web, "token_url": f"{web}/token", "client_id": "c",
            "client_secret": "${S06}", "grant": "password", "username": "u", "password": "${S07}",
        },
        "s3": {"kind": "s3_bucket", **s3, "session_token": "${S08}"},
        "s3-object": {"kind": "s3_object", **s3, "dsn": dsn("S09", ports), "query": "SELECT key FROM objects"},
        "pg-login": {"kind": "postgres", "dsn": dsn("S10", ports)},
        "pg-query": {"kind": "postgres", "dsn": dsn("S11", ports, "late")},
        "rows": {"kind": "sql_rows", "dsn": dsn("S12", ports, "late"), "query": "SELECT 1"},
        "queue": {"kind": "job_queue", "dsn": dsn("S13", ports, "late")},
        "rate": {"kind": "event_rate", "dsn": dsn("S14", ports, "late"), "query": "SELECT 1", "events": ["a"]},
        "beat": {"kind": "heartbeat", "dsn": dsn("S15", ports, "late"), "query": "SELECT 1", "max_age": "1m"},
        "restore": {"kind": "restore_check", "dsn": dsn("S27", ports, "late"), "tables": ["audit"]},
        "chain": {"kind": "hash_chain", **columns, "dsn": dsn("S16", ports, "late"), "replica_dsn": dsn("S17", ports)},
        "verify": {"kind": "chain_verify_api", "url": f"{web}/x", "token": "${S18}"},
        "rpc": {
            "kind": "chain_rpc", "providers": [f"{web}/v3/${{S19}}"], "chain_id": 1,
            "anchor": {"dsn": dsn("S20", ports, "late"), "query": "SELECT 1"},
        },
        "mail": {
            "kind": "smtp", "address": f"127.0.0.1:{ports['mail']}", "security": "none", "username": "u",
            "password": "${S21}",
        },
        "quota": {"kind": "license_quota", "url": f"{web}/x", "headers": bearer},
        "promql": {"kind": "promql", "url": web, "query": "up", "above": 1, "headers": bearer},
        "logql": {"kind": "logql", "url": web, "query": '{a="b"}', "above": 1, "headers": bearer},
        "alerts": {"kind": "alert_state", "url": web, "alerts": ["A"], "headers": bearer},
        "tsa": {"kind": "tsa", "url": f"{web}/plain", "ca_file": str(Path(__file__)), "headers": bearer},
        "signer": {
            "kind": "signer", "endpoint": web, "headers": {"X-Key": "${S22}"}, "auth": {"bearer": "${S23}"},
            "operations": {
                "decrypt": {"request": {"path": "/x", "body": "c"}, "verify": {"plaintext": "${S24}", "ciphertext": "c"}}
            },
        },
        "blob": {
            "kind": "license_blob", "source": {"value": "${S25}"}, "encoding": "jwt",
            "trusted_keys": {"k": base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("=")},
            "running": {"url": f"{web}/x", "headers": bearer},
        },
        "setting": {"kind": "setting", "settings": {"MODE": {"value": "${S26}", "forbidden": ["s3cr.Kq7Zx26Wv93tUm"]}}},
    }  # fmt: skip


def secrets(count: int = 27) -> dict[str, str]:
    return {f"S{number:02}": f"s3cr.Kq7Zx{number:02}Wv93tUm" for number in range(1, count + 1)}


def takes_secrets(kind: str, registry: Registry) -> bool:
    return "writeOnly" in json.dumps(registry[kind].Settings.model_json_schema())


def leaks(text: str) -> list[str]:
    """What of a secret is in ``text``, as it is or in base64, each with what is around it."""
    found = [text[max(0, match.start() - 80) : match.end() + 20] for match in CORE.finditer(text)]
    for token in re.findall(r"[A-Za-z0-9+/_-]{20,}", text):
        for start in range(4):
            piece = token[start:].replace("-", "+").replace("_", "/")
            decoded = base64.b64decode(piece + "A" * (-len(piece) % 4)).decode("latin-1")
            found += [f"in base64: {token}" for _ in CORE.finditer(decoded)]
    return found


def said_by(command: list[str], environment: Mapping[str, str], codes: tuple[int, ...]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tocsin.cli", *command],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode in codes, done.stderr
    return done.stdout + done.stderr


def test_every_kind_that_takes_a_secret_is_tried_here(ports: Ports) -> None:
    registry = Registry.discover()
    tried = {probe["kind"] for probe in probes(ports).values()}
    assert {kind for kind in registry if takes_secrets(kind, registry)} <= tried


def test_a_leak_is_seen_when_there_is_one() -> None:
    secret = secrets()["S01"]
    assert leaks(f"x {secret} y")
    for before in ("", "a", "ab"):
        assert leaks(base64.b64encode(f"{before}:{secret}".encode()).decode())
    assert not leaks("x ******** y")


def test_no_surface_shows_a_secret(tmp_path: Path, ports: Ports, start: Callable[..., Daemon]) -> None:
    config = tmp_path / "c.yaml"
    declared = {name: {**COMMON, **probe} for name, probe in probes(ports).items()}
    caps = {"default": {"concurrency": 100, "requests_per_minute": 60000}}
    config.write_text(yaml.safe_dump({"version": 1, "caps": caps, "probes": declared}))
    environment = {**secrets(), "TOCSIN_LOG_LEVEL": "debug"}
    daemon = start(config, environment=environment)
    daemon.until(lambda: all(p["runs"] and sum(p["runs"].values()) > 1 for p in daemon.probes().values()), "to run all")
    assert {name: probe["status"] for name, probe in daemon.probes().items() if probe["status"] == "ok"} == {}

    paths = ["/", "/metrics", "/api/v1/probes", "/api/v1/plan", "/runbooks/wipe/keycloak-outage"]
    paths += [f"{page}/{name}" for name in declared for page in ("/probes", "/api/v1/probes")]
    surfaces = {path: daemon.get(path)[1] for path in paths}
    good = config.read_text()
    wrong = {
        "kind: http\n": "kind: ${S01}\n",
        "max_age: 1m": "max_age: ${S02}",
        "incident: test\n": "incident: ${S03}\n",
        "kind: tsa\n": "kind: tsa\n    depends_on: ['${S04}']\n",
        "chain_id: 1": "chain_id: ${S05}",
    }
    bad = good
    for right, instead in wrong.items():
        assert right in bad
        bad = bad.replace(right, instead, 1)
    config.write_text(bad)
    surfaces["reload"] = daemon.get("/-/reload", method="POST")[1]
    assert "max_age" in surfaces["reload"]
    surfaces["refused, /"] = daemon.get("/")[1]
    config.write_text(good)
    assert daemon.stop() == 0
    surfaces["log"] = daemon.log.read_text()
    assert '"event": "probe ran"' in surfaces["log"]
    for file in sorted(daemon.state.iterdir()):
        surfaces[file.name] = file.read_bytes().decode("latin-1")
    options = ["--config", str(config)]
    surfaces["check"] = said_by(["check", *options], environment, (0,))
    surfaces["plan"] = said_by(["plan", *options], environment, (0,)) + said_by(
        ["plan", "--json", *options], environment, (0,)
    )
    surfaces["probe"] = said_by(["probe", "--json", *options], environment, (1,)) + said_by(
        ["probe", *options], environment, (1,)
    )
    assert all(surfaces.values())
    assert {where: found for where, text in surfaces.items() if (found := leaks(text))} == {}

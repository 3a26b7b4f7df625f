"""Where a kubeconfig's server is and as whom it is asked. On a real API server: tests/estate/test_kubernetes_access.py."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.exposing_certificates import Authority
from tocsin.sdk import ProbeFault
from tocsin.sdk.kubernetes_access import default_namespace, read_access, server_of


def write(folder: Path, user: Mapping[str, Any], **cluster: Any) -> str:
    content = {
        "current-context": "c",
        "clusters": [{"name": "one", "cluster": {"server": "http://127.0.0.1:1", **cluster}}],
        "users": [{"name": "me", "user": dict(user)}],
        "contexts": [{"name": "c", "context": {"cluster": "one", "user": "me", "namespace": "n"}}],
    }
    (folder / "kubeconfig").write_text(json.dumps(content))
    return str(folder / "kubeconfig")


async def test_a_token_is_taken_from_the_kubeconfig_or_from_the_file_beside_it_which_wins(tmp_path: Path) -> None:
    found = await read_access(write(tmp_path, {"token": "abc"}, server="http://127.0.0.1:1/"))
    assert (found.server, found.authorization, found.tls) == ("http://127.0.0.1:1", "Bearer abc", None)
    (tmp_path / "token").write_text("def\n")
    path = write(tmp_path, {"token": "abc", "tokenFile": "token"})
    assert (await read_access(path)).authorization == "Bearer def"
    assert (server_of(path), default_namespace(path)) == ("http://127.0.0.1:1", "n")


async def test_an_authority_is_read_from_the_kubeconfig_or_from_a_file_beside_it(tmp_path: Path) -> None:
    Authority(tmp_path)
    data = base64.b64encode((tmp_path / "ca.crt").read_bytes()).decode()
    for more in ({"certificate-authority": "ca.crt"}, {"certificate-authority-data": data}):
        found = await read_access(write(tmp_path, {"token": "abc"}, server="https://127.0.0.1:1", **more))
        assert found.tls is not None
        assert len(found.tls.get_ca_certs()) == 1
        assert found.tls.verify_mode == ssl.CERT_REQUIRED
    skipping = write(tmp_path, {"token": "a"}, **{"server": "https://x", "insecure-skip-tls-verify": True})
    found = await read_access(skipping)
    assert found.tls is not None
    assert found.tls.verify_mode == ssl.CERT_NONE


async def test_a_command_that_gives_credentials_is_run(tmp_path: Path) -> None:
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "run"}}
    command = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": ["-c", f"print({json.dumps(answer)!r})"],
    }
    assert (await read_access(write(tmp_path, {"exec": command}))).authorization == "Bearer run"


def test_a_token_needs_no_general_client(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys; from tocsin.sdk.kubernetes_access import read_access; "
        f"asyncio.run(read_access({write(tmp_path, {'token': 'abc'})!r})); "
        "sys.exit('kubernetes_asyncio' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("user", [{"tokenFile": "none"}, {"token": None}])
async def test_a_token_that_is_not_there_is_our_own_trouble(tmp_path: Path, user: Mapping[str, Any]) -> None:
    with pytest.raises(ProbeFault) as raised:
        await read_access(write(tmp_path, user))
    assert raised.value.finding.reason == "credentials_missing"

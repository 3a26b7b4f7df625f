"""A file on a file system that is gone: each look at it would keep a thread for ever."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.probing import Probed, first, probe_once
from tocsin.sdk import Probe
from tocsin_probes.grpc_socket import GrpcSocket
from tocsin_probes.heartbeat import Heartbeat
from tocsin_probes.http import Http
from tocsin_probes.license_blob import LicenseBlob
from tocsin_probes.sqlite import Sqlite

KEY = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n"
HTTP = {"url": "http://127.0.0.1:1/", "method": "POST", "body_file": "{file}"}


class HangingFiles:
    """Whatever touches a file below ``folder`` waits until it is ``back``; ``waiting`` are the threads that do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.folder, self.back, self.waiting = str(folder), threading.Event(), 0
        for module, name in (("os", "stat"), ("os", "open"), ("builtins", "open"), ("io", "open")):
            monkeypatch.setattr(f"{module}.{name}", self._hanging(getattr(__import__(module), name)))

    def _hanging(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def look(path: Any, *arguments: Any, **named: Any) -> Any:
            if str(path).startswith(self.folder) and not self.back.is_set():
                self.waiting += 1
                self.back.wait(10)
            return real(path, *arguments, **named)

        return look


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (Heartbeat, {"max_age": "10m", "file": "{file}"}),
        (Sqlite, {"file": "{file}"}),
        (GrpcSocket, {"paths": ["{file}"]}),
        (LicenseBlob, {"source": {"file": "{file}"}, "encoding": "jwt", "trusted_keys": {"one": KEY}}),
        (Http, HTTP),
    ],
)
async def test_a_file_that_hangs_takes_one_thread_however_often_it_is_looked_at(
    kind: type[Probe], settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite3.connect(file := tmp_path / "file").execute("CREATE TABLE t (a)")
    filled = _filled(settings, str(file))
    files = HangingFiles(monkeypatch, tmp_path)

    async def look() -> Probed:
        return await probe_once(kind(kind.Settings.model_validate(filled)), timeout=0.1)  # as after a reload

    try:
        assert (await look()).outcome.reason == "timeout"
        for _ in range(3):
            again = await look()
            # What it is about is bad in every run, so that it is confirmed; what it only needs lets it not tell.
            told = ("unknown", "dependency_unknown") if kind is Http else ("failed", "timeout")
            assert again.verdict == told, again.detail
            assert str(file) in again.detail
        assert files.waiting == 1
    finally:
        files.back.set()
    await first(look, lambda probed: "an earlier look" not in probed.detail, "the file")
    assert (await look()).outcome.reason not in ("timeout", "dependency_unknown")


def _filled(value: Any, file: str) -> Any:
    if isinstance(value, dict):
        return {name: _filled(each, file) for name, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, file) for each in value]
    return file if value == "{file}" else value

"""The daemon as its users start it: a process, asked over HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from estate import guard
from estate.ports import reserve_port

_POLL = 0.05


class Daemon:
    """``tocsin run`` on a free loopback port with a state folder of its own.

    `restart` and `kill` keep port and state, as an orchestrator would. Its log is a file, shown when it does not start;
    ``log_into``: another place for it, which is not read.
    """

    def __init__(
        self,
        folder: Path,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        log_level: str = "info",
        log_into: Path | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = reserve_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "daemon.log"
        self.log.touch()
        self._log_into = log_into or self.log
        self.state = folder / "state"
        self._arguments = list(arguments)
        self._environment = {
            "TOCSIN_LISTEN": f"127.0.0.1:{self.port}",
            "TOCSIN_STATE_DIR": str(self.state),
            "TOCSIN_LOG_LEVEL": log_level,
            "TOCSIN_LOG_FORMAT": "json",
            **(environment or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *, wait: bool = True) -> Self:
        with self._log_into.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tocsin.cli", "run", *self._arguments],
                env={**os.environ, **self._environment},
                stdout=log,
                stderr=log,
            )
        guard.watch(self.pid, self.state)
        if wait:
            try:
                self.until(lambda: self.get("/-/healthy")[0] == 200, "to be healthy", 60)
            except BaseException:
                self.kill()
                raise
        return self

    def stop(self) -> int:
        """Asks it to end and returns its exit code; kills it after 10 s, which is a failure of the test."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._wait()
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the daemon did not end within 10 s\n{self.tail()}") from None

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._wait()

    def _wait(self) -> int:
        assert self._process is not None
        code = self._process.wait(10)
        guard.release(self._process.pid)
        return code

    def hang_up(self) -> None:
        """SIGHUP: read the configuration again."""
        os.kill(self.pid, signal.SIGHUP)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._wait()
            except subprocess.TimeoutExpired:
                self.kill()

    def get(self, path: str, *, method: str = "GET", timeout: float = 5) -> tuple[int, str]:
        """Status and body; status 0 when nothing answers."""
        request = urllib.request.Request(self.url + path, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def metrics(self) -> dict[str, float]:
        """Every sample by its text (``name{labels}``)."""
        status, text = self.get("/metrics")
        assert status == 200, text
        pairs = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def value(self, name: str, **labels: str) -> float | None:
        """The sample of this name whose labels include these; None when there is none."""
        for sample, value in self.metrics().items():
            if sample.partition("{")[0] == name and all(f'{key}="{text}"' in sample for key, text in labels.items()):
                return value
        return None

    def probes(self) -> dict[str, dict[str, Any]]:
        """``/api/v1/probes`` by name."""
        status, text = self.get("/api/v1/probes")
        assert status == 200, text
        return {probe["probe"]: probe for probe in json.loads(text)["probes"]}

    def until(self, condition: Callable[[], object], what: str, seconds: float = 30) -> None:
        """Waits until ``condition`` holds; fails with the end of the log."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                raise AssertionError(f"the daemon ended with {self._process.returncode}\n{self.tail()}")
            if condition():
                return
            time.sleep(_POLL)
        raise AssertionError(f"waited {seconds:.0f} s for the daemon {what}\n{self.tail()}")

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])


def http_probe(name: str, url: str, *, every: str = "1s", timeout: str = "500ms", more: str = "") -> str:
    """The declaration of one probe, in YAML."""
    return (
        f"  {name}:\n    kind: http\n    system: test\n    incident: test\n    url: {url}\n"
        f"    every: {every}\n    timeout: {timeout}\n    retry_every: 200ms\n{more}"
    )


def write(path: Path, *probes: str) -> Path:
    """A configuration of these probes, under caps that no test reaches."""
    caps = "caps: {default: {concurrency: 100, requests_per_minute: 60000}}\n"
    path.write_text(f"version: 1\n{caps}probes:\n" + "".join(probes))
    return path

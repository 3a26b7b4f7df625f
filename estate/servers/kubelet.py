"""A stand-in for a node's kubelet: it serves container logs over TLS to a real API server, and nothing else.

The API server asks the node that a pod is bound to, at the address and port of its Node object, for
`/containerLogs/NAMESPACE/POD/CONTAINER`, with the query of the client. How kubelet answers: Kubernetes 1.34,
pkg/kubelet/server/server.go (getContainerLogs) and pkg/kubelet/kuberuntime/logs/logs.go (ReadLogs): lines at or after
`sinceTime` (whole seconds), each after its own time with nanoseconds, cut at `limitBytes`.
"""

from __future__ import annotations

import ssl
import subprocess
import tempfile
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from estate.ports import LOOPBACK
from estate.servers.kubernetes import Kubernetes


@dataclass
class Log:
    """What one container wrote: each line with its time in nanoseconds. `previous` is of the instance before."""

    lines: list[tuple[int, str]] = field(default_factory=list)
    previous: list[tuple[int, str]] | None = None


class Kubelet:
    """The logs of the pods that are bound to the node `name`. A context manager; registers the node on entry.

    `requests` lists the paths and queries that were asked for; `broken` makes every answer a 500.
    """

    def __init__(self, kubernetes: Kubernetes, name: str) -> None:
        self.name = name
        self.broken = False
        self.requests: list[str] = []
        self._kubernetes = kubernetes
        self._logs: dict[tuple[str, str, str], Log] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="tocsin-kubelet-")
        self._server = self._bind()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name=f"kubelet {name}")

    def __enter__(self) -> Self:
        self._thread.start()
        self._kubernetes.call("POST", "/api/v1/nodes", {"metadata": {"name": self.name}}).expect(201)
        status = {
            "addresses": [{"type": "InternalIP", "address": LOOPBACK}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._server.server_address[1]}},
        }
        self._kubernetes.call("PATCH", f"/api/v1/nodes/{self.name}/status", {"status": status}).expect(200)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kubernetes.call("DELETE", f"/api/v1/nodes/{self.name}")
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._folder.cleanup()

    def write(self, namespace: str, pod: str, container: str, line: str, at: float) -> None:
        """One line of a log, written at `at` (Unix seconds; to the microsecond)."""
        self._log(namespace, pod, container).lines.append((round(at * 1_000_000) * 1000, line))

    def restart(self, namespace: str, pod: str, container: str) -> None:
        """The container is started anew: its log becomes the previous one."""
        log = self._log(namespace, pod, container)
        log.lines, log.previous = [], log.lines

    def rotate(self, namespace: str, pod: str, container: str, keep: int = 0) -> None:
        """The log is rotated: all but the last `keep` lines are in a file that is not served."""
        log = self._log(namespace, pod, container)
        log.lines = log.lines[len(log.lines) - keep :]

    def _log(self, namespace: str, pod: str, container: str) -> Log:
        return self._logs.setdefault((namespace, pod, container), Log())

    def answer(self, target: str) -> tuple[int, bytes]:
        """Status and body for one request."""
        parts = urlsplit(target)
        self.requests.append(target)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        steps = parts.path.strip("/").split("/")
        if self.broken or len(steps) != 4 or steps[0] != "containerLogs":
            return 500, b"the kubelet is broken"
        log = self._log(steps[1], steps[2], steps[3])
        lines = log.previous if query.get("previous") == "true" else log.lines
        if lines is None:
            return 400, f'previous terminated container "{steps[3]}" in pod "{steps[2]}" not found'.encode()
        since = 0
        if "sinceTime" in query:
            since = int(datetime.fromisoformat(query["sinceTime"]).timestamp()) * 10**9
        body = "".join(f"{_stamp(at)} {line}\n" for at, line in lines if at >= since).encode()
        return 200, body[: int(query["limitBytes"])] if "limitBytes" in query else body

    def _bind(self) -> ThreadingHTTPServer:
        kubelet = self

        class Handler(BaseHTTPRequestHandler):
            # HTTP/1.0: the API server keeps no connection open, whose thread would outlive the node.
            def do_GET(self) -> None:
                status, body = kubelet.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        server.daemon_threads = False
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*_certificate(Path(self._folder.name)))
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        return server


def _certificate(folder: Path) -> tuple[Path, Path]:
    chain, key = folder / "kubelet.crt", folder / "kubelet.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=kubelet", "-days", "2", "-keyout", str(key), "-out", str(chain)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return chain, key


def _stamp(nanoseconds: int) -> str:
    whole = datetime.fromtimestamp(nanoseconds // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{nanoseconds % 10**9:09d}Z"

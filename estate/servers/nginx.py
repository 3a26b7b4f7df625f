"""nginx 1.22: a plain web server, gateway or TLS end for tests and benchmarks.

Facts: nginx documentation, "Core functionality" and "Controlling nginx" (HUP reloads).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from estate.install import ensure
from estate.ports import LOOPBACK, reserve_port
from estate.process import Server
from estate.process_tree import Seen, alive
from estate.web import request


@dataclass(frozen=True)
class Certificate:
    """PEM files of a server: the chain, leaf first, and the leaf's key."""

    chain: Path
    key: Path


class Nginx(Server):
    """Serves the files under `root` on `port`, and whatever `locations` adds.

    `locations` is text of nginx's language inside the `server` block, for instance
    `location /api/ { proxy_pass http://127.0.0.1:9000/; }`. With a `certificate` the port speaks TLS. Assign to the
    attributes and call `reload` to change either.
    """

    name: ClassVar[str] = "nginx"
    # Quick: QUIT would wait for the last client.
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, locations: str = "", *, certificate: Certificate | None = None, workers: int = 1) -> None:
        self._binary = ensure("nginx") / "nginx"
        super().__init__()
        self.port = reserve_port()
        self.locations = locations
        self.certificate = certificate
        self.workers = workers
        self.root = self.folder / "root"
        self.root.mkdir()
        # A port of our own for readiness, so that `locations` may do anything with the other one.
        self._status_port = reserve_port()
        self._generation = 0

    @property
    def url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://{LOOPBACK}:{self.port}"

    def write(self, path: str, content: bytes | str) -> str:
        """Put a file under the root and return its URL."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        return f"{self.url}/{path.lstrip('/')}"

    def command(self) -> Sequence[str]:
        return [str(self._binary), "-p", f"{self.folder}/", "-c", str(self._write_config()), "-e", "stderr"]

    def ready(self) -> bool:
        answer = request("GET", f"http://{LOOPBACK}:{self._status_port}/", timeout=2)
        return answer.text == str(self._generation)

    def reload(self) -> None:
        """Load the attributes as they are now. Returns when only new workers answer; raises StartError if refused."""
        self._write_config()
        old = [seen for seen in self.processes if seen.pid != self.pid]
        os.kill(self.pid, signal.SIGHUP)
        self.await_ready()
        # The new workers answer before the old ones have closed their ends of the same ports.
        deadline = time.monotonic() + self.stop_patience
        while any(_accepts(seen) for seen in old) and time.monotonic() < deadline:
            time.sleep(0.01)

    def _write_config(self) -> Path:
        self._generation += 1
        tls = ""
        if self.certificate is not None:
            tls = f"ssl_certificate {self.certificate.chain}; ssl_certificate_key {self.certificate.key};"
        temporary = "\n".join(
            f"  {kind}_temp_path {self.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        path = self.folder / "nginx.conf"
        path.write_text(
            f"""
{"user root;" if os.geteuid() == 0 else ""}
daemon off;
worker_processes {self.workers};
pid {self.folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 4096; }}
http {{
  access_log {self.folder}/access.log;
{temporary}
  types {{ text/html html; application/json json; text/plain txt; }}
  default_type application/octet-stream;
  server {{
    listen {LOOPBACK}:{self._status_port};
    access_log off;
    location / {{ return 200 "{self._generation}"; }}
  }}
  server {{
    listen {LOOPBACK}:{self.port}{" ssl" if self.certificate else ""};
    root {self.root};
    {tls}
    {self.locations}
  }}
}}
"""
        )
        return path


def _accepts(worker: Seen) -> bool:
    try:
        title = Path(f"/proc/{worker.pid}/cmdline").read_bytes()
    except OSError:
        return False
    # A worker that still has clients after a reload says so in its title.
    return alive(worker) and b"is shutting down" not in title

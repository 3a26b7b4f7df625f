"""An RFC 3161 timestamp authority (sigstore timestamp-server 2.0.3) with a signer in memory.

Facts: `timestamp-server serve --help`; the API is `POST /api/v1/timestamp` (`application/timestamp-query` in,
`application/timestamp-reply` out) and `GET /api/v1/timestamp/certchain` (PEM).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from estate.install import ensure
from estate.ports import LOOPBACK, reserve_port
from estate.process import Server
from estate.web import answers, request


class TimestampAuthority(Server):
    """Signs with a key that it makes at each start, so a restart changes the certificate chain."""

    name: ClassVar[str] = "tsa"

    def __init__(self) -> None:
        self._binary = ensure("tsa") / "bin" / "timestamp-server"
        super().__init__()
        self.port = reserve_port()
        self.url = f"http://{LOOPBACK}:{self.port}/api/v1/timestamp"

    def command(self) -> Sequence[str]:
        return [
            str(self._binary),
            "serve",
            f"--host={LOOPBACK}",
            f"--port={self.port}",
            "--timestamp-signer=memory",
            # It would ask time servers on the internet.
            "--disable-ntp-monitoring",
        ]

    def ready(self) -> bool:
        return answers(f"http://{LOOPBACK}:{self.port}/ping")

    def certificate_chain(self) -> bytes:
        """The signer's certificates as PEM, leaf first."""
        return request("GET", f"{self.url}/certchain").expect(200).body

    def timestamp(self, query: bytes) -> bytes:
        """The DER reply to a DER query."""
        headers = {"Content-Type": "application/timestamp-query"}
        return request("POST", self.url, body=query, headers=headers).expect(200, 201).body

"""Prometheus blackbox exporter 0.23: the peer that rules and benchmarks compare with.

Facts: blackbox_exporter CONFIGURATION.md of 0.23 and its command line's help.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import urlencode

from estate.install import ensure
from estate.ports import LOOPBACK, reserve_port
from estate.process import Server
from estate.web import answers, request

HTTP_2XX: Mapping[str, Any] = {
    "http_2xx": {"prober": "http", "timeout": "5s", "http": {"preferred_ip_protocol": "ip4"}},
}


class Blackbox(Server):
    """Runs with `modules`, as under `modules:` in its configuration."""

    name: ClassVar[str] = "blackbox"

    def __init__(self, modules: Mapping[str, Any] = HTTP_2XX) -> None:
        self._binaries = ensure("blackbox")
        super().__init__()
        self.port = reserve_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.modules = dict(modules)

    def command(self) -> Sequence[str]:
        config = self.folder / "blackbox.yml"
        config.write_text(json.dumps({"modules": self.modules}))
        return [
            str(self._binaries / "prometheus-blackbox-exporter"),
            f"--config.file={config}",
            f"--web.listen-address={LOOPBACK}:{self.port}",
        ]

    def ready(self) -> bool:
        return answers(f"{self.url}/-/healthy")

    def probe(self, target: str, module: str = "http_2xx") -> str:
        """The metrics of one probe, as text."""
        asked = urlencode({"target": target, "module": module})
        return request("GET", f"{self.url}/probe?{asked}", timeout=30).expect(200).text

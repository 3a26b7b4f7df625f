"""Alertmanager 0.25, alone (no cluster).

Facts: Alertmanager 0.25 documentation, its command line's help and the API v2 description.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from estate.install import ensure
from estate.ports import LOOPBACK, reserve_port
from estate.process import Server
from estate.web import answers, request


class Alertmanager(Server):
    """Runs with `config`, the text of its YAML file. Write another with `write_config`, then `reload`."""

    name: ClassVar[str] = "alertmanager"

    def __init__(self, config: str) -> None:
        self._binaries = ensure("alertmanager")
        super().__init__()
        self.port = reserve_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self._config = self.folder / "alertmanager.yml"
        self.write_config(config)

    def write_config(self, config: str) -> None:
        """Replace the configuration file; it counts from the next `reload` or start."""
        self._config.write_text(config)

    def command(self) -> Sequence[str]:
        return [
            str(self._binaries / "prometheus-alertmanager"),
            f"--config.file={self._config}",
            f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address={LOOPBACK}:{self.port}",
            # Empty: no gossip, and no address to be found for it.
            "--cluster.listen-address=",
        ]

    def ready(self) -> bool:
        return answers(f"{self.url}/-/ready")

    def reload(self) -> None:
        """Read the configuration again. Raises UnexpectedAnswer when it is bad."""
        request("POST", f"{self.url}/-/reload").expect(200)

    def alerts(self) -> list[dict[str, Any]]:
        """All alerts, active, silenced and inhibited, as API v2 gives them (`labels`, `status.state`, …)."""
        return list(request("GET", f"{self.url}/api/v2/alerts").expect(200).json())

    def post_alerts(self, alerts: Sequence[Mapping[str, Any]]) -> None:
        """Send alerts as Prometheus would."""
        request("POST", f"{self.url}/api/v2/alerts", json=list(alerts)).expect(200)

    def create_silence(self, silence: Mapping[str, Any]) -> str:
        """Create a silence (`matchers`, `startsAt`, `endsAt`, `createdBy`, `comment`). Returns its id."""
        return str(request("POST", f"{self.url}/api/v2/silences", json=dict(silence)).expect(200).json()["silenceID"])

    def silences(self) -> list[dict[str, Any]]:
        """All silences."""
        return list(request("GET", f"{self.url}/api/v2/silences").expect(200).json())

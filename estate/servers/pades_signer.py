"""A PDF signing service on pyHanko with a certificate authority of its own, rightly or wrongly signing at will."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from estate.ports import LOOPBACK, reserve_port
from estate.process import Server
from estate.web import answers, request


class PadesSigner(Server):
    """`POST {url}/sign` signs a PDF; with `tsa_url` the signature carries a timestamp."""

    name: ClassVar[str] = "pades-signer"

    def __init__(self, tsa_url: str = "") -> None:
        super().__init__()
        self.port = reserve_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.trust_file = self.folder / "trusted-ca.pem"
        """PEM of the authority that certified the signer."""
        self.certificate_file = self.folder / "trusted.pem"
        self._tsa_url = tsa_url

    def command(self) -> Sequence[str]:
        arguments = [f"--port={self.port}", f"--folder={self.folder}", f"--tsa={self._tsa_url}"]
        return [sys.executable, "-m", "estate.pades_service", *arguments]

    def environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}

    def ready(self) -> bool:
        return answers(f"{self.url}/")

    def set_fault(self, fault: str) -> None:
        """One of `estate.pades_service.FAULTS`; empty: sign rightly again."""
        request("POST", f"{self.url}/fault", body=fault.encode()).expect(200)

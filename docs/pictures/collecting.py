"""Real data: the practice estate with its daemon, broken by a timetable, and a Prometheus that scrapes it."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

from docs.pictures.asking import Answers, answers
from estate.ports import reserve_port
from estate.process import Server
from estate.servers.prometheus import Prometheus, ScrapeJob
from estate.web import answers as responds
from estate.web import request

ROOT = Path(__file__).resolve().parents[2]
SCRAPE_SECONDS = 5
TIMETABLE = (
    (75, "POST", "keycloak-database-stopped"),
    (105, "POST", "certificates-unanchored"),
    (120, "POST", "bucket-write-denied"),
    (150, "POST", "dead-letter"),
    (165, "POST", "proofs-awaiting-license"),
    (180, "POST", "seats-low"),
    (210, "DELETE", "bucket-write-denied"),
)
"""Seconds after all was seen well, what is done to a switch (POST breaks, DELETE heals), and its name."""

END_SECONDS = 330


class Sandbox(Server):
    """`tocsin sandbox`: the estate, and the daemon on ``port``."""

    name: ClassVar[str] = "sandbox"
    start_patience: ClassVar[float] = 180.0

    def __init__(self) -> None:
        super().__init__()
        self.port = reserve_port()

    def command(self) -> Sequence[str]:
        shutil.rmtree(self.folder / "state", ignore_errors=True)
        listen = f"127.0.0.1:{self.port}"
        state = str(self.folder / "state")
        return [sys.executable, "-m", "tocsin.cli", "sandbox", "--listen", listen, "--state-dir", state]

    def ready(self) -> bool:
        return self._switches() is not None and responds(f"http://127.0.0.1:{self.port}/-/ready")

    def switch(self, method: str, fault: str) -> None:
        request(method, f"{self._switches()}/api/v1/faults/{fault}").expect(200)

    def _switches(self) -> str | None:
        told = re.search(r"^switches: (\S+)$", self.log.read_text(errors="replace"), re.MULTILINE)
        return told[1].rstrip("/") if told else None


def collect(files: Sequence[Path], tell: Callable[[str], None]) -> dict[str, Answers]:
    """What each dashboard's queries answer at the end of the timetable, by the dashboard's name. Takes six minutes."""
    with ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox())
        rules = [ROOT / "alerts" / "tocsin.yaml"]
        job = ScrapeJob("tocsin", (f"127.0.0.1:{sandbox.port}",))
        interval = f"{SCRAPE_SECONDS}s"
        server = stack.enter_context(
            Prometheus(rules=rules, jobs=[job], scrape_interval=interval, evaluation_interval=interval)
        )
        begin = time.time()
        for after, method, fault in (*TIMETABLE, (END_SECONDS, "", "")):
            time.sleep(max(0.0, begin + after - time.time()))
            if fault:
                sandbox.switch(method, fault)
                tell(f"{after:4} s  {'broken' if method == 'POST' else 'healed'}: {fault}")
        return {file.stem: answers(file, server.url, begin + 20, time.time()) for file in files}

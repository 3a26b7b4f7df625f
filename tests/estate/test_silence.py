"""Silence is a fault: each alert about tocsin itself fires from a real daemon in a real Prometheus, and goes again.

The rules are the shipped ones; only how long they wait is shortened.
"""

from __future__ import annotations

import re
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from estate.servers.prometheus import Prometheus, ScrapeJob
from tests import plugins
from tests.daemon import Daemon
from tests.exposing_certificates import Authority

pytestmark = [pytest.mark.estate, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
SHORTER = (
    (r"^(\s+)for: [1-9]\d*m$", r"\1for: 2s"),
    (r"keep_firing_for: \w+", "keep_firing_for: 2s"),
    (r"vector\(60\)", "vector(3)"),
    (r"\[(5|10|15)m\]", "[10s]"),
)
"""Waiting times of alerts/tocsin.yaml, and what stands for them here."""


def configuration(folder: Path, *, broken: str = "") -> str:
    return f"""version: 1
profiles: [wipe]
caps: {{default: {{requests_per_minute: 60000}}}}
probes:
  stuck: {{kind: trouble, system: mine, incident: i, way: ignore_cancellation, while_exists: {folder}/stuck, every: 1s, timeout: 200ms, retry_every: 200ms}}
  blocking: {{kind: trouble, system: mine, incident: i, way: block, while_exists: {folder}/block, every: 1s, timeout: 200ms, retry_every: 200ms}}
  blind: {{kind: postgres, system: mine, incident: i, dsn: "${{file:{folder}/dsn}}", every: 1s, timeout: 500ms, retry_every: 200ms}}
{broken}"""


@dataclass
class Watched:
    """A daemon, the Prometheus that scrapes it, and the folder of the files that cause trouble."""

    daemon: Daemon
    prometheus: Prometheus
    folder: Path

    def alerts(self, name: str) -> list[dict[str, str]]:
        return [
            alert["labels"]
            for alert in self.prometheus.alerts()
            if alert["state"] == "firing" and alert["labels"]["alertname"] == name
        ]

    def fires(self, name: str, seconds: float = 45, **labels: str) -> None:
        self._until(
            lambda: any(labels.items() <= found.items() for found in self.alerts(name)), f"{name} fires", seconds
        )

    def is_silent(self, name: str, seconds: float = 60, **labels: str) -> None:
        self._until(
            lambda: not any(labels.items() <= found.items() for found in self.alerts(name)), f"{name} ends", seconds
        )

    def _until(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition():
                return
            time.sleep(0.2)
        raise AssertionError(f"not within {seconds:.0f} s: {what}; firing: {sorted(self.prometheus.firing())}")


def shortened(folder: Path) -> Path:
    """The shipped rules, with shorter waiting times."""
    rules = folder / "tocsin.yaml"
    text = (ROOT / "alerts/tocsin.yaml").read_text()
    for pattern, by in SHORTER:
        text, changed = re.subn(pattern, by, text, flags=re.MULTILINE)
        assert changed, pattern
    rules.write_text(text)
    return rules


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("silence")
    rules = shortened(folder)
    (folder / "dsn").write_text("postgresql://nobody@127.0.0.1:1/x")
    config = folder / "config.yaml"
    config.write_text(configuration(folder))
    environment = plugins.install(folder / "plugins", "tocsin-trouble")
    with ExitStack() as stack:
        daemon = stack.enter_context(Daemon(folder, ["--config", str(config)], environment=environment))
        prometheus = stack.enter_context(
            Prometheus(rules=[rules], jobs=[ScrapeJob("tocsin", (f"127.0.0.1:{daemon.port}",))])
        )
        yield Watched(daemon, prometheus, folder)


WEB = "tls_server_config: {cert_file: web.crt, key_file: web.key}\n"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Watched, Authority]]:
    """A daemon that is scraped by TLS, and who issues its certificate: five days are left of it."""
    folder = tmp_path_factory.mktemp("guarded")
    authority = Authority(folder)
    authority.issue("web", days=5)
    (folder / "web.yml").write_text(WEB)
    config = folder / "config.yaml"
    config.write_text("version: 1\nprobes: {p: {kind: tcp, system: mine, incident: i, address: '127.0.0.1:1'}}\n")
    environment = {"TOCSIN_WEB_CONFIG_FILE": str(folder / "web.yml")}
    daemon = Daemon(folder, ["--config", str(config)], environment=environment)
    tls = {"scheme": "https", "tls_config": {"ca_file": str(folder / "ca.crt")}}
    job = ScrapeJob("tocsin", (f"127.0.0.1:{daemon.port}",), more=tls)
    daemon.start(wait=False)
    try:
        with Prometheus(rules=[shortened(folder)], jobs=[job]) as prometheus:
            yield Watched(daemon, prometheus, folder), authority
    finally:
        daemon.stop()


def test_a_certificate_of_the_daemon_that_ends_soon_is_a_ticket_until_it_is_renewed(
    guarded: tuple[Watched, Authority],
) -> None:
    watched, authority = guarded
    watched.fires("TocsinCertificateExpiring", severity="ticket", system="tocsin")
    authority.issue("web", days=90)
    watched.is_silent("TocsinCertificateExpiring")


def test_a_web_configuration_that_is_refused_is_a_ticket_until_it_is_corrected(
    guarded: tuple[Watched, Authority],
) -> None:
    watched, _ = guarded
    (watched.folder / "web.yml").write_text(WEB.replace("cert_file", "cert_fiel"))
    watched.fires("TocsinWebConfigRefused", severity="ticket", system="tocsin")
    (watched.folder / "web.yml").write_text(WEB)
    watched.is_silent("TocsinWebConfigRefused")


def test_the_watchdog_always_fires_and_the_others_do_not(watched: Watched) -> None:
    watched.fires("TocsinWatchdog", severity="watchdog")
    watched.fires("TocsinContractsMissing", system="wipe", severity="ticket")
    quiet = {"TocsinAbsent", "TocsinReplicaDown", "TocsinStalled", "TocsinReloadFailed", "TocsinStateStoreFailing"}
    assert quiet & watched.prometheus.firing() == set()


def test_a_refused_configuration_is_a_ticket_until_it_is_corrected(watched: Watched) -> None:
    config = watched.folder / "config.yaml"
    config.write_text(configuration(watched.folder, broken="  wrong: {kind: nothing}\n"))
    watched.daemon.hang_up()
    watched.fires("TocsinReloadFailed", severity="ticket", incident="tocsin-itself")
    config.write_text(configuration(watched.folder))
    watched.daemon.hang_up()
    watched.is_silent("TocsinReloadFailed")


def test_a_probe_that_cannot_tell_is_a_ticket_of_its_own_incident(watched: Watched) -> None:
    dsn = watched.folder / "dsn"
    text = dsn.read_text()
    dsn.unlink()
    # Its target, which refuses connections, was failing: that page stays, and who cannot tell is told beside it.
    watched.fires("TocsinProbeUnknown", probe="blind", incident="i", severity="ticket")
    dsn.write_text(text)
    watched.is_silent("TocsinProbeUnknown", probe="blind")


def test_a_probe_that_ignores_its_deadline_is_overdue_and_its_runs_are_left_out(watched: Watched) -> None:
    flag = watched.folder / "stuck"
    flag.touch()
    watched.fires("TocsinProbeStale", probe="stuck", system="tocsin", severity="page")
    watched.fires("TocsinRunsSkipped", probe="stuck", cause="overrun")
    flag.unlink()
    watched.is_silent("TocsinProbeStale", probe="stuck")


def test_a_probe_that_blocks_the_loop_stalls_the_scheduler_and_is_told_by_the_server_beside_it(
    watched: Watched,
) -> None:
    flag = watched.folder / "block"
    flag.touch()
    watched.fires("TocsinStalled", severity="page", system="tocsin")
    watched.fires("TocsinLoopLagging", severity="ticket")
    flag.unlink()
    watched.is_silent("TocsinStalled")


def test_a_state_that_cannot_be_written_is_a_ticket(watched: Watched) -> None:
    pid = watched.daemon.pid
    limits = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    # As on a full disk: no file may grow any more. Python ignores the signal, so that a write is an error.
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        watched.fires("TocsinStateStoreFailing", severity="ticket", system="tocsin")
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
    watched.is_silent("TocsinStateStoreFailing")


def test_a_daemon_that_is_gone_is_a_page_until_it_is_back(watched: Watched) -> None:
    watched.daemon.stop()
    watched.fires("TocsinAbsent", severity="page", system="tocsin")
    watched.fires("TocsinReplicaDown", severity="ticket")
    watched.daemon.start()
    watched.is_silent("TocsinAbsent")
    watched.is_silent("TocsinReplicaDown")

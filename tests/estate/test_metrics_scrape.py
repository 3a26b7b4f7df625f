"""The metrics page as the real Prometheus sees it: linted by promtool, scraped over TLS with a password."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import bcrypt
import pytest

from estate.install import ensure
from estate.servers.prometheus import Prometheus, ScrapeJob
from tests import exposing_gallery as gallery
from tests.exposing_certificates import Authority
from tocsin.exposing import WebServer
from tocsin.exposing.metrics import MetricsPage

pytestmark = pytest.mark.estate

SERIES = {
    "tocsin_probe_alerting": 15,
    "tocsin_probe_status": 45,
    "tocsin_probe_reason": 8,
    "tocsin_probe_caused_by": 1,
    "tocsin_probe_runs_total": 45,
    "tocsin_queue_jobs": 3,
    "tocsin_scheduler_lag_seconds_bucket": 4,
}


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_promtool_has_nothing_to_say(prometheus_factory: object) -> None:
    page = MetricsPage().render(gallery.entries(), gallery.facts())
    checked = subprocess.run(
        [str(ensure("prometheus") / "promtool"), "check", "metrics"],
        input=page,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_prometheus_scrapes_over_tls_with_a_password(
    prometheus_factory: Callable[..., Prometheus], tmp_path: Path
) -> None:
    Authority(tmp_path).issue("server")
    hashed = bcrypt.hashpw(b"correct horse", bcrypt.gensalt(4)).decode()
    web_config = tmp_path / "web.yml"
    web_config.write_text(
        "tls_server_config: {cert_file: server.crt, key_file: server.key}\n"
        f"basic_auth_users: {{prometheus: {hashed!r}}}\n"
    )
    server = WebServer(gallery.site(), "127.0.0.1", 0, web_config)
    server.start()
    try:
        target = f"127.0.0.1:{server.port}"
        tls = {"scheme": "https", "tls_config": {"ca_file": str(tmp_path / "ca.crt")}}
        prometheus = prometheus_factory(
            jobs=[
                ScrapeJob(
                    "tocsin",
                    (target,),
                    more={**tls, "basic_auth": {"username": "prometheus", "password": "correct horse"}},
                ),
                ScrapeJob("stranger", (target,), more=tls),
            ]
        )
        until(lambda: prometheus.value('up{job="tocsin"}') == 1)
        until(lambda: prometheus.value('up{job="stranger"}') == 0)
        for name, count in SERIES.items():
            assert prometheus.value(f'count({name}{{job="tocsin"}})') == count, name
        odd = prometheus.query('tocsin_queue_jobs{queue!~"proofs.*"}')
        assert odd[0]["metric"]["queue"] == 'odd "name"\\\n'
    finally:
        server.stop()

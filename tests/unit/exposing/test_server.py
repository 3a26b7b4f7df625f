"""The server over real HTTP on loopback, on its own thread."""

from __future__ import annotations

import base64
import gc
import gzip
import html
import http.client
import json
import re
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urljoin

import bcrypt
import pytest
from cryptography import x509
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from structlog.testing import capture_logs

from tests import exposing_gallery as gallery
from tests.exposing_certificates import Authority
from tocsin.board.history import RunRecord
from tocsin.config import ConfigError
from tocsin.exposing import Health, ReloadResult, Site, WebServer
from tocsin.exposing import server as server_module
from tocsin.exposing.tls import expiry
from tocsin.exposing.webconfig import TlsConfig
from tocsin.model import CommonReason, Entry, ProbeState, Secret
from tocsin.runbooks import find_page, folders

SECRET = "correct horse"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


def ask(server: WebServer, path: str, method: str = "GET", tls: ssl.SSLContext | None = None, **headers: str) -> Answer:
    connection = (
        http.client.HTTPSConnection("localhost", server.port, timeout=10, context=tls)
        if tls is not None
        else http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    )
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()


@contextmanager
def serving(site: Site, web_config: Path | None = None) -> Iterator[WebServer]:
    before = set(threading.enumerate())
    server = WebServer(site, "127.0.0.1", 0, web_config)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        assert set(threading.enumerate()) <= before


@pytest.fixture(scope="module")
def server() -> Iterator[WebServer]:
    with serving(gallery.site()) as running:
        yield running


def test_metrics_come_as_text_and_as_openmetrics(server: WebServer) -> None:
    plain = ask(server, "/metrics")
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'tocsin_probe_alerting{probe="wipe-realm-exawipe"' in plain.text
    openmetrics = ask(server, "/metrics", Accept="application/openmetrics-text;version=1.0.0")
    assert openmetrics.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert list(parse_openmetrics(openmetrics.text))


def test_answers_are_compressed_for_those_who_can_read_it(server: WebServer) -> None:
    packed = ask(server, "/metrics", Accept_Encoding="gzip;q=1.0, identity;q=0.5")
    assert packed.headers["content-encoding"] == "gzip"
    assert b"tocsin_build_info" in gzip.decompress(packed.body)
    assert len(packed.body) * 4 < len(gzip.decompress(packed.body))
    for refusing in ("identity", "gzip;q=0", "gzip;q=0.0, br", "br"):
        assert "content-encoding" not in ask(server, "/metrics", Accept_Encoding=refusing).headers


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/-/healthy", "/-/ready", "/api/v1/probes", "/probes/wipe-db", "/static/tocsin.css"]
)
def test_head_is_get_without_the_body(server: WebServer, path: str) -> None:
    head = ask(server, path, "HEAD")
    assert (head.status, head.body) == (200, b"")


@pytest.mark.parametrize("path", ["/nope", "/static/../server.py", "/static/nope.css", "/probes/", "/runbooks/wipe"])
def test_what_is_not_there_is_404_in_plain_text(server: WebServer, path: str) -> None:
    answer = ask(server, path)
    assert (answer.status, answer.text) == (404, "404 Not Found\n")
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/-/reload", "POST"), ("POST", "/metrics", "GET,HEAD"), ("PUT", "/", "GET,HEAD")],
)
def test_a_wrong_method_is_405_and_says_which_is_right(server: WebServer, method: str, path: str, allowed: str) -> None:
    answer = ask(server, path, method)
    assert (answer.status, answer.text) == (405, "405 Method Not Allowed\n")
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    "path",
    [
        "/runbooks/%2e%2e/pyproject",
        "/runbooks/wipe/%2e%2e%2f%2e%2e%2fREADME",
        "/runbooks/..%5c/x",
        "/runbooks/wipe/keycloak-outage.md",
        "/runbooks/wipe/nope",
        "/runbooks/wipe/%00",
        "/probes/%2e%2e%2fx",
        "/probes/%3Cscript%3E",
    ],
)
def test_nothing_leads_off_the_shelf_and_nothing_is_echoed(server: WebServer, path: str) -> None:
    answer = ask(server, path)
    assert answer.status == 404
    assert "<script" not in answer.text


@pytest.mark.parametrize("path", ["/", "/probes/wipe-queues", "/runbooks/wipe/keycloak-outage", "/nope", "/-/healthy"])
def test_every_answer_carries_the_security_headers(server: WebServer, path: str) -> None:
    headers = ask(server, path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "deny"
    assert headers["server"] == "tocsin"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/", "/probes/wipe-queues", "/runbooks/wipe/keycloak-outage"])
def test_pages_have_no_script_no_inline_style_and_nothing_from_elsewhere(server: WebServer, path: str) -> None:
    page = ask(server, path).text
    assert "<script" not in page
    assert " style=" not in page
    assert "<style" not in page
    assert 'src="http' not in page
    assert re.search(r'<link rel="stylesheet" href="[./]+static/tocsin\.css\?v=', page)


@pytest.mark.parametrize("below", ["", "/ops/tocsin"])
@pytest.mark.parametrize(
    ("path", "least"),
    [
        ("/", 20),
        ("/?refresh=off", 20),
        ("/probes/wipe-queues", 6),
        ("/probes/none", 5),
        ("/runbooks/wipe/keycloak-outage", 10),
        ("/runbooks/wipe/none", 5),
    ],
)
def test_addresses_in_pages_hold_below_a_path_that_a_proxy_strips(
    server: WebServer, path: str, least: int, below: str
) -> None:
    page = ask(server, path).text
    found = [html.unescape(each) for each in re.findall(r'(?:href|src)="([^"#]+)', page)]
    own = {urljoin(f"https://ops.example.org{below}{path}", each) for each in found if "://" not in each}
    assert len(own) >= least
    for address in own:
        assert address.startswith(f"https://ops.example.org{below}/")
        answer = ask(server, address.removeprefix(f"https://ops.example.org{below}"))
        assert answer.status == 200, address


def test_the_status_page_says_it_all(server: WebServer) -> None:
    page = ask(server, "/").text
    assert "<h1>3 pages, 2 tickets</h1>" in page
    assert '<meta http-equiv="refresh" content="15">' in page
    assert "api-network" in page
    assert "3f9a1c77de20" in page
    assert 'href="./runbooks/wipe/keycloak-outage#oidc_realm.issuer_mismatch"' in page
    assert "<meta http-equiv" not in ask(server, "/?refresh=off").text


def test_a_runbook_page_lists_what_to_check_first_with_how_it_is_now(server: WebServer) -> None:
    page = ask(server, "/runbooks/wipe/keycloak-outage").text
    rows = re.findall(r'<tr class="(\w+)"><td class="number">\d+</td><td><a href="../../probes/([\w-]+)">', page)
    names = [name for _, name in rows]
    assert names.index("wipe-keycloak-db") < names.index("wipe-keycloak-health") < names.index("wipe-realm-exawipe")
    assert {name: light for light, name in rows}["wipe-realm-exawipe"] == "page"
    row = next(
        line
        for line in page.splitlines()
        if '<a href="../../probes/wipe-realm-exawipe">wipe' in line and "number" in line
    )
    assert 'href="../../runbooks/wipe/keycloak-outage#oidc_realm.issuer_mismatch">issuer_mismatch</a>' in row
    assert "12 min ago</time>" in row
    assert "by hand from here" not in page
    assert "from the dependency graph" not in page


def test_a_runbook_page_that_no_probe_leads_to_keeps_the_list_that_it_was_shipped_with(server: WebServer) -> None:
    page = ask(server, "/runbooks/wipe/backup").text
    assert "<code>wipe-wal-archive</code>" in page
    assert 'class="checks"' not in page


@pytest.mark.parametrize(
    ("host", "file", "told"),
    [
        ("127.0.0.1", "", 0),
        ("localhost", "", 0),
        ("0.0.0.0", "", 1),
        ("", "", 1),
        ("", "rate_limit: {interval: 1s, burst: 9}\n", 1),
        ("", "basic_auth_users: {prometheus: '{hash}'}\n", 0),
    ],
)
def test_a_port_that_others_reach_and_nothing_guards_is_told_once(
    host: str, file: str, told: int, tmp_path: Path
) -> None:
    web_config = tmp_path / "web.yml"
    web_config.write_text(file.replace("{hash}", bcrypt.hashpw(SECRET.encode(), bcrypt.gensalt(4)).decode()))
    server = WebServer(gallery.site(), host, 0, web_config if file else None)
    with capture_logs() as log:
        server.start()
        server.stop()
    warnings = [line["event"] for line in log if line["log_level"] == "warning"]
    assert len(warnings) == told
    assert all("basic_auth_users" in line and "client CA" in line for line in warnings)


def shop(**changes: object) -> Site:
    """One probe of a system that no bundled page is for, which is bad."""
    reasons = tuple(reason.info for reason in CommonReason)
    probe = replace(gallery.spec("shop-checkout"), system="shop", incident="checkout-down", reasons=reasons)
    bad = gallery.bad((gallery.found("timeout", "no complete answer"),), 60.0)
    return replace(gallery.site({"shop-checkout": gallery.entry(probe, bad)}), **changes)


def test_a_link_to_a_page_that_nobody_has_written_opens_one_that_is_made() -> None:
    with serving(shop()) as server:
        answer = ask(server, "/runbooks/shop/checkout-down")
        assert answer.status == 200
        assert 'id="http.timeout"' in answer.text
        assert '<a class="reason" href="#http.timeout">http.timeout</a>' in answer.text
        assert re.search(r'<tr class="page"><td class="number">1</td><td><a [^>]*>shop-checkout</a>', answer.text)
        assert "<code>TOCSIN_RUNBOOKS_DIR</code>" in answer.text
        assert ask(server, "/runbooks/shop/nothing").status == 404


def test_the_page_of_ones_own_is_served_as_it_is_on_the_disk_now(tmp_path: Path) -> None:
    page = tmp_path / "shop" / "checkout-down.md"
    page.parent.mkdir()
    page.write_text("---\ntitle: No checkout\nkinds: [http]\n---\n\n# No checkout\n\nCall *Ada*.\n")
    with serving(shop(runbook=lambda *names: find_page(*names, *folders(tmp_path)))) as server:
        written = ask(server, "/runbooks/shop/checkout-down").text
        assert "Call <em>Ada</em>." in written
        assert 'id="http.timeout"' in written
        page.write_text("# <b>broken</b>\n")
        broken = ask(server, "/runbooks/shop/checkout-down")
        assert broken.status == 200
        assert f"{page}:1: a page begins with front matter" in broken.text
        assert 'id="http.timeout"' in broken.text, "made, in its place"
        (tmp_path / "wipe").mkdir()
        (tmp_path / "wipe" / "keycloak-outage.md").write_text("# broken\n")
        bundled = ask(server, "/runbooks/wipe/keycloak-outage").text
        assert "keycloak-outage.md:1: a page begins with front matter" in bundled
        assert 'id="oidc_realm.issuer_mismatch"' in bundled
        (tmp_path / "shop" / "other.md").write_text("# broken\n")
        assert "other.md:1: a page begins with front matter" in ask(server, "/runbooks/shop/other").text


def test_a_probes_page_shows_findings_measurements_history_and_neighbours(server: WebServer) -> None:
    page = ask(server, "/probes/wipe-queues").text
    for expected in ("dead_letters", "proofs.validated", "tocsin_queue_jobs", "1204", "Transitions", "tocsin-00001d"):
        assert expected in page
    assert 'href="../probes/wipe-db"' in page
    assert "odd &#34;name&#34;" in page
    assert 'href="../probes/wipe-queues"' in ask(server, "/probes/wipe-db").text


def test_what_a_bad_run_attached_is_shown_as_text_and_nothing_else(server: WebServer) -> None:
    page = ask(server, "/probes/wipe-queues").text
    assert "<pre>id,reason\n7,&lt;b&gt;no&lt;/b&gt; receipt" in page
    assert "8 bytes of application/pdf." in page
    evidence = json.loads(ask(server, "/api/v1/probes/wipe-queues").text)["evidence"]
    assert evidence["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e0029"
    assert [(each["name"], each["text"]) for each in evidence["attachments"]] == [
        ("rows.csv", "id,reason\n7,<b>no</b> receipt\n"),
        ("signed.pdf", None),
    ]
    assert json.loads(ask(server, "/api/v1/probes/wipe-realm-master").text)["evidence"] is None


def test_a_runbook_page_says_which_of_its_reasons_are_current(server: WebServer) -> None:
    page = ask(server, "/runbooks/wipe/keycloak-outage").text
    assert '<a class="reason" href="#oidc_realm.issuer_mismatch">' in page
    assert 'id="oidc_realm.issuer_mismatch"' in page
    assert 'href="../../probes/wipe-realm-exawipe"' in page
    assert "Nothing on this page is current." in ask(server, "/runbooks/wipe/database-outage").text


def test_the_api_gives_probes_in_the_shape_of_the_command_line(server: WebServer) -> None:
    document = json.loads(ask(server, "/api/v1/probes").text)
    probes = {probe["probe"]: probe for probe in document["probes"]}
    realm = probes["wipe-realm-exawipe"]
    assert list(realm)[:15] == [
        "probe", "kind", "system", "incident", "vantage", "status", "reason", "detail", "started_at",
        "duration_seconds", "trace_id", "request_id", "measurements", "findings", "runbook",
    ]  # fmt: skip
    assert realm["runbook"] == "wipe/keycloak-outage#oidc_realm.issuer_mismatch"
    assert realm["state"]["alerting"] is True
    assert probes["wipe-realm-master"]["reason"] is None
    assert probes["wipe-queues"]["measurements"][0] == {
        "name": "tocsin_queue_jobs",
        "labels": {"queue": "proofs.retry", "status": "waiting"},
        "value": 1204.0,
    }
    never = probes["wipe-signer-decrypt"]
    assert (never["status"], never["reason"], never["started_at"]) == ("unknown", None, None)
    assert never.keys() == realm.keys()


def test_every_answer_says_from_where_it_was_looked() -> None:
    entries = {
        name: replace(entry, spec=replace(entry.spec, vantage="edge-network"))
        for name, entry in gallery.entries().items()
    }
    with serving(gallery.site(entries)) as server:
        for probe in json.loads(ask(server, "/api/v1/probes").text)["probes"]:
            assert probe["vantage"] == "edge-network"
            assert json.loads(ask(server, f"/api/v1/probes/{probe['probe']}").text)["vantage"] == "edge-network"
            assert "<dd>edge-network</dd>" in ask(server, f"/probes/{probe['probe']}").text


def test_the_api_gives_one_probe_with_its_history(server: WebServer) -> None:
    document = json.loads(ask(server, "/api/v1/probes/wipe-queues").text)
    assert document["transitions"][0]["status"] == "failed"
    assert len(document["recent_runs"]) == 30
    missing = ask(server, "/api/v1/probes/nope")
    assert (missing.status, json.loads(missing.text)) == (404, {"error": "no such probe"})


def test_no_secret_and_no_setting_is_shown_anywhere() -> None:
    entries = gallery.entries()
    for name, entry in entries.items():
        settings = {"url": "http://user:hunter2@127.0.0.1", "password": Secret("hunter2")}
        entries[name] = replace(entry, spec=replace(entry.spec, settings=settings))
    paths = ["/", "/metrics", "/api/v1/probes", "/api/v1/plan", "/runbooks/wipe/keycloak-outage"]
    paths += [f"{prefix}/{name}" for name in entries for prefix in ("/probes", "/api/v1/probes")]
    with serving(gallery.site(entries)) as server:
        for path in paths:
            answer = ask(server, path)
            assert answer.status == 200
            assert "hunter2" not in answer.text


def test_the_api_gives_the_plan_as_rows() -> None:
    with serving(gallery.site()) as server:
        assert json.loads(ask(server, "/api/v1/plan").text) == {"probes": []}


def test_text_that_is_no_utf8_is_shown_all_the_same() -> None:
    entries = gallery.entries()
    queues = entries["wipe-queues"]
    entries["wipe-queues"] = replace(queues, state=replace(queues.state, detail="bytes \udc80 <b>"))
    with serving(gallery.site(entries)) as server:
        assert "bytes ? &lt;b&gt;" in ask(server, "/").text
        assert ask(server, "/api/v1/probes").status == 200


def test_health_is_answered_while_the_probing_loop_and_every_page_are_stuck() -> None:
    stuck = threading.Event()

    def hang() -> dict[str, Entry]:
        stuck.wait(10)
        return {}

    site = replace(gallery.site(), entries=hang, health=lambda: Health(False, "no heartbeat for 12.3 s"))
    with serving(site) as server:
        pages = [threading.Thread(target=ask, args=(server, "/metrics")) for _ in range(6)]
        for page in pages:
            page.start()
        began = time.monotonic()
        answer = ask(server, "/-/healthy")
        assert (answer.status, answer.text) == (503, "no heartbeat for 12.3 s\n")
        assert time.monotonic() - began < 1.0
        stuck.set()
        for page in pages:
            page.join()


def test_a_disk_that_hangs_takes_the_pages_and_never_the_metrics() -> None:
    stuck = threading.Event()

    class Hanging(gallery.History):
        def runs(self, probe: str, limit: int) -> list[RunRecord]:
            stuck.wait(10)
            return super().runs(probe, limit)

    with serving(replace(gallery.site(), history=Hanging(gallery.entries()))) as server:
        pages = [threading.Thread(target=ask, args=(server, "/probes/wipe-queues")) for _ in range(40)]
        for page in pages:
            page.start()
        began = time.monotonic()
        assert ask(server, "/metrics").status == 200
        assert time.monotonic() - began < 2.0
        stuck.set()
        for page in pages:
            page.join()


def test_ready_means_every_probe_ran_once_or_the_time_is_over_and_stays() -> None:
    entries = gallery.entries()
    times = {"now": gallery.NOW}
    site = replace(
        gallery.site(entries),
        entries=lambda: dict(entries),
        facts=lambda: replace(gallery.facts(), started_at=gallery.NOW),
        now=lambda: times["now"],
    )
    with serving(site) as server:
        waiting = ask(server, "/-/ready")
        assert (waiting.status, waiting.text) == (503, "waiting for the first result of 1 of 15 probes\n")
        never = entries.pop("wipe-signer-decrypt")
        assert ask(server, "/-/ready").status == 200
        entries["wipe-signer-decrypt"] = never
        assert ask(server, "/-/ready").status == 200
    with serving(site) as server:
        times["now"] += 60.0
        assert ask(server, "/-/ready").status == 200


def test_ready_does_not_wait_for_a_costly_probe_that_rests_over_a_restart() -> None:
    entries = gallery.entries()
    entries["wipe-signer-decrypt"] = Entry(
        replace(entries["wipe-signer-decrypt"].spec, costly=True), ProbeState(last_run_at=gallery.NOW - 60)
    )
    facts = replace(gallery.facts(), started_at=gallery.NOW)
    site = replace(gallery.site(entries), facts=lambda: facts, now=lambda: gallery.NOW)
    with serving(site) as server:
        assert ask(server, "/-/ready").status == 200


def reloading(outcome: Callable[[Future[ReloadResult]], None]) -> Site:
    def reload() -> Future[ReloadResult]:
        future: Future[ReloadResult] = Future()
        outcome(future)
        return future

    return replace(gallery.site(), reload=reload)


def test_a_reload_is_not_taken_from_another_sites_page_by_its_origin() -> None:
    """Which is all that a browser says to plain http on another host."""
    with serving(reloading(lambda future: future.set_result(ReloadResult(True, "done")))) as server:
        here = f"127.0.0.1:{server.port}"
        for origin in ("http://evil.example", "http://127.0.0.1", f"http://127.0.0.1:{server.port}0", "null", ""):
            assert ask(server, "/-/reload", "POST", Origin=origin).status == 403, origin
        for origin in (f"http://{here}", f"https://{here}"):
            assert ask(server, "/-/reload", "POST", Origin=origin).status == 200
        proxied = {"Origin": "https://ops.example.org", "Sec_Fetch_Site": "same-origin"}
        assert ask(server, "/-/reload", "POST", **proxied).status == 200, "the browser knows, whatever the proxy's Host"
        assert (
            ask(server, "/-/reload", "POST", Origin="http://TOCSIN.example:9760", Host="tocsin.example:9760").status
            == 200
        )


def test_a_reload_says_what_it_did_or_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(reloading(lambda future: future.set_result(ReloadResult(True, "2 probes changed")))) as server:
        answer = ask(server, "/-/reload", "POST")
        assert (answer.status, answer.text) == (200, "2 probes changed\n")
        assert ask(server, "/-/reload", "POST", Sec_Fetch_Site="cross-site").status == 403
        assert ask(server, "/-/reload", "POST", Sec_Fetch_Site="same-origin").status == 200
    with serving(reloading(lambda future: future.set_result(ReloadResult(False, "tocsin.yaml:3: no")))) as server:
        answer = ask(server, "/-/reload", "POST")
        assert (answer.status, answer.text) == (400, "tocsin.yaml:3: no\n")
    with serving(reloading(lambda future: future.set_exception(KeyError("secret")))) as server:
        answer = ask(server, "/-/reload", "POST")
        assert (answer.status, answer.text) == (500, "500 Internal Server Error; the daemon's log says more\n")
    monkeypatch.setattr("tocsin.exposing.handlers.RELOAD_SECONDS", 0.01)
    pending: list[Future[ReloadResult]] = []
    with serving(reloading(pending.append)) as server:
        assert ask(server, "/-/reload", "POST").status == 504
        assert not pending[0].cancelled()
        pending[0].set_result(ReloadResult(True, ""))


def test_an_address_that_is_taken_is_an_error_at_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = WebServer(gallery.site(), "127.0.0.1", taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            server.start()
        server.stop()


def test_an_empty_host_listens_on_ipv4_and_ipv6() -> None:
    server = WebServer(gallery.site(), "", 0)
    server.start()
    try:
        assert ask(server, "/-/healthy").status == 200
        assert server.url == f"http://127.0.0.1:{server.port}"
    finally:
        server.stop()


def test_a_web_config_that_cannot_be_read_is_an_error_at_start(tmp_path: Path) -> None:
    server = WebServer(gallery.site(), "127.0.0.1", 0, tmp_path / "web.yml")
    with pytest.raises(ConfigError, match="cannot be read"):
        server.start()


def users(password: str) -> str:
    return f"basic_auth_users:\n  prometheus: {bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n"


def login(password: str) -> str:
    return "Basic " + base64.b64encode(f"prometheus:{password}".encode()).decode()


def test_basic_authentication_guards_everything_but_liveness(tmp_path: Path) -> None:
    web_config = tmp_path / "web.yml"
    web_config.write_text(users(SECRET))
    with serving(gallery.site(), web_config) as server:
        for path in ("/", "/metrics", "/api/v1/probes", "/static/tocsin.css", "/nope"):
            refused = ask(server, path)
            assert (refused.status, refused.text) == (401, "Unauthorized.\n")
            assert refused.headers["www-authenticate"].startswith("Basic ")
        assert ask(server, "/-/reload", "POST").status == 401
        assert ask(server, "/-/healthy").status == 200
        assert ask(server, "/-/ready").status == 200
        assert ask(server, "/metrics", Authorization=login(SECRET)).status == 200
        assert ask(server, "/metrics", Authorization=login("wrong")).status == 401


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline


def test_users_change_without_a_restart_and_a_bad_file_keeps_the_old_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_WATCH_SECONDS", 0.01)
    web_config = tmp_path / "web.yml"
    web_config.write_text(users("old"))
    with serving(gallery.site(), web_config) as server:
        assert ask(server, "/metrics", Authorization=login("old")).status == 200
        web_config.write_text("basic_auth_users: {prometheus: nonsense}\n")
        until(
            lambda: (
                "tocsin_web_config_last_reload_successful 0" in ask(server, "/metrics", Authorization=login("old")).text
            )
        )
        web_config.write_text(users("new"))
        until(lambda: ask(server, "/metrics", Authorization=login("new")).status == 200)
        assert ask(server, "/metrics", Authorization=login("old")).status == 401
        page = ask(server, "/metrics", Authorization=login("new")).text
        assert "tocsin_web_config_last_reload_successful 1" in page


def test_tls_is_served_and_a_new_certificate_is_picked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_WATCH_SECONDS", 0.01)
    authority = Authority(tmp_path)
    first = authority.issue("server")
    web_config = tmp_path / "web.yml"
    web_config.write_text(
        "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
        "http_server_config:\n  headers:\n    X-Frame-Options: sameorigin\n    Strict-Transport-Security: max-age=600\n"
    )
    with serving(gallery.site(), web_config) as server:
        assert server.url.startswith("https://")
        answer = ask(server, "/-/healthy", tls=authority.client())
        assert answer.status == 200
        assert answer.headers["x-frame-options"] == "sameorigin"
        assert answer.headers["strict-transport-security"] == "max-age=600"
        assert serial(server, authority.client()) == first
        certificate = x509.load_pem_x509_certificate((tmp_path / "server.crt").read_bytes())
        page = ask(server, "/metrics", tls=authority.client()).text
        shown = page.partition("\ntocsin_web_certificate_expiry_timestamp_seconds ")[2].split("\n")[0]
        assert float(shown) == certificate.not_valid_after_utc.timestamp()
        second = authority.issue("server")
        until(lambda: serial(server, authority.client()) == second)
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(server, "/", tls=ssl.create_default_context())


def test_client_certificates_are_verified_and_their_names_compared(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("server")
    authority.issue("prometheus", name="prometheus.example")
    authority.issue("other", name="other.example")
    web_config = tmp_path / "web.yml"
    web_config.write_text(
        "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  client_ca_file: ca.crt\n"
        "  client_auth_type: RequireAndVerifyClientCert\n  client_allowed_sans: [prometheus.example]\n"
        "  min_version: TLS13\n"
    )
    with serving(gallery.site(), web_config) as server:
        assert ask(server, "/metrics", tls=authority.client("prometheus")).status == 200
        assert ask(server, "/metrics", tls=authority.client("other")).status == 403
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(server, "/metrics", tls=authority.client())
        old = authority.client("prometheus")
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(server, "/metrics", tls=old)


def test_certificates_may_stand_in_the_file_itself(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("server")
    web_config = tmp_path / "web.yml"
    lines = ["tls_server_config:"]
    for key, file in (("cert", "server.crt"), ("key", "server.key")):
        lines += [f"  {key}: |", *(f"    {line}" for line in (tmp_path / file).read_text().splitlines())]
    web_config.write_text("\n".join(lines) + "\n")
    with serving(gallery.site(), web_config) as server:
        assert ask(server, "/-/healthy", tls=authority.client()).status == 200


def test_a_certificate_that_cannot_be_loaded_is_an_error_at_start(tmp_path: Path) -> None:
    web_config = tmp_path / "web.yml"
    web_config.write_text("tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n")
    with pytest.raises(ConfigError, match=r"web.yml: tls_server_config: TLS cannot be set up: .*No such file"):
        WebServer(gallery.site(), "127.0.0.1", 0, web_config).start()


def test_it_stops_with_every_connection_closed_though_a_client_never_says_goodbye(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("server")
    web_config = tmp_path / "web.yml"
    web_config.write_text("tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n")
    with warnings.catch_warnings(record=True) as warned, serving(gallery.site(), web_config) as server:
        warnings.simplefilter("always")
        connection = http.client.HTTPSConnection("localhost", server.port, timeout=10, context=authority.client())
        connection.request("GET", "/-/healthy")
        assert connection.getresponse().read()
        server.stop()
        gc.collect()
    connection.close()
    assert [str(warning.message) for warning in warned] == []


def test_it_stops_while_it_answers_one_tls_client_and_another_says_goodbye(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("server")
    web_config = tmp_path / "web.yml"
    web_config.write_text("tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n")
    rendering, ended = threading.Event(), threading.Event()

    def slow() -> dict[str, Entry]:
        rendering.set()
        ended.wait(10)
        return {}

    with serving(replace(gallery.site(), entries=slow), web_config) as server:
        idle = http.client.HTTPSConnection("localhost", server.port, timeout=10, context=authority.client())
        idle.request("GET", "/-/healthy")
        assert idle.getresponse().read()
        scrape = threading.Thread(target=ask, args=(server, "/metrics"), kwargs={"tls": authority.client()})
        scrape.start()
        assert rendering.wait(10)
        server.begin_to_stop()
        assert idle.sock is not None
        assert idle.sock.recv(1) == b""
        idle.close()
        time.sleep(0.1)  # its connection is over before the server has cleaned up
        ended.set()
        scrape.join()


def test_a_certificate_with_a_comment_in_any_encoding_is_served(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("server")
    certificate = tmp_path / "server.crt"
    certificate.write_bytes("Aussteller: Zürich\n".encode("latin-1") + certificate.read_bytes())
    web_config = tmp_path / "web.yml"
    web_config.write_text("tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n")
    with serving(gallery.site(), web_config) as server:
        assert ask(server, "/-/healthy", tls=authority.client()).status == 200


def test_an_end_of_validity_that_cannot_be_read_is_an_error_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "server.crt").write_text("no certificate")
    tls = TlsConfig(cert_file=tmp_path / "server.crt", key_file=tmp_path / "server.key")
    with pytest.raises(ConfigError, match=r"web.yml: tls_server_config: the end of the certificate cannot be read: "):
        expiry(tls, tmp_path / "web.yml")


@pytest.mark.parametrize("surprise", [RuntimeError("nobody foresaw this"), SystemExit(3)])
def test_whatever_keeps_the_server_from_starting_is_told_to_the_one_who_waits(
    surprise: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_: WebServer) -> None:
        raise surprise

    monkeypatch.setattr(WebServer, "_read", read)
    server = WebServer(gallery.site(), "127.0.0.1", 0)
    with pytest.raises(type(surprise)):
        server.start()
    server.stop()


def test_a_look_at_the_certificate_that_fails_in_any_way_is_told_and_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_WATCH_SECONDS", 0.01)
    authority = Authority(tmp_path)
    authority.issue("server")
    web_config = tmp_path / "web.yml"
    web_config.write_text("tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n")
    with serving(gallery.site(), web_config) as server:
        with monkeypatch.context() as broken:
            broken.setattr(server_module, "server_context", lambda *_: 1 / 0)
            second = authority.issue("server")
            until(
                lambda: (
                    "tocsin_web_config_last_reload_successful 0" in ask(server, "/metrics", tls=authority.client()).text
                )
            )
        until(lambda: serial(server, authority.client()) == second)


def serial(server: WebServer, context: ssl.SSLContext) -> str:
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as wrapped,
    ):
        certificate = wrapped.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])

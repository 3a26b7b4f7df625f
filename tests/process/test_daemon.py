"""The daemon as a process, over HTTP: what holds whatever its targets, its probes and its configuration do."""

from __future__ import annotations

import random
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import plugins
from tests.daemon import Daemon, http_probe, write
from tests.targets import Target

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def trouble(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the misbehaving kind and a third party's well-behaved one are installed."""
    return plugins.install(tmp_path_factory.mktemp("plugins"), "tocsin-trouble", "tocsin-example")


def test_liveness_holds_while_every_target_is_down(tmp_path: Path, start: Callable[..., Daemon]) -> None:
    nowhere = Target()
    daemon = start(write(tmp_path / "c.yaml", *(http_probe(f"p{n}", nowhere.url) for n in range(20))))
    daemon.until(lambda: all(p["state"]["alerting"] for p in daemon.probes().values()), "to see all of them down")
    assert daemon.get("/-/healthy")[0] == 200
    assert {p["reason"] for p in daemon.probes().values()} == {"connection_refused"}


def test_a_probe_that_blocks_the_loop_fails_liveness_and_its_stack_is_in_the_log(
    tmp_path: Path, target: Target, trouble: dict[str, str], start: Callable[..., Daemon]
) -> None:
    switch = tmp_path / "block"
    blocker = (
        "  blocker:\n    kind: trouble\n    system: test\n    incident: test\n    way: block\n"
        f"    while_exists: {switch}\n    every: 1s\n    timeout: 500ms\n"
    )
    target.delay = 0.1
    innocent = [f"well{number}" for number in range(20)]
    # Two requests each: what was in flight before the loop stands still has something to do after it.
    url, more = f"{target.url}/elsewhere", "    follow_redirects: true\n"
    # Time enough on a busy machine for all that goes on at once when the loop turns again.
    probes = (http_probe(name, url, every="2s", timeout="1500ms", more=more) for name in innocent)
    config = write(tmp_path / "c.yaml", blocker, *probes)
    daemon = start(config, environment=trouble)
    daemon.until(lambda: all(daemon.probes()[name]["runs"]["ok"] for name in innocent), "to have run them all")
    switch.touch()
    daemon.until(lambda: daemon.get("/-/healthy", timeout=1)[0] == 503, "to say that it is blocked")
    started = time.monotonic()
    status, text = daemon.get("/-/healthy", timeout=1)
    assert (status, time.monotonic() - started < 0.5) == (503, True), text
    assert daemon.get("/metrics", timeout=2)[0] == 200
    switch.unlink()
    daemon.until(lambda: daemon.get("/-/healthy")[0] == 200, "to turn again")
    assert "block_the_loop" in daemon.log.read_text()
    before = {name: probe["runs"]["ok"] for name, probe in daemon.probes().items()}
    daemon.until(lambda: all(daemon.probes()[name]["runs"]["ok"] > before[name] for name in innocent), "to go on")
    assert {name: daemon.probes()[name]["runs"]["failed"] for name in innocent} == dict.fromkeys(innocent, 0)


def test_a_page_of_a_system_of_ones_own_opens_before_and_after_one_is_written(
    tmp_path: Path, start: Callable[..., Daemon]
) -> None:
    own = tmp_path / "pages"
    (own / "test").mkdir(parents=True)
    (own / "test" / "broken.md").write_text("# no front matter\n")
    nowhere = Target()
    daemon = start(
        write(tmp_path / "c.yaml", http_probe("shop-checkout", nowhere.url)),
        environment={"TOCSIN_RUNBOOKS_DIR": str(own)},
    )
    status, made = daemon.get("/runbooks/test/test")
    assert status == 200
    assert 'id="http.connection_refused"' in made
    assert 'id="http.assertion_failed"' in made
    (own / "test" / "test.md").write_text("---\ntitle: Mine\nkinds: [http]\n---\n\n# Mine\n")
    assert "<title>Mine, runbook" in daemon.get("/runbooks/test/test")[1]
    assert daemon.log.read_text().count("broken.md:1: a page begins with front matter") == 1


def test_a_log_that_cannot_be_written_stops_nothing(
    tmp_path: Path, target: Target, start: Callable[..., Daemon]
) -> None:
    nowhere = Target()
    config = write(tmp_path / "c.yaml", http_probe("well", target.url), http_probe("down", nowhere.url))
    daemon = start(config, log_into=Path("/dev/full"), log_level="debug")
    daemon.until(lambda: daemon.probes()["down"]["state"]["alerting"], "to record and judge")
    before = daemon.probes()["well"]["runs"]["ok"]
    daemon.until(lambda: daemon.probes()["well"]["runs"]["ok"] >= before + 3, "to go on probing")
    assert daemon.get("/-/reload", method="POST")[0] == 200
    assert daemon.value("tocsin_state_degraded") == 0
    assert daemon.stop() == 0


@pytest.mark.parametrize("way", ["ignore_cancellation", "exit", "raise", "leak_tasks", "hang_in_thread"])
def test_a_probe_that_misbehaves_does_not_disturb_the_others(
    way: str, tmp_path: Path, target: Target, trouble: dict[str, str], start: Callable[..., Daemon]
) -> None:
    bad = (
        f"  bad:\n    kind: trouble\n    system: test\n    incident: test\n    way: {way}\n"
        "    every: 1s\n    timeout: 500ms\n"
    )
    daemon = start(write(tmp_path / "c.yaml", bad, http_probe("well", target.url)), environment=trouble)

    def well_runs() -> float:
        return daemon.value("tocsin_probe_runs_total", probe="well", outcome="ok") or 0

    daemon.until(lambda: daemon.probes()["bad"]["started_at"], "to have run the bad one")
    before = well_runs()
    daemon.until(lambda: well_runs() >= before + 4, "to go on with the other", 10)
    expected = {
        "ignore_cancellation": ("failed", "timeout"),
        "exit": ("unknown", "probe_error"),
        "raise": ("unknown", "probe_error"),
        "leak_tasks": ("ok", None),
        "hang_in_thread": ("failed", "timeout"),
    }
    assert (daemon.probes()["bad"]["status"], daemon.probes()["bad"]["reason"]) == expected[way]
    started = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - started < 5


def test_it_ends_within_five_seconds_whatever_its_kinds_and_its_readers_do(
    tmp_path: Path, target: Target, trouble: dict[str, str], start: Callable[..., Daemon]
) -> None:
    bad = "".join(
        f"  {way}:\n    kind: trouble\n    system: test\n    incident: test\n    way: {way}\n"
        "    every: 1s\n    timeout: 500ms\n"
        for way in ("ignore_cancellation", "hang_in_thread")
    )
    daemon = start(write(tmp_path / "c.yaml", bad, http_probe("well", target.url)), environment=trouble)
    daemon.until(lambda: all(probe["started_at"] for probe in daemon.probes().values()), "to have run them all")
    with socket.create_connection(("127.0.0.1", daemon.port)) as reader:
        reader.sendall(b"GET /metrics HTTP/1.1\r\nHost: tocsin\r\nContent-Length: 1000\r\n\r\n")
        started = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - started < 5


def test_a_third_partys_kind_is_found_and_runs(
    tmp_path: Path, trouble: dict[str, str], start: Callable[..., Daemon]
) -> None:
    disk = "  disk:\n    kind: disk_space\n    system: test\n    incident: test\n    min_free_percent: 0\n    every: 1s\n    timeout: 500ms\n"
    daemon = start(write(tmp_path / "c.yaml", disk), environment=trouble)
    daemon.until(lambda: daemon.probes()["disk"]["status"] == "ok", "to run it")
    assert (daemon.value("tocsin_disk_free_bytes", probe="disk") or 0) > 0


def test_a_broken_state_file_and_a_disk_that_takes_none_are_told_and_stop_nothing(
    tmp_path: Path, target: Target, start: Callable[..., Daemon]
) -> None:
    daemon = start(write(tmp_path / "c.yaml", http_probe("well", target.url)))

    def told() -> tuple[float | None, float | None]:
        daemon.until(lambda: daemon.probes()["well"]["runs"]["ok"], "to probe")
        return daemon.value("tocsin_state_replaced"), daemon.value("tocsin_state_degraded")

    assert told() == (0, 0)
    daemon.kill()
    (state,) = daemon.state.glob("*.sqlite3")
    for suffix in ("-wal", "-shm"):
        state.with_name(state.name + suffix).unlink(missing_ok=True)
    state.write_bytes(b"not a database" * 1000)
    daemon.start()
    assert told() == (1, 0)
    daemon.kill()
    daemon.start()
    assert told() == (0, 0)
    daemon.kill()
    for file in daemon.state.glob("*.sqlite3*"):
        file.unlink()
    state.mkdir()
    daemon.start()
    assert told() == (1, 1), "it could not be opened, and what it holds is not known"


def due_times(daemon: Daemon) -> dict[str, float]:
    return {name: probe["due_at"] for name, probe in daemon.probes().items()}


def test_a_reload_under_load_keeps_what_did_not_change_and_a_bad_file_changes_nothing(
    tmp_path: Path, target: Target, start: Callable[..., Daemon]
) -> None:
    config = tmp_path / "c.yaml"
    names = [f"p{n:03}" for n in range(200)]

    def probes(changed: str) -> list[str]:
        return [
            http_probe(name, target.url + (changed if number < 50 else ""), every="7s")
            for number, name in enumerate(names)
        ]

    daemon = start(write(config, *probes("")))
    daemon.until(lambda: len([p for p in daemon.probes().values() if p["started_at"]]) == 200, "to run all", 30)
    phase = {name: due % 7 for name, due in due_times(daemon).items()}
    runs = {name: probe["runs"]["ok"] for name, probe in daemon.probes().items()}

    write(config, *probes("/changed"))
    daemon.hang_up()
    daemon.until(
        lambda: "50 changed" in daemon.log.read_text() or '"changed": ["p000"' in daemon.log.read_text(), "to reload"
    )
    after = daemon.probes()
    assert all(after[name]["runs"]["ok"] >= runs[name] for name in names[50:])
    assert all(abs((due % 7) - phase[name]) < 0.001 for name, due in due_times(daemon).items() if name in names[50:])
    assert daemon.value("tocsin_config_last_reload_successful") == 1

    good = config.read_text()
    config.write_text(good.replace("kind: http", "kind: htpp", 1))
    status, text = daemon.get("/-/reload", method="POST")
    assert status == 400
    assert re.search(r"c\.yaml:\d+: probes\.p000\.kind: the kind `htpp` is not installed; did you mean `http`\?", text)
    assert daemon.value("tocsin_config_last_reload_successful") == 0
    assert daemon.probes().keys() == set(names)
    before = daemon.probes()["p199"]["runs"]["ok"]
    daemon.until(lambda: daemon.probes()["p199"]["runs"]["ok"] > before, "to go on probing", 15)

    config.write_text(good)
    assert daemon.get("/-/reload", method="POST")[0] == 200
    assert daemon.value("tocsin_config_last_reload_successful") == 1


@pytest.mark.parametrize("kills", [8, pytest.param(50, marks=pytest.mark.long)])
def test_kills_at_random_moments_forget_nothing_and_invent_nothing(
    tmp_path: Path, target: Target, start: Callable[..., Daemon], kills: int
) -> None:
    nowhere = Target()
    config = write(
        tmp_path / "c.yaml",
        *(http_probe(f"well{n}", target.url, every="500ms", timeout="300ms") for n in range(5)),
        *(http_probe(f"down{n}", nowhere.url, every="500ms", timeout="300ms") for n in range(5)),
    )
    daemon = start(config)
    daemon.until(lambda: all(p["state"]["status"] != "unknown" for p in daemon.probes().values()), "to know them all")
    daemon.until(lambda: sum(p["state"]["alerting"] for p in daemon.probes().values()) == 5, "to alert on those down")
    since = {name: p["state"]["alerting_since"] for name, p in daemon.probes().items()}
    chance = random.Random(20261123)
    for number in range(kills):
        time.sleep(chance.uniform(0, 0.3))
        daemon.kill()
        if number % 3 == 0:
            # Also while it starts: before, during and after it opens its state.
            daemon.start(wait=False)
            time.sleep(chance.uniform(0, 1.5))
            daemon.kill()
        daemon.start()
        states = {name: p["state"] for name, p in daemon.probes().items()}
        assert {name: state["alerting"] for name, state in states.items()} == {
            name: name.startswith("down") for name in states
        }
        assert {name: state["alerting_since"] for name, state in states.items()} == since
    for name in since:
        status, text = daemon.get(f"/api/v1/probes/{name}")
        assert status == 200
        transitions = re.findall(r'"status_before": ?"(\w+)", ?"status": ?"(\w+)"', text)
        assert len(transitions) <= 2, transitions
    assert daemon.value("tocsin_state_writes_failed_total") == 0

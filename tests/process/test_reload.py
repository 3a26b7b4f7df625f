"""What the daemon notices by itself, and what it refuses, as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.daemon import Daemon, http_probe, write
from tests.targets import Target

SOON = {"TOCSIN_RELOAD_EVERY": "100ms"}


def test_a_file_that_was_missing_at_a_reload_is_taken_up_when_it_comes(
    tmp_path: Path, target: Target, start: Callable[..., Daemon]
) -> None:
    config = write(tmp_path / "c.yaml", http_probe("first", target.url))
    daemon = start(config, environment=SOON)
    config.write_text("profiles: [./more.yaml]\n" + config.read_text())
    daemon.until(lambda: daemon.value("tocsin_config_last_reload_successful") == 0, "to refuse it")
    (tmp_path / "more.yaml").write_text("probes:\n" + http_probe("second", target.url))
    daemon.until(lambda: daemon.probes().keys() == {"first", "second"}, "to read the file that came")
    assert daemon.value("tocsin_config_last_reload_successful") == 1
    assert daemon.log.read_text().count("the new configuration is refused") == 1


def test_control_targets_that_cannot_be_read_change_nothing_and_what_follows_is_taken_up(
    tmp_path: Path, target: Target, start: Callable[..., Daemon]
) -> None:
    config = write(tmp_path / "c.yaml", http_probe("first", target.url))
    daemon = start(config, environment=SOON)
    for control in ("http://gw:99999/", "tcp://gw:0", "dns://gw:abc"):
        write(config, http_probe("second", target.url)).write_text(f"controls: ['{control}']\n" + config.read_text())
        assert daemon.get("/-/reload", method="POST")[0] == 400
        assert daemon.value("tocsin_config_last_reload_successful") == 0
        assert daemon.probes().keys() == {"first"}
    write(config, http_probe("second", target.url))
    daemon.until(lambda: daemon.probes().keys() == {"second"}, "to read what is right again")
    daemon.until(lambda: daemon.probes()["second"]["status"] == "ok", "to run it")


def test_another_value_in_the_env_file_is_taken_up(
    tmp_path: Path, target: Target, start: Callable[..., Daemon]
) -> None:
    variables = tmp_path / "platform.env"
    variables.write_text("PLACE=before\n")
    config = write(tmp_path / "c.yaml", http_probe("web", f"{target.url}/${{PLACE}}"))
    config.write_text(f"env_file: {variables}\n" + config.read_text())
    daemon = start(config, environment=SOON)
    variables.write_text("PLACE=after\n")
    daemon.until(lambda: '"changed": ["web"]' in daemon.log.read_text(), "to read it again")


def test_the_swap_of_a_mounted_configmap_is_taken_up(
    tmp_path: Path, target: Target, start: Callable[..., Daemon]
) -> None:
    """Kubernetes mounts ``..data`` as a link to a dated folder and renames another link over it."""
    mount = tmp_path / "mount"
    for version, probes in (("..one", ["a"]), ("..two", ["a", "b"])):
        (mount / version).mkdir(parents=True)
        write(mount / version / "tocsin.yaml", *(http_probe(name, target.url) for name in probes))
    (mount / "..data").symlink_to("..one")
    (mount / "tocsin.yaml").symlink_to("..data/tocsin.yaml")
    daemon = start(mount / "tocsin.yaml", environment=SOON)
    assert daemon.probes().keys() == {"a"}
    (mount / "..data_tmp").symlink_to("..two")
    os.replace(mount / "..data_tmp", mount / "..data")
    daemon.until(lambda: daemon.probes().keys() == {"a", "b"}, "to see the swap")


def test_a_second_daemon_on_the_same_state_folder_ends_at_once_and_says_why(
    tmp_path: Path, target: Target, start: Callable[..., Daemon]
) -> None:
    config = write(tmp_path / "c.yaml", http_probe("web", target.url))
    daemon = start(config)
    environment = {**os.environ, "TOCSIN_STATE_DIR": str(daemon.state), "TOCSIN_LISTEN": "127.0.0.1:0"}
    second = subprocess.run(
        [sys.executable, "-m", "tocsin.cli", "run", "--config", str(config)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert second.returncode == 2
    assert second.stderr.splitlines()[-1] == (
        f"{daemon.state}: TOCSIN_STATE_DIR: another tocsin uses it, process {daemon.pid}; "
        "give each daemon a folder of its own"
    )
    daemon.kill()
    assert daemon.start().probes().keys() == {"web"}

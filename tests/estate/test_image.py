"""The image is built for real, and runs from its root filesystem: read-only, as nobody in particular, with no capability."""

from __future__ import annotations

import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from estate.image import Image, Mount
from estate.ports import reserve_port
from tests.chart.rendering import only, rendered
from tests.targets import Target
from tocsin import __version__

# Building takes a minute or two; the limit of a test counts its fixtures too.
pytestmark = [pytest.mark.estate, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
WRITES = """
import errno, os, sys
for path in sys.argv[1:]:
    try:
        with open(os.path.join(path, "written"), "w") as file:
            file.write("x")
        print(path, "written")
    except OSError as error:
        print(path, errno.errorcode[error.errno])
"""


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    with Image(ROOT) as made:
        yield made


def said(image: Image, *arguments: str, program: tuple[str, ...] | None = None) -> str:
    done = subprocess.run(
        image.command(arguments, program=program), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_image_says_who_runs_it(image: Image) -> None:
    assert image.configuration["User"] == "65532:65532"
    assert image.configuration["Entrypoint"] == ["tocsin"]
    assert set(image.configuration["Volumes"]) == {"/var/lib/tocsin"}


def test_it_tells_its_version(image: Image) -> None:
    assert said(image, "--version") == f"tocsin {__version__}\n"


def test_it_carries_its_data(image: Image) -> None:
    assert "wipe-keycloak-db" in said(image, "plan", "--profile", "wipe", "--json")
    assert "oidc_realm" in said(image, "kinds")
    assert said(image, "runbook", "wipe/keycloak-outage")


def test_nothing_but_state_and_temporary_files_can_be_written(image: Image) -> None:
    places = ("/", "/etc", "/opt/tocsin", "/opt/tocsin/bin", "/var/lib/tocsin", "/tmp")
    found = dict(line.split() for line in said(image, "-c", WRITES, *places, program=("python3",)).splitlines())
    assert found == {**dict.fromkeys(places, "EROFS"), "/var/lib/tocsin": "written", "/tmp": "written"}


def test_what_runs_belongs_to_root_and_brings_no_installer(image: Image) -> None:
    tree = list((image.root / "opt" / "tocsin").rglob("*"))
    assert tree
    assert all(path.lstat().st_uid == 0 for path in tree)
    names = {path.name for path in tree}
    assert "tocsin" in names
    assert not names & {"pip", "pip3", "hatchling", "pytest"}
    # Compiled when it was built: a root that cannot be written to would have it compiled at each start.
    assert (next((image.root / "opt/tocsin/lib").iterdir()) / "site-packages/tocsin/__pycache__").is_dir()


def test_nothing_of_the_build_is_left_in_it(image: Image) -> None:
    for path in ("etc/pip.conf", "wheels", "src", "opt/build", "root/.config/pip", "root/.cache"):
        assert not (image.root / path).exists(), path


def test_what_is_pinned_is_what_is_in_it(image: Image) -> None:
    pinned = set(re.findall(r"^([\w.-]+==\S+)", (ROOT / "requirements/runtime.txt").read_text(), re.MULTILINE))
    list_all = "import importlib.metadata as m\nfor d in m.distributions(): print(d.name.lower() + '==' + d.version)"
    found = {
        re.sub(r"[-_.]+", "-", line)
        for line in said(image, "-c", list_all, program=("/opt/tocsin/bin/python",)).split()
    }
    elsewhere = found - {re.sub(r"[-_.]+", "-", each) for each in pinned}
    assert elsewhere == {re.sub(r"[-_.]+", "-", f"tocsin=={__version__}")}


def test_the_daemon_runs_from_it_and_ends_when_asked(image: Image, tmp_path: Path) -> None:
    port = reserve_port()
    configuration = tmp_path / "tocsin"
    configuration.mkdir()
    with Target() as target:
        (configuration / "tocsin.yaml").write_text(
            "version: 1\nprobes:\n"
            f"  own: {{kind: http, system: own, incident: own, url: '{target.url}', every: 1s, timeout: 500ms}}\n"
        )
        command = image.command(
            environment={"TOCSIN_LISTEN": f"127.0.0.1:{port}"}, mounts=[Mount(configuration, "/etc/tocsin")]
        )
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as daemon:
            try:
                for path in ("/-/healthy", "/-/ready"):
                    until(lambda path=path: get(port, path)[0] == 200, path)
                until(lambda: 'tocsin_probe_last_ok_timestamp_seconds{probe="own"}' in get(port, "/metrics")[1], "ok")
                status = dict(
                    line.split(":\t", 1)
                    for line in Path(f"/proc/{daemon.pid}/status").read_text().splitlines()
                    if ":\t" in line
                )
                assert set(status["Uid"].split()) == {"65532"}
                assert status["NoNewPrivs"] == "1"
                assert {int(status[f"Cap{which}"], 16) for which in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {0}
                daemon.send_signal(signal.SIGTERM)
                told, _ = daemon.communicate(timeout=20)
            finally:
                daemon.kill()
        assert daemon.returncode == 0, told
        assert "Traceback" not in told


def test_what_the_chart_starts_runs(image: Image, tmp_path: Path) -> None:
    """Arguments, variables and configuration as the chart renders them by default; only the port is another one."""
    port = reserve_port()
    objects = rendered()
    (container,) = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    folder = tmp_path / "tocsin"
    folder.mkdir()
    (folder / "tocsin.yaml").write_text(only(objects, "ConfigMap")["data"]["tocsin.yaml"])
    variables = {each["name"]: each["value"] for each in container["env"]}
    command = image.command(
        container["args"],
        environment={**variables, "TOCSIN_LISTEN": f"127.0.0.1:{port}"},
        mounts=[Mount(folder, "/etc/tocsin")],
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as daemon:
        try:
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                path = container[probe]["httpGet"]["path"]
                until(lambda path=path: get(port, path)[0] == 200, path)
            daemon.send_signal(signal.SIGTERM)
            told, _ = daemon.communicate(timeout=20)
        finally:
            daemon.kill()
    assert daemon.returncode == 0, told


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def until(condition: Callable[[], object], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)

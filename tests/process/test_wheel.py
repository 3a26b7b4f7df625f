"""The wheel is complete: what `pip install` brings works alone, without a checkout beside it.

It is installed into a fresh environment, which finds the pinned dependencies where this one has them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = {"profiles": "*.yaml", "alerts": "**/*.yaml", "runbooks": "**/*.md", "dashboards": "*.json", "drills": "*.yaml"}


# Nothing of this process leads back to the checkout.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TOCSIN"))}


def run(*command: str | Path, cwd: Path, status: int = 0) -> str:
    done = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status, f"{done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a new environment's executables, with the wheel installed."""
    folder = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    (packages,) = (folder / "lib").glob("python3.*/site-packages")
    # A path alone: the .pth files that lie there, such as that of an editable tocsin, are not read.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_every_file_of_the_data_is_in_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, pattern in DATA.items():
        wanted = {f"tocsin/data/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / folder).glob(pattern)}
        assert wanted <= names, folder
        assert folder == "drills" or wanted, folder


def test_nothing_else_is_in_the_wheel(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    packages = {"tocsin", "tocsin_probes", "tocsin_chain", "tocsin_sandbox"}
    assert {top for top in tops if not top.endswith(".dist-info")} == packages
    code = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("tocsin/data/")}
    assert not {name for name in code if name.endswith(".py")}


def test_the_image_gets_what_the_wheel_is_made_of() -> None:
    """.dockerignore lets in by name: what is not named there is not there when the image builds the wheel."""
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {Path(name).parts[0] for name in (*wheel["packages"], *wheel["force-include"])}
    assert needed | {"pyproject.toml", "README.md", "LICENSE"} <= allowed


def test_it_runs_from_where_it_was_installed(fresh: Path, tmp_path: Path) -> None:
    code = "import tocsin, tocsin_probes, tocsin.data; print(tocsin.__file__, tocsin_probes.__file__, tocsin.data.folder('alerts'))"
    for place in run(fresh / "python", "-c", code, cwd=tmp_path).split():
        assert Path(place).is_relative_to(fresh.parent), place


def test_its_rules_fit_its_pages_and_probes(fresh: Path, tmp_path: Path) -> None:
    assert run(fresh / "tocsin", "rules", "lint", cwd=tmp_path) == "ok\n"


def test_it_plans_a_bundled_profile(fresh: Path, tmp_path: Path) -> None:
    rows = [
        json.loads(line)
        for line in run(fresh / "tocsin", "plan", "--profile", "wipe", "--json", cwd=tmp_path).splitlines()
    ]
    assert "wipe-keycloak-db" in {row["name"] for row in rows}


def test_it_knows_its_kinds(fresh: Path, tmp_path: Path) -> None:
    told = run(fresh / "tocsin", "kinds", cwd=tmp_path)
    assert all(kind in told for kind in ("http", "oidc_realm", "s3_bucket", "hash_chain"))


def test_it_exports_its_rules(fresh: Path, tmp_path: Path) -> None:
    run(fresh / "tocsin", "rules", "export", "rules", "--public-url", "https://tocsin.example.com", cwd=tmp_path)
    assert "https://tocsin.example.com/runbooks/" in (tmp_path / "rules" / "wipe.yaml").read_text()


def test_it_practises(fresh: Path, tmp_path: Path) -> None:
    """The sandbox of the extra: its servers start, every probe runs once and is told of, and then it ends. How well they
    are on the untouched estate is for tests/estate/test_sandbox_faults.py."""
    command = [fresh / "tocsin", "sandbox", "--once"]
    done = subprocess.run(
        command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=240, check=False
    )
    outcomes = {row["probe"]: row for row in map(json.loads, done.stdout.splitlines())}
    # On a loaded machine some take longer than they may; what a wheel could lack would fail every one of a kind.
    ran = {row["kind"] for row in outcomes.values() if row["status"] == "ok" or row["reason"] == "timeout"}
    assert {"postgres", "oidc_realm", "s3_bucket", "job_queue", "http"} <= ran, done.stderr[-2000:]
    assert len(outcomes) > 50
    assert (done.returncode == 0) == all(row["status"] == "ok" for row in outcomes.values())
    assert not [name for name, row in outcomes.items() if row["reason"] == "probe_error"]

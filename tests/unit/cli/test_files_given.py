"""Files that are given and cannot be read or written: one line, exit code 2, nothing lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tocsin.cli import drill as command
from tocsin.cli.application import app
from tocsin.paging.drills.catalogue import Drill
from tocsin.paging.drills.judging import Verdict


@pytest.mark.parametrize(
    "arguments",
    [
        ("inhibitions", "--profile", "wipe", "--alerts"),
        ("rules", "lint", "--alerts"),
        ("rules", "lint", "--alert-tests"),
    ],
)
def test_a_rule_file_that_is_not_there_is_told_in_one_line(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*arguments, "missing.yaml"], env={"TOCSIN_CONFIG": ""})
    name = " ".join(word for word in arguments[:2] if word in ("inhibitions", "rules", "lint"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"tocsin {name}: cannot read missing.yaml: No such file or directory\n"


def test_a_report_that_cannot_be_written_is_told_before_anything_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def drilled(*_: object) -> list[Verdict]:
        raise AssertionError("nothing is to be drilled")

    monkeypatch.setattr(command, "_on_the_sandbox", drilled)
    result = CliRunner().invoke(app, ["drill", "bucket-deleted", "--junit", str(tmp_path / "none" / "junit.xml")])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"tocsin drill: cannot write {tmp_path}/none/junit.xml: No such file or directory\n"


def test_results_are_printed_also_when_the_report_cannot_be_written_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()

    async def drilled(drills: list[Drill], *_: object) -> list[Verdict]:
        assert list(folder.iterdir()) == []
        shutil.rmtree(folder)
        return [Verdict(each, (), 4.0, 5.0) for each in drills]

    monkeypatch.setattr(command, "_on_the_sandbox", drilled)
    result = CliRunner().invoke(app, ["drill", "bucket-deleted", "--json", "--junit", str(folder / "junit.xml")])
    assert result.exit_code == 2
    assert json.loads(result.stdout)["passed"] == 1
    assert f"cannot write {folder}/junit.xml" in result.stderr

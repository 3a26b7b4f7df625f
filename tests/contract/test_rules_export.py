"""`tocsin rules export`: the shipped rules with the user's addresses and limits."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tocsin.cli.application import app


def export(folder: Path, *options: str) -> dict[str, str]:
    result = CliRunner().invoke(app, ["rules", "export", str(folder), *options])
    assert result.exit_code == 0, result.output
    return {file.name: file.read_text() for file in folder.iterdir()}


def test_addresses_are_filled_in(tmp_path: Path) -> None:
    texts = export(tmp_path, "--public-url", "https://t.example/", "--grafana-url", "https://g.example")
    assert "https://t.example/runbooks/{{ $labels.system }}/" in texts["wipe.yaml"]
    assert "https://g.example/d/tocsin-probe?" in texts["wipe.yaml"]
    assert "localhost" not in texts["wipe.yaml"]


def test_a_limit_is_replaced_where_it_stands_once_and_nothing_else_is(tmp_path: Path) -> None:
    before = export(tmp_path / "a")["tocsin.yaml"].splitlines()
    after = export(tmp_path / "b", "--limit", "stalled_seconds=120", "--limit", "loop_lag_ratio=0.25")
    changed = [new.strip() for old, new in zip(before, after["tocsin.yaml"].splitlines(), strict=True) if old != new]
    assert changed == ["expr: vector(120)", "expr: vector(0.25)"]


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("stalled=120", "there is no limit 'stalled'; there are certificate_seconds, loop_lag_ratio, "),
        ("stalled_seconds", "--limit stalled_seconds: write NAME=NUMBER, such as stalled_seconds=120"),
        ("stalled_seconds=soon", "--limit stalled_seconds=soon: write NAME=NUMBER"),
        ("slo_objective=0.9", "there is no limit 'slo_objective'"),
        *((f"stalled_seconds={number}", "a limit is a number above 0") for number in ("nan", "inf", "-1", "0")),
    ],
)
def test_a_limit_that_is_none_is_refused_and_nothing_is_written(tmp_path: Path, limit: str, said: str) -> None:
    result = CliRunner().invoke(app, ["rules", "export", str(tmp_path / "out"), "--limit", limit])
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/none/rules"])
def test_where_nothing_can_be_written_is_told_in_one_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    result = CliRunner().invoke(app, ["rules", "export", str(tmp_path / place)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("tocsin rules export: cannot write /")
    assert len(result.stderr.splitlines()) == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_burn_rate_rules_are_for_those_who_ask(tmp_path: Path) -> None:
    assert "slo.yaml" not in export(tmp_path / "a")
    texts = export(tmp_path / "b", "--slo", "--limit", "slo_objective=0.995", "--docs-url", "https://d.example")
    assert "expr: vector(0.995)" in texts["slo.yaml"]
    assert "https://d.example/tocsin/error-budget#burning-fast" in texts["slo.yaml"]

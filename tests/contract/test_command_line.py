"""The command line is an interface: its commands, options, exit codes and what it says when something is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from tests.targets import Target
from tocsin.cli import app

pytestmark = pytest.mark.thorough

HELP = Path(__file__).parent / "command_line.txt"
"""Every command with its options. Renaming one is a breaking change; after a wanted change: REGENERATE below."""


@pytest.fixture
def target() -> Iterator[Target]:
    with Target() as found:
        yield found


def commands() -> Iterator[tuple[str, Any]]:
    def below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        yield name, command
        if isinstance(command, TyperGroup):
            for inner in command.list_commands(typer.Context(command)):
                yield from below(f"{name} {inner}", command.get_command(typer.Context(command), inner))

    yield from below("tocsin", typer.main.get_command(app))


def listing() -> str:
    lines = []
    for name, command in commands():
        arguments = [f"[{each.name}]" for each in command.params if each.param_type_name == "argument"]
        options = [opt for each in command.params if each.param_type_name == "option" for opt in each.opts]
        lines.append(" ".join([name, *arguments, *sorted(options)]))
    return "\n".join(lines) + "\n"


def tocsin(*arguments: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tocsin.cli", *arguments]
    # A sandbox that runs on this machine is known by a file in the folder for temporary ones.
    environment = {**os.environ, **({"TMPDIR": str(cwd)} if cwd is not None else {}), **variables}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=cwd, env=environment)


def configured(folder: Path, *urls: str) -> str:
    declared = "".join(
        f"  web{number}: {{kind: http, system: s, incident: i, url: '{url}', timeout: 2s}}\n"
        for number, url in enumerate(urls)
    )
    (folder / "tocsin.yaml").write_text(f"version: 1\nprobes:\n{declared}")
    return str(folder / "tocsin.yaml")


def test_the_commands_and_their_options_are_those_that_users_know() -> None:
    assert listing() == HELP.read_text("utf-8")


@pytest.mark.parametrize("name", [name for name, command in commands() if not isinstance(command, TyperGroup)])
def test_a_command_says_what_it_does_and_shows_an_example(name: str) -> None:
    command = dict(commands())[name]
    assert command.help, name
    assert "Example" in command.help, name


def test_help_is_printed_for_every_command() -> None:
    for name, _ in commands():
        result = CliRunner().invoke(app, [*name.split()[1:], "--help"])
        assert result.exit_code == 0, name
        assert "Usage:" in result.output


def test_probe_ends_with_what_the_worst_status_asks_for(tmp_path: Path, target: Target) -> None:
    down = "http://127.0.0.1:1/"
    configured(tmp_path, target.url, down)
    assert tocsin("probe", "web0", cwd=tmp_path).returncode == 0
    both = tocsin("probe", "--json", cwd=tmp_path)
    assert both.returncode == 1
    found = {line["probe"]: line for line in map(json.loads, both.stdout.splitlines())}
    assert {name: (line["status"], line["reason"]) for name, line in found.items()} == {
        "web0": ("ok", None),
        "web1": ("failed", "connection_refused"),
    }
    assert list(found["web1"]) == [
        "probe", "kind", "system", "incident", "vantage", "status", "reason", "detail", "started_at",
        "duration_seconds", "trace_id", "request_id", "measurements", "findings", "runbook",
    ]  # fmt: skip
    assert found["web1"]["runbook"] == "s/i#http.connection_refused"
    text = (tmp_path / "tocsin.yaml").read_text()
    (tmp_path / "tocsin.yaml").write_text(text + "controls: ['tcp://127.0.0.1:1']\n")
    assert tocsin("probe", "web1", cwd=tmp_path).returncode == 3


@pytest.mark.parametrize("command", ["plan", "probe"])
def test_a_command_looks_from_the_vantage_of_its_process(command: str, tmp_path: Path) -> None:
    path = configured(tmp_path, "http://127.0.0.1:1/")
    ended = tocsin(command, "--config", path, "--json", TOCSIN_VANTAGE="edge-network")
    assert json.loads(ended.stdout)["vantage"] == "edge-network"


@pytest.mark.parametrize("command", ["run", "check", "plan", "probe"])
def test_what_cannot_be_used_ends_with_2_and_one_line_that_says_why(command: str, tmp_path: Path) -> None:
    path = configured(tmp_path, "http://127.0.0.1:1/")
    Path(path).write_text(Path(path).read_text().replace("timeout", "timeuot"))
    ended = tocsin(command, "--config", path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"{path}:3: probes.web0.timeuot: unknown key; did you mean `timeout`?\n"


def test_check_says_how_many_probes_it_found(tmp_path: Path) -> None:
    ended = tocsin("check", "--config", configured(tmp_path, "http://127.0.0.1:1/", "http://127.0.0.1:2/"))
    assert (ended.returncode, ended.stdout) == (0, "ok: 2 probes\n")


def test_a_command_loads_only_what_it_needs(tmp_path: Path) -> None:
    config = configured(tmp_path, "http://127.0.0.1:1/")
    script = (
        f"import sys; sys.argv = ['tocsin', 'check', '--config', {config!r}]\n"
        "from tocsin.cli import app\n"
        "try:\n    app()\n"
        "finally:\n    print(sorted({'tocsin_chain', 'tocsin.daemon', 'tocsin.exposing', 'aiobotocore'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (0, "[]"), ended.stderr


def test_without_a_configuration_it_says_what_to_give(tmp_path: Path) -> None:
    ended = tocsin("check", cwd=tmp_path)
    assert ended.returncode == 2
    assert "--config FILE or --profile NAME" in " ".join(ended.stderr.replace("│", " ").split())


def test_a_probe_that_is_not_there_is_answered_with_the_nearest(tmp_path: Path) -> None:
    ended = tocsin("probe", "--config", configured(tmp_path, "http://127.0.0.1:1/"), "web9")
    assert ended.returncode == 2
    assert ended.stderr == "tocsin probe: there is no probe `web9`; did you mean `web0`?\n"


def test_a_page_of_ones_own_is_shown_and_one_that_nobody_has_written_is_made(tmp_path: Path) -> None:
    config, pages = configured(tmp_path, "http://127.0.0.1:1/"), tmp_path / "pages"
    made = tocsin("runbook", "s/i", "--config", config)
    assert made.returncode == 0, made.stderr
    assert "TOCSIN_RUNBOOKS_DIR" in made.stdout
    (pages / "s").mkdir(parents=True)
    (pages / "s" / "i.md").write_text("---\ntitle: Mine\n---\n\n# Mine\n\nCall Ada.\n")
    mine = tocsin("runbook", "s/i", TOCSIN_RUNBOOKS_DIR=str(pages))
    assert (mine.returncode, "Call Ada." in mine.stdout) == (0, True)
    (pages / "s" / "i.md").write_text("# Mine\n")
    broken = tocsin("runbook", "s/i", TOCSIN_RUNBOOKS_DIR=str(pages))
    assert (broken.returncode, broken.stdout) == (2, "")
    assert broken.stderr.startswith(f"tocsin runbook: {pages}/s/i.md:1: ")
    for command in ("runbook", "run"):
        gone = tocsin(command, "--config", config, TOCSIN_RUNBOOKS_DIR=str(tmp_path / "gone"))
        assert gone.returncode == 2
        assert f"{tmp_path}/gone" in gone.stderr
        assert len(gone.stderr.splitlines()) == 1


if __name__ == "__main__":
    HELP.write_text(listing(), "utf-8")  # REGENERATE: python -m tests.contract.test_command_line


def test_a_runbook_page_has_the_readers_own_probes_and_values(tmp_path: Path) -> None:
    """Also where the configuration cannot be read: then as it was shipped, and the reason on standard error."""
    (tmp_path / "mine.yaml").write_text(
        "version: 1\nprobes:\n  wipe-api: {kind: http, system: wipe, incident: api-outage, url: 'https://mine.example/healthz'}\n"
    )
    mine = tocsin("runbook", "api-outage", "--config", "mine.yaml", cwd=tmp_path)
    assert "https://mine.example/healthz" in mine.stdout
    assert "wipe-api-ready  " not in mine.stdout
    plain = tocsin("runbook", "api-outage", cwd=tmp_path)
    assert "{wipe-api.url}" in plain.stdout
    assert "wipe-api-ready  " in plain.stdout
    broken = tocsin("runbook", "api-outage", "--config", "none.yaml", cwd=tmp_path)
    assert (broken.returncode, broken.stdout) == (0, plain.stdout)
    assert broken.stderr.startswith("tocsin runbook: shown without your values: ")

"""The commands of the runbook pages can be pasted: a shell parses each, whatever values are filled in."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tocsin.runbooks import find_page, list_pages
from tocsin.runbooks.filling import PLACE

PROGRAMS = {
    "amtool", "aws", "cast", "curl", "cut", "date", "df", "dig", "du", "echo", "file", "getent", "grep",
    "grpc_health_probe", "helm", "ip", "journalctl", "kubectl", "logcli", "ls", "lsof", "openssl", "pdfsig",
    "pg_isready", "printf", "promtool", "psql", "sqlite3", "ss", "stat", "systemctl", "time", "tocsin", "vault",
}  # fmt: skip
ROOT = Path(__file__).parents[2]
HOSTILE = shlex.quote('it\'s "here"; $(touch /nowhere) `x`')


def commands(text: str) -> Iterator[str]:
    """Fenced shell, and code in the text that begins with a program's name and has arguments."""
    for token in MarkdownIt().enable("table").parse(text):
        if token.type == "fence" and token.info == "sh":
            yield token.content
        for child in token.children or ():
            program, _, arguments = child.content.partition(" ")
            if child.type == "code_inline" and program in PROGRAMS and arguments:
                yield child.content


@pytest.mark.parametrize("name", list_pages(), ids="/".join)
def test_a_shell_takes_every_command_of_a_page(name: tuple[str, str]) -> None:
    page = find_page(*name)
    assert page is not None
    found = [PLACE.sub(HOSTILE, command) for command in commands(page.text)]
    assert found
    script = "\n".join(f"if false; then\n{command}\nfi" for command in found)
    told = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False, timeout=30)
    assert told.stderr == ""


def test_what_is_looked_for_in_the_daemons_log_is_said_there() -> None:
    sought = re.compile(r"(?:-u tocsin|deploy/tocsin --previous) \| grep (?:-\S+ )?'([^']+)'")
    source = "\n".join(path.read_text() for path in (ROOT / "src" / "tocsin").rglob("*.py"))
    page = find_page("tocsin", "tocsin-itself")
    assert page is not None
    assert len(found := sought.findall(page.own)) >= 2
    assert [text for text in found if text not in source] == []
    assert not re.search(r"-u tocsin \| grep [^'-]", page.own), "quoted, so that it is held to the source"


def test_quotes_around_a_value_would_be_noticed() -> None:
    script = PLACE.sub(HOSTILE, "psql -c 'SELECT 1 FROM {wipe-db.dsn}'")
    assert subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False).returncode != 0


def test_no_page_asks_for_a_value_that_the_probe_knows() -> None:
    """Names in capitals that were once placeholders of the reader's to fill in."""
    asked = re.compile(r"\b(?:SIGNER_HEALTH_URL|METADATA_URL|JWKS_URL|HEALTH_URL|PROVIDER_URL|NAMESPACE)\b")
    for name in list_pages():
        page = find_page(*name)
        assert page is not None
        assert [command for command in commands(page.own) if asked.search(command)] == [], name

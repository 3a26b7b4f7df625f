"""``tocsin plan``: what is missing and what is not checked, each variable once and with words."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tocsin.cli.application import app
from tocsin.cli.plan import _difference
from tocsin.config import PlannedProbe
from tocsin.config.describing import planned_document


@pytest.fixture(scope="module")
def lines() -> list[str]:
    result = CliRunner().invoke(app, ["plan", "--profile", "wipe"], env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def of(lines: list[str], variable: str) -> list[str]:
    return [line for line in lines if line.split()[:1] == [variable]]


def test_a_contract_is_listed_once_with_what_would_close_it_and_all_that_wait_for_it(lines: list[str]) -> None:
    (line,) = of(lines, "TOCSIN_WIPE_DLQ_TABLE")
    assert "A table such as dead_letter_jobs, jobs_dlq, job_dlq, dlq." in line
    following = lines[lines.index(line) :]
    assert "wipe-dead-letters: dead_letters.table" in " ".join(following[:4])
    assert "wipe-replay-ineligible: query" in " ".join(following[:4])


def test_what_is_not_checked_while_a_variable_is_unset_has_a_part_of_its_own(lines: list[str]) -> None:
    (begin,) = [number for number, line in enumerate(lines) if line.endswith("Not checked is:")]
    for variable, words in (
        ("KEYCLOAK_EXAWIPE_AUDIENCE", ""),
        ("TOCSIN_WIPE_EXPECTED_BUCKET_PROOFS", ""),
        ("TOCSIN_WIPE_VERIFICATION_LOG_SOURCE_COLUMN", "such as source_ip, ip, ip_address, client_ip."),
        ("TOCSIN_WIPE_SIGNER_TIMEOUT", ""),
    ):
        (line,) = of(lines[begin:], variable)
        assert words in line
        assert of(lines[:begin], variable) == []


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://ada:hunter22@127.0.0.1:1/below/", "http://127.0.0.1:1/below"),
        ("http://ada:hunter%2F22@[::1", "the address that was given"),
        ("ada:hunter22@127.0.0.1:1", "the address that was given"),
        ("gopher://ada:hunter22@127.0.0.1:1", "gopher://127.0.0.1:1"),
        ("http://127.0.0.1:1/", "http://127.0.0.1:1"),
        ("127.0.0.1:1", "127.0.0.1:1"),
    ],
)
def test_the_password_of_the_address_stays_in_when_nobody_answers_there(address: str, shown: str) -> None:
    result = CliRunner().invoke(app, ["plan", "--profile", "wipe", "--against", address])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"tocsin plan: no tocsin daemon answers at {shown}: ")
    assert "hunter" not in result.output


def test_a_live_drill_keeps_the_passwords_of_its_addresses_in() -> None:
    options = (
        "--public-url",
        "http://ada:hunter22@127.0.0.1:1",
        "--alertmanager-url",
        "http://bob:hunter33@127.0.0.1:1",
    )
    result = CliRunner().invoke(app, ["drill", "--live", *options])
    assert result.exit_code == 2
    assert "the Alertmanager at http://127.0.0.1:1 does not answer" in result.stderr
    assert "hunter" not in result.output


def test_what_looks_like_markup_is_shown_as_it_is(tmp_path: Path) -> None:
    config = tmp_path / "tocsin.yaml"
    config.write_text(
        "version: 1\nprobes:\n"
        "  six: {kind: http, system: shop, incident: down, url: 'http://[fd00::5]:8080/healthz'}\n"
        "  key: {kind: http, system: shop, incident: down, url: 'http://h/', headers: {'X[bold]': 'Bearer ${TOKEN}'}}\n"
        "  off: {kind: http, system: shop, incident: down, url: 'http://h/', "
        "policy: {applies: false, because: 'the [red] line :on: hold'}}\n"
    )
    shown = (
        CliRunner().invoke(app, ["plan", "--config", str(config)], env={"COLUMNS": "300", "TOKEN": "hunter22"}).output
    )
    for expected in ("http://[fd00::5]:8080", "headers.X[bold]: ", "the [red] line :on: hold"):
        assert expected in shown


def test_a_difference_shows_targets_as_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    row = describe_one("http://[fd00::5]:8080")
    before = {**planned_document(row), "targets": ["http://[fd00::6]:8080"]}
    _difference((row,), {"six": before, "gone": {"kind": "[b]"}})
    shown = capsys.readouterr().out
    assert "~ six  targets: ['http://[fd00::6]:8080'] → ['http://[fd00::5]:8080']" in shown
    assert "- gone  [b]" in shown


def describe_one(target: str) -> PlannedProbe:
    known = {field.name: "" for field in fields(PlannedProbe)}
    return PlannedProbe(**{**known, "name": "six", "targets": (target,), "secrets": ()})  # type: ignore[arg-type]

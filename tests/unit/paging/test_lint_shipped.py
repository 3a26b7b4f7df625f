"""What is shipped fits together, and nothing can be taken away from it unnoticed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tocsin.cli.application import app
from tocsin.cli.rules import shipped_subject
from tocsin.config.errors import Problem
from tocsin.paging.lint import Subject, coverage, lint, pages, series
from tocsin.runbooks import Page, find_page, list_pages, read_page

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).parents[3]
RUNBOOKS = ROOT / "runbooks"
SHARED = (RUNBOOKS / "reasons.md").read_text()
Check = Callable[[Subject], Iterable[Problem]]
SECTIONS = (pages.every_reason_has_its_section, pages.documented_sections_exist)


@pytest.fixture(scope="module")
def shipped() -> Subject:
    return shipped_subject()


@pytest.fixture(scope="module")
def known_problems(shipped: Subject) -> frozenset[Problem]:
    """Empty, unless `test_what_is_shipped_fits_together` fails."""
    return frozenset(lint(shipped))


def shipped_pages() -> Iterator[Page]:
    for name in list_pages(RUNBOOKS):
        page = find_page(*name, RUNBOOKS)
        assert page is not None
        yield page


def headings() -> Iterator[tuple[str, str, str]]:
    """(system, incident, code) of every reason that some page has a section of its own for."""
    for page in shipped_pages():
        for heading in page.headings:
            for code in heading.reasons:
                yield page.system, page.incident, code


def shared_reasons() -> list[str]:
    return [code for line in SHARED.splitlines() if line.startswith("### ") for code in re.findall(r"`(\w+)`", line)]


def test_what_is_shipped_fits_together() -> None:
    result = CliRunner().invoke(app, ["rules", "lint"])
    assert (result.stdout, result.exit_code) == ("ok\n", 0)


@pytest.mark.parametrize(("system", "incident", "code"), list(headings()))
def test_a_reason_heading_that_is_taken_away_is_missed(
    shipped: Subject, known_problems: frozenset[Problem], system: str, incident: str, code: str
) -> None:
    text = (RUNBOOKS / system / f"{incident}.md").read_text()
    without = re.sub(rf"^(### .*)`{re.escape(code)}`", r"\1", text, count=1, flags=re.MULTILINE)
    assert without != text
    page = read_page(system, incident, without, SHARED)
    found = new_problems(replace(shipped, pages={**shipped.pages, (system, incident): page}), known_problems, SECTIONS)
    assert any(problem.key == code for problem in found)


@pytest.mark.parametrize("reason", shared_reasons())
def test_a_shared_reason_heading_that_is_taken_away_is_missed(
    shipped: Subject, known_problems: frozenset[Problem], reason: str
) -> None:
    shared = re.sub(rf"^(### .*)`{reason}`", r"\1", SHARED, count=1, flags=re.MULTILINE)
    completed = {
        (page.system, page.incident): read_page(
            page.system, page.incident, (RUNBOOKS / page.system / f"{page.incident}.md").read_text(), shared
        )
        for page in shipped_pages()
    }
    found = new_problems(replace(shipped, pages=completed), known_problems, SECTIONS)
    assert any(problem.key.endswith(f".{reason}") for problem in found)


@pytest.mark.parametrize("name", list_pages(RUNBOOKS), ids="/".join)
def test_a_page_that_is_taken_away_is_missed(
    shipped: Subject, known_problems: frozenset[Problem], name: tuple[str, str]
) -> None:
    rest = {other: page for other, page in shipped.pages.items() if other != name}
    found = set(lint(replace(shipped, pages=rest))) - known_problems
    assert any("/".join(name) in problem.message for problem in found)


def test_an_alert_that_is_taken_away_is_missed(shipped: Subject) -> None:
    def gone(alert: str) -> bool:
        rest = replace(shipped, rules=[rule for rule in shipped.rules if rule.alert != alert])
        return any(problem.key == alert for problem in coverage.every_test_has_an_alert(rest))

    assert_each_missed([rule.alert for rule in shipped.alerts], gone)


def test_without_the_alerts_of_a_system_its_probes_are_missed(shipped: Subject) -> None:
    rest = replace(shipped, rules=[rule for rule in shipped.rules if not rule.alert.startswith("TocsinWipe")])
    missed = {problem.key for problem in coverage.every_probe_is_covered(rest)}
    assert missed == {spec.name for spec in shipped.probes.values() if spec.system == "wipe"}


def test_a_recording_rule_that_is_taken_away_is_missed(shipped: Subject, known_problems: frozenset[Problem]) -> None:
    def gone(record: str) -> bool:
        rest = [rule for rule in shipped.rules if rule.record != record]
        return bool(new_problems(replace(shipped, rules=rest), known_problems, series.CHECKS))

    assert_each_missed([rule.record for rule in shipped.rules if rule.record], gone)


def test_a_metric_that_is_taken_away_is_missed(shipped: Subject, known_problems: frozenset[Problem]) -> None:
    def gone(metric: str) -> bool:
        rest = {name: found for name, found in shipped.catalogue.items() if name != metric}
        found = new_problems(replace(shipped, catalogue=rest), known_problems, series.CHECKS)
        return any(problem.key.startswith(metric) for problem in found)

    assert_each_missed(list(shipped.catalogue), gone)


def test_a_metric_that_is_renamed_is_missed(shipped: Subject, known_problems: frozenset[Problem]) -> None:
    def renamed(metric: str) -> bool:
        rest = {name: found for name, found in shipped.catalogue.items() if name != metric}
        rest[f"{metric}_renamed"] = replace(shipped.catalogue[metric], name=f"{metric}_renamed")
        keys = {
            problem.key for problem in new_problems(replace(shipped, catalogue=rest), known_problems, series.CHECKS)
        }
        return f"{metric}_renamed" in keys and any(key in (metric, f"{metric}_total") for key in keys)

    assert_each_missed(list(shipped.catalogue), renamed)


def test_a_test_that_is_taken_away_is_missed(shipped: Subject) -> None:
    def gone(alert: str) -> bool:
        rest = replace(shipped, cases=[case for case in shipped.cases if case.alert != alert])
        return any(problem.key == alert for problem in coverage.every_alert_is_tested(rest))

    assert_each_missed([rule.alert for rule in shipped.alerts], gone)


def test_a_reason_is_recorded_before_what_a_page_fires_on(shipped: Subject) -> None:
    records = [rule.record for rule in shipped.rules if rule.record]
    assert records.index("tocsin:probe_reason") < records.index("tocsin:probe_alerting")


def new_problems(subject: Subject, known: frozenset[Problem], checks: Iterable[Check]) -> set[Problem]:
    """What those checks of the lint that should miss it have to say."""
    return {problem for check in checks for problem in check(subject)} - known


def assert_each_missed(names: list[str], missed: Callable[[str], bool]) -> None:
    assert names
    assert [name for name in names if not missed(name)] == []


OWN = """groups:
  - name: mine
    rules:
      - alert: TocsinWatchdog
        expr: vector(1)
        labels: {severity: page, system: mine, incident: none}
        annotations: {summary: Always., dashboard_url: "http://grafana/d/mine"}
"""


def test_a_rule_file_of_the_users_own_is_linted_with_the_shipped_ones(tmp_path: Path) -> None:
    rules = tmp_path / "mine.yaml"
    rules.write_text(OWN)
    (tmp_path / "mine.json").write_text('{"uid": "mine"}')
    result = CliRunner().invoke(app, ["rules", "lint", "--alerts", str(rules), "--dashboards", str(tmp_path)])
    lines = [line for line in result.output.splitlines() if str(rules) in line]
    assert lines == [
        f"{rules}:4: TocsinWatchdog: no runbook_url; link the page that says what to do",
        f"{rules}:4: TocsinWatchdog: the name is taken by the alert at {shipped_place('TocsinWatchdog')}",
    ]
    assert result.exit_code == 1


def test_a_dashboard_that_the_user_does_not_have_is_missed(tmp_path: Path) -> None:
    rules = tmp_path / "mine.yaml"
    rules.write_text(OWN)
    result = CliRunner().invoke(app, ["rules", "lint", "--alerts", str(rules)])
    assert f"{rules}:7: TocsinWatchdog: there is no dashboard with the uid mine" in result.output


def test_a_page_at_the_address_that_the_user_gave_the_daemon_needs_the_daemon(tmp_path: Path) -> None:
    rules = tmp_path / "mine.yaml"
    link = "runbook_url: https://tocsin.example.org/runbooks/tocsin/watchdog"
    rules.write_text(OWN.replace("system: mine", "system: tocsin").replace("summary: Always.", f"{link}, summary: A."))
    options = ["--alerts", str(rules), "--public-url", "https://tocsin.example.org/"]
    result = CliRunner().invoke(app, ["rules", "lint", *options])
    assert "the page is served by the daemon that this alert is about" in result.output


def test_syntax_is_judged_by_promtool_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in that says what promtool 2.42 says."""
    said = f'{tmp_path}/mine.yaml: 5:15: group "mine", rule 1, "A": could not parse expression: unexpected <op:==>'
    script = tmp_path / "promtool"
    script.write_text(f"#!/bin/sh\necho '  FAILED:' >&2\necho '{said}' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    result = CliRunner().invoke(app, ["rules", "lint"])
    assert (result.stdout.splitlines(), result.exit_code) == ([said], 1)


def test_without_promtool_lint_says_what_it_did_not_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    result = CliRunner().invoke(app, ["rules", "lint"])
    assert result.exit_code == 0
    assert "promtool is not in PATH, so the syntax of the rules was not checked" in result.stderr


def shipped_place(alert: str) -> str:
    rule = next(rule for rule in shipped_subject().alerts if rule.alert == alert)
    return f"{rule.file}:{rule.line}"

"""Every line of Wipe's incident page has a probe, reasons, an alert, a section and a fault, or says why not."""

from __future__ import annotations

import re
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tocsin.cli.rules import shipped_subject
from tocsin.paging.drills.catalogue import Drill, read_catalogue
from tocsin.paging.lint import Subject
from tocsin_sandbox.faults import BY_NAME

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).parents[2]
TOOL: dict[str, Any] = runpy.run_path(str(ROOT / "docs/coverage.py"))
COVERAGE = TOOL["read"](ROOT / "docs/coverage/wipe.yaml")
CHECKED = [line for line in COVERAGE.lines if not line.exempt]
DRILLS = read_catalogue([ROOT / "drills/wipe.yaml"])
INCIDENTS = {
    "Keycloak outage": 10,
    "Signer outage": 16,
    "Storage outage": 10,
    "Chain or anchor outage": 11,
    "Public verification abuse": 7,
    "License or billing incident": 11,
}
"""How many lines each incident has: one that is deleted from the data is missed too."""


@pytest.fixture(scope="module")
def shipped() -> Subject:
    return shipped_subject()


def problems(coverage: Any, shipped: Subject) -> list[str]:
    return list(TOOL["problems"](coverage, shipped))


def test_every_line_leads_from_its_probe_to_an_alert_and_a_section(shipped: Subject) -> None:
    assert problems(COVERAGE, shipped) == []


def test_no_line_of_the_page_has_gone() -> None:
    counted = {name: sum(line.scenario == name for line in COVERAGE.lines) for name in INCIDENTS}
    assert (counted, len(COVERAGE.lines)) == (INCIDENTS, sum(INCIDENTS.values()))


def test_the_table_is_what_the_lines_say(shipped: Subject) -> None:
    written = (ROOT / "docs/coverage-wipe.md").read_text()
    assert written == TOOL["text"](COVERAGE, shipped), "run `python docs/coverage.py`"


def shows(drill: Drill) -> set[tuple[str, str]]:
    """What the board says of it, on real servers or in the sandbox."""
    shown = (
        {(BY_NAME[drill.sandbox].expected_probe, BY_NAME[drill.sandbox].expected_reason)} if drill.sandbox else set()
    )
    return shown | ({(drill.shown.probe, drill.shown.reason), *drill.shown.also.items()} if drill.shown else set())


@pytest.mark.parametrize("line", CHECKED, ids=lambda line: line.asks)
def test_a_drill_of_the_line_turns_a_probe_of_it_red_for_a_reason_of_it(line: Any) -> None:
    assert [name for name in line.faults if name not in DRILLS] == []
    shown = {pair for name in line.faults for pair in shows(DRILLS[name])}
    assert shown & {(probe, reason) for probe, reasons in line.probes.items() for reason in reasons}, shown


def test_every_probe_of_the_profile_is_turned_red_by_a_drill_on_real_servers_of_its_own(shipped: Subject) -> None:
    shown = {drill.shown.probe for drill in DRILLS.values() if drill.shown}
    assert {name for name, spec in shipped.known.items() if spec.system == "wipe"} - shown == set()


def test_each_section_is_linked_to_where_it_is() -> None:
    """GitHub's anchors: what the page's headings are, without punctuation."""
    table = (ROOT / "docs/coverage-wipe.md").read_text()
    links = set(re.findall(r"\]\(\.\./runbooks/([^)#]+)#([^)]+)\)", table))
    assert table.count("](../runbooks/") == len(re.findall(r"\]\(\.\./runbooks/[^)#]+#", table))
    for file, anchor in links:
        headings = re.findall(r"(?m)^#+ (.*)$", (ROOT / "runbooks" / file).read_text())
        assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("probe", sorted({probe for line in CHECKED for probe in line.probes}))
def test_a_probe_that_is_taken_from_the_profile_is_missed(shipped: Subject, probe: str) -> None:
    known = {name: spec for name, spec in shipped.known.items() if name != probe}
    found = problems(COVERAGE, replace(shipped, known=known))
    assert {problem.rpartition(": ")[2] for problem in found} == {f"there is no probe {probe}"}


def test_a_line_without_a_probe_and_a_sixth_exemption_are_missed(shipped: Subject) -> None:
    bare = replace(CHECKED[0], probes={})
    assert problems(replace(COVERAGE, lines=[bare]), shipped) == [f"{bare.asks}: no probe checks it"]
    exempt = [line for line in COVERAGE.lines if line.exempt]
    lines = (exempt * 6)[:6]
    assert problems(replace(COVERAGE, lines=lines), shipped) == ["6 lines are exempt, 5 may be"]

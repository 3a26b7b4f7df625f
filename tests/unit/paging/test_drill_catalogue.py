"""The shipped drills lead to alerts, sections and switches that exist, and every incident of the platforms has some."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from tocsin.cli.rules import shipped_subject
from tocsin.paging.drills.catalogue import Drill, read_catalogue
from tocsin.paging.lint import Subject
from tocsin.paging.lint.subject import labels
from tocsin_sandbox.faults import BY_NAME

ROOT = Path(__file__).parents[3]
DRILLS = read_catalogue(sorted((ROOT / "drills").glob("*.yaml")))


@pytest.fixture(scope="module")
def shipped() -> Subject:
    return shipped_subject()


@pytest.mark.parametrize("drill", DRILLS.values(), ids=lambda drill: drill.name)
def test_a_drill_expects_what_can_come(shipped: Subject, drill: Drill) -> None:
    page = shipped.pages[drill.group]
    rules = {rule.alert: rule for rule in shipped.alerts}
    for expected in drill.expected:
        code = expected.section.partition("#")[2]
        assert code in page.anchors
        specs = [
            s for s in shipped.probes.values() if (s.system, s.incident, s.kind) == (*drill.group, code.split(".")[0])
        ]
        selectors = shipped.alerting(rules[expected.alert])
        assert any(selector.accepts(labels(spec, expected.severity)) for spec in specs for selector in selectors)


@pytest.mark.parametrize("drill", DRILLS.values(), ids=lambda drill: drill.name)
def test_a_drill_can_be_caused(drill: Drill) -> None:
    assert drill.sandbox or drill.estate
    if drill.sandbox:
        fault = BY_NAME[drill.sandbox]
        assert (fault.system, fault.incident) == drill.group


def test_every_incident_that_probes_lead_to_is_drilled(shipped: Subject) -> None:
    led_to = {(spec.system, spec.incident) for spec in shipped.probes.values()}
    assert led_to - {drill.group for drill in DRILLS.values()} == set()


@pytest.mark.parametrize("drill", [drill for drill in DRILLS.values() if drill.estate], ids=lambda drill: drill.name)
def test_what_is_caused_on_real_servers_says_what_the_board_then_shows(shipped: Subject, drill: Drill) -> None:
    assert drill.shown is not None
    for probe, reason in ((drill.shown.probe, drill.shown.reason), *drill.shown.also.items()):
        assert reason in {info.code for info in shipped.reasons[probe]}


@pytest.mark.parametrize("page", ["drills", "faults"])
def test_the_documentation_shows_the_catalogue_as_it_is(page: str) -> None:
    written = (ROOT / f"docs/{page}.md").read_text()
    assert written == runpy.run_path(str(ROOT / f"docs/{page}.py"))["text"](), "run `make docs`"

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


UNDRILLED = {
    "TocsinWipeDownload": "whatever loses a stored file pages as TocsinWipeStoredObject, its cause, and this one waits",
    "TocsinWipeNotReplayable": "its dead letter pages as TocsinWipeDeadLetter, and the ticket waits behind that page",
    "TocsinWipeAnchorNotReplayable": "its dead letter pages as TocsinWipeDeadLetter, of another incident, and is drilled there",
    "TocsinWipeSmoke": "off unless asked for, because it submits a proof",
    "TocsinWipeVerificationLimits": "a setting of the platform's own environment file: no server can be made to show it",
    "TocsinAlexandriaVault": "off unless the platform has a Vault",
    "TocsinAlexandriaUnit": "needs a host with systemd",
    "TocsinAlexandriaAuditFaultInJournal": "needs a host with systemd",
}
"""Alerts about a platform that no drill can cause, and why."""


def test_every_alert_about_a_platform_is_drilled_or_says_why_not(shipped: Subject) -> None:
    drilled = {expected.alert for drill in DRILLS.values() for expected in drill.expected}
    platforms = {rule.alert for rule in shipped.alerts if rule.file.endswith(("wipe.yaml", "alexandria.yaml"))}
    assert platforms - drilled - UNDRILLED.keys() == set()
    assert UNDRILLED.keys() <= platforms


@pytest.mark.parametrize("drill", [drill for drill in DRILLS.values() if drill.estate], ids=lambda drill: drill.name)
def test_what_is_caused_on_real_servers_says_what_the_board_then_shows(shipped: Subject, drill: Drill) -> None:
    assert drill.shown is not None
    for probe, reason in ((drill.shown.probe, drill.shown.reason), *drill.shown.also.items()):
        assert reason in {info.code for info in shipped.reasons[probe]}


@pytest.mark.parametrize("page", ["drills", "faults"])
def test_the_documentation_shows_the_catalogue_as_it_is(page: str) -> None:
    written = (ROOT / f"docs/{page}.md").read_text()
    assert written == runpy.run_path(str(ROOT / f"docs/{page}.py"))["text"](), "run `make docs`"


@pytest.mark.parametrize("system", sorted({drill.system for drill in DRILLS.values()}))
def test_what_was_recorded_on_real_servers_is_what_the_catalogue_has_and_nothing_was_wrong(system: str) -> None:
    seen = runpy.run_path(str(ROOT / "docs/faults.py"))["measured"](system)
    drills = [drill for drill in DRILLS.values() if drill.system == system and drill.estate]
    expected = {d.name: (d.shown.probe, str(d.shown.status), d.shown.reason) for d in drills if d.shown}
    stale = {
        name: row for name, row in seen.items() if (row["probe"], row["status"], row["reason"]) != expected.get(name)
    }
    assert stale == {}, "record it anew: docs/faults.py says how"
    assert {name: row["problems"] for name, row in seen.items() if row["problems"] or row["intervals"] is None} == {}

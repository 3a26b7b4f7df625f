"""What a drill is, when it has passed, and which may run at once."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tocsin.config.errors import ConfigError
from tocsin.model import Severity, Status
from tocsin.paging.drills.catalogue import Drill, Expected, Shown, read_catalogue
from tocsin.paging.drills.grouping import batches
from tocsin.paging.drills.judging import DRILLED, ROUTED, Notification, Ringing, Times, judge
from tocsin.paging.drills.listening import MetricsBell, groups
from tocsin.paging.drills.live import LiveBell, at_its_pace, why_unsafe
from tocsin.paging.drills.rehearsing import Patience, StageError, rehearse
from tocsin.paging.drills.reporting import as_document, as_junit
from tocsin.paging.rulefiles import Rule

SECTION = "wipe/storage-outage#s3_bucket.bucket_missing"
PAGE = Ringing("TocsinWipeBucket", SECTION, "page")
TICKET = replace(PAGE, severity="ticket")
DRILL = Drill("gone", "A bucket is gone", "wipe", "storage-outage", (Expected("TocsinWipeBucket", SECTION),))
SILENT = replace(DRILL, name="revoked", expected=())
LOW = replace(DRILL, name="low", expected=(Expected("TocsinWipeBucket", SECTION, Severity.TICKET),))
TIMES = Times({"gone": 100.0, "revoked": 100.0, "low": 100.0}, {"gone": 150.0, "revoked": 150.0, "low": 150.0})


def rang(
    at: float, *alerts: Ringing, receiver: str = "page", firing: bool = True, incident: str = "storage-outage"
) -> Notification:
    return Notification(receiver, at, firing, ("wipe", incident), alerts or (PAGE,))


RESOLVED = rang(160, firing=False)


@pytest.mark.parametrize(
    ("drill", "heard", "problems"),
    [
        pytest.param(DRILL, [rang(110), RESOLVED], [], id="one-page-that-resolves"),
        pytest.param(DRILL, [], ["no page came within 60 s"], id="silence"),
        pytest.param(
            DRILL,
            [rang(110, TICKET, receiver="ticket")],
            ["no page came within 60 s"],
            id="only-a-ticket",
        ),
        pytest.param(
            DRILL, [rang(161), rang(170, firing=False)], ["the page came after 61 s, not within 60 s"], id="late"
        ),
        pytest.param(DRILL, [rang(110), rang(120), RESOLVED], [f"a second page came, at {SECTION}"], id="twice"),
        pytest.param(
            DRILL,
            [rang(110, PAGE, replace(PAGE, section="wipe/storage-outage")), rang(155), RESOLVED],
            ["not expected: TocsinWipeBucket wipe/storage-outage page"],
            id="fewer-after-the-repair-is-no-second-page",
        ),
        pytest.param(
            DRILL,
            [rang(110), RESOLVED, rang(170), rang(180, firing=False)],
            [f"a second page came, at {SECTION}", "it came again after it had resolved"],
            id="again-after-the-repair",
        ),
        pytest.param(
            DRILL,
            [rang(110), rang(155, replace(PAGE, alert="TocsinOther")), RESOLVED],
            [f"a second page came, at {SECTION}"],
            id="another-one-after-the-repair",
        ),
        pytest.param(
            DRILL,
            [rang(110, replace(PAGE, section="wipe/storage-outage#s3_bucket.timeout")), RESOLVED],
            [
                f"missing: TocsinWipeBucket {SECTION} page",
                "not expected: TocsinWipeBucket wipe/storage-outage#s3_bucket.timeout page",
            ],
            id="another-section",
        ),
        pytest.param(
            DRILL,
            [rang(110, PAGE, replace(PAGE, alert="TocsinWipeStorageServer")), RESOLVED],
            [f"not expected: TocsinWipeStorageServer {SECTION} page"],
            id="an-effect-in-the-same-page",
        ),
        pytest.param(
            DRILL,
            [rang(110), rang(112, incident="keycloak-outage"), RESOLVED],
            [f"wipe/keycloak-outage rang too, at {SECTION}"],
            id="another-incident-rings",
        ),
        pytest.param(DRILL, [rang(110)], ["it did not resolve after the repair"], id="never-resolved"),
        pytest.param(
            DRILL,
            [rang(110), rang(140, firing=False), RESOLVED],
            ["it resolved before the repair"],
            id="resolved-too-early",
        ),
        pytest.param(SILENT, [], [], id="silence-where-it-is-right"),
        pytest.param(SILENT, [rang(110)], [f"rang at {SECTION}"], id="a-page-where-none-may-be"),
        pytest.param(
            LOW,
            [rang(110, TICKET, receiver="ticket"), rang(160, receiver="ticket", firing=False)],
            [],
            id="a-ticket-that-resolves",
        ),
        pytest.param(
            LOW,
            [rang(110, receiver="page")],
            ["no ticket came within 60 s", f"a page came, at {SECTION}"],
            id="a-page-instead-of-a-ticket",
        ),
    ],
)
def test_a_drill_has_passed_when_exactly_the_right_page_came_and_went(
    drill: Drill, heard: list[Notification], problems: list[str]
) -> None:
    (verdict,) = judge([drill], heard, TIMES)
    assert list(verdict.problems) == problems
    assert verdict.passed is not bool(problems)


def test_times_are_from_fault_to_page_and_from_repair_to_resolve() -> None:
    (verdict,) = judge([DRILL], [rang(110), RESOLVED], TIMES)
    assert (verdict.page_seconds, verdict.resolve_seconds) == (10, 10)


def test_drilled_live_the_page_comes_to_the_drill_receiver_and_to_no_other() -> None:
    heard = [rang(110, receiver="drill"), rang(160, receiver="drill", firing=False)]
    assert judge([DRILL], heard, TIMES, DRILLED)[0].passed
    assert not judge([DRILL], heard, TIMES)[0].passed
    for incident in ("storage-outage", "keycloak-outage"):
        woken = [*heard, rang(115, receiver="page", incident=incident)]
        (verdict,) = judge([DRILL], woken, TIMES, DRILLED)
        assert len(verdict.problems) == 1, verdict.problems


def test_a_ticket_that_is_drilled_live_comes_to_the_drill_receiver_too() -> None:
    heard = [rang(110, TICKET, receiver="drill"), rang(160, receiver="drill", firing=False)]
    assert judge([LOW], heard, TIMES, DRILLED)[0].passed


def test_a_ticket_of_another_incident_is_held_against_the_drill_of_a_ticket_and_not_of_a_page() -> None:
    stray = rang(112, TICKET, receiver="ticket", incident="keycloak-outage")
    page = [rang(110), RESOLVED, stray]
    ticket = [rang(110, TICKET, receiver="ticket"), rang(160, receiver="ticket", firing=False), stray]
    assert judge([DRILL], page, TIMES)[0].passed
    assert judge([LOW], ticket, TIMES)[0].problems == (f"wipe/keycloak-outage rang too, at {SECTION}",)


def test_drills_of_different_incidents_run_at_once_and_those_that_must_be_alone_do_not() -> None:
    other = replace(DRILL, name="other", incident="keycloak-outage")
    alone = replace(DRILL, name="alone", incident="database-outage", alone=True)
    elsewhere = replace(alone, name="elsewhere", system="alexandria")
    found = batches([DRILL, LOW, other, alone, elsewhere], 4)
    assert [[drill.name for drill in batch] for batch in found] == [["gone", "other", "elsewhere"], ["low"], ["alone"]]
    assert [len(batch) for batch in batches([DRILL, other], 1)] == [1, 1]


# ── the catalogue ───────────────────────────────────────────────────────────────────────────────────────────────────


def catalogue(tmp_path: Path, text: str) -> dict[str, Drill]:
    folder = tmp_path / "drills"
    folder.mkdir()
    (folder / "mine.yaml").write_text(text)
    return read_catalogue([folder / "mine.yaml"])


def test_a_drill_is_read_with_all_that_it_says(tmp_path: Path) -> None:
    text = """system: mine
drills:
  full:
    title: A disk is full
    incident: disk
    sandbox: disk-full
    estate: fill-disk
    shows: {probe: mine-disk, reason: full, also: {mine-writer: refused}}
    long: true
    expect: [{alert: TocsinDisk, section: disk.full, severity: ticket}]
    within: 90s
    alone: true
    live: {do: fill it, undo: empty it}
"""
    drill = catalogue(tmp_path, text)["full"]
    assert drill.expected == (Expected("TocsinDisk", "mine/disk#disk.full", Severity.TICKET),)
    assert (drill.within, drill.alone, drill.long, drill.live is not None) == (90.0, True, True, True)
    assert drill.shown == Shown("mine-disk", "full", Status.FAILED, {"mine-writer": "refused"})
    assert drill.place == ("drills/mine.yaml", 3)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("    titel: x\n", "drills/mine.yaml:6: full.titel: there is no such key; did you mean `title`?"),
        ("    within: soon\n", "drills/mine.yaml:6: full.within: "),
        (
            "    shows: {probe: a}\n",
            "drills/mine.yaml:6: full.shows: it has a probe, a reason, and perhaps a status and `also`",
        ),
        (
            "    shows: {probe: a, reason: b, status: ok}\n",
            "drills/mine.yaml:6: full.shows: there is no such status as `ok` here; use failed or unknown",
        ),
        ("    live: {do: it}\n", "drills/mine.yaml:6: full.live: says what to `do` and how to `undo` it"),
        (
            "    expect: [{alert: A, section: b.c, severity: high}]\n",
            "drills/mine.yaml:6: full.expect: there is no severity `high`; use page or ticket",
        ),
        (
            "    expect: [{alert: A}]\n",
            "drills/mine.yaml:6: full.expect: an expectation has an alert, a section and perhaps a severity",
        ),
    ],
)
def test_a_drill_that_cannot_be_read_is_told_with_its_place(tmp_path: Path, line: str, problem: str) -> None:
    expect = "" if "expect" in line else "    expect: []\n"
    text = f"system: mine\ndrills:\n  full:\n    title: x\n    incident: y\n{line}{expect}"
    with pytest.raises(ConfigError) as caught:
        catalogue(tmp_path, text)
    assert str(caught.value).startswith(problem)


# ── hearing ─────────────────────────────────────────────────────────────────────────────────────────────────────────

RULES = [
    Rule("a.yaml", 1, record="tocsin:probe_alerting", expr="max by (probe) (tocsin_probe_alerting)"),
    Rule("a.yaml", 2, alert="TocsinWipeBucket", expr='tocsin:probe_alerting{kind="s3_bucket"} == 1'),
]


def probe(alerting: bool = True, severity: str = "page", name: str = "b") -> dict[str, Any]:
    return {
        "probe": name,
        "system": "wipe",
        "incident": "storage-outage",
        "kind": "s3_bucket",
        "state": {"alerting": alerting, "severity": severity, "reason": "bucket_missing"},
    }


def test_without_prometheus_the_rules_decide_which_alert_a_probe_is() -> None:
    assert groups([probe()], RULES) == {("page", "wipe", "storage-outage"): {PAGE}}
    assert groups([probe(alerting=False)], RULES) == {}


def test_no_ticket_rings_while_the_incident_pages() -> None:
    found = groups([probe(), probe(severity="ticket", name="c")], RULES)
    assert found.keys() == {("page", "wipe", "storage-outage")}


async def test_one_notification_comes_after_the_group_wait_and_one_when_it_ends() -> None:
    times = iter((0.0, 1.0, 2.0, 3.0, 4.0, 9.0, 10.0))
    bell = MetricsBell("", RULES, clock=lambda: next(times))
    seen = []
    for alerting in (False, True, True, True, True, False, False):
        bell.take([probe(alerting)])
        seen.append(len(await bell.heard(0)))
    assert seen == [0, 0, 0, 1, 1, 2, 2]
    assert [item.firing for item in await bell.heard(0)] == [True, False]


def live_alert(name: str, receiver: str = "drill", **labels: str) -> dict[str, Any]:
    return {
        "labels": {
            "alertname": name,
            "severity": "page",
            "system": "wipe",
            "incident": "storage-outage",
            "drill": "true",
            **labels,
        },
        "annotations": {"runbook_url": f"https://tocsin.example/runbooks/{SECTION}"},
        "receivers": [{"name": receiver}],
    }


async def test_an_alertmanager_is_heard_by_what_it_holds_for_each_receiver() -> None:
    bell = LiveBell("", 0)
    bell.take([live_alert("TocsinWipeBucket"), live_alert("TocsinWatchdog", "watchdog")], 1.0)
    bell.take([live_alert("TocsinWipeBucket")], 2.0)
    bell.take([], 3.0)
    assert await bell.heard(0) == [rang(1, receiver="drill"), Notification("drill", 3, False, DRILL.group, ())]


def test_an_alert_that_is_not_marked_as_a_drills_ends_the_drill() -> None:
    bell = LiveBell("", 0)
    with pytest.raises(StageError, match='TocsinWipeBucket came without drill="true"'):
        bell.take([live_alert("TocsinWatchdog", "watchdog"), live_alert("TocsinWipeBucket", "page", drill="")], 1.0)


async def test_live_the_time_for_a_page_is_that_of_the_daemons_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    pace = [{**probe(), "every_seconds": 60, "timeout_seconds": 5}, {**probe(), "kind": "http", "every_seconds": 900}]

    async def answer(session: object, url: str) -> list[dict[str, Any]] | None:
        return pace if url == "http://tocsin" else None

    monkeypatch.setattr("tocsin.paging.drills.live.probes_of", answer)
    paced = await at_its_pace([DRILL, LOW, SILENT], "http://tocsin")
    assert [drill.within for drill in paced] == [2 * 65 + 25, 2 * 65 + 75, 60]
    with pytest.raises(StageError, match="the daemon at http://nobody does not answer"):
        await at_its_pace([DRILL], "http://nobody")


@pytest.mark.parametrize(
    ("alerts", "why"),
    [
        ([], "TocsinWatchdog does not fire there"),
        ([live_alert("TocsinWatchdog", "watchdog", drill="")], 'its alerts lack drill="true"'),
        ([live_alert("TocsinWatchdog", "watchdog"), live_alert("Other", drill="")], 'its alerts lack drill="true"'),
        ([live_alert("TocsinWatchdog", "watchdog")], ""),
    ],
)
def test_nothing_is_caused_where_pages_would_wake_somebody(alerts: list[dict[str, Any]], why: str) -> None:
    assert why_unsafe(alerts).startswith(why)
    assert bool(why_unsafe(alerts)) is bool(why)


# ── a whole drill, with a stage and a bell that are told what to do ─────────────────────────────────────────────────


class Rehearsal:
    """A stage and a bell in one: what is caused rings, what is undone resolves."""

    receivers = ROUTED
    by_hand = False
    settle_seconds = 0.0

    def __init__(self, bad: str = "", deaf: bool = False) -> None:
        self.bad, self.deaf = bad, deaf
        self.acts: list[str] = []
        self._heard: list[Notification] = []

    async def well(self, drills: object) -> str:
        return self.bad

    async def cause(self, drill: Drill) -> None:
        self.acts.append(f"cause {drill.name}")
        if drill.name == "broken":
            raise StageError("cannot be broken")
        if not self.deaf:
            self._ring(True)

    async def undo(self, drill: Drill) -> None:
        self.acts.append(f"undo {drill.name}")
        if not self.deaf:
            self._ring(False)

    def _ring(self, firing: bool) -> None:
        self._heard.append(replace(rang(0, firing=firing), at=time.time()))

    async def heard(self, since: float) -> list[Notification]:
        return [item for item in self._heard if item.at >= since]


async def test_what_is_caused_is_undone_and_judged() -> None:
    both = Rehearsal()
    told: list[str] = []
    (verdict,) = await rehearse([DRILL], both, both, told.append, Patience(1, 1))
    # The resolve comes in the same instant as the repair here, so only the order is of interest.
    assert both.acts == ["cause gone", "undo gone"]
    assert verdict.drill is DRILL
    assert told[0] == "waiting until everything is well"


async def test_nothing_is_caused_while_something_is_bad_already() -> None:
    both = Rehearsal(bad="wipe-db (timeout)")
    with pytest.raises(StageError, match="nothing is drilled while something is bad already: wipe-db"):
        await rehearse([DRILL], both, both, lambda text: None, Patience(0, 0))
    assert both.acts == []


async def test_what_could_only_half_be_caused_is_undone() -> None:
    both = Rehearsal()
    drills = [DRILL, replace(DRILL, name="broken", incident="other")]
    with pytest.raises(StageError, match="cannot be broken"):
        await rehearse(drills, both, both, lambda text: None, Patience(0, 0))
    assert both.acts == ["cause gone", "cause broken", "undo gone", "undo broken"]


# ── reports ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_json_report_says_what_was_expected_and_what_came() -> None:
    document = as_document(judge([DRILL], [rang(110), RESOLVED], TIMES), "alertmanager")
    assert json.loads(json.dumps(document)) == {
        "heard_by": "alertmanager",
        "passed": 1,
        "failed": 0,
        "drills": [
            {
                "drill": "gone",
                "title": "A bucket is gone",
                "system": "wipe",
                "incident": "storage-outage",
                "passed": True,
                "expected": [{"alert": "TocsinWipeBucket", "severity": "page", "section": SECTION}],
                "within_seconds": 60.0,
                "page_seconds": 10.0,
                "resolve_seconds": 10.0,
                "problems": [],
            }
        ],
    }


def test_the_junit_report_has_a_case_a_drill_and_a_failure_for_each_that_failed() -> None:
    verdicts = [*judge([DRILL], [rang(110), RESOLVED], TIMES), *judge([LOW], [], TIMES)]
    suite = ElementTree.fromstring(as_junit(verdicts))
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert [case.get("name") for case in suite.iter("testcase")] == ["gone", "low"]
    (failure,) = suite.iter("failure")
    assert failure.get("message") == "no ticket came within 60 s"

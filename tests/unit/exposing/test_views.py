"""What the status page says, before it is HTML."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests import exposing_gallery as gallery
from tocsin.exposing.views import Light, ago, dependents, entry_light, moment, overview, row, strip, verdict
from tocsin.model import Entry, Severity, Status


@pytest.mark.parametrize(
    ("name", "light"),
    [
        ("wipe-realm-exawipe", Light.PAGE),
        ("wipe-bucket-certificates", Light.PAGE),
        ("alexandria-api", Light.TICKET),
        ("wipe-bucket-proofs", Light.FAILED),
        ("wipe-bucket-drop", Light.UNKNOWN),
        ("wipe-signer-decrypt", Light.NEVER),
        ("wipe-db", Light.OK),
    ],
)
def test_each_situation_has_its_own_light(name: str, light: Light) -> None:
    assert entry_light(gallery.entries()[name]) is light


def test_a_latched_alert_shows_as_alerting_while_the_probe_cannot_tell() -> None:
    line = row(gallery.entries()["wipe-bucket-certificates"], (), gallery.NOW)
    assert (line.light, line.word, line.severity, line.latched) == (Light.PAGE, "unknown", "page", True)


def test_an_ok_probe_whose_latest_run_failed_says_how_far_that_is_confirmed() -> None:
    assert row(gallery.entries()["wipe-db"], (), gallery.NOW).confirming == "failed 1 of 2"


def test_a_failed_probe_that_recovers_says_so() -> None:
    entry = gallery.entries()["wipe-realm-exawipe"]
    recovering = replace(entry, state=replace(entry.state, last_status=Status.OK, ok_streak=1))
    assert row(recovering, (), gallery.NOW).confirming == "ok 1 of 2"


def test_an_effect_names_its_cause() -> None:
    assert row(gallery.entries()["wipe-bucket-proofs"], (), gallery.NOW).caused_by == "wipe-db"


def test_the_reason_leads_to_its_section_and_ok_to_the_page() -> None:
    entries = gallery.entries()
    assert row(entries["wipe-realm-exawipe"], (), gallery.NOW).runbook == (
        "wipe/keycloak-outage#oidc_realm.issuer_mismatch"
    )
    assert row(entries["wipe-realm-master"], (), gallery.NOW).runbook == "wipe/keycloak-outage"


def test_a_probe_that_has_not_run_for_long_is_overdue() -> None:
    entry = gallery.entries()["wipe-keycloak-db"]
    assert not row(entry, (), gallery.NOW + 60).overdue
    assert row(entry, (), gallery.NOW + 120).overdue


def test_groups_and_probes_come_worst_first() -> None:
    page = overview(gallery.entries(), lambda _: (), gallery.NOW)
    assert [(group.system, group.incident) for group in page.groups][:4] == [
        ("wipe", "keycloak-outage"),
        ("wipe", "queues-and-workers"),
        ("wipe", "storage-outage"),
        ("alexandria", "api-down"),
    ]
    assert page.groups[-1].light is Light.OK
    assert [line.light for line in page.groups[2].rows] == [Light.PAGE, Light.FAILED, Light.UNKNOWN, Light.OK]
    assert page.light is Light.PAGE


@pytest.mark.parametrize(
    ("counts", "headline", "rest"),
    [
        ({}, "No probe is configured", ""),
        ({Light.OK: 14}, "All 14 probes are ok", ""),
        ({Light.OK: 1}, "The one probe is ok", ""),
        ({Light.OK: 13, Light.UNKNOWN: 1}, "1 cannot tell", "13 ok"),
        ({Light.NEVER: 2}, "2 have not run yet", ""),
        ({Light.PAGE: 1, Light.TICKET: 2, Light.OK: 3}, "1 page, 2 tickets", "3 ok"),
        ({Light.FAILED: 1, Light.NEVER: 1}, "1 failed without alerting", "1 has not run yet"),
    ],
)
def test_the_verdict_is_never_better_than_what_is_known(counts: dict[Light, int], headline: str, rest: str) -> None:
    assert verdict({light: counts.get(light, 0) for light in Light}) == (headline, rest)


def test_an_ok_board_of_a_scheduler_that_stands_still_is_not_ok() -> None:
    entries = {"wipe-realm-master": gallery.entries()["wipe-realm-master"]}
    page = overview(entries, lambda _: (), gallery.NOW, alive=False)
    assert (page.headline, page.rest) == ("Nothing is known now", "Last known: The one probe is ok")
    assert page.light is Light.UNKNOWN


def test_a_board_with_overdue_probes_is_not_ok() -> None:
    entries = {"wipe-realm-master": gallery.entries()["wipe-realm-master"]}
    page = overview(entries, lambda _: (), gallery.NOW + 3600)
    assert (page.headline, page.rest, page.light) == ("1 overdue", "1 ok", Light.UNKNOWN)
    assert verdict({**dict.fromkeys(Light, 0), Light.PAGE: 1, Light.OK: 4}, overdue=2) == ("1 page", "2 overdue, 4 ok")


def test_the_strip_draws_the_newest_run_at_the_right_and_unknown_half_as_high() -> None:
    records = gallery.History(gallery.entries()).recent("wipe-bucket-drop")
    picture = strip(records)
    assert dict(picture.paths)["unknown"].endswith("M147 17V9")
    assert dict(picture.paths)["ok"].startswith("M2 17V1")
    assert picture.words == "latest 30 runs: 18 ok, 12 unknown"
    assert strip(()).words == "no runs yet"
    assert strip(records[:1]).paths == (("ok", "M147 17V1"),)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "just now"), (0, "just now"), (1.9, "just now"), (42, "42 s"), (119, "119 s"), (120, "2 min"),
        (3599, "59 min"), (3600, "1 h"), (12000, "3 h 20 min"), (36000, "10 h"), (86400, "1 d"), (100000, "1 d 3 h"),
        (400000, "4 d"),
    ],
)  # fmt: skip
def test_durations_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert ago(seconds) == words


def test_a_moment_carries_the_exact_time() -> None:
    at = moment(gallery.NOW - 60, gallery.NOW)
    assert at is not None
    assert (at.ago, at.iso) == ("60 s", "2026-11-23 23:59:00 UTC")
    assert moment(None, gallery.NOW) is None


def test_dependencies_are_known_in_both_directions() -> None:
    assert dependents(gallery.entries(), "wipe-keycloak-db") == ["wipe-realm-exawipe", "wipe-realm-master"]


def test_an_alert_without_a_severity_takes_the_probes_own() -> None:
    entry = gallery.entries()["wipe-realm-exawipe"]
    state = replace(entry.state, severity=None)
    assert entry_light(Entry(replace(entry.spec, severity=Severity.TICKET), state)) is Light.TICKET

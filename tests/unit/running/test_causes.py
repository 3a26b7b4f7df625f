"""Causes page, effects wait: scenarios."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tocsin.model import Finding, MaintenanceWindow, Outcome, ProbeSpec, ProbeState, Run, Severity, Status
from tocsin.running.causes import GRACE_SECONDS, LONGEST_STEP_SECONDS
from tocsin.running.graph import Graph
from tocsin.running.verdicts import Consequences, Verdicts

CODES = {
    "ok": Outcome.ok(),
    "page": Outcome.of([Finding("down", Status.FAILED, Severity.PAGE)]),
    "ticket": Outcome.of([Finding("low", Status.FAILED, Severity.TICKET)]),
    "unknown": Outcome.of([Finding("probe_error", Status.UNKNOWN, Severity.TICKET)]),
}


def spec(name: str, *depends_on: str, **changes: object) -> ProbeSpec:
    plain = ProbeSpec(name, "k", "s", "i", None, every=30.0, timeout=5.0, retry_every=5.0, depends_on=depends_on)
    return replace(plain, **changes)  # type: ignore[arg-type]


class Story:
    """All probes are ok at 0; then things happen, each told by its time in seconds."""

    def __init__(self, *specs: ProbeSpec) -> None:
        self.verdicts = Verdicts(0.0)
        ok = ProbeState(status=Status.OK, since=0.0, ok_streak=9, last_run_at=0.0, last_status=Status.OK)
        self.verdicts.configure(Graph(specs), lambda _: ok)

    def run(self, at: float, name: str, code: str, took: float = 0.0) -> Consequences:
        """A run that ended at ``at``."""
        return self.verdicts.learn(Run(name, CODES[code], at - took, took, "t", "r"), at)

    def __getitem__(self, name: str) -> ProbeState:
        return self.verdicts.states[name]

    def alerting(self) -> set[str]:
        return {name for name, state in self.verdicts.states.items() if state.alerting}


def test_without_dependencies_a_confirmed_failure_alerts_at_once() -> None:
    story = Story(spec("a"))
    assert story.run(100, "a", "page").retry == ["a"]
    assert story.alerting() == set()
    assert story.run(105, "a", "page").retry == []
    assert story["a"].alerting_since == 105
    assert story["a"].severity is Severity.PAGE


def test_a_first_failure_asks_for_fresh_results_of_all_dependencies() -> None:
    story = Story(spec("db"), spec("keycloak", "db"), spec("realm", "keycloak"))
    assert story.run(100, "realm", "page").check == {"keycloak": 100, "db": 100}


def test_a_failure_waits_for_fresh_results_and_alerts_when_the_dependencies_are_well() -> None:
    story = Story(spec("db"), spec("realm", "db"))
    story.run(100, "realm", "page")
    waiting = story.run(105, "realm", "page")
    assert story["realm"].status is Status.FAILED
    assert story.alerting() == set()
    assert waiting.review == {"realm": 100 + 5 + GRACE_SECONDS}
    again = story.run(105.5, "db", "ok", took=5.4)
    assert (story.alerting(), again.check) == (set(), {"db": 105})
    story.run(106, "db", "ok", took=0.4)
    assert story.alerting() == {"realm"}


def test_a_cause_that_comes_a_moment_after_its_effect_is_seen_when_the_failure_is_confirmed() -> None:
    """A fault may come piece by piece: while a proxy reloads, the same path answers now so, now so."""
    story = Story(spec("ready"), spec("license", "ready"))
    story.run(100, "license", "page")
    story.run(100.1, "ready", "ok")
    confirmed = story.run(105, "license", "page")
    assert (confirmed.check, confirmed.review) == ({"ready": 105}, {"license": 105 + GRACE_SECONDS})
    assert story.alerting() == set()
    story.run(105.1, "ready", "page")
    assert story["license"].caused_by == "ready"
    story.run(110, "ready", "page")
    assert story.alerting() == {"ready"}


def test_a_second_answer_is_not_waited_for_as_long_as_the_first() -> None:
    story = Story(spec("db", timeout=25.0), spec("realm", "db"))
    story.run(100, "realm", "page")
    story.run(103, "db", "ok", took=2.0)
    story.run(105, "realm", "page")
    story.verdicts.review("realm", 105 + GRACE_SECONDS - 0.1)
    assert story.alerting() == set()
    story.verdicts.review("realm", 105 + GRACE_SECONDS)
    assert story.alerting() == {"realm"}


@pytest.mark.parametrize(("every", "took"), [(10.0, 6.0), (15.0, 8.0), (15.0, None)])
def test_an_effect_that_is_confirmed_again_and_again_is_heard_though_a_dependency_is_slow_or_silent(
    every: float, took: float | None
) -> None:
    """Two failed runs, then one that is ok: each time the dependencies are asked anew."""
    story = Story(spec("slow", timeout=9.0), spec("flaps", "slow", every=every))
    reviews: dict[str, float | None] = {}

    def review_until(moment: float) -> None:
        while (at := reviews.get("flaps")) is not None and at < moment:
            reviews.update(story.verdicts.review("flaps", at).review)

    def run(at: float, name: str, code: str, took: float = 0.0) -> None:
        review_until(at)
        reviews.update(story.run(at, name, code, took).review)

    for cycle in range(3):
        began = 100.0 + 2 * every * cycle
        run(began, "flaps", "page")
        run(began + 5, "flaps", "page")
        if took is not None:
            run(began + took, "slow", "ok", took)
        run(began + every, "flaps", "ok")
    assert story.alerting() == {"flaps"}


def test_what_fails_and_then_cannot_tell_in_turns_is_heard_behind_a_slow_dependency() -> None:
    story = Story(spec("slow", timeout=45.0), spec("turns", "slow", failures_to_fail=1))
    for cycle in range(3):
        began = 100.0 + 60 * cycle
        story.run(began, "turns", "page")
        story.verdicts.review("turns", began + GRACE_SECONDS)
        story.run(began + 30, "turns", "unknown")
        story.run(began + 40, "slow", "ok", took=40.0)
    assert story.alerting() == {"turns"}


def test_a_cause_that_comes_late_is_seen_also_by_an_effect_whose_runs_time_out() -> None:
    story = Story(spec("ready"), spec("license", "ready"))
    story.run(100, "license", "page", took=5.0)
    story.run(100.2, "ready", "ok")
    assert story.run(110, "license", "page", took=5.0).check == {"ready": 110}
    story.run(110.2, "ready", "page")
    assert (story["license"].caused_by, story.alerting()) == ("ready", set())


def test_what_is_confirmed_again_after_nobody_could_tell_asks_again() -> None:
    story = Story(spec("db"), spec("realm", "db", maintenance=(MaintenanceWindow(0, 300),)))
    for at in (100, 105):
        story.run(at, "realm", "page")
    story.run(106, "db", "ok")
    for at in (200, 205):
        story.run(at, "realm", "unknown")
    assert story["realm"].status is Status.UNKNOWN
    assert story.run(310, "realm", "page").check == {"db": 310}
    assert story.alerting() == set()
    story.run(311, "db", "ok")
    assert story.alerting() == {"realm"}


def test_a_result_from_before_the_failure_was_known_proves_nothing() -> None:
    story = Story(spec("db"), spec("realm", "db", failures_to_fail=1))
    story.run(99, "db", "ok")
    story.run(100, "realm", "page", took=5.0)
    story.run(101, "db", "ok", took=1.5)
    assert story.alerting() == set()
    story.run(102, "db", "page", took=0.5)
    assert story["realm"].caused_by == "db"
    assert story.alerting() == set()


def test_a_dependency_that_never_answers_holds_an_alert_back_no_longer_than_its_timeout_and_grace() -> None:
    story = Story(spec("db"), spec("realm", "db"))
    story.run(100, "realm", "page")
    story.run(105, "realm", "page")
    story.verdicts.review("realm", 100 + 5 + GRACE_SECONDS - 0.1)
    assert story.alerting() == set()
    story.verdicts.review("realm", 100 + 5 + GRACE_SECONDS)
    assert story.alerting() == {"realm"}


def test_a_clock_that_was_set_back_does_not_hold_an_alert_back() -> None:
    story = Story(spec("db"), spec("realm", "db"))
    story.run(100_000, "realm", "page")
    story.run(105, "realm", "page")
    assert story.alerting() == {"realm"}


def test_the_cause_alerts_and_its_effects_name_it() -> None:
    story = Story(spec("db"), spec("keycloak", "db"), spec("realm", "keycloak"))
    for at in (100, 105):
        for name in ("realm", "keycloak", "db"):
            story.run(at, name, "page")
    assert story.alerting() == {"db"}
    assert story["keycloak"].caused_by == story["realm"].caused_by == "db"


def test_a_cause_is_found_behind_a_dependency_that_is_well() -> None:
    story = Story(spec("db"), spec("keycloak", "db"), spec("realm", "keycloak"))
    for at in (100, 105):
        story.run(at, "db", "page")
    for at in (110, 115):
        story.run(at, "realm", "page")
        story.run(at + 1, "keycloak", "ok")
        story.run(at + 2, "db", "page")
    assert story["realm"].caused_by == "db"


def test_a_single_failed_run_of_a_dependency_holds_the_effect_back_until_the_next_one() -> None:
    story = Story(spec("db"), spec("realm", "db"))
    story.run(100, "realm", "page")
    story.run(101, "db", "page", took=0.5)
    story.run(105, "realm", "page")
    assert story.alerting() == set()
    story.run(106, "db", "page")
    assert story.alerting() == {"db"}
    assert story["realm"].caused_by == "db"


def test_a_suspected_cause_that_never_runs_again_is_not_waited_for_longer_than_its_schedule() -> None:
    story = Story(spec("db"), spec("realm", "db"))
    story.run(100, "db", "page")
    story.run(100, "realm", "page")
    held = story.run(105, "realm", "page")
    assert held.review["realm"] == 100 + 30 + 5 + GRACE_SECONDS
    for at in (140, 145, 150):
        story.run(at, "realm", "page")
    assert story.alerting() == set()
    story.verdicts.review("realm", 145 + 5 + GRACE_SECONDS)
    assert story.alerting() == {"realm"}


def test_an_effect_that_is_still_bad_when_its_cause_recovers_gets_fresh_runs_and_then_alerts() -> None:
    story = Story(spec("db"), spec("realm", "db"))
    for at in (100, 105, 130):
        story.run(at, "db", "page")
        story.run(at, "realm", "page")
    story.run(160, "db", "ok")
    assert story["realm"].caused_by == "db"
    recovered = story.run(190, "db", "ok")
    assert recovered.again == ["realm"]
    assert story.alerting() == set()
    assert (story["realm"].caused_by, story["realm"].waiting_since) == (None, 190)
    assert story.run(191, "realm", "page").retry == ["realm"]
    story.run(192, "db", "ok")
    story.run(196, "realm", "page")
    assert story.alerting() == set()
    story.run(197, "db", "ok")
    assert story.alerting() == {"realm"}


def test_a_run_that_began_before_its_cause_recovered_says_nothing_about_now() -> None:
    story = Story(spec("db"), spec("realm", "db"))
    for at in (100, 105, 130):
        story.run(at, "db", "page")
        story.run(at, "realm", "page")
    for at in (160, 190):
        story.run(at, "db", "ok")
    assert story.run(191, "realm", "page", took=3).retry == ["realm"]
    assert story["realm"].failed_streak == 0
    story.run(196, "realm", "page")
    story.run(197, "db", "ok")
    assert story.alerting() == set()
    story.run(201, "realm", "page")
    story.run(202, "db", "ok")
    assert story.alerting() == {"realm"}


def test_a_run_that_ended_before_its_cause_recovered_says_nothing_about_now_when_it_is_learned_after() -> None:
    story = Story(spec("db"), spec("realm", "db", failures_to_fail=1))
    for at in (100, 105, 130):
        story.run(at, "db", "page")
        story.run(at, "realm", "page")
    for at in (160, 190):
        story.run(at, "db", "ok")
    story.verdicts.learn(Run("realm", CODES["page"], 189.5, 0.25, "t", "r"), 190.1)
    assert story.alerting() == set()
    story.run(191.5, "realm", "ok")
    assert story.alerting() == set()


def test_a_ticket_that_is_slow_to_recover_with_the_common_cause_does_not_make_an_effect_page() -> None:
    story = Story(spec("db"), spec("grants", "db"), spec("quota", "db"), spec("proofs", "grants", "quota"))
    for at in (100, 105):
        for name in ("db", "grants", "proofs"):
            story.run(at, name, "page")
        story.run(at, "quota", "ticket")
    assert story.alerting() == {"db"}
    for at in (130, 135):
        story.run(at, "db", "ok")
    for at in (136, 141):
        story.run(at, "grants", "ok")
    assert story["proofs"].waiting_since == 141
    assert story.alerting() == set()
    for at in (142, 147):
        story.run(at, "quota", "ok")
        story.run(at, "proofs", "ok")
    assert story.alerting() == set()


def test_a_long_outage_of_the_cause_is_no_time_that_another_suspect_has_had() -> None:
    story = Story(spec("db"), spec("token"), spec("api", "db", "token"))
    for at in range(100, 300, 20):
        story.run(at, "db", "page")
        story.run(at, "api", "page")
    assert story["api"].caused_by == "db"
    story.run(301, "token", "page")
    for at in (302, 305):
        story.run(at, "db", "ok")
    assert story.alerting() == set()
    assert story["api"].failed_streak == 0
    story.run(306, "api", "page")
    assert story["api"].caused_by == "token"
    story.run(307, "token", "ok")
    story.run(308, "api", "ok")
    assert story.alerting() == set()


def test_an_effect_that_recovers_with_its_cause_never_alerts() -> None:
    story = Story(spec("db"), spec("realm", "db"))
    for at in (100, 105):
        story.run(at, "db", "page")
        story.run(at, "realm", "page")
    for at in (130, 160):
        story.run(at, "db", "ok")
    for at, code in ((161, "page"), (166, "ok"), (190, "ok")):
        story.run(at, "realm", code)
        assert "realm" not in story.alerting()
    assert story["realm"].status is Status.OK
    assert story["realm"].waiting_since is None


def test_an_effect_that_flaps_after_its_cause_recovered_is_heard_in_the_end() -> None:
    story = Story(spec("db"), spec("realm", "db"))
    for at in (100, 105):
        story.run(at, "db", "page")
        story.run(at, "realm", "page")
    for at in (130, 160):
        story.run(at, "db", "ok")
    codes = ["ok", "page"] * 4
    heard = []
    for number, code in enumerate(codes):
        at = 190 + 30 * number
        story.run(at, "realm", code)
        story.run(at + 1, "db", "ok")
        if story.alerting():
            heard.append(at)
    assert heard
    assert heard[0] == 280


def test_a_dependency_that_flaps_unconfirmed_cannot_hold_an_effect_back_for_ever() -> None:
    story = Story(spec("db"), spec("realm", "db"))
    at = 100.0
    while not story["realm"].alerting and at < 400:
        story.run(at, "db", "page")
        story.run(at + 1, "realm", "page")
        story.run(at + 5, "db", "ok")
        story.run(at + 6, "realm", "page")
        at += 30
    assert at < 200
    assert story["db"].status is Status.OK


def test_dependencies_that_flap_in_turns_unconfirmed_cannot_hold_an_effect_back_for_ever() -> None:
    story = Story(spec("a"), spec("b"), spec("effect", "a", "b"))
    for step in range(8):
        bad, well = ("a", "b") if step % 2 else ("b", "a")
        at = 100.0 + 20 * step
        story.run(at, bad, "page")
        story.run(at + 1, "effect", "page")
        story.run(at + 2, well, "ok")
        assert story.verdicts.states[bad].status is story.verdicts.states[well].status is Status.OK
    assert story.alerting() == {"effect"}
    assert story["effect"].alerting_since is not None
    assert story["effect"].alerting_since <= 101 + 2 * (30 + 5) + GRACE_SECONDS + 20


def test_an_alert_goes_on_when_its_dependency_fails_later() -> None:
    story = Story(spec("db"), spec("realm", "db"))
    for at in (100, 105):
        story.run(at, "realm", "page")
        story.run(at + 1, "db", "ok")
    for at in (130, 135):
        story.run(at, "db", "page")
        story.run(at, "realm", "page")
    assert story.alerting() == {"realm", "db"}
    assert story["realm"].caused_by is None


def test_an_unknown_dependency_is_no_cause() -> None:
    story = Story(spec("db"), spec("realm", "db"))
    for at in (100, 105):
        story.run(at, "realm", "page")
        story.run(at + 1, "db", "unknown")
    assert story.alerting() == {"realm"}


def test_a_dependency_that_alerts_is_a_cause_even_when_it_has_become_unknown() -> None:
    story = Story(spec("db"), spec("realm", "db"))
    for at in (50, 55):
        story.run(at, "db", "page")
    for at in (60, 65, 70):
        story.run(at, "db", "unknown")
    assert story["db"].status is Status.UNKNOWN
    assert story["db"].alerting
    for at in (100, 105):
        story.run(at, "realm", "page")
        story.run(at + 1, "db", "unknown")
    assert story["realm"].caused_by == "db"
    assert "realm" not in story.alerting()


def test_a_dependency_that_is_not_configured_is_left_out() -> None:
    story = Story(spec("realm", "gone"))
    for at in (100, 105):
        story.run(at, "realm", "page")
    assert story.alerting() == {"realm"}


def test_a_cause_that_is_removed_from_the_configuration_releases_its_effects() -> None:
    story = Story(spec("db"), spec("realm", "db"))
    for at in (100, 105):
        story.run(at, "db", "page")
        story.run(at, "realm", "page")
    story.verdicts.configure(Graph([spec("realm", "db")]), lambda _: ProbeState())
    assert story.verdicts.review("realm", 110).again == ["realm"]
    for at in (111, 116):
        story.run(at, "realm", "page")
    assert story.alerting() == {"realm"}


def test_a_probe_of_another_kind_under_the_same_name_starts_anew() -> None:
    story = Story(spec("a"), spec("b"))
    for at in (100, 105):
        story.run(at, "a", "page")
        story.run(at, "b", "page")
    graph = Graph([spec("a"), spec("b", kind="other")])
    story.verdicts.configure(graph, lambda _: ProbeState())
    assert story.alerting() == {"a"}
    assert story["b"] == ProbeState()


def test_a_dependency_worth_a_ticket_explains_no_page() -> None:
    story = Story(spec("db"), spec("realm", "db"), spec("report", "db"))
    for at in (90, 95, 105.5):
        story.run(at, "db", "ticket")
    for at in (100, 105):
        story.run(at, "realm", "page")
        story.run(at, "report", "ticket")
        story.run(at + 0.5, "db", "ticket")
    assert story.alerting() == {"db", "realm"}
    assert story["realm"].severity is Severity.PAGE
    assert story["report"].caused_by == "db"


def test_an_unconfirmed_page_does_not_start_a_ticket_that_is_explained() -> None:
    story = Story(spec("db"), spec("report", "db"))
    for at in (90, 95):
        story.run(at, "db", "ticket")
    for at, code in ((100, "ticket"), (105, "ticket"), (130, "page"), (160, "ok"), (400, "page")):
        story.run(at, "report", code)
        story.run(at + 1, "db", "ticket")
        assert story.alerting() == {"db"}
    story.run(405, "report", "page")
    story.run(406, "db", "ticket")
    assert story["report"].severity is Severity.PAGE


def test_the_cause_is_the_root_and_not_what_is_bad_in_between() -> None:
    story = Story(spec("z"), spec("a", "z"), spec("effect", "a"))
    for at in (100, 105):
        for name in ("effect", "a", "z"):
            story.run(at, name, "page")
    assert story["effect"].caused_by == "z"


def test_a_ticket_becomes_a_page_only_when_the_page_is_confirmed() -> None:
    story = Story(spec("a"))
    for at in (100, 105, 130):
        story.run(at, "a", "ticket")
    assert story["a"].severity is Severity.TICKET
    assert story.run(160, "a", "page").retry == ["a"]
    assert story["a"].severity is Severity.TICKET
    story.run(165, "a", "ticket")
    story.run(190, "a", "page")
    story.run(195, "a", "page")
    assert story["a"].severity is Severity.PAGE
    story.run(220, "a", "ticket")
    assert story["a"].severity is Severity.PAGE


def test_a_ticket_that_is_about_to_become_a_page_holds_the_pages_of_its_effects_back() -> None:
    story = Story(spec("db"), spec("realm", "db"))
    for at in (70, 75):
        story.run(at, "db", "ticket")
    story.run(100, "realm", "page")
    story.run(100.5, "db", "page")
    story.run(105, "realm", "page")
    assert story["realm"].caused_by == "db"
    story.run(105.5, "db", "page")
    assert story["db"].severity is Severity.PAGE
    assert story.alerting() == {"db"}


def test_a_ticket_does_not_become_a_page_because_of_its_cause() -> None:
    story = Story(spec("db"), spec("realm", "db"))
    for at in (100, 105, 130):
        story.run(at, "realm", "ticket")
        story.run(at + 1, "db", "ok")
    assert story["realm"].severity is Severity.TICKET
    for at in (160, 165, 190):
        story.run(at, "db", "page")
        story.run(at, "realm", "page")
    assert (story["realm"].severity, story["realm"].caused_by) == (Severity.TICKET, "db")
    for at in (220, 250):
        story.run(at, "db", "ok")
    for at in (251, 256):
        assert story["realm"].severity is Severity.TICKET
        story.run(at, "realm", "page")
        story.run(at + 1, "db", "ok")
    assert story["realm"].severity is Severity.PAGE


def test_a_maintenance_window_delays_the_start_and_measuring_goes_on() -> None:
    story = Story(spec("a", maintenance=(MaintenanceWindow(90.0, 200.0),)))
    for at in (100, 105):
        held = story.run(at, "a", "page")
    assert story["a"].status is Status.FAILED
    assert held.review == {"a": 200.0}
    assert story.alerting() == set()
    story.verdicts.review("a", 200.0)
    assert story.alerting() == {"a"}


def test_a_maintenance_window_does_not_end_an_alert() -> None:
    story = Story(spec("a", maintenance=(MaintenanceWindow(110.0, 200.0),)))
    for at in (100, 105, 120, 150):
        story.run(at, "a", "page")
    assert story.alerting() == {"a"}


def test_a_failure_that_flapped_through_its_maintenance_is_heard_after_it() -> None:
    story = Story(spec("a", maintenance=(MaintenanceWindow(90.0, 200.0),)))
    for at, code in ((100, "page"), (105, "page"), (130, "ok"), (160, "page"), (190, "ok")):
        story.run(at, "a", code)
    story.verdicts.review("a", 200.0)
    assert story.alerting() == set()
    story.run(220, "a", "page")
    assert story.alerting() == {"a"}


def test_after_a_restart_dependencies_get_their_time_again() -> None:
    story = Story(spec("db"), spec("realm", "db"))
    story.run(100, "realm", "page")
    restarted = Verdicts(up_since=5000.0)
    restarted.configure(story.verdicts.graph, story.verdicts.states.__getitem__)
    run = Run("realm", CODES["page"], 5001.0, 0.0, "t", "r")
    assert restarted.learn(run, 5001.0).check == {"db": 5001.0}
    assert not restarted.states["realm"].alerting


def test_a_cycle_in_the_graph_does_not_loop() -> None:
    graph = Graph([spec("a", "b"), spec("b", "a"), spec("c", "a")])
    assert graph.dependencies("a") == ("b",)
    assert graph.dependencies("c") == ("a", "b")
    assert set(graph.effects("a")) == {"b", "c"}


@pytest.mark.parametrize("name", ["a", "b"])
def test_of_several_causes_the_one_that_alerts_is_named(name: str) -> None:
    story = Story(spec("a"), spec("b"), spec("effect", "a", "b"))
    for at in (100, 105):
        story.run(at, name, "page")
    other = "b" if name == "a" else "a"
    story.run(110, other, "page")
    for at in (111, 116):
        story.run(at, "effect", "page")
    assert story["effect"].caused_by == name


def test_a_former_effect_that_is_never_proven_ok_explains_nothing_any_more() -> None:
    story = Story(spec("db"), spec("keycloak", "db"), spec("realm", "keycloak"))
    for at in (100, 105):
        for name in ("realm", "keycloak", "db"):
            story.run(at, name, "page")
    for at in (110, 115):
        story.run(at, "db", "ok")
    # One ok is too few to confirm it, and unknown says nothing: by its status it stays failed.
    for at in range(120, 270, 10):
        story.run(at, "keycloak", "ok" if at % 20 else "unknown")
        story.run(at + 1, "db", "ok")
        story.run(at + 2, "realm", "page")
    assert story["keycloak"].status is Status.FAILED
    assert story.alerting() == {"realm"}


@pytest.mark.parametrize("order", [("realm", "token"), ("token", "realm")])
def test_an_effect_waits_for_what_is_in_between_to_recover_too_after_a_long_outage(order: tuple[str, str]) -> None:
    specs = {"realm": spec("realm", "db"), "token": spec("token", "realm", "db", "api")}
    story = Story(spec("db"), spec("api"), *(specs[name] for name in order))
    for at in range(100, 400, 20):
        for name in ("db", "realm", "token"):
            story.run(at, name, "page")
    for at in (401, 406):
        story.run(at, "db", "ok")
    # It is judged again before the realm has been looked at.
    story.run(406.1, "api", "ok")
    assert story.alerting() == set()
    for at in (407, 412):
        story.run(at, "realm", "ok")
    for at in (413, 418):
        story.run(at, "token", "ok")
    assert story.alerting() == set()
    assert story["token"].status is Status.OK


def test_what_is_in_between_and_runs_each_hour_does_not_hold_an_effect_back_for_hours() -> None:
    story = Story(spec("api"), spec("upload", "api", every=3600.0), spec("certified", "upload", every=300.0))
    for at in (100, 105):
        for name in ("certified", "upload", "api"):
            story.run(at, name, "page")
    for at in (110, 115):
        story.run(at, "api", "ok")
    story.run(116, "upload", "ok")  # the next one comes in an hour
    recovered = story["upload"].waiting_since
    assert story["upload"].status is Status.FAILED
    assert recovered is not None
    bound = recovered + 4 * LONGEST_STEP_SECONDS
    for at in (120, 125, bound - 1):
        story.run(at, "certified", "page")
    assert story.alerting() == set()
    for at in (bound + 1, bound + 2, bound + 7, bound + 13):  # it asks, and nobody answers
        story.run(at, "certified", "page")
    assert story.alerting() == {"certified"}


def test_a_ticket_that_stays_open_does_not_give_a_flapping_dependency_its_excuse_again_and_again() -> None:
    story = Story(spec("flaps"), spec("expires"), spec("effect", "flaps", "expires"))
    for at in (10, 15):
        story.run(at, "expires", "ticket")
    cycle = [
        (0, "effect", "page"), (1, "flaps", "page"), (1, "expires", "ticket"), (5, "effect", "page"), (6, "flaps", "ok"),
        (7, "effect", "unknown"), (30, "effect", "page"), (31, "flaps", "ok"), (31, "expires", "ticket"),
    ]  # fmt: skip
    for number in range(1, 8):
        for at, name, code in cycle:
            story.run(60 * number + at, name, code)
    assert story.alerting() == {"expires", "effect"}
    assert story["effect"].severity is Severity.PAGE


def test_a_page_that_is_held_back_by_maintenance_explains_its_effects_though_a_ticket_was_open_before() -> None:
    window = MaintenanceWindow(start=100.0, end=2000.0)
    story = Story(spec("db", maintenance=(window,)), spec("api", "db"))
    for at in (10, 15):
        story.run(at, "db", "ticket")
    for at in range(110, 1500, 30):
        story.run(at, "db", "page")
        story.run(at + 1, "api", "page")
    assert story.alerting() == {"db"}
    assert (story["db"].severity, story["api"].caused_by) == (Severity.TICKET, "db")


def test_one_failure_of_a_costly_dependency_does_not_hold_its_effects_back_for_its_interval() -> None:
    story = Story(spec("chain", every=3600.0, costly=True), spec("api", "chain"))
    story.run(100, "chain", "page")
    for at in (300, 305, 390):
        story.run(at, "api", "page")
        assert story.alerting() == set()
    for at in (420, 425, 440, 446):  # asked again, it rests
        story.run(at, "api", "page")
    assert story.alerting() == {"api"}


def test_a_dependency_in_between_that_flaps_with_its_own_cannot_hold_an_effect_back_for_ever() -> None:
    story = Story(spec("base"), spec("middle", "base"), spec("effect", "middle"))
    cycle = [
        (0.0, "middle", "ok"), (0.7, "effect", "page"), (0.9, "base", "ok"), (1.0, "middle", "page"),
        (1.9, "base", "page"), (5.9, "effect", "page"), (6.2, "middle", "page"), (7.1, "base", "ok"),
        (7.8, "middle", "ok"),
    ]  # fmt: skip
    for number in range(1, 7):
        for at, name, code in cycle:
            story.run(30 * number + at, name, code)
    assert story.alerting()

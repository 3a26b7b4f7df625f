"""Which alert holds back which, out of what the probes depend on."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.model import ProbeSpec
from tocsin.paging.inhibition import CycleError, Inhibition, beside_the_point, inhibitions, render
from tocsin.paging.rulefiles import Rule


def specs(graph: Mapping[str, tuple[str, ...]]) -> list[ProbeSpec]:
    return [ProbeSpec(name, "http", "mine", "i", None, depends_on=needs) for name, needs in graph.items()]


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        pytest.param({}, [], id="no-probes"),
        pytest.param({"a": (), "b": ()}, [], id="nothing-depends"),
        pytest.param({"db": (), "api": ("db",)}, [Inhibition(("db",), ("api",))], id="one-step"),
        pytest.param(
            {"db": (), "api": ("db",), "login": ("api",)},
            [Inhibition(("api",), ("login",)), Inhibition(("db",), ("api", "login"))],
            id="transitive",
        ),
        pytest.param(
            {"db": (), "dns": (), "api": ("db", "dns"), "web": ("db", "dns")},
            [Inhibition(("db", "dns"), ("api", "web"))],
            id="causes-with-the-same-effects-together",
        ),
        pytest.param({"api": ("off",)}, [], id="a-cause-that-is-switched-off"),
    ],
)
def test_effects_are_held_back_by_all_their_causes(
    graph: Mapping[str, tuple[str, ...]], expected: list[Inhibition]
) -> None:
    assert inhibitions(specs(graph)) == expected


def test_a_circle_is_refused() -> None:
    with pytest.raises(CycleError, match="the probes explain one another in a circle: a → b → a"):
        inhibitions(specs({"a": ("b",), "b": ("a",)}))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=30))
def test_no_two_probes_hold_back_one_another_and_each_effect_is_held_back_by_each_cause(
    edges: list[tuple[int, int]],
) -> None:
    # Edges lead from higher to lower numbers, so that there is no circle.
    needs = {f"p{n}": tuple(f"p{low}" for high, low in edges if high == n and low < n) for n in range(12)}
    pairs = {(c, e) for found in inhibitions(specs(needs)) for c in found.causes for e in found.effects}
    assert not any((effect, cause) in pairs for cause, effect in pairs)
    reached: set[tuple[str, str]] = set()
    for name in needs:
        frontier = list(needs[name])
        while frontier:
            cause = frontier.pop()
            reached.add((cause, name))
            frontier += needs[cause]
    assert pairs == reached


def test_the_rules_are_scoped_and_a_ticket_never_holds_back_a_page() -> None:
    text = render(inhibitions(specs({"db": (), "api": ("db",), "web": ("db",)})), ["TocsinProbeStale", "TocsinOther"])
    real = 'alertname!~"TocsinOther|TocsinProbeStale"'
    assert yaml.safe_load(text) == {
        "inhibit_rules": [
            {
                "source_matchers": ['probe="db"', 'severity="page"', real],
                "target_matchers": ['probe=~"api|web"', real],
                "equal": ["cluster", "environment", "drill"],
            },
            {
                "source_matchers": ['probe="db"', 'severity="ticket"', real],
                "target_matchers": ['probe=~"api|web"', 'severity="ticket"', real],
                "equal": ["cluster", "environment", "drill"],
            },
        ]
    }


def test_nothing_to_hold_back_is_an_empty_list() -> None:
    assert yaml.safe_load(render([])) == {"inhibit_rules": []}


@pytest.mark.parametrize(
    ("expression", "beside"),
    [
        ('tocsin:probe_alerting{system="wipe"} == 1', False),
        ("max by (probe) (tocsin:probe_fresh) == 0", True),
        ('tocsin_probe_status{status="unknown"} == 1', True),
        ("count by (system) (tocsin_probe_reason) > 0", False),
        ("tocsin_config_last_reload_successful == 0", False),
        ("vector(1)", False),
    ],
)
def test_alerts_that_name_a_probe_without_accusing_its_target_are_left_alone(expression: str, beside: bool) -> None:
    rule = Rule("mine.yaml", 1, alert="TocsinThis", expr=expression)
    assert beside_the_point([rule]) == (["TocsinThis"] if beside else [])

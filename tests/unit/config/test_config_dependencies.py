"""Cycles in what explains what."""

import graphlib
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.config import ConfigError, Configuration
from tocsin.config.dependencies import find_cycles

NAMES = st.sampled_from("abcdefgh")


@pytest.mark.parametrize(
    ("graph", "cycles"),
    [
        ({}, []),
        ({"a": ("b",), "b": ("c",), "c": ()}, []),
        ({"a": ("b", "c"), "b": ("d",), "c": ("d",), "d": ()}, []),
        ({"a": ("a",)}, [("a",)]),
        ({"c": ("a",), "a": ("b",), "b": ("c",)}, [("a", "b", "c")]),
        ({"a": ("x",), "x": ("y",), "y": ("x",), "m": ("n",), "n": ("m",)}, [("m", "n"), ("x", "y")]),
        ({"a": ("nowhere",)}, []),
    ],
)
def test_each_knot_shows_a_cycle_from_its_first_name(graph: dict[str, tuple[str, ...]], cycles: list[tuple[str, ...]]):
    assert find_cycles(graph) == cycles


@given(st.dictionaries(NAMES, st.lists(NAMES, max_size=4).map(tuple)))
def test_a_cycle_is_found_exactly_when_there_is_no_order_and_each_step_of_it_exists(graph: dict[str, tuple[str, ...]]):
    try:
        graphlib.TopologicalSorter(graph).prepare()
        ordered = True
    except graphlib.CycleError:
        ordered = False
    cycles = find_cycles(graph)
    assert (cycles == []) is ordered
    for cycle in cycles:
        assert all(after in graph[before] for before, after in zip(cycle, (*cycle[1:], cycle[0]), strict=True))


def test_a_chain_of_thousands_is_walked_without_recursion():
    graph = {str(number): (str(number + 1),) for number in range(5000)}
    assert find_cycles(graph) == []


def test_thousands_of_wrong_names_are_answered_in_reasonable_time(load_text: Callable[..., Configuration]):
    probe = "{{kind: web, system: s, incident: i, url: u, depends_on: [shap-{0}]}}"
    text = "probes:\n" + "".join(f"  shop-{number}: {probe.format(number)}\n" for number in range(1000))
    started = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        load_text(text)
    assert len(caught.value.problems) == 1000
    assert time.monotonic() - started < 10

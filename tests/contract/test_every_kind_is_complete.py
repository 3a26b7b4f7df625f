"""Every bundled kind can be used, says what it is, and has its tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from tocsin.config import Registry
from tocsin.exposing import catalogue

REGISTRY = Registry.discover()
BUNDLED = [name for name in REGISTRY if REGISTRY.package(name) == "tocsin"]
TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("name", BUNDLED)
def test_a_kind_loads_and_says_in_a_line_what_it_proves(name: str) -> None:
    kind = REGISTRY[name]
    assert kind.summary().endswith(".")
    assert issubclass(kind.Settings, BaseModel)
    assert kind.Settings.model_config["extra"] == "forbid"
    for reason in kind.reasons():
        assert reason.meaning.endswith("."), reason.code


@pytest.mark.parametrize("name", BUNDLED)
def test_a_kind_has_tests_that_use_it(name: str) -> None:
    used = f"import {REGISTRY[name].__name__}"
    places = [*(TESTS / "unit" / "probes").glob("test_*.py"), *(TESTS / "estate").glob("*.py")]
    texts = [place.read_text("utf-8") for place in places]
    assert any(used in text or f'"{name}"' in text or f"kind: {name}" in text for text in texts)


def test_no_two_kinds_mean_different_things_by_one_metric() -> None:
    assert {entry.family.name for entry in catalogue(REGISTRY)} >= {"tocsin_probe_alerting", "tocsin_queue_jobs"}


def test_what_is_bundled_is_found() -> None:
    assert len(BUNDLED) >= 20

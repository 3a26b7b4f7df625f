"""What `event_rate` takes for usual at an hour of the week, from a bounded memory."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tocsin_probes.event_rate import Past

MONDAY = 1_767_571_200.0
"""2026-01-05 00:00 UTC."""
HOUR = 3600.0
WEEK = 168 * HOUR


def test_nothing_is_usual_before_two_whole_hours_of_that_kind_are_over() -> None:
    memory: dict[str, Any] = {}
    for week, known in ((0, None), (1, None), (2, 10.0)):
        past = Past(memory, MONDAY + week * WEEK, "UTC")
        assert past.usual() == known
        past.add(10.0)
        Past(memory, MONDAY + week * WEEK + HOUR, "UTC").add(99.0)


def test_the_mean_of_an_hour_counts_and_newer_weeks_count_more() -> None:
    memory: dict[str, Any] = {}
    for week, rates in enumerate(((10.0, 20.0, 30.0), (40.0,))):
        for rate in rates:
            Past(memory, MONDAY + week * WEEK, "UTC").add(rate)
        Past(memory, MONDAY + week * WEEK + HOUR, "UTC").add(0.0)
    assert Past(memory, MONDAY + 2 * WEEK, "UTC").usual() == pytest.approx(26.0)


def test_hours_of_the_week_are_those_of_the_zone_across_summer_time() -> None:
    memory: dict[str, Any] = {}
    winter, summer = MONDAY + 9 * HOUR, MONDAY + 13 * WEEK + 8 * HOUR
    for at in (winter, winter + WEEK):
        Past(memory, at, "Europe/Paris").add(5.0)
        Past(memory, at + HOUR, "Europe/Paris").add(0.0)
    assert Past(memory, summer, "Europe/Paris").usual() == 5.0


def test_memory_is_bounded_and_survives_json() -> None:
    memory: dict[str, Any] = {}
    for hour in range(3 * 168):
        memory = json.loads(json.dumps(memory))
        Past(memory, MONDAY + hour * HOUR, "UTC").add(hour / 3)
    assert len(memory["week"]) == 168
    assert len(json.dumps(memory)) < 8000

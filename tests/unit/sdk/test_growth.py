"""Growth of a count within a time, from one run to the next."""

from __future__ import annotations

from tocsin.sdk.growth import SAMPLES, grown


def test_growth_is_against_the_lowest_count_of_the_time_and_what_is_older_is_forgotten() -> None:
    samples: tuple[tuple[float, float], ...] = ()
    seen = []
    for minute, count in ((0, 10), (10, 4), (20, 9), (65, 12), (80, 12), (200, 40)):
        samples, more = grown(samples, count, minute * 60.0, over=3600.0)
        seen.append(more)
    assert seen == [0, 0, 5, 8, 3, 0]


def test_what_is_remembered_is_bounded_however_often_it_runs() -> None:
    samples: tuple[tuple[float, float], ...] = ()
    for second in range(20_000):
        samples, more = grown(samples, second, float(second), over=3600.0)
        assert len(samples) <= SAMPLES + 1
    assert 3500 <= more <= 3600

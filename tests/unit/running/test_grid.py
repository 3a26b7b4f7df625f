"""Due times."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.running.grid import next_due, phase

NOW = 1_795_478_400.0


def test_due_times_follow_each_other_at_the_interval_and_keep_their_phase() -> None:
    dues, after = [], NOW
    for _ in range(5):
        after = next_due("wipe-realm", 30.0, after)
        dues.append(after)
    assert [later - earlier for earlier, later in pairwise(dues)] == [30.0] * 4
    assert {round(due % 30.0, 6) for due in dues} == {round(phase("wipe-realm", 30.0), 6)}


def test_the_phase_is_pinned_so_that_no_release_moves_it() -> None:
    assert phase("wipe-realm-exawipe", 30.0) == pytest.approx(15.1036596, abs=1e-6)


def test_a_thousand_probes_are_spread_over_the_interval() -> None:
    seconds = Counter(int(phase(f"probe-{number}", 30.0)) for number in range(1000))
    assert set(seconds) == set(range(30))
    assert max(seconds.values()) < 60


@settings(max_examples=300, deadline=None)
@given(
    st.text(min_size=1, max_size=20),
    st.sampled_from([0.5, 1.0, 30.0, 60.0, 3600.0, 86400.0]),
    st.floats(0, 4e9),
    st.sampled_from([0.0, 0.1, 5.0, 1e6]),
)
def test_the_next_due_time_is_after_now_and_within_two_intervals_at_most(
    name: str, every: float, after: float, jitter: float
) -> None:
    due = next_due(name, every, after, jitter)
    assert after < due <= after + every + min(jitter, every) + 1e-3
    assert next_due(name, every, after, jitter) == due
    assert next_due(name, every, due, jitter) > due


def test_jitter_differs_by_tick_and_is_the_same_after_a_restart() -> None:
    def offsets() -> list[float]:
        found, after = [], NOW
        for _ in range(4):
            after = next_due("p", 30.0, after, 5.0)
            found.append(round((after - phase("p", 30.0)) % 30.0, 6))
        return found

    assert offsets() == offsets()
    assert len(set(offsets())) == 4
    assert all(0.0 <= offset < 5.0 for offset in offsets())

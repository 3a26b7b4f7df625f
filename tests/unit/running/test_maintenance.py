"""When a maintenance window is open."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from tocsin.model import MaintenanceWindow
from tocsin.running.maintenance import open_until

PARIS = "Europe/Paris"
HOUR = 3600.0


def at(text: str, zone: str = PARIS) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def weekly(start: float, end: float, *weekdays: int) -> MaintenanceWindow:
    return MaintenanceWindow(start * HOUR, end * HOUR, frozenset(weekdays), PARIS)


SATURDAY_NIGHT = weekly(22, 2, 5)
SUNDAY_EARLY = weekly(1, 4, 6)


@pytest.mark.parametrize(
    ("window", "moment", "until"),
    [
        (MaintenanceWindow(100.0, 200.0), 99.9, None),
        (MaintenanceWindow(100.0, 200.0), 100.0, 200.0),
        (MaintenanceWindow(100.0, 200.0), 200.0, None),
        (SATURDAY_NIGHT, at("2026-11-21T21:59:59"), None),
        (SATURDAY_NIGHT, at("2026-11-21T22:00:00"), at("2026-11-22T02:00:00")),
        (SATURDAY_NIGHT, at("2026-11-22T01:59:59"), at("2026-11-22T02:00:00")),
        (SATURDAY_NIGHT, at("2026-11-22T02:00:00"), None),
        (SATURDAY_NIGHT, at("2026-11-22T22:30:00"), None),
        (weekly(0, 24, 0), at("2026-11-23T23:59:59"), at("2026-11-24T00:00:00")),
        # The clocks go forward on 2026-03-29 at 02:00 and back on 2026-10-25 at 03:00.
        (SUNDAY_EARLY, at("2026-03-29T03:30:00"), at("2026-03-29T04:00:00")),
        (SUNDAY_EARLY, at("2026-03-29T04:00:00"), None),
        (SUNDAY_EARLY, at("2026-10-25T00:59:59"), None),
        (SUNDAY_EARLY, at("2026-10-25T01:00:00"), at("2026-10-25T04:00:00")),
        (SUNDAY_EARLY, at("2026-10-25T02:30:00") + HOUR, at("2026-10-25T04:00:00")),
    ],
)
def test_a_window_includes_its_start_and_excludes_its_end(
    window: MaintenanceWindow, moment: float, until: float | None
) -> None:
    assert open_until([window], moment) == until


def test_a_window_that_ends_in_the_hour_that_comes_twice_ends_with_the_second_one() -> None:
    window = weekly(1, 2.5, 6)
    first = at("2026-10-25T02:30:00")
    assert open_until([window], first) == first + HOUR


@pytest.mark.parametrize("window", [weekly(22, 2.5, 5), weekly(1.75, 2.5, 6)])
def test_a_window_that_ends_in_the_hour_that_is_left_out_is_not_shorter(window: MaintenanceWindow) -> None:
    last = at("2026-03-29T01:59:59")
    assert open_until([window], last) == last + 1 + HOUR / 2


def test_the_same_window_is_open_at_other_moments_elsewhere() -> None:
    tokyo = MaintenanceWindow(22 * HOUR, 23 * HOUR, frozenset({5}), "Asia/Tokyo")
    assert open_until([tokyo], at("2026-11-21T22:30:00")) is None
    assert open_until([tokyo], at("2026-11-21T22:30:00", "Asia/Tokyo")) is not None


def test_of_several_open_windows_the_latest_end_counts() -> None:
    windows = [MaintenanceWindow(0.0, 150.0), MaintenanceWindow(100.0, 300.0), MaintenanceWindow(200.0, 900.0)]
    assert open_until(windows, 120.0) == 300.0


def test_without_windows_nothing_is_open() -> None:
    assert open_until([], 120.0) is None

"""Maintenance windows: whether one is open, and until when. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from tocsin.model import MaintenanceWindow


def open_until(windows: Iterable[MaintenanceWindow], at: float) -> float | None:
    """The latest end of the windows that are open at ``at`` (Unix seconds); None when none is.

    A window includes its start and excludes its end.
    """
    ends = [end for window in windows if (end := _open_until(window, at)) is not None]
    return max(ends, default=None)


def _open_until(window: MaintenanceWindow, at: float) -> float | None:
    if window.weekdays is None:
        return window.end if window.start <= at < window.end else None
    zone = ZoneInfo(window.timezone)
    today = datetime.fromtimestamp(at, zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    overnight = timedelta(days=1 if window.end <= window.start else 0)
    for midnight in (today, today - timedelta(days=1)):
        if midnight.weekday() not in window.weekdays:
            continue
        # Arithmetic on an aware datetime is on the wall clock: 22:00 stays 22:00 when the clocks change at night.
        start = (midnight + timedelta(seconds=window.start)).timestamp()
        # The later one of what that time can be: of an hour that comes twice, and of one that is left out.
        wall = midnight + overnight + timedelta(seconds=window.end)
        end = max(wall.replace(fold=fold).timestamp() for fold in (0, 1))
        if start <= at < end:
            return end
    return None

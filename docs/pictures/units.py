"""Numbers as a panel writes them: the units that the dashboards use, and axes with round steps."""

from __future__ import annotations

import math

_SECONDS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (0.001, "ms"))
_BYTES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B"))
_SHORT = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def written(value: float, unit: str, now: float) -> str:
    """A value in a Grafana unit. ``now``: Unix time, for times that are told from it.

    Raises `ValueError` for a unit that no dashboard has used yet.
    """
    if math.isnan(value):
        return "–"
    match unit:
        case "" | "short":
            return _scaled(value, _SHORT) if abs(value) >= 1000 else _plain(value)
        case "s":
            return _scaled(value, _SECONDS) if value else "0 s"
        case "bytes":
            return _scaled(value, _BYTES) if value else "0 B"
        case "percentunit":
            return f"{_plain(value * 100)} %"
        case "bool_yes_no":
            return "yes" if value else "no"
        case "dateTimeFromNow":
            return f"{_whole(max(1.0, now - value / 1000))} ago"
    raise ValueError(f"the unit {unit!r} cannot be written yet")


def steps(low: float, high: float, unit: str, *, whole: bool) -> list[float]:
    """Some four round values from ``low`` to ``high``, both covered; ``whole`` ones where only such occur."""
    if high <= low:
        high = low + 1
    rough = (high - low) / 4
    base = 60.0 if unit == "s" and rough >= 30 else 10.0
    size = base ** math.floor(math.log(rough, base)) if rough > 0 else 1.0
    for factor in (1, 2, 5, 10, 15, 20, 30, 60) if base == 60.0 else (1, 2, 2.5, 5, 10):
        if size * factor >= rough:
            size *= factor
            break
    if whole:
        size = max(1.0, size)
    first = math.floor(low / size)
    return [size * position for position in range(first, math.ceil(high / size - 1e-9) + 1)]


def _scaled(value: float, scale: tuple[tuple[float, str], ...]) -> str:
    size, name = next(((size, name) for size, name in scale if abs(value) >= size), scale[-1])
    space = "" if scale is _SHORT else " "
    return f"{_plain(value / size)}{space}{name}"


def _whole(seconds: float) -> str:
    size, name = next((size, name) for size, name in _SECONDS if seconds >= size)
    return f"{seconds / size:.0f} {name}"


def _plain(value: float) -> str:
    if value == round(value):
        return f"{value:.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"

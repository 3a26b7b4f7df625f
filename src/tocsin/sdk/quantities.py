"""Durations, sizes, lists and time zones as people write them: ``30s``, ``1MiB``, ``a, b``, ``Europe/Paris``."""

from __future__ import annotations

import re
import zoneinfo
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)(ms|s|m|h|d|w))")
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|kB|MB|GB)")
_SIZE_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "kB": 10**3, "MB": 10**6, "GB": 10**9}


def parse_duration(value: object) -> float:
    """Seconds from ``"1h30m"``, ``"250ms"`` or a `float` already in seconds made by us. Raises `ValueError`."""
    if isinstance(value, float):
        return value
    text = str(value).strip()
    parts = _DURATION.findall(text)
    if isinstance(value, bool) or not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration; write a number and a unit: 500ms, 30s, 5m, 1h30m, 7d")
    return float(sum(float(number) * _DURATION_UNITS[unit] for number, unit in parts))


def format_duration(seconds: float) -> str:
    """The shortest of the forms that `parse_duration` reads, to the millisecond: ``90.0`` gives ``"1m30s"``."""
    milliseconds = round(seconds * 1000)
    if milliseconds == 0:
        return "0s"
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, milliseconds = divmod(milliseconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def parse_size(value: object) -> int:
    """Bytes from ``"1MiB"`` or an `int` of bytes. Raises `ValueError`."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(str(value).strip())
    if match is None:
        raise ValueError(f"{value!r} is not a size; write a number and a unit: 64KiB, 1MiB, 10MB")
    return int(float(match[1]) * _SIZE_UNITS[match[2]])


Seconds = Annotated[float, BeforeValidator(parse_duration), Field(ge=0)]
"""A setting in seconds, written as a duration."""

ByteCount = Annotated[int, BeforeValidator(parse_size), Field(gt=0)]
"""A setting in bytes, written as a size."""


def split_words(value: object) -> object:
    """The parts of ``"a, b"``, so that a list fits in one environment variable; anything else unchanged."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], BeforeValidator(split_words)]
"""A setting that is a list of words: a YAML list, or one text with commas."""


def known_zone(name: str) -> str:
    """The name itself. Raises `ValueError` when this machine's time zone database does not know it."""
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is not a time zone; write UTC or a name like Europe/Paris") from error
    return name


Zone = Annotated[str, AfterValidator(known_zone)]
"""A setting that is the name of a time zone."""

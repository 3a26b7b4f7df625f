"""Maintenance windows as they are written: one interval, or a weekly time of day."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from tocsin.model import MaintenanceWindow

_TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _known_timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise ValueError(f"{name!r} is not a time zone; write a name such as Europe/Paris") from None
    return name


class WindowSettings(BaseModel):
    """``{start: 2026-12-01T22:00:00Z, end: 2026-12-02T02:00:00Z}``, or
    ``{weekdays: [sat, sun], start: 22:00, end: 02:00, timezone: Europe/Paris}``; both take a ``comment``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: str
    end: str
    weekdays: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] | None = None
    timezone: Annotated[str, AfterValidator(_known_timezone)] = "UTC"
    comment: str = ""

    @model_validator(mode="after")
    def _is_a_window(self) -> WindowSettings:
        window = self.window()
        if self.weekdays == ():
            raise ValueError("weekdays is empty; name a day, or leave it out for a single interval")
        if window.start == window.end or (self.weekdays is None and window.end < window.start):
            raise ValueError("the end should come after the start")
        return self

    def window(self) -> MaintenanceWindow:
        """The window in numbers. Raises `ValueError` for a time that cannot be read."""
        if self.weekdays is None:
            start, end = self._instant(self.start), self._instant(self.end)
            return MaintenanceWindow(start, end, None, self.timezone, self.comment)
        days = frozenset(map(_WEEKDAYS.index, self.weekdays))
        return MaintenanceWindow(_seconds(self.start), _seconds(self.end), days, self.timezone, self.comment)

    def _instant(self, text: str) -> float:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            hint = "write 2026-12-01T22:00:00Z, or give weekdays and a time of day such as 22:00"
            raise ValueError(f"{text!r} is not a date and time; {hint}") from None
        zone = UTC if self.timezone == "UTC" else ZoneInfo(self.timezone)
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()


def _seconds(text: str) -> float:
    match = _TIME_OF_DAY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a time of day; write 22:00")
    return int(match[1]) * 3600.0 + int(match[2]) * 60.0

"""The three outcomes of a run and the two severities of a reason."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """What a run says about its target. ``unknown`` means the probe could not tell; it is never ``ok``."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"

    @property
    def rank(self) -> int:
        """How bad it is, for picking the worst: ok 0, unknown 1, failed 2."""
        return _RANK[self]


class Severity(StrEnum):
    """Who is told: ``page`` wakes someone up, ``ticket`` waits for working hours."""

    PAGE = "page"
    TICKET = "ticket"

    @property
    def rank(self) -> int:
        """How urgent it is, for picking the worst: ticket 0, page 1."""
        return 1 if self is Severity.PAGE else 0


_RANK = {Status.OK: 0, Status.UNKNOWN: 1, Status.FAILED: 2}

"""What a walk remembers of a chain: unbroken fragments and runs of bad rows. Summaries join, so segments can be
verified apart, in any process, and a walk can be resumed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

Part = int | str | datetime | UUID
Key = tuple[Part, ...]
"""A row's place in the order of its chain: the values of the ``order_by`` columns."""

MAX_FRAGMENTS = 2000
"""How many breaks of linkage one walk tells apart; what comes after is only counted."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row as read. ``previous`` is the genesis value in the first row. ``good``: whether the recomputed MAC is
    the stored one; None when it was not recomputed (mode linkage), but False without a MAC. ``known_key``: whether a
    key was there for it."""

    key: Key
    previous: bytes
    mac: bytes
    good: bool | None = None
    known_key: bool = True
    time: float | None = None
    expected: bytes | None = None


@dataclass(frozen=True, slots=True)
class Fragment:
    """Rows in order, each linked to the one before. ``start`` is the ordinal of its first row in the walk."""

    start: int
    rows: int
    first: Key
    last: Key
    previous: bytes
    first_mac: bytes
    last_mac: bytes
    first_time: float | None = None
    last_time: float | None = None

    @property
    def end(self) -> int:
        """The ordinal of the last row."""
        return self.start + self.rows - 1


@dataclass(frozen=True, slots=True)
class BadRun:
    """Rows next to one another that do not verify by themselves. ``unknown_key``: no key was there to verify them."""

    start: int
    rows: int
    first: Key
    last: Key
    unknown_key: bool
    first_time: float | None = None
    last_time: float | None = None

    @property
    def end(self) -> int:
        return self.start + self.rows - 1

    def covers(self, ordinal: int) -> bool:
        return self.start <= ordinal <= self.end


@dataclass(frozen=True, slots=True)
class Summary:
    """A stretch of one chain. ``overflow``: breaks of linkage beyond `MAX_FRAGMENTS`, counted but not kept."""

    rows: int = 0
    fragments: tuple[Fragment, ...] = ()
    bad: tuple[BadRun, ...] = ()
    overflow: int = 0

    @property
    def intact(self) -> bool:
        """Nothing is wrong inside; says nothing about its two ends."""
        return len(self.fragments) <= 1 and not self.bad and not self.overflow

    @property
    def head(self) -> Fragment | None:
        """The fragment that holds the last row."""
        return self.fragments[-1] if self.fragments else None


def scan(rows: Iterable[Row]) -> Summary:
    """The summary of rows in order."""
    summary = Builder()
    for row in rows:
        summary.add(row)
    return summary.result()


class Builder:
    """Builds a summary row by row."""

    def __init__(self) -> None:
        self._rows = 0
        self._fragments: list[Fragment] = []
        self._bad: list[BadRun] = []
        self._overflow = 0
        self._open: Fragment | None = None

    def add(self, row: Row) -> None:
        at = self._rows
        self._rows += 1
        current = self._open
        if current is not None and row.previous == current.last_mac:
            self._open = replace(current, rows=current.rows + 1, last=row.key, last_mac=row.mac, last_time=row.time)
        else:
            self._close()
            self._open = Fragment(at, 1, row.key, row.key, row.previous, row.mac, row.mac, row.time, row.time)
        if row.good is False or not row.known_key:
            self._bad.append(BadRun(at, 1, row.key, row.key, not row.known_key, row.time, row.time))
            if len(self._bad) >= 2:
                self._bad[-2:] = _merged(self._bad[-2], self._bad[-1])

    def result(self) -> Summary:
        self._close()
        self._open = None
        return Summary(self._rows, tuple(self._fragments), tuple(self._bad[:MAX_FRAGMENTS]), self._overflow)

    def _close(self) -> None:
        if self._open is None:
            return
        if len(self._fragments) >= MAX_FRAGMENTS:
            self._overflow += 1
            self._fragments[-1] = self._open
        else:
            self._fragments.append(self._open)


def join(left: Summary, right: Summary) -> Summary:
    """The summary of ``left``'s rows followed by ``right``'s. Associative; the empty summary is its unit."""
    if not left.rows or not right.rows:
        return right if not left.rows else left
    shift = left.rows
    moved = [replace(fragment, start=fragment.start + shift) for fragment in right.fragments]
    fragments = [*left.fragments]
    if fragments and moved and moved[0].previous == fragments[-1].last_mac:
        fragments[-1] = _linked(fragments[-1], moved.pop(0))
    fragments += moved
    overflow = left.overflow + right.overflow
    if len(fragments) > MAX_FRAGMENTS:
        overflow += len(fragments) - MAX_FRAGMENTS
        fragments[MAX_FRAGMENTS - 1 :] = fragments[-1:]
    bad = [*left.bad]
    for run in right.bad:
        bad.append(replace(run, start=run.start + shift))
        if len(bad) >= 2:
            bad[-2:] = _merged(bad[-2], bad[-1])
    return Summary(left.rows + right.rows, tuple(fragments), tuple(bad[:MAX_FRAGMENTS]), overflow)


def _linked(left: Fragment, right: Fragment) -> Fragment:
    return replace(
        left, rows=left.rows + right.rows, last=right.last, last_mac=right.last_mac, last_time=right.last_time
    )


def _merged(left: BadRun, right: BadRun) -> list[BadRun]:
    if left.unknown_key == right.unknown_key and left.end + 1 == right.start:
        return [replace(left, rows=left.rows + right.rows, last=right.last, last_time=right.last_time)]
    return [left, right]

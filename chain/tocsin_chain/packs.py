"""Many rows in one value: the fast way to verify a stretch in which nothing is wrong.

The server joins previous MACs, MACs and payloads of some hundred rows into one value each; here the MACs are
recomputed and compared as one. Whatever does not fit exactly is read again row by row, so a pack can only say "all of
it is right". Measured against one COPY row for each table row, this halves the work of server and driver.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from tocsin_chain.forms import PreviousPlace
from tocsin_chain.fragments import Fragment, Key, Summary
from tocsin_chain.macs import MAC_BYTES, KeyRing, MacKey, same

_HEADER = b"PGCOPY\n\xff\r\n\0"
_LENGTH = struct.Struct(">i")
_COUNT = struct.Struct(">h")
_INT64 = struct.Struct(">q")
_FLOAT64 = struct.Struct(">d")


@dataclass(frozen=True, slots=True)
class Pack:
    """Rows of one chain in order. ``lengths``: big-endian int32 of each payload. ``times``: smallest and largest."""

    chain: str
    rows: int
    first: Key
    last: Key
    previous: bytes
    macs: bytes
    lengths: bytes = b""
    payloads: bytes = b""
    key_ids: tuple[str | None, str | None] = (None, None)
    times: tuple[float | None, float | None] = (None, None)

    def emptied(self) -> Pack:
        """Which rows these were, without their contents."""
        return Pack(self.chain, self.rows, self.first, self.last, b"", b"")


class CopyRows:
    """Takes a binary COPY apart as it arrives. PostgreSQL documentation, COPY, "Binary Format"."""

    def __init__(self) -> None:
        self._rest = b""
        self._begun = False

    def feed(self, data: bytes) -> Iterator[tuple[bytes | None, ...]]:
        """The rows that are complete now. Raises `ValueError` when this is not a binary COPY."""
        # The driver hands out bytearrays, too, which could not be compared by hash later.
        content = self._rest + data if self._rest else bytes(data)
        at = 0
        if not self._begun:
            if len(content) < len(_HEADER) + 8:
                self._rest = content
                return
            if not content.startswith(_HEADER):
                raise ValueError("not a binary COPY")
            at = len(_HEADER) + 8 + _LENGTH.unpack_from(content, len(_HEADER) + 4)[0]
            self._begun = True
        while (row := _row(content, at)) is not None:
            values, at = row
            yield values
        self._rest = content[at:]


def _row(content: bytes, at: int) -> tuple[tuple[bytes | None, ...], int] | None:
    """The row at an offset and where the next one begins; None when it is not complete, or the trailer."""
    size = len(content)
    if at + 2 > size:
        return None
    (count,) = _COUNT.unpack_from(content, at)
    if count < 0:
        return None
    at += 2
    values: list[bytes | None] = []
    for _ in range(count):
        if at + 4 > size:
            return None
        (length,) = _LENGTH.unpack_from(content, at)
        at += 4
        if length < 0:
            values.append(None)
            continue
        if at + length > size:
            return None
        values.append(content[at : at + length])
        at += length
    return tuple(values), at


def integer_pack(values: tuple[bytes | None, ...]) -> Pack:
    """The pack of one COPY row, whose columns are those of `tocsin_chain.source`, with a bigint key."""
    chain, rows, first, last, previous, macs, lengths, payloads, low_id, high_id, low, high = values
    return Pack(
        (chain or b"").decode(),
        _int(rows),
        (_int(first),),
        (_int(last),),
        previous or b"",
        macs or b"",
        lengths or b"",
        payloads or b"",
        (_text(low_id), _text(high_id)),
        (_float(low), _float(high)),
    )


def verify_pack(pack: Pack, ring: KeyRing | None, place: PreviousPlace, zero_is_genesis: bool) -> Summary | None:
    """The summary of a pack in which everything is right; None when its rows have to be looked at one by one."""
    rows, macs, previous = pack.rows, pack.macs, pack.previous
    if len(previous) == MAC_BYTES * (rows - 1):
        first = b""
    elif len(previous) == MAC_BYTES * rows:
        first = previous[:MAC_BYTES]
    else:
        return None
    if len(macs) != MAC_BYTES * rows or previous[len(first) :] != macs[:-MAC_BYTES]:
        return None
    if ring is not None:
        key = _key(pack, ring)
        if key is None or len(pack.lengths) != 4 * rows:
            return None
        expected = _recomputed(pack, key, place, first)
        if expected is None or not same(expected, macs):
            return None
    start = b"" if zero_is_genesis and first == b"\0" * MAC_BYTES else first
    low, high = pack.times
    return Summary(
        rows,
        (Fragment(0, rows, pack.first, pack.last, start, macs[:MAC_BYTES], macs[-MAC_BYTES:], low, high),),
    )


def _key(pack: Pack, ring: KeyRing) -> MacKey | None:
    """The one key of all rows; None when there may be several."""
    if ring.single is not None:
        return ring.single
    if ring.by_id and (pack.key_ids[0] is None or pack.key_ids[0] != pack.key_ids[1]):
        return None
    low = ring.candidates(pack.key_ids[0], pack.times[0])
    high = ring.candidates(pack.key_ids[0], pack.times[1])
    return low[0].key if len(low) == 1 and low == high else None


def _recomputed(pack: Pack, key: MacKey, place: PreviousPlace, first: bytes) -> bytes | None:
    """All MACs of a pack, joined. The loop is written out: it is where a walk spends its time."""
    lengths = struct.unpack(f">{pack.rows}i", pack.lengths)
    payloads = pack.payloads
    if sum(lengths) != len(payloads):
        return None
    inner_state, outer_state = key.states()
    out = []
    if place is PreviousPlace.FIRST_RAW:
        macs, before = pack.macs, first
        at = end = 0
        for length in lengths:
            stop = at + length
            inner = inner_state()
            inner.update(before + payloads[at:stop])
            outer = outer_state()
            outer.update(inner.digest())
            out.append(outer.digest())
            at, begin, end = stop, end, end + MAC_BYTES
            before = macs[begin:end]
        return b"".join(out)
    for stop, length in zip(accumulate(lengths), lengths, strict=True):
        inner = inner_state()
        inner.update(payloads[stop - length : stop])
        outer = outer_state()
        outer.update(inner.digest())
        out.append(outer.digest())
    return b"".join(out)


def _int(value: bytes | None) -> int:
    return int(_INT64.unpack(value or b"")[0])


def _float(value: bytes | None) -> float | None:
    return None if value is None else float(_FLOAT64.unpack(value)[0])


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()

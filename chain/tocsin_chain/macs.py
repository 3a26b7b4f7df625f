"""HMAC-SHA-256 with its two hash states computed once for each key, and keys by id with validity."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass

MAC_BYTES = 32
_BLOCK = 64


class MacKey:
    """One HMAC-SHA-256 key (RFC 2104). ``mac`` costs two state copies instead of two key schedules.

    The key itself is not kept; the states allow to compute MACs but not to read the key.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, secret: bytes) -> None:
        block = (hashlib.sha256(secret).digest() if len(secret) > _BLOCK else secret).ljust(_BLOCK, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def mac(self, message: bytes) -> bytes:
        inner = self._inner.copy()
        inner.update(message)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()

    def states(self) -> tuple[Callable[[], hashlib._Hash], Callable[[], hashlib._Hash]]:
        """The ``copy`` functions of the inner and outer state, for loops that cannot pay for a method call a row."""
        return self._inner.copy, self._outer.copy

    def __repr__(self) -> str:
        return "MacKey(********)"


@dataclass(frozen=True, slots=True)
class ChainKey:
    """A key of the audited platform. Valid for rows with ``valid_from <= time < valid_to`` (Unix seconds)."""

    id: str
    key: MacKey
    valid_from: float | None = None
    valid_to: float | None = None

    def covers(self, time: float | None) -> bool:
        """Whether a row of this time may carry this key; a row without a time may carry any."""
        if time is None:
            return True
        return (self.valid_from is None or self.valid_from <= time) and (self.valid_to is None or time < self.valid_to)


@dataclass(frozen=True, slots=True)
class KeyRing:
    """All keys that rows of one chain may have been made with. ``by_id``: rows name their key in a column."""

    keys: tuple[ChainKey, ...]
    by_id: bool = False

    def candidates(self, key_id: str | None, time: float | None) -> tuple[ChainKey, ...]:
        """The keys that may have made a row; none when its key id is not configured or not valid at that time."""
        return tuple(key for key in self.keys if (not self.by_id or key.id == key_id) and key.covers(time))

    @property
    def single(self) -> MacKey | None:
        """The key, when every row must have been made with this one and no validity has to be looked at."""
        if len(self.keys) == 1 and not self.by_id and self.keys[0].valid_from is None and self.keys[0].valid_to is None:
            return self.keys[0].key
        return None


def same(left: bytes, right: bytes) -> bool:
    """Constant-time equality."""
    return hmac.compare_digest(left, right)


def verify(ring: KeyRing, key_id: str | None, time: float | None, message: bytes, stored: bytes) -> Verdict:
    """Whether ``stored`` is the MAC of ``message`` under one of the keys that may have made the row."""
    candidates = ring.candidates(key_id, time)
    if not candidates:
        return Verdict(None, None)
    expected = candidates[0].key.mac(message)
    for candidate in candidates:
        expected = candidate.key.mac(message)
        if same(expected, stored):
            return Verdict(True, expected)
    return Verdict(False, expected)


@dataclass(frozen=True, slots=True)
class Verdict:
    """``good`` is None when no key may have made the row; ``expected`` is the recomputed MAC."""

    good: bool | None
    expected: bytes | None


def recompute(key: MacKey, messages: Iterable[bytes]) -> bytes:
    """The MACs of all messages, joined: what a bulk comparison against the stored ones needs."""
    inner_state, outer_state = key.states()
    macs = []
    for message in messages:
        inner = inner_state()
        inner.update(message)
        outer = outer_state()
        outer.update(inner.digest())
        macs.append(outer.digest())
    return b"".join(macs)

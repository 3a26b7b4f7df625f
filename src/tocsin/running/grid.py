"""When a probe is due: a fixed-rate grid on the wall clock. Pure.

The grid of a probe is ``phase + k * every`` since the Unix epoch. The phase comes from the name alone, so probes are
spread evenly, a restart keeps every due time, and two replicas agree on them.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from math import floor


def fraction(text: str) -> float:
    """A number in [0, 1) that is always the same for the same text, on any machine."""
    return int.from_bytes(blake2b(text.encode(), digest_size=6).digest()) / 2**48


@lru_cache(maxsize=10_000)
def phase(name: str, every: float) -> float:
    """Seconds in [0, every) by which the grid of this probe is shifted."""
    return fraction(name) * every


def next_due(name: str, every: float, after: float, jitter: float = 0.0) -> float:
    """The first due time strictly after ``after``, in Unix seconds.

    ``jitter`` seconds at most are added to each tick, always the same for the same tick; it is bounded by ``every``
    so that ticks keep their order.
    """
    offset = phase(name, every)
    jitter = min(jitter, every)
    tick = floor((after - offset - jitter) / every)
    while True:
        due = offset + tick * every
        if jitter:
            due += fraction(f"{name}#{tick}") * jitter
        if due > after:
            return due
        tick += 1

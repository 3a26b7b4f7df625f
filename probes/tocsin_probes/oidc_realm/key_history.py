"""When the signing keys of a realm came and went. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SeenKey:
    """When a signing key was first seen, and when it was found gone (Unix seconds; ``gone`` None while it is there).

    ``first`` is 0 for keys that were there at the first look: nobody knows how old they are.
    """

    first: float
    gone: float | None = None


def remember(before: Mapping[str, SeenKey] | None, present: Sequence[str], now: float) -> dict[str, SeenKey]:
    """What is known of signing keys after a look at ``now``. ``before`` None: the first look, whose keys are not new.

    A key that comes back is new again, because clients may have fetched the set without it. Gone ones are forgotten
    after a day.
    """
    if before is None:
        return {kid: SeenKey(0.0) for kid in present}
    after = {
        kid: key if key.gone is not None else SeenKey(key.first, now)
        for kid, key in before.items()
        if kid not in present and (key.gone is None or now - key.gone < 86400)
    }
    for kid in present:
        known = before.get(kid)
        after[kid] = known if known is not None and known.gone is None else SeenKey(now)
    return after


def may_be_missed(kid: str, seen: Mapping[str, SeenKey], now: float, lifetime: float) -> bool:
    """Whether tokens signed with a key that went may still be alive.

    They are dead a ``lifetime`` after it went, or when another key had come a ``lifetime`` before: a provider signs
    with its newest key at once.
    """
    key = seen[kid]
    if key.gone is None or now - key.gone >= lifetime:
        return False
    successors = [other.first for other in seen.values() if other.gone is None and other.first > key.first]
    return not any(key.gone - came >= lifetime for came in successors)


def recalled(memory: Mapping[str, Any], url: str) -> dict[str, SeenKey] | None:
    """The keys of earlier runs; None when there was none, or when it looked elsewhere."""
    if memory.get("url") != url:
        return None
    return {kid: SeenKey(*times) for kid, times in memory["keys"].items()}


def memorable(seen: Mapping[str, SeenKey], url: str) -> dict[str, Any]:
    """What `recalled` reads, as JSON."""
    return {"url": url, "keys": {kid: [key.first, key.gone] for kid, key in seen.items()}}

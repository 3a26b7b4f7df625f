"""The account that pays: its recent spend, and transactions of it that do not get mined. Pure.

Both remember: ``memory["spend"]`` is ``[time, balance, spent, span]`` (Unix seconds, wei, wei, seconds),
``memory["nonce"]`` is ``[mined, since]``.
"""

from __future__ import annotations

import math
from collections.abc import MutableMapping
from typing import Any

SPEND_WINDOW = 7 * 86400.0
"""Seconds after which a spend counts for a third."""

MIN_SPAN = 6 * 3600.0
"""Seconds that must have been watched before a rate is told."""


def days_left(memory: MutableMapping[str, Any], now: float, balance: int, floor: int) -> float | None:
    """Days until the balance reaches ``floor`` at the recent spend; None when nothing was spent or too little seen.

    Only decreases count: a top-up is no negative spend.
    """
    then, before, spent, span = memory.get("spend", (now, balance, 0.0, 0.0))
    passed = max(0.0, now - then)
    fading = math.exp(-passed / SPEND_WINDOW)
    spent, span = spent * fading + max(0, before - balance), span * fading + passed
    memory["spend"] = [now, balance, spent, span]
    if span < MIN_SPAN or spent <= 0:
        return None
    return float(max(0, balance - floor) / (spent / span) / 86400)


def stuck_for(memory: MutableMapping[str, Any], now: float, mined: int, waiting: int) -> float:
    """Seconds for which transactions have been waiting while none was mined; 0 when none waits."""
    known, since = memory.get("nonce", (mined, now))
    if waiting <= 0 or known != mined:
        since = now
    memory["nonce"] = [mined, since]
    return float(now - since)

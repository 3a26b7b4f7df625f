"""How much a count has grown within a time, from what earlier runs counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict, Field

from tocsin.sdk.quantities import Seconds

SAMPLES = 60
"""Counts that are remembered for one time; the time is divided into so many."""


class GrowthLimit(BaseModel):
    """``rows``: how many may be added; ``over``: within which time. What goes again does not count against it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: int = Field(ge=0)
    over: Seconds = Field(gt=0)


def grown(
    samples: Iterable[Sequence[float]], count: int, now: float, over: float
) -> tuple[tuple[tuple[float, float], ...], int]:
    """What to remember, and by how much ``count`` is above the lowest count of the last ``over`` seconds.

    ``samples``: what this function gave for the run before: the start of a 60th of the time (Unix seconds), and the
    lowest count in it. 0 at the first run.
    """
    slot = now - now % (over / SAMPLES)
    lowest = {sample[0]: sample[1] for sample in samples if now - over <= sample[0] <= now}
    lowest[slot] = min(count, lowest.get(slot, count))
    return tuple(sorted(lowest.items())), int(count - min(lowest.values()))

"""Which drills may run at once: those of different incidents whose effects stay there."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tocsin.paging.drills.catalogue import Drill


def batches(
    drills: Iterable[Drill], at_once: int, meet: Callable[[Drill, Drill], bool] | None = None
) -> list[list[Drill]]:
    """The drills in batches of at most ``at_once``, in order, none of which ``meet`` another of its batch: by default,
    of one incident, or of one system where one must be ``alone``."""
    kept_apart = meet or _meet
    found: list[list[Drill]] = []
    for drill in drills:
        fitting = (
            batch for batch in found if len(batch) < at_once and not any(kept_apart(drill, other) for other in batch)
        )
        batch = next(fitting, None)
        if batch is None:
            found.append([drill])
        else:
            batch.append(drill)
    return found


def _meet(one: Drill, other: Drill) -> bool:
    """Whether one could change what the other shows."""
    if one.system != other.system:
        return False
    return one.alone or other.alone or one.incident == other.incident

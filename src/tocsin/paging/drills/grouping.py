"""Which drills may run at once: those of different incidents whose effects stay there."""

from __future__ import annotations

from collections.abc import Iterable

from tocsin.paging.drills.catalogue import Drill


def batches(drills: Iterable[Drill], at_once: int) -> list[list[Drill]]:
    """The drills in batches of at most ``at_once``, in order; those that must be ``alone`` each by themselves."""
    found: list[list[Drill]] = []
    for drill in drills:
        fitting = (
            batch
            for batch in found
            if not drill.alone
            and not batch[0].alone
            and len(batch) < at_once
            and drill.group not in {other.group for other in batch}
        )
        batch = next(fitting, None)
        if batch is None:
            found.append([drill])
        else:
            batch.append(drill)
    return found

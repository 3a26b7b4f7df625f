"""What a kind measures: the declaration of a gauge and one value of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gauge:
    """A declared gauge. ``name`` starts with ``tocsin_`` and ends in its base unit where it has one.

    ``labels`` come after ``probe``, which every sample carries by itself.
    """

    name: str
    help: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Measurement:
    """One sample of a gauge, belonging to the run that took it. ``labels`` follow the gauge's order."""

    gauge: Gauge
    value: float
    labels: tuple[str, ...] = ()

    def label_map(self) -> dict[str, str]:
        """The labels by name, as shown by ``tocsin probe --json``."""
        return dict(zip(self.gauge.labels, self.labels, strict=True))

"""One finished run: the outcome and all that is known about how it came about."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tocsin.model.measurement import Measurement
from tocsin.model.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Attachment:
    """Something a run keeps for evidence (sample rows, an answer's body), bounded and redacted by the engine."""

    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Run:
    """Facts of one run. ``started_at`` is Unix time in seconds; ``duration_seconds`` is measured monotonically."""

    probe: str
    outcome: Outcome
    started_at: float
    duration_seconds: float
    trace_id: str
    request_id: str
    measurements: tuple[Measurement, ...] = ()
    attachments: tuple[Attachment, ...] = ()

    def without_attachments(self) -> Run:
        return replace(self, attachments=()) if self.attachments else self

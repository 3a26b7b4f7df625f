"""What happened, as rows that are kept: finished runs without their measurements, and when a change is a transition."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from tocsin.model import Attachment, ProbeState, Run, Severity, Status, Transition

MAX_DETAIL_CHARACTERS = 2000
MAX_EVIDENCE_BYTES = 16 * 1024
"""How much of what one run attached is kept, all together; the rest is cut."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One finished run as history keeps it. Times as in `tocsin.model.Run`."""

    probe: str
    started_at: float
    duration_seconds: float
    status: Status
    reason: str | None
    severity: Severity | None
    detail: str
    trace_id: str
    request_id: str

    @classmethod
    def of(cls, run: Run) -> Self:
        outcome = run.outcome
        return cls(
            probe=run.probe,
            started_at=run.started_at,
            duration_seconds=run.duration_seconds,
            status=outcome.status,
            reason=outcome.reason,
            severity=outcome.severity,
            detail=_kept(outcome.detail),
            trace_id=run.trace_id,
            request_id=run.request_id,
        )


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the latest bad run that attached anything attached, in the order in which it did. Times in Unix seconds."""

    probe: str
    started_at: float
    trace_id: str
    request_id: str
    attachments: tuple[Attachment, ...]

    @classmethod
    def of(cls, run: Run) -> Self | None:
        """None for a run that was ok or attached nothing."""
        if run.outcome.status is Status.OK or not run.attachments:
            return None
        kept, room = [], MAX_EVIDENCE_BYTES
        for attachment in run.attachments:
            kept.append(replace(attachment, content=attachment.content[:room]))
            room -= len(kept[-1].content)
        return cls(run.probe, run.started_at, run.trace_id, run.request_id, tuple(kept))


def transition(probe: str, before: ProbeState, after: ProbeState, at: float) -> Transition | None:
    """The transition from ``before`` to ``after``, None when nothing changed that anybody is told about."""
    if _told(before) == _told(after):
        return None
    return Transition(
        probe=probe,
        at=at,
        status_before=before.status,
        status=after.status,
        reason=after.reason,
        alerting=after.alerting,
        detail=_kept(after.detail),
        caused_by=after.caused_by,
    )


def _told(state: ProbeState) -> tuple[object, ...]:
    # `since` tells the first result from none: unknown before any run and unknown after one are not the same.
    never = state.since is None
    return (never, state.status, state.reason, state.alerting, state.severity, state.caused_by)


def _kept(detail: str) -> str:
    """Bounded, and free of lone surrogates, which no UTF-8 file takes."""
    return detail[:MAX_DETAIL_CHARACTERS].encode("utf-8", "replace").decode()

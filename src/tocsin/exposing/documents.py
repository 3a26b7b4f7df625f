"""Runs and probes as JSON: one shape for ``tocsin probe --json`` and for the API."""

from __future__ import annotations

import math
from typing import Any

from tocsin.board import Evidence, RunRecord
from tocsin.model import Attachment, Entry, Finding, Measurement, ProbeSpec, ProbeState, Run, Status, Transition


def runbook_path(spec: ProbeSpec, reason: str | None) -> str:
    """``SYSTEM/INCIDENT``, and ``#KIND.REASON`` when there is a reason."""
    page = f"{spec.system}/{spec.incident}"
    return f"{page}#{spec.kind}.{reason}" if reason else page


def run_document(spec: ProbeSpec, run: Run) -> dict[str, Any]:
    """One run of a probe. Stable. ``vantage``: where it was looked from; empty when that is not configured."""
    outcome = run.outcome
    return {
        "probe": spec.name,
        "kind": spec.kind,
        "system": spec.system,
        "incident": spec.incident,
        "vantage": spec.vantage,
        "status": outcome.status,
        "reason": outcome.reason,
        "detail": outcome.detail,
        "started_at": run.started_at,
        "duration_seconds": run.duration_seconds,
        "trace_id": run.trace_id,
        "request_id": run.request_id,
        "measurements": [_measurement(measurement) for measurement in run.measurements],
        "findings": [finding_document(finding) for finding in outcome.findings],
        "runbook": runbook_path(spec, outcome.reason),
    }


def probe_document(entry: Entry, due_at: float | None = None) -> dict[str, Any]:
    """A probe with its latest run, in the shape of `run_document`, and its confirmed ``state``.

    Before the first run of this process the run's own fields are null and the status is ``unknown``.
    """
    spec = entry.spec
    latest = (
        run_document(spec, entry.run)
        if entry.run is not None
        else {
            "probe": spec.name,
            "kind": spec.kind,
            "system": spec.system,
            "incident": spec.incident,
            "vantage": spec.vantage,
            "status": Status.UNKNOWN,
            "reason": None,
            "detail": "has not run yet",
            "started_at": None,
            "duration_seconds": None,
            "trace_id": None,
            "request_id": None,
            "measurements": [],
            "findings": [],
            "runbook": runbook_path(spec, entry.state.reason),
        }
    )
    return {
        **latest,
        "state": state_document(entry.state),
        "due_at": due_at,
        "every_seconds": spec.every,
        "timeout_seconds": spec.timeout,
        "severity": spec.severity,
        "depends_on": list(spec.depends_on),
        "labels": dict(spec.labels),
        "missing": [missing.variable for missing in spec.missing],
        "runs": {status: entry.counts.runs.get(status, 0) for status in Status},
        "skipped": dict(entry.counts.skipped),
    }


def state_document(state: ProbeState) -> dict[str, Any]:
    """The confirmed state; times in Unix seconds or null."""
    return {
        "status": state.status,
        "reason": state.reason if state.status is not Status.OK else None,
        "detail": state.detail,
        "since": state.since,
        "alerting": state.alerting,
        "alerting_since": state.alerting_since,
        "severity": state.severity,
        "caused_by": state.caused_by,
        "last_run_at": state.last_run_at,
        "last_ok_at": state.last_ok_at,
        "last_status": state.last_status,
        "failed_streak": state.failed_streak,
        "ok_streak": state.ok_streak,
        "unknown_streak": state.unknown_streak,
        "findings": [finding_document(finding) for finding in state.findings],
    }


def record_document(record: RunRecord) -> dict[str, Any]:
    """One run of the history."""
    return {
        "started_at": record.started_at,
        "duration_seconds": record.duration_seconds,
        "status": record.status,
        "reason": record.reason,
        "severity": record.severity,
        "detail": record.detail,
        "trace_id": record.trace_id,
        "request_id": record.request_id,
    }


def evidence_document(evidence: Evidence | None) -> dict[str, Any] | None:
    """What the latest bad run that attached anything attached; ``text`` is null for what is none."""
    if evidence is None:
        return None
    return {
        "started_at": evidence.started_at,
        "trace_id": evidence.trace_id,
        "request_id": evidence.request_id,
        "attachments": [
            {
                "name": attachment.name,
                "media_type": attachment.media_type,
                "bytes": len(attachment.content),
                "text": text_of(attachment),
            }
            for attachment in evidence.attachments
        ],
    }


def text_of(attachment: Attachment) -> str | None:
    """The attachment as text, what is not UTF-8 in it replaced; None when it is none by its media type."""
    if not attachment.media_type.startswith("text/") and attachment.media_type != "application/json":
        return None
    return attachment.content.decode("utf-8", "replace")


def transition_document(change: Transition) -> dict[str, Any]:
    """One transition of the history."""
    return {
        "at": change.at,
        "status_before": change.status_before,
        "status": change.status,
        "reason": change.reason,
        "alerting": change.alerting,
        "detail": change.detail,
        "caused_by": change.caused_by,
    }


def finding_document(finding: Finding) -> dict[str, Any]:
    """One finding of a run or a state."""
    return {
        "reason": finding.reason,
        "status": finding.status,
        "severity": finding.severity,
        "component": finding.component,
        "detail": finding.detail,
    }


def _measurement(measurement: Measurement) -> dict[str, Any]:
    # RFC 8259 has no NaN and no infinity: null, rather than text that no parser takes.
    value = measurement.value if math.isfinite(measurement.value) else None
    return {"name": measurement.gauge.name, "labels": measurement.label_map(), "value": value}

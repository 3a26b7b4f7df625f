"""Facts to JSON and back, for the store."""

from __future__ import annotations

import json
from typing import Any

from tocsin.model import Finding, ProbeState, Severity, Status

_TIMES = ("since", "first_failure_at", "first_page_at", "alerting_since", "waiting_since", "last_run_at", "last_ok_at")
_LATER_TIMES = ("confirmed_at", "page_confirmed_at")
"""Not in what an older version wrote."""
_STREAKS = ("failed_streak", "page_streak", "ok_streak", "unknown_streak")


def encode_state(state: ProbeState) -> str:
    """One line of JSON that `decode_state` reads back to an equal state."""
    document: dict[str, Any] = {
        "status": state.status,
        "detail": state.detail,
        "alerting": state.alerting,
        "severity": state.severity,
        "caused_by": state.caused_by,
        "last_status": state.last_status,
        "findings": [
            [finding.reason, finding.status, finding.severity, finding.component, finding.detail]
            for finding in state.findings
        ],
    }
    document.update((name, getattr(state, name)) for name in (*_TIMES, *_LATER_TIMES, *_STREAKS))
    return json.dumps(document, separators=(",", ":"))


def decode_state(text: str) -> ProbeState:
    """The state that was encoded. Raises `ValueError` for anything that `encode_state` did not write."""
    try:
        document = json.loads(text)
        return ProbeState(
            status=Status(document["status"]),
            detail=str(document["detail"]),
            alerting=bool(document["alerting"]),
            severity=_optional(Severity, document["severity"]),
            caused_by=_optional(str, document["caused_by"]),
            last_status=_optional(Status, document["last_status"]),
            findings=tuple(
                Finding(str(reason), Status(status), Severity(severity), str(component), str(detail))
                for reason, status, severity, component, detail in document["findings"]
            ),
            **{name: _optional(float, document[name]) for name in _TIMES},
            **{name: _optional(float, document.get(name)) for name in _LATER_TIMES},
            **{name: int(document[name]) for name in _STREAKS},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a stored probe state: {error!r}") from error


def _optional(kind: Any, value: Any) -> Any:
    return None if value is None else kind(value)

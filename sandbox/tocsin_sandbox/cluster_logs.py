"""What containers wrote, as a kubelet gives it: pkg/kubelet/kuberuntime/logs/logs.go (ReadLogs) of Kubernetes 1.34.

Lines at or after ``sinceTime`` (whole seconds), each after its own time with nanoseconds when ``timestamps`` are asked
for, cut at ``limitBytes``.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

KEPT_LINES = 10_000


@dataclass(slots=True)
class Logs:
    """By pod's uid and container, each line with its time in nanoseconds."""

    _lines: dict[tuple[str, str], deque[tuple[int, str]]] = field(default_factory=dict)

    def write(self, pod: str, container: str, line: str) -> None:
        """One line, now. ``pod`` is its uid."""
        self._lines.setdefault((pod, container), deque(maxlen=KEPT_LINES)).append((time.time_ns(), line))

    def rotate(self, pod: str, container: str) -> None:
        """What was written is in a file that is not served."""
        self._lines.pop((pod, container), None)

    def read(self, pod: str, container: str, query: Mapping[str, str]) -> bytes | None:
        """The body of an answer; None when the log before a restart is asked for: nothing is restarted here."""
        if query.get("previous") == "true":
            return None
        lines = self._lines.get((pod, container), deque())
        since = datetime.fromisoformat(query["sinceTime"]).timestamp() * 1e9 if "sinceTime" in query else 0
        stamped = query.get("timestamps") == "true"
        body = "".join(f"{_stamp(at)} {line}\n" if stamped else f"{line}\n" for at, line in lines if at >= since)
        return body.encode()[: int(query["limitBytes"]) if "limitBytes" in query else None]


def _stamp(nanoseconds: int) -> str:
    whole = datetime.fromtimestamp(nanoseconds // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{nanoseconds % 10**9:09d}Z"

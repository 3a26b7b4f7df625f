"""Ends the servers of a test run that died before it could.

One small process beside the run (`python -m estate.guard`), fed through a pipe: `+PID` for a server that started,
`-PID` for one that was stopped. When the pipe closes, for whatever reason, what is left is killed.

PR_SET_PDEATHSIG is no substitute: it fires when the *thread* that started the child ends, and is cleared when the
child changes its user (prctl(2)); servers here start from short-lived threads, and PostgreSQL changes its user.
"""

from __future__ import annotations

import atexit
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

from estate.process_tree import members, send

_lock = threading.Lock()
_guard: subprocess.Popen[str] | None = None


def watch(pid: int) -> None:
    """Have the process, its group and its descendants killed when this process ends."""
    _tell(f"+{pid}")


def release(pid: int) -> None:
    """The server has ended: forget it, so that nobody who gets its pid later is hurt."""
    _tell(f"-{pid}")


def _tell(line: str) -> None:
    global _guard  # noqa: PLW0603 (one guard a process)
    with _lock:
        if _guard is None:
            _guard = subprocess.Popen(
                [sys.executable, "-m", "estate.guard"],
                cwd=Path(__file__).parent.parent,
                stdin=subprocess.PIPE,
                text=True,
                # Out of the terminal's group: Ctrl-C must not reach it.
                start_new_session=True,
            )
            atexit.register(_dismiss)
        assert _guard.stdin is not None
        _guard.stdin.write(line + "\n")
        _guard.stdin.flush()


def _dismiss() -> None:
    if _guard is not None and _guard.stdin is not None:
        _guard.stdin.close()
        _guard.wait(timeout=10)


def stand(lines: Iterable[str]) -> None:
    """The guard's own work: remember, and kill what is left at the end of the lines."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watched: set[int] = set()
    for line in lines:
        pid = int(line[1:])
        if line.startswith("+"):
            watched.add(pid)
        else:
            watched.discard(pid)
    for pid in watched:
        send(members(pid), signal.SIGKILL)


if __name__ == "__main__":
    stand(sys.stdin)

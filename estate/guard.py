"""Ends the servers of a test run that died before it could.

One small process beside the run (`python -m estate.guard`), fed through a pipe: `+PID FOLDER` for a server that
started, `-PID` for one that was stopped. When the pipe closes, for whatever reason, what is left is killed and its
folder removed.

PR_SET_PDEATHSIG is no substitute: it fires when the *thread* that started the child ends, and is cleared when the
child changes its user (prctl(2)); servers here start from short-lived threads, and PostgreSQL changes its user.
"""

from __future__ import annotations

import atexit
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from estate.process_tree import members, send

_PATIENCE = 10.0
_lock = threading.Lock()
_guard: subprocess.Popen[str] | None = None


def watch(pid: int, folder: Path) -> None:
    """When this process ends, have that process, its group and its descendants killed, and the folder removed."""
    _tell(f"+{pid} {folder}")


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
        _guard.wait(timeout=60)


def stand(lines: Iterable[str]) -> None:
    """The guard's own work: remember, and kill what is left at the end of the lines."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watched: dict[int, Path] = {}
    for line in lines:
        pid, _, folder = line[1:].strip().partition(" ")
        if line.startswith("+"):
            watched[int(pid)] = Path(folder)
        else:
            watched.pop(int(pid), None)
    for left, folder_left in watched.items():
        deadline = time.monotonic() + _PATIENCE
        while (processes := members(left)) and time.monotonic() < deadline:
            send(processes, signal.SIGKILL)
            time.sleep(0.05)
        shutil.rmtree(folder_left, ignore_errors=True)


if __name__ == "__main__":
    stand(sys.stdin)

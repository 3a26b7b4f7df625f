"""A real server as a child process: a folder and ports of its own, ready when it says so, gone when we are."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from estate import guard
from estate.process_tree import Seen, alive, members, send

_POLL = 0.05
_LOG_LINES_SHOWN = 30


class StartError(Exception):
    """A server did not become ready. The text ends with the last lines of its log."""


class Server(ABC):
    """A server that can be started, frozen, killed and started again on the same ports with the same data.

    The constructor chooses ports and a folder and starts nothing. As a context manager it is started on entry; on exit
    it is stopped and its folder removed, whatever happened inside. Not safe for two threads at once, but different
    servers may start in different threads.
    """

    name: ClassVar[str]
    start_patience: ClassVar[float] = 60.0
    """Seconds until it must be ready."""
    stop_patience: ClassVar[float] = 20.0
    """Seconds between asking it to end and killing it."""
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    port: int
    """Where its clients connect; the same after a restart."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"tocsin-{self.name}-"))
        self.log = self.folder / "server.log"
        self.start_seconds: float | None = None
        """How long the last start took until ready."""
        self.paused = False
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> Sequence[str]:
        """The command line. Called at each start; may write configuration files first."""

    @abstractmethod
    def ready(self) -> bool:
        """One quick look at whether it serves. An OSError counts as no."""

    def prepare(self) -> None:  # noqa: B027 (most servers need nothing)
        """Make what the first start needs (a database cluster, keys). Called before each start."""

    def environment(self) -> Mapping[str, str]:
        """Variables beyond our own environment."""
        return {}

    @property
    def pid(self) -> int:
        """The process id of the running server. Raises RuntimeError when it is not running."""
        if self._process is None:
            raise RuntimeError(f"{self.name} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether its first process lives, frozen or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def processes(self) -> list[Seen]:
        """Every living process that belongs to the server."""
        return members(self._process.pid) if self._process is not None else []

    def start(self) -> Self:
        """Start and wait until ready. Raises StartError; then nothing is left running."""
        if self.running:
            raise RuntimeError(f"{self.name} is already running, pid {self.pid}")
        began = time.monotonic()
        self.prepare()
        command = list(self.command())
        with self.log.open("ab") as log:
            log.write(f"$ {' '.join(command)}\n".encode())
            log.flush()
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        guard.watch(self._process.pid, self.folder)
        try:
            self.await_ready()
        except BaseException:
            self.kill()
            raise
        self.start_seconds = time.monotonic() - began
        return self

    def await_ready(self) -> None:
        """Wait until it is ready (again, after a reload or a resume). Raises StartError after `start_patience`."""
        if self._process is None:
            raise RuntimeError(f"{self.name} is not running")
        began = time.monotonic()
        while time.monotonic() - began < self.start_patience:
            if (code := self._process.poll()) is not None:
                raise StartError(f"{self.name} ended with status {code} before it was ready.\n{self.log_tail()}")
            with contextlib.suppress(OSError):
                if self.ready():
                    return
            time.sleep(_POLL)
        raise StartError(f"{self.name} was not ready after {self.start_patience:.0f} s.\n{self.log_tail()}")

    def stop(self) -> None:
        """Ask it to end, then kill what is left. Its data stay. Does nothing when it is not running."""
        if self._process is None:
            return
        self.resume()
        if self._process.poll() is None:
            asked = self.processes
            os.killpg(self._process.pid, self.stop_signal)
            deadline = time.monotonic() + self.stop_patience
            # All of them, not only the first: a shell that started the real server is gone before it.
            while any(alive(seen) for seen in asked) and time.monotonic() < deadline:
                time.sleep(_POLL)
        self.kill()

    def kill(self) -> None:
        """End it at once, as a crash would (SIGKILL to every process)."""
        if self._process is None:
            return
        deadline = time.monotonic() + self.stop_patience
        seen = self.processes
        # Again and again, because a process may fork between the look and the signal. Those seen before are kept in
        # sight: once their parent is dead, nothing but this tells whose they are, and they still hold its files.
        while (left := [one for one in seen if alive(one)]) and time.monotonic() < deadline:
            send(left, signal.SIGKILL)
            time.sleep(_POLL / 5)
            seen = list({*left, *self.processes})
        self._process.wait(self.stop_patience)
        guard.release(self._process.pid)
        self._process = None
        self.paused = False

    def pause(self) -> None:
        """Freeze it (SIGSTOP to every process): ports stay open, nothing answers. Returns when all stand still."""
        self.paused = True
        deadline = time.monotonic() + self.stop_patience
        # Again and again, because a process may fork before the signal reaches it.
        while awake := [seen for seen in self.processes if seen.state not in "Tt"]:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not freeze: {awake}")
            send(awake, signal.SIGSTOP)
            time.sleep(_POLL / 10)

    def resume(self) -> None:
        """End a pause. Does nothing to a server that is not paused."""
        send(self.processes, signal.SIGCONT)
        self.paused = False

    def restart(self) -> Self:
        """Stop and start again: same ports, same data."""
        self.stop()
        return self.start()

    def close(self) -> None:
        """Stop and remove the folder."""
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def log_tail(self, lines: int = _LOG_LINES_SHOWN) -> str:
        """The last lines of the server's log."""
        try:
            last = self.log.read_text(errors="replace").splitlines()[-lines:]
        except FileNotFoundError:
            return "(no log)"
        return "The end of its log:\n  " + "\n  ".join(last)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

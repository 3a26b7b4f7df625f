"""The writer's thread: batches what may wait, commits at once what may not, goes on in memory without a disk."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from tocsin.board.database import (
    Batch,
    Database,
    Key,
    Known,
    Retention,
    is_damage,
    move_aside,
    open_database,
    read_evidence,
    read_recent_runs,
    read_runs,
    read_transitions,
)
from tocsin.board.history import Evidence, RunRecord
from tocsin.model import ProbeState, Transition

_MOST_WAITING = 5000
"""Rows of history kept in memory while the disk does not take them; older ones are dropped."""
_HOUSEKEEPING_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class StoreCondition:
    """How the state storage is. ``failing``: why nothing can be written now (state is only in memory), or None.

    ``moved_aside``: the unusable file that this process found and replaced by a new one, or None.
    ``unread``: the file could not be opened at the start, so that what was remembered is not known.
    """

    failing: str | None = None
    failed_writes: int = 0
    moved_aside: Path | None = None
    unread: bool = False


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between things. ``batch``: how long an ordinary run waits for others; a ``kill -9`` loses that much of
    the streaks and of history, never a transition. ``first_openings``: the pauses between the attempts at the start."""

    batch: float = 1.0
    first_openings: tuple[float, ...] = (0.2, 0.5, 1.0)
    first_retry: float = 5.0
    last_retry: float = 60.0


DEFAULT_PACE = Pace()
DEFAULT_RETENTION = Retention()


class Store:
    """One state file and its writer thread. Any thread may call anything; `open`, `close` and the queries block."""

    def __init__(
        self,
        path: Path,
        *,
        retention: Retention = DEFAULT_RETENTION,
        pace: Pace = DEFAULT_PACE,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.condition = StoreCondition()
        self._retention = retention
        self._pace = pace
        self._wall = wall
        self._log = structlog.get_logger("tocsin.board")
        self._everything: Callable[[], Batch] = Batch
        self._active: Callable[[], frozenset[Key]] = frozenset
        self._database: Database | None = None
        self._wake = threading.Condition()
        self._pending = Batch()
        self._waiters: list[Future[bool]] = []
        self._due: float | None = None
        self._retry_at = 0.0
        self._retry_after = pace.first_retry
        self._housekeeping_at = time.monotonic() + _HOUSEKEEPING_SECONDS
        self._closing = False
        self._thread = threading.Thread(target=self._write_until_closed, name="tocsin-state", daemon=True)

    def open(self, everything: Callable[[], Batch], active: Callable[[], frozenset[Key]]) -> dict[Key, Known]:
        """Opens the file, starts the thread and gives back what was remembered; blocks on the disk.

        Never raises for a disk that does not play along: `condition` says so, and opening is tried again.
        The writer's thread asks for ``everything`` that should be remembered to fill a new or recovered file, and for
        the ``active`` probes before it forgets others.
        """
        self._everything, self._active = everything, active
        known: dict[Key, Known] = {}
        try:
            self._database, aside = self._opened()
            if aside is not None:
                self._note_moved_aside(aside, "it could not be read")
            known, complaints = self._database.restore()
            for complaint in complaints:
                self._count_failure()
                self._log.error("a stored state could not be read and was forgotten", complaint=complaint)
        except (OSError, sqlite3.Error) as error:
            self._degrade(error)
            self.condition = replace(self.condition, unread=True)
        self._thread.start()
        return known

    def _opened(self) -> tuple[Database, Path | None]:
        """The file, after a few attempts: a volume may just be mounted, another process may just let go of it."""
        for pause in self._pace.first_openings:
            with suppress(OSError, sqlite3.Error):
                return open_database(self.path, self._retention, self._wall())
            time.sleep(pause)
        return open_database(self.path, self._retention, self._wall())

    def put(
        self,
        key: Key,
        state: ProbeState,
        at: float,
        memory: str | None,
        run: RunRecord | None,
        change: Transition | None,
        evidence: Evidence | None = None,
    ) -> Future[bool] | None:
        """Queues one run, or a change of state without one.

        With a transition the answer is a future: True when it is on disk, False when it is not.
        """
        with self._wake:
            writable = self.condition.failing is None and not self._closing
            if writable:
                self._pending.states[key] = (state, at)
                if memory is not None:
                    self._pending.memory[key] = memory
            if run is not None:
                self._pending.runs.append(run)
                del self._pending.runs[:-_MOST_WAITING]
            if evidence is not None:
                self._pending.evidence[evidence.probe] = evidence
            committed: Future[bool] | None = None
            if change is not None:
                self._pending.transitions.append(change)
                del self._pending.transitions[:-_MOST_WAITING]
                self._pending.durable = True
                committed = Future()
                if writable:
                    self._waiters.append(committed)
                else:
                    committed.set_result(False)
            if self._due is None:
                self._due = time.monotonic() + self._pace.batch
                self._wake.notify()
            elif self._pending.durable:
                self._wake.notify()
            return committed

    def runs(self, probe: str, limit: int) -> list[RunRecord] | None:
        """The latest runs, newest first; None when the file cannot be read. Reads the disk: not for an event loop."""
        try:
            return read_runs(self.path, probe, limit)
        except (sqlite3.Error, ValueError):
            return None

    def recent_runs(self, limit: int) -> list[RunRecord]:
        """The latest runs of every probe, oldest first; none when the file cannot be read. Reads the disk."""
        try:
            return read_recent_runs(self.path, limit)
        except (sqlite3.Error, ValueError):
            return []

    def transitions(self, probe: str, limit: int) -> list[Transition] | None:
        """The latest transitions, newest first; None when the file cannot be read. Reads the disk."""
        try:
            return read_transitions(self.path, probe, limit)
        except (sqlite3.Error, ValueError):
            return None

    def evidence(self, probe: str) -> Evidence | None:
        """What is kept of the attachments; None also when the file cannot be read. Reads the disk."""
        try:
            return read_evidence(self.path, probe)
        except (sqlite3.Error, ValueError):
            return None

    def close(self, timeout: float = 3.0) -> None:
        """Writes what is queued and ends the thread; gives up after ``timeout`` seconds on a disk that hangs."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def note_late(self, seconds: float) -> None:
        """A transition became visible before it was on disk, because the disk took longer than ``seconds``."""
        self._count_failure()
        self._log.error("the state file is slow; a transition is visible before it is safe", waited_seconds=seconds)

    def _write_until_closed(self) -> None:
        while True:
            with self._wake:
                while (pause := self._pause()) > 0:
                    self._wake.wait(pause)
                batch, waiters, closing = self._pending, self._waiters, self._closing
                self._pending, self._waiters, self._due = Batch(), [], None
            written = False
            try:
                written = self._commit(batch) if self.condition.failing is None else self._recover(batch)
            except Exception as error:  # noqa: BLE001 - without this thread nothing would be remembered any more
                self._degrade(error, batch)
            finally:
                _answer(waiters, written)
            self._keep_house()
            if closing:
                break
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()

    def _pause(self) -> float:
        """Seconds until there is something to do; 0 for now. Called with the lock held."""
        now = time.monotonic()
        if self._closing:
            return 0.0
        if self.condition.failing is not None:
            return max(0.0, self._retry_at - now)
        if self._pending.durable or self._housekeeping_at <= now:
            return 0.0
        return max(0.0, min(self._due or self._housekeeping_at, self._housekeeping_at) - now)

    def _commit(self, batch: Batch) -> bool:
        try:
            if self._database is None:
                raise OSError("no state file is open")
            self._database.write(batch)
        except (OSError, sqlite3.Error) as error:
            if is_damage(error):
                return self._replace(batch, error)
            self._degrade(error, batch)
            return False
        return True

    def _replace(self, batch: Batch, error: Exception) -> bool:
        """The file broke while it was open: put it aside and write all that is known into a new one."""
        try:
            if self._database is not None:
                self._database.close()
            self._note_moved_aside(move_aside(self.path, self._wall()), str(error))
        except (OSError, sqlite3.Error) as failure:
            self._degrade(failure, batch)
            return False
        return self._recover(batch)

    def _recover(self, batch: Batch) -> bool:
        """Opens the file again and writes all that is known, with the history that waited."""
        try:
            if self._database is not None:
                with suppress(sqlite3.Error):
                    self._database.close()
            self._database, aside = open_database(self.path, self._retention, self._wall())
            if aside is not None:
                self._note_moved_aside(aside, "it could not be read")
            full = self._everything()
            self._database.write(
                Batch(
                    {**full.states, **batch.states},
                    {**full.memory, **batch.memory},
                    batch.runs,
                    batch.transitions,
                    batch.evidence,
                    durable=True,
                )
            )
        except (OSError, sqlite3.Error) as error:
            self._degrade(error, batch)
            return False
        with self._wake:
            self.condition = replace(self.condition, failing=None)
            self._retry_after = self._pace.first_retry
        self._log.info("the state file can be written", path=str(self.path))
        return True

    def _degrade(self, error: Exception, unwritten: Batch | None = None) -> None:
        """Memory only from here on. The board knows all states, so only history has to wait for the disk."""
        first = self.condition.failing is None
        with self._wake:
            if unwritten is not None:
                self._pending.runs[:0] = unwritten.runs
                self._pending.transitions[:0] = unwritten.transitions
                self._pending.evidence = {**unwritten.evidence, **self._pending.evidence}
            self._pending.states.clear()
            self._pending.memory.clear()
            waiters, self._waiters = self._waiters, []
            condition = self.condition
            self.condition = replace(condition, failing=str(error), failed_writes=condition.failed_writes + 1)
            self._retry_at = time.monotonic() + self._retry_after
            self._retry_after = min(self._pace.last_retry, self._retry_after * 2)
        _answer(waiters, False)
        if first:
            self._log.error(
                "the state file cannot be written; state is kept in memory only, and a restart would forget it",
                path=str(self.path),
                error=str(error),
            )

    def _keep_house(self) -> None:
        if time.monotonic() < self._housekeeping_at or self._database is None or self.condition.failing is not None:
            return
        self._housekeeping_at = time.monotonic() + _HOUSEKEEPING_SECONDS
        try:
            self._database.forget_removed(self._active(), self._wall())
        except Exception as error:  # noqa: BLE001 - as above
            self._degrade(error)

    def _note_moved_aside(self, aside: Path, why: str) -> None:
        with self._wake:
            condition = self.condition
            self.condition = replace(condition, failed_writes=condition.failed_writes + 1, moved_aside=aside)
        self._log.error("the state file was unusable and is replaced by a new one", kept_as=str(aside), error=why)

    def _count_failure(self) -> None:
        with self._wake:
            condition = self.condition
            self.condition = replace(condition, failed_writes=condition.failed_writes + 1)


def _answer(waiters: Iterable[Future[bool]], written: bool) -> None:
    for waiter in waiters:
        if waiter.set_running_or_notify_cancel():
            waiter.set_result(written)

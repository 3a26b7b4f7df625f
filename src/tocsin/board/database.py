"""The SQLite file: schema, one batch in one transaction, what is restored, what is pruned. Blocking; no threads."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tocsin.board.codec import decode_state, encode_state
from tocsin.board.history import Evidence, RunRecord
from tocsin.model import Attachment, ProbeState, Severity, Status, Transition

_FIRST = """
CREATE TABLE states (
  probe TEXT NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL, updated_at REAL NOT NULL,
  PRIMARY KEY (probe, kind)
) WITHOUT ROWID;
CREATE TABLE memory (
  probe TEXT NOT NULL, kind TEXT NOT NULL, memory TEXT NOT NULL,
  PRIMARY KEY (probe, kind)
) WITHOUT ROWID;
CREATE TABLE runs (
  id INTEGER PRIMARY KEY, probe TEXT NOT NULL, started_at REAL NOT NULL, duration_seconds REAL NOT NULL,
  status TEXT NOT NULL, reason TEXT, severity TEXT, detail TEXT NOT NULL, trace_id TEXT NOT NULL,
  request_id TEXT NOT NULL
);
CREATE INDEX runs_by_probe ON runs (probe, id);
CREATE TABLE transitions (
  id INTEGER PRIMARY KEY, probe TEXT NOT NULL, at REAL NOT NULL, status_before TEXT NOT NULL, status TEXT NOT NULL,
  reason TEXT, alerting INTEGER NOT NULL, detail TEXT NOT NULL, caused_by TEXT
);
CREATE INDEX transitions_by_probe ON transitions (probe, id);
"""
_EVIDENCE = """
CREATE TABLE evidence (
  probe TEXT NOT NULL, position INTEGER NOT NULL, started_at REAL NOT NULL, trace_id TEXT NOT NULL,
  request_id TEXT NOT NULL, name TEXT NOT NULL, media_type TEXT NOT NULL, content BLOB NOT NULL,
  PRIMARY KEY (probe, position)
);
"""
_STEPS = (_FIRST, _EVIDENCE)
"""What makes each version of the schema out of the one before."""
SCHEMA_VERSION = len(_STEPS)
_KEPT_ASIDE = 3
_PRUNE_EVERY = 32
"""Rows of one probe between two prunings of it, so that a commit stays cheap."""


class Unusable(Exception):
    """The file is there and cannot be used: damaged, no database at all, or written by a newer tocsin."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How much is kept. Runs that are not ok are counted on their own, so that successes do not push them out.

    ``removed_seconds``: how long the state of a probe that is no longer configured is kept, so that a mistake in the
    configuration and its revert do not forget an alert.
    """

    runs: int = 120
    bad_runs: int = 200
    transitions: int = 200
    removed_seconds: float = 14 * 86400.0


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered of one probe across restarts. ``memory`` is JSON; ``updated_at`` in Unix seconds."""

    state: ProbeState
    memory: str
    updated_at: float


Key = tuple[str, str]
"""Probe name and kind: another kind under an old name starts anew, and the revert finds its state again."""


@dataclass(slots=True)
class Batch:
    """What one transaction writes. ``durable``: it must survive a power failure, not only the end of the process."""

    states: dict[Key, tuple[ProbeState, float]] = field(default_factory=dict)
    memory: dict[Key, str] = field(default_factory=dict)
    runs: list[RunRecord] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list)
    evidence: dict[str, Evidence] = field(default_factory=dict)
    durable: bool = False


class Database:
    """One open state file, used by one thread at a time.

    Every method raises `sqlite3.Error` or `OSError` when the disk does not play along.
    """

    def __init__(self, path: Path, retention: Retention) -> None:
        self.path = path
        self._retention = retention
        self._rows_since_pruning: dict[str, int] = {}
        self._connection = _connect(path)

    def close(self) -> None:
        self._connection.close()

    def restore(self) -> tuple[dict[Key, Known], list[str]]:
        """Everything remembered, and a complaint for each row that cannot be read."""
        memory = {(probe, kind): text for probe, kind, text in self._connection.execute("SELECT * FROM memory")}
        known: dict[Key, Known] = {}
        complaints: list[str] = []
        for probe, kind, text, updated_at in self._connection.execute("SELECT * FROM states"):
            try:
                remembered = _checked_memory(memory.get((probe, kind), "{}"))
                known[probe, kind] = Known(decode_state(text), remembered, updated_at)
            except ValueError as error:
                complaints.append(f"{probe}: {error}")
        return known, complaints

    def write(self, batch: Batch) -> None:
        """Commits ``batch``. When it returns, the batch survives ``kill -9``; with ``durable``, a power failure too.

        In WAL mode NORMAL leaves the fsync to the next checkpoint, FULL does it at each commit
        (https://www.sqlite.org/pragma.html#pragma_synchronous).
        """
        self._connection.execute(f"PRAGMA synchronous = {'FULL' if batch.durable else 'NORMAL'}")
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(
                "INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?)",
                [(*key, encode_state(state), at) for key, (state, at) in batch.states.items()],
            )
            self._connection.executemany(
                "INSERT OR REPLACE INTO memory VALUES (?, ?, ?)",
                [(*key, text) for key, text in batch.memory.items()],
            )
            self._connection.executemany(
                "INSERT INTO runs VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)", [_run_row(run) for run in batch.runs]
            )
            self._connection.executemany(
                "INSERT INTO transitions VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)",
                [_transition_row(change) for change in batch.transitions],
            )
            self._connection.executemany("DELETE FROM evidence WHERE probe = ?", [(name,) for name in batch.evidence])
            self._connection.executemany(
                "INSERT INTO evidence VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [row for evidence in batch.evidence.values() for row in _evidence_rows(evidence)],
            )
            self._prune_grown([run.probe for run in batch.runs] + [change.probe for change in batch.transitions])

    def forget_removed(self, active: Iterable[Key], now: float) -> None:
        """Drops what is remembered of probes that have been out of the configuration for longer than retention."""
        limit = now - self._retention.removed_seconds
        configured = set(active)
        stale = [
            (probe, kind)
            for probe, kind in self._connection.execute("SELECT probe, kind FROM states WHERE updated_at < ?", (limit,))
            if (probe, kind) not in configured
        ]
        names = {probe for probe, _ in configured}
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            for probe, kind in stale:
                self._connection.execute("DELETE FROM states WHERE probe = ? AND kind = ?", (probe, kind))
                self._connection.execute("DELETE FROM memory WHERE probe = ? AND kind = ?", (probe, kind))
                if probe not in names:
                    self._connection.execute("DELETE FROM runs WHERE probe = ?", (probe,))
                    self._connection.execute("DELETE FROM transitions WHERE probe = ?", (probe,))
                    self._connection.execute("DELETE FROM evidence WHERE probe = ?", (probe,))

    def _prune_grown(self, probes: Iterable[str]) -> None:
        for probe in probes:
            self._rows_since_pruning[probe] = self._rows_since_pruning.get(probe, 0) + 1
        for probe in [name for name, rows in self._rows_since_pruning.items() if rows >= _PRUNE_EVERY]:
            del self._rows_since_pruning[probe]
            keep = self._retention
            self._connection.execute(
                "DELETE FROM runs WHERE probe = :probe"
                " AND id NOT IN (SELECT id FROM runs WHERE probe = :probe ORDER BY id DESC LIMIT :runs)"
                " AND id NOT IN (SELECT id FROM runs WHERE probe = :probe AND status <> 'ok'"
                "                ORDER BY id DESC LIMIT :bad)",
                {"probe": probe, "runs": keep.runs, "bad": keep.bad_runs},
            )
            self._connection.execute(
                "DELETE FROM transitions WHERE probe = :probe AND id NOT IN"
                " (SELECT id FROM transitions WHERE probe = :probe ORDER BY id DESC LIMIT :kept)",
                {"probe": probe, "kept": keep.transitions},
            )


def open_database(path: Path, retention: Retention, now: float) -> tuple[Database, Path | None]:
    """The database at ``path``, made when missing; one that cannot be used is first moved aside, and where to is said.

    Raises `OSError` or `sqlite3.Error` when there can be none (read-only folder, full disk).
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        return Database(path, retention), None
    except Unusable:
        aside = move_aside(path, now)
        return Database(path, retention), aside


def move_aside(path: Path, now: float) -> Path:
    """Renames the file and its WAL to ``NAME.unusable-TIME`` for people to look at; the latest three are kept."""
    aside = path.with_name(f"{path.name}.unusable-{int(now)}")
    for suffix in ("-wal", "-shm", ""):
        source = path.with_name(path.name + suffix)
        if source.exists():
            os.replace(source, aside.with_name(aside.name + suffix))
    earlier = sorted(
        found for found in path.parent.glob(f"{path.name}.unusable-*") if not found.name.endswith(("-wal", "-shm"))
    )
    for old in earlier[:-_KEPT_ASIDE]:
        for suffix in ("-wal", "-shm", ""):
            old.with_name(old.name + suffix).unlink(missing_ok=True)
    return aside


def read_runs(path: Path, probe: str, limit: int) -> list[RunRecord]:
    """The latest runs of a probe, newest first. Raises `sqlite3.Error`."""
    rows = _read(path, f"SELECT {_RUN_COLUMNS} FROM runs WHERE probe = ? ORDER BY id DESC LIMIT ?", probe, limit)
    return [_run(row) for row in rows]


def read_recent_runs(path: Path, limit: int) -> list[RunRecord]:
    """The latest ``limit`` runs of every probe, oldest first. Raises `sqlite3.Error`."""
    rows = _read(
        path,
        f"SELECT {_RUN_COLUMNS} FROM"
        " (SELECT *, row_number() OVER (PARTITION BY probe ORDER BY id DESC) AS age FROM runs)"
        " WHERE age <= ? ORDER BY id",
        limit,
    )
    return [_run(row) for row in rows]


def read_transitions(path: Path, probe: str, limit: int) -> list[Transition]:
    """The latest transitions of a probe, newest first. Raises `sqlite3.Error`."""
    rows = _read(
        path, f"SELECT {_TRANSITION_COLUMNS} FROM transitions WHERE probe = ? ORDER BY id DESC LIMIT ?", probe, limit
    )
    return [
        Transition(name, at, Status(before), Status(status), reason, bool(alerting), detail, caused_by)
        for name, at, before, status, reason, alerting, detail, caused_by in rows
    ]


def read_evidence(path: Path, probe: str) -> Evidence | None:
    """What is kept of the attachments of a probe; None when nothing is. Raises `sqlite3.Error`."""
    columns = "started_at, trace_id, request_id, name, media_type, content"
    rows = _read(path, f"SELECT {columns} FROM evidence WHERE probe = ? ORDER BY position", probe)
    if not rows:
        return None
    started_at, trace_id, request_id, *_ = rows[0]
    return Evidence(probe, started_at, trace_id, request_id, tuple(Attachment(*row[3:]) for row in rows))


_RUN_COLUMNS = "probe, started_at, duration_seconds, status, reason, severity, detail, trace_id, request_id"
_TRANSITION_COLUMNS = "probe, at, status_before, status, reason, alerting, detail, caused_by"


def _read(path: Path, query: str, *arguments: object) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1.0)
    try:
        return connection.execute(query, arguments).fetchall()
    finally:
        connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    # Details of failures name hosts and paths: for the owner's eyes. SQLite gives the WAL the same mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA journal_size_limit = 4194304")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise Unusable(f"{path} has schema {version}; this tocsin knows {SCHEMA_VERSION}")
        if version < SCHEMA_VERSION:
            steps = "".join(_STEPS[version:])
            connection.executescript(f"BEGIN; {steps} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise Unusable(f"{path} is damaged: {verdict}")
    except BaseException as error:
        connection.close()
        if is_damage(error):
            raise Unusable(f"{path} is damaged: {error}") from error
        raise
    return connection


def is_damage(error: BaseException) -> bool:
    """Whether SQLite says that the file itself is broken, which waiting does not repair.

    A schema that is not ours raises a plain SQLITE_ERROR ("no such table", "table states already exists").
    """
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)


def _run(row: tuple[Any, ...]) -> RunRecord:
    name, at, duration, status, reason, severity, detail, trace_id, request_id = row
    graded = Severity(severity) if severity else None
    return RunRecord(name, at, duration, Status(status), reason, graded, detail, trace_id, request_id)


def _run_row(run: RunRecord) -> tuple[object, ...]:
    return (
        run.probe,
        run.started_at,
        run.duration_seconds,
        run.status,
        run.reason,
        run.severity,
        run.detail,
        run.trace_id,
        run.request_id,
    )


def _evidence_rows(evidence: Evidence) -> Iterator[tuple[object, ...]]:
    whose = (evidence.started_at, evidence.trace_id, evidence.request_id)
    for position, each in enumerate(evidence.attachments):
        yield (evidence.probe, position, *whose, each.name, each.media_type, each.content)


def _transition_row(change: Transition) -> tuple[object, ...]:
    return (
        change.probe,
        change.at,
        change.status_before,
        change.status,
        change.reason,
        change.alerting,
        change.detail,
        change.caused_by,
    )


def _checked_memory(text: str) -> str:
    if not isinstance(json.loads(text), Mapping):
        raise ValueError("memory is not a JSON object")
    return text

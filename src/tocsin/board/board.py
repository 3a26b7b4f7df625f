"""The board: one immutable entry a probe, replaced at each run, visible to every thread."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import structlog

from tocsin.board.database import Batch, Key, Known
from tocsin.board.history import Evidence, RunRecord, transition
from tocsin.board.store import Store, StoreCondition
from tocsin.model import Counts, Entry, ProbeSpec, ProbeState, Run, Transition

RECENT_RUNS = 30
"""Runs of each probe that are kept in memory, for the strip on the status page and for when there is no disk."""
RECENT_TRANSITIONS = 20
MAX_MEMORY_CHARACTERS = 64 * 1024
"""What a probe may remember, as JSON text; more is refused and the memory before stays."""
MAX_RETIRED = 5000
"""Probes out of the configuration that are remembered in memory; those that went first are forgotten first."""
_PATIENCE_SECONDS = 2.0
"""How long a transition waits for its commit. A disk that hangs may delay a page by this much, never stop probing."""


class Board:
    """What is known now. The scheduler records runs here (its ``Recorder``); everything that shows state reads here.

    `configure`, `record` and `skipped` belong to the probing loop; the rest may be called from any thread.
    Without a ``store`` nothing survives the process.
    """

    def __init__(self, store: Store | None = None) -> None:
        self._store = store
        self._log = structlog.get_logger("tocsin.board")
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        self._memories: dict[Key, str] = {}
        self._retired: dict[Key, Known] = {}
        self._runs: dict[str, deque[RunRecord]] = {}
        self._transitions: dict[str, deque[Transition]] = {}
        self._evidence: dict[str, Evidence] = {}

    def open(self) -> None:
        """Restores what was remembered. Before the first `configure`; blocks on the disk."""
        if self._store is not None:
            self._retired.update(self._store.open(self._everything, self._active))
            for record in self._store.recent_runs(RECENT_RUNS):
                self._remember(record)

    def close(self, timeout: float = 3.0) -> None:
        """Writes what is queued; blocks up to ``timeout`` seconds."""
        if self._store is not None:
            self._store.close(timeout)

    def configure(self, specs: Iterable[ProbeSpec]) -> None:
        """Makes ``specs`` the probes on the board, in this order.

        A probe that stays keeps state and counts; one that comes gets what was remembered under its name and kind;
        one that goes is remembered for a while, so that a mistake and its revert do not forget an alert.
        """
        wanted = {spec.name: spec for spec in specs}
        with self._lock:
            before = self._entries
            for name, entry in before.items():
                if name not in wanted or wanted[name].kind != entry.spec.kind:
                    self._retire(entry)
            self._entries = {name: self._entry_for(spec, before.get(name)) for name, spec in wanted.items()}

    def entries(self) -> Mapping[str, Entry]:
        """All probes as they are at this moment; a snapshot that never changes."""
        with self._lock:
            return MappingProxyType(self._entries.copy())

    def state(self, probe: str) -> ProbeState:
        """The state of a configured probe. Raises `KeyError`."""
        return self._entries[probe].state

    def memory(self, probe: str) -> MutableMapping[str, Any]:
        """A copy of what the probe remembered in its last run. Raises `KeyError`."""
        text = self._memories.get(_key(self._entries[probe].spec))
        return dict(json.loads(text)) if text is not None else {}

    async def record(self, run: Run, state: ProbeState, memory: Mapping[str, Any]) -> None:
        """A run is over and means ``state``. A transition becomes visible only when it is on disk.

        A run that ends after its probe was removed is not shown, but still remembered.
        """
        entry = self._entries.get(run.probe)
        if entry is None:
            return
        key = _key(entry.spec)
        remembered = self._changed_memory(key, memory)
        ended_at = run.started_at + run.duration_seconds
        change = transition(run.probe, entry.state, state, ended_at)
        history = RunRecord.of(run), Evidence.of(run)
        await self._commit(key, state, ended_at, remembered, change, *history)
        self._show(key, state, remembered, change, run, *history)

    async def revise(self, probe: str, state: ProbeState) -> None:
        """The state of a probe changed without a run of its own (its cause came or went): durable, then visible."""
        entry = self._entries.get(probe)
        if entry is None:
            return
        key, now = _key(entry.spec), time.time()
        change = transition(probe, entry.state, state, now)
        await self._commit(key, state, now, None, change)
        self._show(key, state, None, change)

    def skipped(self, probe: str, cause: str) -> None:
        """A due run did not take place, for ``cause`` (a bounded word: it is a metric label)."""
        with self._lock:
            entry = self._entries.get(probe)
            if entry is not None:
                counts = entry.counts
                skipped = {**counts.skipped, cause: counts.skipped.get(cause, 0) + 1}
                self._entries[probe] = replace(entry, counts=replace(counts, skipped=skipped))

    def recent(self, probe: str) -> tuple[RunRecord, ...]:
        """The latest `RECENT_RUNS` runs, oldest first. Memory only: cheap."""
        with self._lock:
            return tuple(self._runs.get(probe, ()))

    def runs(self, probe: str, limit: int = 100) -> list[RunRecord]:
        """The latest runs, newest first, also from before a restart. Reads the disk: not for an event loop."""
        stored = self._store.runs(probe, limit) if self._store is not None else None
        return stored if stored is not None else list(reversed(self.recent(probe)))[:limit]

    def transitions(self, probe: str, limit: int = 50) -> list[Transition]:
        """The latest transitions, newest first, also from before a restart. Reads the disk: not for an event loop."""
        stored = self._store.transitions(probe, limit) if self._store is not None else None
        if stored is not None:
            return stored
        with self._lock:
            return list(reversed(self._transitions.get(probe, ())))[:limit]

    def evidence(self, probe: str) -> Evidence | None:
        """What the latest bad run that attached anything attached, also from before a restart. Reads the disk."""
        with self._lock:
            found = self._evidence.get(probe)
        return found if found is not None or self._store is None else self._store.evidence(probe)

    def condition(self) -> StoreCondition:
        """How the state storage is."""
        return self._store.condition if self._store is not None else StoreCondition()

    async def _commit(
        self,
        key: Key,
        state: ProbeState,
        at: float,
        memory: str | None,
        change: Transition | None,
        record: RunRecord | None = None,
        evidence: Evidence | None = None,
    ) -> None:
        if self._store is None:
            return
        committed = self._store.put(key, state, at, memory, record, change, evidence)
        if committed is not None:
            try:
                await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(committed)), _PATIENCE_SECONDS)
            except TimeoutError:
                self._store.note_late(_PATIENCE_SECONDS)

    def _show(
        self,
        key: Key,
        state: ProbeState,
        memory: str | None,
        change: Transition | None,
        run: Run | None = None,
        record: RunRecord | None = None,
        evidence: Evidence | None = None,
    ) -> None:
        probe, _ = key
        with self._lock:
            # Looked up again: a skip may have been counted, or the probe removed, while the commit was awaited.
            entry = self._entries.get(probe)
            if entry is None or _key(entry.spec) != key:
                if (retired := self._retired.get(key)) is not None:
                    self._retired[key] = replace(retired, state=state, memory=memory or retired.memory)
                return
            counts, latest = entry.counts, entry.run
            if run is not None:
                runs, status = counts.runs, run.outcome.status
                counts = Counts({**runs, status: runs.get(status, 0) + 1}, counts.skipped)
                # What it attached is kept as evidence, bounded.
                latest = run.without_attachments()
            if record is not None:
                self._remember(record)
            if evidence is not None:
                self._evidence[probe] = evidence
            self._entries[probe] = Entry(entry.spec, state, latest, counts)
            if memory is not None:
                self._memories[key] = memory
            if change is not None:
                self._transitions.setdefault(probe, deque(maxlen=RECENT_TRANSITIONS)).append(change)

    def _remember(self, record: RunRecord) -> None:
        self._runs.setdefault(record.probe, deque(maxlen=RECENT_RUNS)).append(record)

    def _changed_memory(self, key: Key, memory: Mapping[str, Any]) -> str | None:
        """The memory as JSON when it differs from what is kept; None when it does not, or cannot be kept."""
        if not memory and key not in self._memories:
            return None
        try:
            text = json.dumps(dict(memory), separators=(",", ":"), sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            self._log.error("a probe's memory is not JSON; the one before is kept", probe=key[0], error=str(error))
            return None
        if len(text) > MAX_MEMORY_CHARACTERS:
            self._log.error("a probe's memory is too large; the one before is kept", probe=key[0], size=len(text))
            return None
        return text if text != self._memories.get(key, "{}") else None

    def _entry_for(self, spec: ProbeSpec, before: Entry | None) -> Entry:
        if before is not None and before.spec.kind == spec.kind:
            if before.spec == spec:
                return before
            # What was measured with other settings says nothing about these.
            return replace(before, spec=spec, run=before.run if before.spec.settings == spec.settings else None)
        known = self._retired.pop(_key(spec), None)
        if known is None:
            return Entry(spec)
        self._memories[_key(spec)] = known.memory
        return Entry(spec, known.state)

    def _retire(self, entry: Entry) -> None:
        key = _key(entry.spec)
        memory = self._memories.pop(key, "{}")
        self._runs.pop(entry.spec.name, None)
        self._transitions.pop(entry.spec.name, None)
        self._evidence.pop(entry.spec.name, None)
        if entry.state.last_run_at is not None:
            self._retired[key] = Known(entry.state, memory, entry.state.last_run_at)
            while len(self._retired) > MAX_RETIRED:
                del self._retired[next(iter(self._retired))]

    def _active(self) -> frozenset[Key]:
        with self._lock:
            return frozenset(_key(entry.spec) for entry in self._entries.values())

    def _everything(self) -> Batch:
        """All that should be remembered; called by the writer's thread."""
        with self._lock:
            active = {_key(entry.spec): entry.state for entry in self._entries.values()}
            states = {key: (known.state, known.updated_at) for key, known in self._retired.items()}
            states.update({key: (state, state.last_run_at or 0.0) for key, state in active.items()})
            memory = {key: known.memory for key, known in self._retired.items()} | self._memories
            return Batch(states, memory)


def _key(spec: ProbeSpec) -> Key:
    return (spec.name, spec.kind)

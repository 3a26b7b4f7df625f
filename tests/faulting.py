"""Faults of the catalogue, caused on real servers, as a daemon's board shows them.

Each must turn its probe to the right status and reason within two of the probe's intervals; nothing else may fail that
does not say because of which probe, and nothing may end as `probe_error`. With TOCSIN_RECORD=1 what was seen is written to
docs/measured, from where docs/faults.md takes it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import yaml

from tests.daemon import Daemon
from tocsin.paging.drills.catalogue import Drill, Shown

ROOT = Path(__file__).parents[1]
INTERVALS = 2
"""How many intervals of its probe a fault may take to be seen."""
PATIENCE = 30.0
"""Seconds to wait for what should have come, so that a late answer is told as late."""
HEAL = 90.0
ROUND = 1.0
"""Seconds in which what a probe's run found is confirmed by another."""
_POLL = 0.2

Act = Callable[[Drill, int], object]
"""Causes a fault (0) or undoes it (1)."""


def configure(folder: Path, *parts: Mapping[str, Any]) -> Path:
    """Writes the configuration file of a daemon that watches all of these: ``profiles``, ``environment`` (variables) and
    ``probes`` (settings over the profiles') of each estate."""
    env_file, file = folder / "estate.env", folder / "tocsin.yaml"
    variables = {name: value for part in parts for name, value in part["environment"].items()}
    env_file.write_text("".join(f"{name}='{value}'\n" for name, value in variables.items()))
    document = {
        "version": 1,
        "profiles": [profile for part in parts for profile in part["profiles"]],
        "env_file": str(env_file),
        "caps": {"default": {"requests_per_minute": 60000, "concurrency": 50}},
        "probes": {name: settings for part in parts for name, settings in part["probes"].items()},
    }
    file.write_text(yaml.safe_dump(document))
    return file


@dataclass
class Seen:
    """What the board showed of one fault. ``seconds``: from its cause to the first run that told it; None: never."""

    drill: Drill
    shown: Shown
    interval: float
    seconds: float | None = None
    confirmed: bool = False
    problems: list[str] = field(default_factory=list)


@dataclass
class Faulting:
    """Causes faults and reads the board of the daemon that watches what they befall.

    ``missing``: probes that cannot tell here, because a contract is missing or what they look at cannot be had.
    ``asks``: by probe those without which it cannot tell anything, although they explain none of its failures.
    ``effects``: by fault the probes that must fail too, for which reason, and say that they are an effect.
    ``develops``: by fault the seconds that must pass until it is one.
    """

    daemon: Daemon
    act: Act
    missing: frozenset[str] = frozenset()
    asks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    effects: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    develops: Mapping[str, float] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    _caused: Event = field(default_factory=Event)

    def well(self, seconds: float = HEAL) -> None:
        """Waits until every probe has run and is ok."""
        deadline = time.time() + seconds
        while bad := self.bad():
            if time.time() > deadline:
                raise AssertionError(f"not well after {seconds:g} s: {json.dumps(bad, indent=1)}\n{self.daemon.tail()}")
            time.sleep(_POLL)

    def bad(self) -> dict[str, str]:
        """By probe, what keeps it from being ok: confirmed, or as its last run says."""
        return {
            name: f"{found['state']['status']}, {found['status']}/{found['reason']}: {found['detail']}"
            for name, found in self.daemon.probes().items()
            if name not in self.missing and (found["state"]["status"] != "ok" or found["status"] != "ok")
        }

    def cause(self, drills: Sequence[Drill]) -> list[Seen]:
        """Faults that are independent, at once: caused, seen, judged, undone, and waited for until all is well again."""
        self.well()
        board = self.daemon.probes()
        found = [Seen(drill, _shown(drill), board[_shown(drill).probe]["every_seconds"]) for drill in drills]
        began: dict[str, float] = {}
        self._caused.clear()
        try:
            with ThreadPoolExecutor(1) as pool:
                # From the first cause on: the last of several may take its time.
                watching = pool.submit(self._watch, found, began)
                try:
                    for drill in drills:
                        self.act(drill, 0)
                        began[drill.name] = time.time()
                finally:
                    self._caused.set()
                watching.result()
            self._look_around()
            self._await_effects(found)
            self._judge(found)
        finally:
            for name in reversed(began):
                next(self.act(drill, 1) for drill in drills if drill.name == name)
        self.well()
        self.seen += found
        return found

    def _watch(self, found: Iterable[Seen], began: Mapping[str, float]) -> None:
        waiting = list(found)
        while waiting and not (self._caused.is_set() and time.time() > max(began.values(), default=0.0) + PATIENCE):
            board = self.daemon.probes()
            for seen in waiting:
                if seen.drill.name not in began:
                    continue
                probe = board[seen.shown.probe]
                told = (probe["status"], probe["reason"]) == (seen.shown.status, seen.shown.reason)
                if told and seen.seconds is None:
                    ended = probe["started_at"] + probe["duration_seconds"]
                    since = began[seen.drill.name] + self.develops.get(seen.drill.name, 0.0)
                    seen.seconds = max(0.0, ended - since)
                state = probe["state"]
                seen.confirmed = (state["status"], state["reason"]) == (seen.shown.status, seen.shown.reason)
            waiting = [seen for seen in waiting if not seen.confirmed]
            time.sleep(_POLL)

    def _look_around(self) -> None:
        """Waits until every probe has ended a run that began when all was confirmed, and could confirm what it found."""
        since = time.time()
        board = self.daemon.probes()
        longest = max(probe["every_seconds"] + probe["timeout_seconds"] for probe in board.values())
        while (
            any((probe["started_at"] or 0.0) < since for name, probe in board.items() if name not in self.missing)
            and time.time() < since + longest + ROUND
        ):
            time.sleep(_POLL)
            board = self.daemon.probes()
        time.sleep(ROUND)

    def _await_effects(self, found: Iterable[Seen]) -> None:
        wanted = {effect for seen in found for effect in self.effects.get(seen.drill.name, {}).items()}

        def shown() -> bool:
            states = {name: probe["state"] for name, probe in self.daemon.probes().items()}
            return wanted <= {(name, state["reason"]) for name, state in states.items() if state["caused_by"]}

        self.daemon.until(shown, f"to see the effects {sorted(wanted)}", PATIENCE)

    def _judge(self, found: Sequence[Seen]) -> None:
        board = self.daemon.probes()
        declared = {probe: reason for seen in found for probe, reason in seen.shown.also.items()}
        declared |= {seen.shown.probe: seen.shown.reason for seen in found}
        strays = [
            f"{name} is {probe['state']['status']} too: {probe['state']['reason']}: {probe['state']['detail']}"
            for name, probe in board.items()
            if name not in self.missing
            and probe["state"]["status"] != "ok"
            and not _explained(probe, board, self.asks.get(name, ()))
            and declared.get(name) != probe["state"]["reason"]
        ]
        strays += [f"{name} is probe_error" for name, probe in board.items() if probe["reason"] == "probe_error"]
        for seen in found:
            probe = board[seen.shown.probe]
            if not seen.confirmed:
                seen.problems.append(
                    f"{seen.shown.probe} never was {seen.shown.status}/{seen.shown.reason}; it is "
                    f"{probe['state']['status']}/{probe['state']['reason']}, its last run {probe['status']}/"
                    f"{probe['reason']}: {probe['detail']}"
                )
            elif seen.seconds is not None and seen.seconds > INTERVALS * seen.interval:
                seen.problems.append(f"seen after {seen.seconds:.1f} s, with an interval of {seen.interval:g} s")
            seen.problems += strays

    def record(self, system: str, expected: Sequence[Drill]) -> None:
        """Writes what was seen, when it is asked for; what this run did not cause stays as it was recorded before."""
        if not os.environ.get("TOCSIN_RECORD"):
            return
        target = ROOT / "docs" / "measured" / f"faults-{system}.json"
        rows: dict[str, Any] = {row["fault"]: row for row in json.loads(target.read_text())} if target.is_file() else {}
        for seen in self.seen:
            rows[seen.drill.name] = {
                "fault": seen.drill.name,
                "probe": seen.shown.probe,
                "status": str(seen.shown.status),
                "reason": seen.shown.reason,
                "intervals": None if seen.seconds is None else round(seen.seconds / seen.interval, 1),
                "problems": seen.problems,
            }
        kept = [rows[drill.name] for drill in expected if drill.name in rows]
        target.write_text(json.dumps(kept, indent=1) + "\n")


def _explained(probe: Mapping[str, Any], board: Mapping[str, Any], asks: Sequence[str]) -> bool:
    """Whether it says because of which probe it fails; one that cannot tell does not, and must need one that is bad."""
    if probe["state"]["status"] == "unknown":
        return any(board[name]["state"]["status"] != "ok" for name in (*probe["depends_on"], *asks))
    return bool(probe["state"]["caused_by"])


def _shown(drill: Drill) -> Shown:
    assert drill.shown is not None, f"{drill.name} does not say what the board shows"
    return drill.shown

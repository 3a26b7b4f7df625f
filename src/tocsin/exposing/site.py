"""What the server shows, as the daemon hands it over: facts and callables, all safe to use from any thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from tocsin.board import Evidence, RunRecord
from tocsin.config import PlannedProbe
from tocsin.model import Entry, Transition
from tocsin.runbooks import Page, find_page


@dataclass(frozen=True, slots=True)
class Histogram:
    """A cumulative histogram: ``counts[i]`` observations were at most ``bounds[i]`` seconds; ``count`` were made."""

    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    count: int = 0
    sum: float = 0.0


@dataclass(frozen=True, slots=True)
class SelfFacts:
    """What tocsin says about itself. Timestamps in Unix seconds.

    ``config_error``: the text of the last reload that was refused, None when the last one was taken.
    ``state_failing``: why state is kept in memory only, None when it is stored.
    ``state_replaced``: whether what was remembered is not known: the state file was found unusable, and a new one
    begun, or it could not be opened at the start.
    ``notices``: other things an operator should know, one line each, shown on the status page.
    """

    started_at: float
    version: str = ""
    vantage: str = ""
    config_hash: str = ""
    config_error: str | None = None
    heartbeat_at: float | None = None
    lag: Histogram = Histogram()
    loop_lag_seconds: float = 0.0
    state_writes_failed: int = 0
    state_failing: str | None = None
    state_replaced: bool = False
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the scheduler lives: its heartbeat and nothing else. ``detail`` says so in one line."""

    alive: bool
    detail: str


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """What a reload did. ``message``: what changed, or what is wrong with the configuration; no secrets."""

    accepted: bool
    message: str


class History(Protocol):
    """What happened to a probe. `recent` is cheap; the others may read the disk. As `tocsin.board.Board`."""

    def recent(self, probe: str) -> tuple[RunRecord, ...]: ...
    def runs(self, probe: str, limit: int) -> list[RunRecord]: ...
    def transitions(self, probe: str, limit: int) -> list[Transition]: ...
    def evidence(self, probe: str) -> Evidence | None: ...


@dataclass(frozen=True, slots=True)
class Site:
    """Everything that the HTTP server needs of the rest of the daemon.

    ``reload`` starts a reload on the probing loop and gives its future (`asyncio.run_coroutine_threadsafe`).
    ``runbook`` finds the page of a system and an incident, None when there is none; raises
    `tocsin.runbooks.PageError` for one that cannot be read.
    ``due``: when a probe runs next, in Unix seconds.
    ``plan``: the configuration that runs, as rows without secrets.
    ``ready_within``: seconds after the start until the daemon is ready even without a first result of every probe.
    """

    entries: Callable[[], Mapping[str, Entry]]
    facts: Callable[[], SelfFacts]
    health: Callable[[], Health]
    reload: Callable[[], Future[ReloadResult]]
    history: History
    now: Callable[[], float]
    runbook: Callable[[str, str], Page | None] = find_page
    ready_within: float = 60.0
    due: Callable[[str], float | None] = lambda _: None
    plan: Callable[[], tuple[PlannedProbe, ...]] = tuple

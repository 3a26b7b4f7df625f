"""The running daemon: the rooms wired together, started in order, stopped in reverse.

Two loops in two threads: the probing loop (here) and the web server's. They share immutable entries of the board.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from tocsin import __version__
from tocsin.board import Board, InUse, Store, StoreCondition, claimed
from tocsin.config import ConfigError, Configuration, ControlTarget, FileWatch, Problem, ProcessSettings, describe, diff
from tocsin.exposing import Health, Histogram, ReloadResult, SelfFacts, Site, WebServer
from tocsin.logs import VEIL
from tocsin.model.redaction import secrets_in
from tocsin.runbooks import Page, PageError, Patience, find_page, folders, list_pages
from tocsin.running import (
    ControlMemory,
    Controls,
    Heartbeat,
    PermitPool,
    Runner,
    Scheduler,
    SystemClock,
    Watchdog,
    install_workers,
)
from tocsin.sdk import HttpClient, Probe

STATE_FILE = "state.sqlite3"
STOP_SECONDS = 4.0
"""Within which the parts of the daemon have stopped, whatever they do."""
SHORTEST_STOP_SECONDS = 0.5
REST_SECONDS = 0.25
FIRST_RUN_WITHIN = 10.0
"""Seconds within which every probe has had its first run, so that a start is soon a board."""


@dataclass(frozen=True, slots=True)
class Loading:
    """How to get the configuration: once at the start, again at each reload. ``load`` raises `ConfigError`."""

    load: Callable[[], Configuration]
    kinds: Mapping[str, type[Probe]]


class Daemon:
    """One daemon. `serve` runs it until a signal ends it; nothing of it is left afterwards.

    Raises `ConfigError` when made with a configuration that cannot be used.
    """

    def __init__(self, loading: Loading, settings: ProcessSettings) -> None:
        self._loading = loading
        configuration = self._configuration = self._load()
        self._settings = settings
        self._clock = SystemClock()
        self._started_at = self._clock.wall()
        self._heartbeat = Heartbeat(self._clock)
        self._board = Board(Store(settings.state_dir / STATE_FILE))
        self._patience = Patience(settings.runbooks_dir or Path())
        self._reloading = asyncio.Lock()
        self._config_error: str | None = None
        self._watch = FileWatch(configuration.files)
        self._log = structlog.get_logger("tocsin.daemon")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._scheduler: Scheduler | None = None
        self._permits: PermitPool | None = None
        self._controls: Controls | None = None
        self._url = ""
        self._stop_by = 0.0

    async def serve(self) -> bool:
        """Runs until SIGTERM or SIGINT. Raises `OSError` when the address cannot be had, `ConfigError` for the
        web-config file and for a state folder that another daemon uses.

        Returns whether all is ended. If not, a kind ignores its cancellation, and only the end of the process ends it.
        """
        loop = self._loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload_soon)
        async with AsyncExitStack() as stack:
            # A reload that is asked for meanwhile waits until there is something to change.
            async with self._reloading:
                await self._start(stack)
            await ended.wait()
            self._log.info("stopping")
            self._stop_by = self._clock.monotonic() + STOP_SECONDS
        stubborn = await _end_the_rest()
        self._log.info("stopped", left_behind=stubborn)
        return not stubborn

    async def _start(self, stack: AsyncExitStack) -> None:
        """Each part registers its own end, so that what was started is stopped, whatever fails in between."""
        settings, loop = self._settings, asyncio.get_running_loop()
        workers = install_workers(loop)
        stack.callback(workers.shutdown, wait=False, cancel_futures=True)

        try:
            stack.enter_context(claimed(settings.state_dir))
        except InUse as error:
            hint = "give each daemon a folder of its own"
            raise ConfigError([Problem(str(settings.state_dir), 0, "TOCSIN_STATE_DIR", str(error), hint)]) from None
        await asyncio.to_thread(self._board.open)
        stack.push_async_callback(self._last, self._board.close)
        self._board.configure(self._configuration.probes.values())

        self._heartbeat.start()
        stack.callback(self._heartbeat.stop)
        watchdog = Watchdog(self._heartbeat)
        watchdog.start()
        stack.callback(watchdog.stop)

        await asyncio.to_thread(self._look_at_runbooks)
        # Before the first run: what was known is exported again at once, so that a restart resolves nothing.
        server = WebServer(self._site(), settings.listen.host, settings.listen.port, settings.web_config_file)
        await asyncio.to_thread(server.start)
        stack.push_async_callback(self._last, server.stop)

        http = HttpClient.open(user_agent=f"tocsin/{__version__}")
        stack.push_async_callback(http.close)
        self._url = server.url
        memory = ControlMemory(settings.state_dir / "controls.json")
        controls = self._controls = Controls(
            self._controls_for(self._configuration),
            http,
            self._clock,
            remembered=await asyncio.to_thread(memory.read),
            remember=memory.write,
        )
        stack.push_async_callback(controls.close)
        proving = loop.create_task(controls.watch(), name="watch of the control targets")
        proving.add_done_callback(self._guard)
        stack.push_async_callback(_ended, proving)
        self._permits = PermitPool(self._configuration.caps, self._clock)
        runner = Runner(clock=self._clock, http=http, permits=self._permits, controls=controls)
        self._scheduler = Scheduler(
            runner=runner,
            recorder=self._board,
            kinds=self._loading.kinds,
            first_run_within=FIRST_RUN_WITHIN,
        )
        stack.push_async_callback(self._scheduler.stop)
        # First of all, so that open requests and runs in flight end at the same time.
        stack.callback(server.begin_to_stop)
        await self._scheduler.apply(self._configuration.probes.values())
        if settings.reload_every:
            watching = loop.create_task(self._watch_files(settings.reload_every), name="watch of the configuration")
            watching.add_done_callback(self._guard)
            stack.push_async_callback(_ended, watching)
        self._log.info(
            "serving",
            url=server.url,
            probes=len(self._configuration.probes),
            missing_contracts=len(self._configuration.missing),
            config_hash=self._configuration.content_hash,
        )

    def _look_at_runbooks(self) -> None:
        """Tells of pages of the user's own that cannot be read; in their place one is served that is made."""
        own = self._settings.runbooks_dir
        if own is None:
            return
        try:
            for problem in self._patience.look(lambda: tuple(_unreadable(own))):
                self._log.warning("a runbook page cannot be read", problem=problem)
        except PageError as error:
            self._log.warning("the folder of runbook pages cannot be read", problem=str(error))

    def _runbook(self, system: str, incident: str) -> Page | None:
        own = self._settings.runbooks_dir
        if own is None:
            return find_page(system, incident)
        return self._patience.look(lambda: find_page(system, incident, *folders(own)))

    async def _last(self, stop: Callable[[float], None]) -> None:
        """Stops a part that blocks, in what time is left."""
        await asyncio.to_thread(stop, max(SHORTEST_STOP_SECONDS, self._stop_by - self._clock.monotonic()))

    # ── reload ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _reload_soon(self) -> None:
        asyncio.get_running_loop().create_task(self.reload(), name="reload").add_done_callback(self._guard)

    async def reload(self) -> ReloadResult:
        """Parse, validate, compare, apply. A configuration that cannot be used changes nothing, and is told."""
        async with self._reloading:
            try:
                configuration = await asyncio.to_thread(self._load)
            except ConfigError as error:
                return self._refused(str(error))
            except Exception as error:  # noqa: BLE001 - whatever is wrong, the old configuration runs on
                self._log.exception("reading the configuration failed; this is a bug")
                return self._refused(f"reading it failed with {type(error).__name__}; the log says more")
            assert self._permits is not None, "reloads begin after the start"
            assert self._controls is not None, "reloads begin after the start"
            assert self._scheduler is not None, "reloads begin after the start"
            # All that can fail comes before the first change.
            changes = diff(self._configuration.probes, configuration.probes)
            controls = self._controls_for(configuration)
            self._config_error = None
            self._configuration = configuration
            self._watch = FileWatch(configuration.files)
            self._board.configure(configuration.probes.values())
            self._permits.configure(configuration.caps)
            self._controls.configure(controls)
            await self._scheduler.apply(configuration.probes.values())
            parts = {"added": changes.added, "removed": changes.removed, "changed": changes.changed}
            told = ", ".join(f"{len(names)} {what}" for what, names in parts.items())
            self._log.info("the configuration was reloaded", **{what: list(names) for what, names in parts.items()})
            return ReloadResult(True, f"{told}, {len(changes.unchanged)} unchanged")

    def _refused(self, problems: str) -> ReloadResult:
        if problems != self._config_error:
            self._log.error("the new configuration is refused; the old one stays", problems=problems)
        self._config_error = problems
        return ReloadResult(False, problems)

    def _load(self) -> Configuration:
        configuration = self._loading.load()
        _ = configuration.content_hash  # made slow on purpose: here it holds up nobody
        VEIL.cover(_secrets_of(configuration))
        return configuration

    def _controls_for(self, configuration: Configuration) -> tuple[ControlTarget, ...]:
        """Our own port when none are configured."""
        return configuration.controls or (ControlTarget.parse(f"tcp://{urlsplit(self._url).netloc}"),)

    async def _watch_files(self, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            try:
                await self._look_at_files()
            except Exception:  # noqa: BLE001 - one look that fails must not be the last one
                self._log.exception("looking at the configuration failed; this is a bug")

    async def _look_at_files(self) -> None:
        if changed := await self._watch.changed():
            self._log.info("the configuration changed on disk", files=[str(path) for path in changed])
        if changed or self._config_error is not None:
            # What was refused may be right by now, with files that nobody watches yet: the ones it was missing.
            await self.reload()

    def _guard(self, task: asyncio.Task[object]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("a task of the daemon failed", task=task.get_name(), exc_info=error)

    # ── what the web server reads, from its own thread ──────────────────────────────────────────────────────────

    def _site(self) -> Site:
        return Site(
            entries=self._board.entries,
            facts=self._facts,
            health=self._health,
            reload=self._reload_from_afar,
            history=self._board,
            now=self._clock.wall,
            plan=lambda: describe(self._configuration),
            due=lambda name: self._scheduler.due_at(name) if self._scheduler is not None else None,
            runbook=self._runbook,
        )

    def _reload_from_afar(self) -> Future[ReloadResult]:
        assert self._loop is not None, "the server starts after the loop"
        return asyncio.run_coroutine_threadsafe(self.reload(), self._loop)

    def _health(self) -> Health:
        age = self._heartbeat.age()
        if self._heartbeat.stalled():
            return Health(False, f"the probing loop has not turned for {age:.1f} s; its stack is in the log")
        return Health(True, f"the probing loop turned {age:.1f} s ago")

    def _facts(self) -> SelfFacts:
        condition = self._board.condition()
        return SelfFacts(
            started_at=self._started_at,
            version=__version__,
            vantage=self._configuration.vantage,
            config_hash=self._configuration.content_hash,
            config_error=self._config_error,
            heartbeat_at=self._heartbeat.stamp,
            lag=self._lag(),
            loop_lag_seconds=self._heartbeat.lag_seconds,
            state_writes_failed=condition.failed_writes,
            state_failing=condition.failing,
            state_replaced=condition.unread or condition.moved_aside is not None,
            notices=tuple(_notices(condition)),
        )

    def _lag(self) -> Histogram:
        if self._scheduler is None:
            return Histogram()
        lateness = self._scheduler.lateness
        pairs = lateness.cumulative()
        bounds = tuple(bound for bound, _ in pairs[:-1])
        return Histogram(bounds, tuple(count for _, count in pairs[:-1]), pairs[-1][1], lateness.total_seconds)


def _secrets_of(configuration: Configuration) -> Iterator[str]:
    """The values of all secrets as they are now. Reads files."""
    for spec in configuration.probes.values():
        for secret in secrets_in(spec.settings):
            with suppress(OSError):
                yield secret.reveal()


def _notices(condition: StoreCondition) -> Iterator[str]:
    if condition.moved_aside is not None:
        yield f"the state file could not be used; it was kept as {condition.moved_aside.name}"
    if condition.unread:
        yield "the state file could not be opened at the start: what was known before is not known any more"


async def _end_the_rest() -> list[str]:
    """Cancels what kinds left running on the loop; the names of the tasks and threads that do not end.

    A thread that is not a daemon is waited for by the interpreter, for as long as it takes.
    """
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    if rest:
        await asyncio.wait(rest, timeout=REST_SECONDS)
    threads = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    held = [thread for thread in threads if not thread.daemon]
    deadline = time.monotonic() + REST_SECONDS
    for thread in held:
        thread.join(max(0.0, deadline - time.monotonic()))
    return sorted(
        [task.get_name() for task in rest if not task.done()] + [thread.name for thread in held if thread.is_alive()]
    )


def _unreadable(own: Path) -> Iterator[str]:
    """What is wrong with the pages of a folder. Raises `PageError` for the folder itself."""
    for system, incident in list_pages(own):
        try:
            find_page(system, incident, *folders(own))
        except PageError as error:
            yield str(error)


async def _ended(task: asyncio.Task[object]) -> None:
    task.cancel()
    await asyncio.wait({task}, timeout=REST_SECONDS)

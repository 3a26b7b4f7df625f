"""One run of the sandbox: the estate, its switches and the daemon, started together and stopped within five seconds."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import ClientError, ClientSession, ClientTimeout

from tocsin_sandbox import environment, folders, switchboard
from tocsin_sandbox.alexandria_environment import CHAIN
from tocsin_sandbox.estate import Estate
from tocsin_sandbox.faults import BY_NAME
from tocsin_sandbox.processes import Child, run_to_end
from tocsin_sandbox.serving import Site, free_port
from tocsin_sandbox.switches import Switches

DAEMON_SECONDS = 20.0
"""How long the daemon may take to serve its first page."""

_CLI = (sys.executable, "-m", "tocsin.cli")


class DaemonError(Exception):
    """The daemon did not start; the message carries the end of its log."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of a session.

    ``listen``: host and port of the daemon, a free loopback port when None. ``state_folder``: where files stay after
    the end; a temporary folder when None. ``once``: each probe is to run once, and may take its time.
    """

    listen: str | None = None
    state_folder: Path | None = None
    once: bool = False


class Session:
    """A running sandbox, as an asynchronous context. Everything is down when the context ends."""

    def __init__(self, plan: Plan, progress: Callable[[str], None]) -> None:
        self.plan = plan
        self.progress = progress
        self.links: dict[str, str] = {}
        self.daemon: Child | None = None
        self._stack = AsyncExitStack()

    async def start(self) -> Self:
        """Start the estate and the switches; leaves nothing behind when that fails. Use the session as a context then.

        Raises `PostgresqlMissingError`, `FolderError`, `OSError`, `RuntimeError`.
        """
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def configuration(self) -> Path:
        return self.folder / "sandbox.yaml"

    @property
    def env_file(self) -> Path:
        return self.folder / "wipe.env"

    @property
    def daemon_log(self) -> Path:
        return self.folder / "daemon.log"

    async def _start(self) -> None:
        run_folder = folders.create(folders.home())
        self._stack.callback(run_folder.remove)
        self.folder = run_folder.path if self.plan.state_folder is None else _prepare(self.plan.state_folder)
        self.estate = await Estate.build(run_folder.path)
        self._stack.push_async_callback(self.estate.stop)
        await self.estate.start(self.progress)
        self.switches = Switches(self.estate, BY_NAME)
        self._variables = environment.variables(self.estate)
        _write(self.env_file, environment.render_env_file(self._variables))
        pace = environment.PATIENT_PACE if self.plan.once else environment.PACE
        content = environment.configuration(environment.bundled_probes(), self.env_file, pace)
        _write(self.configuration, environment.render_configuration(content))
        await self._bootstrap_chain()
        port = free_port()
        board = Site(port, lambda: switchboard.build(self.switches, self.links))
        await board.start()
        self._stack.push_async_callback(board.stop)
        self.links["switches"] = board.url
        run_folder.publish({"switches": board.url, "pid": str(os.getpid()), "configuration": str(self.configuration)})
        self.progress("switches")

    async def _bootstrap_chain(self) -> None:
        """The first mark of the audit chain, made as an operator makes it. Raises `RuntimeError`."""
        (self.estate.license_file.path.parent / "chain").mkdir()
        code, output = await run_to_end(
            [*_CLI, "chain", "bootstrap", CHAIN, "--config", self.configuration], environment=self._clean_environment()
        )
        if code != 0:
            raise RuntimeError(f"tocsin chain bootstrap failed with exit code {code}: {output.strip()[-800:]}")
        self.progress("audit chain")

    async def start_daemon(self) -> None:
        """Run ``tocsin run`` and wait until it serves. Raises `DaemonError`."""
        listen = self.plan.listen or f"127.0.0.1:{free_port()}"
        with self.daemon_log.open("ab") as output:
            self.daemon = await Child.start(
                [*_CLI, "run", "--config", self.configuration],
                output=output,
                environment={
                    **self._clean_environment(),
                    "TOCSIN_LISTEN": listen,
                    "TOCSIN_STATE_DIR": str(self.folder / "state"),
                },
            )
        self._stack.push_async_callback(self.daemon.stop, signal.SIGTERM, 2.5)
        url = f"http://{listen}"
        if not await self._ready(f"{url}/-/healthy"):
            raise DaemonError(f"the daemon did not start; the end of its log:\n{self.end_of_daemon_log()}")
        # Last in, first out: the daemon goes before its targets, so it never sees them go.
        self.links.update({"status page": url, "metrics": f"{url}/metrics"})
        self.progress("daemon")

    def end_of_daemon_log(self) -> str:
        return self.daemon_log.read_text("utf-8", "replace")[-2000:]

    async def probe_once(self, *options: str) -> int:
        """``tocsin probe`` on this estate, its output on ours; the exit code."""
        process = await asyncio.create_subprocess_exec(
            *_CLI, "probe", "--config", str(self.configuration), *options, env=self._clean_environment()
        )
        return await process.wait()

    def _clean_environment(self) -> dict[str, str]:
        """Ours without the variables that the env file sets: the process environment would win over it."""
        return {
            name: value
            for name, value in os.environ.items()
            if name not in self._variables and not name.startswith("TOCSIN_")
        }

    async def _ready(self, url: str) -> bool:
        assert self.daemon is not None
        async with ClientSession(timeout=ClientTimeout(total=2)) as session:
            for _ in range(round(DAEMON_SECONDS / 0.1)):
                if not self.daemon.alive:
                    return False
                try:
                    async with session.get(url) as response:
                        if response.status == 200:
                            return True
                except (ClientError, OSError, TimeoutError):
                    pass
                await asyncio.sleep(0.1)
        return False


def _prepare(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def _write(path: Path, text: str) -> None:
    """Only for the owner: the env file holds credentials, if only of the practice estate."""
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")

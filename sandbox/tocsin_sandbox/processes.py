"""Child processes that end with us: a session of their own, a signal from the kernel when this process dies."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import pwd
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Account:
    """The system account that a server runs under."""

    name: str
    uid: int
    gid: int


def unprivileged_account() -> Account | None:
    """``nobody`` when this process is root, which PostgreSQL refuses to run as; None when it is not needed."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def die_with_parent(parent: int, number: signal.Signals) -> Callable[[], None]:
    """For ``preexec_fn``: ask the kernel for ``number`` when the parent dies (prctl(2), PR_SET_PDEATHSIG).

    The parent may have died before the request was made: then this child ends at once.
    """

    def request() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            os._exit(1)

    return request


class Child:
    """A running server process. Start it from the main thread: the death signal belongs to the thread that forks."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(
        cls,
        command: Sequence[str | Path],
        *,
        output: int | IO[bytes],
        account: Account | None = None,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        death_signal: signal.Signals = signal.SIGTERM,
    ) -> Child:
        """Run ``command``, both its outputs going to ``output``. Raises `OSError` when it cannot be executed."""
        drop = {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}
        process = await asyncio.create_subprocess_exec(
            *map(str, command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=None if environment is None else dict(environment),
            cwd=folder,
            start_new_session=True,
            preexec_fn=die_with_parent(os.getpid(), death_signal),
            **drop,  # type: ignore[arg-type]  # typeshed types user, group and extra_groups one by one
        )
        return cls(process)

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    async def stop(self, number: signal.Signals = signal.SIGTERM, within: float = 3.0) -> None:
        """Send ``number``; kill the process when it is still there ``within`` seconds later."""
        if not self.alive:
            return
        self.send(signal.SIGCONT)
        self.send(number)
        try:
            await asyncio.wait_for(self.process.wait(), within)
        except TimeoutError:
            self.send(signal.SIGKILL)
            await self.process.wait()

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def signal_family(self, number: signal.Signals) -> None:
        """Send ``number`` to the process and its direct children (proc(5), ``/proc/PID/task/TID/children``)."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        self.send(number)
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), number)


async def run_to_end(
    command: Sequence[str | Path],
    *,
    account: Account | None = None,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Run a short command; its exit code and what it wrote to both outputs. ``environment``: ours when None."""
    child = await Child.start(
        command,
        output=asyncio.subprocess.PIPE,
        account=account,
        folder=folder,
        environment=environment,
        death_signal=signal.SIGKILL,
    )
    out, err = await child.process.communicate()
    return child.process.returncode or 0, (out + (err or b"")).decode("utf-8", "replace")

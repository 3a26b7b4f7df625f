"""The switches: which faults are active, and flipping them one at a time."""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Mapping

import asyncpg
from botocore.exceptions import BotoCoreError, ClientError

from tocsin_sandbox.estate import Estate
from tocsin_sandbox.fault import Fault

_log = logging.getLogger("tocsin.sandbox")
_REFUSALS = (
    OSError,
    TimeoutError,
    RuntimeError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    BotoCoreError,
    ClientError,
)


class UnknownFaultError(Exception):
    """No fault has this name; the message names the nearest."""


class FlipError(Exception):
    """The estate could not be changed, usually because another active fault is in the way."""


class Switches:
    """All faults of one estate. Flips are serialised; what is flipped twice is flipped once."""

    def __init__(self, estate: Estate, faults: Mapping[str, Fault]) -> None:
        self.faults = faults
        self._estate = estate
        self._active: list[str] = []
        self._lock = asyncio.Lock()

    @property
    def active(self) -> tuple[str, ...]:
        """Names of the active faults, oldest first."""
        return tuple(self._active)

    def find(self, name: str) -> Fault:
        """Raises `UnknownFaultError`."""
        fault = self.faults.get(name)
        if fault is None:
            near = difflib.get_close_matches(name, self.faults, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UnknownFaultError(f"there is no fault {name!r}{hint}")
        return fault

    async def cause(self, name: str) -> None:
        """Break it. An active fault that turns the same knob is undone first. Raises `FlipError`."""
        fault = self.find(name)
        async with self._lock:
            if name in self._active:
                return
            for other in [self.faults[other] for other in self._active]:
                if fault.knob and other.knob == fault.knob:
                    await self._undo(other)
            try:
                await fault.cause(self._estate)
            except _REFUSALS as error:
                raise FlipError(self._explain("caused", fault, error)) from error
            self._active.append(name)
            _log.info("caused %s", name)

    async def undo(self, name: str) -> None:
        """Heal it. Raises `FlipError`; then it stays active."""
        fault = self.find(name)
        async with self._lock:
            if name in self._active:
                await self._undo(fault)

    async def heal(self) -> None:
        """Undo all, newest first, again for those that another fault kept from being undone. Raises `FlipError`."""
        async with self._lock:
            while self._active:
                before = self.active
                failure: FlipError | None = None
                for name in reversed(before):
                    try:
                        await self._undo(self.faults[name])
                    except FlipError as error:
                        failure = error
                if self.active == before and failure is not None:
                    raise failure

    async def _undo(self, fault: Fault) -> None:
        try:
            await fault.undo(self._estate)
        except _REFUSALS as error:
            raise FlipError(self._explain("undone", fault, error)) from error
        self._active.remove(fault.name)
        _log.info("healed %s", fault.name)

    def _explain(self, verb: str, fault: Fault, error: BaseException) -> str:
        others = ", ".join(name for name in self._active if name != fault.name)
        hint = f"; active faults may be in the way: {others}" if others else ""
        return f"{fault.name} could not be {verb}: {error}{hint}"

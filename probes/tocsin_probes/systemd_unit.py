"""`systemd_unit`: a unit on a host runs and stays up, and its journal holds no known fault."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from tocsin.sdk import (
    ByteCount,
    CommonReason,
    Finding,
    Gauge,
    Outcome,
    Probe,
    ProbeContext,
    ProbeFault,
    ProbeSettings,
    ReasonEnum,
    ReasonInfo,
    Seconds,
    Severity,
    Status,
)
from tocsin.sdk.faults import quoted
from tocsin.sdk.patterns import Patterns, Sightings, reasons_of

_PARTLY_SEEN = b"not seeing messages from other users"
"""journalctl's hint to a user who may not read the system's journal; it ends with 0 all the same. systemd 252."""
MAX_SHOWN_BYTES = 64 << 10
FAREWELL_SECONDS = 0.3
"""What is kept of the run's time to end a tool that hangs."""
_PASSED_ON = ("PATH", "DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS", "XDG_RUNTIME_DIR", "HOME")
"""What the tools need of our environment; the rest may hold secrets."""

_RESTARTS = Gauge("tocsin_unit_restarts", "Automatic restarts of the unit in the window.")
_ACTIVE = Gauge("tocsin_unit_active", "1 while the unit is active, 0 otherwise.")


class SystemdUnit(Probe):
    """A unit is active and not restarted again and again; none of the configured strings is in its journal.

    Asks `systemctl show` and `journalctl`, with a bound on what is read. For the journal the daemon's user must be in
    the group `systemd-journal`.
    """

    kind = "systemd_unit"
    gauges = (_RESTARTS, _ACTIVE)

    class Settings(ProbeSettings):
        unit: Annotated[str, Field(pattern=r"^[A-Za-z0-9:_.\\@-]+$", max_length=255)]
        """Its name: ``alexandria-api.service``."""
        user: bool = False
        """Ask the user's own manager, not the system's."""
        window: Seconds = 600.0
        """How long a restart and a line of the journal count; on its first run the probe reads as far back."""
        restarts: int = Field(default=2, ge=1)
        """Automatic restarts in the window from which on it is `restarting`."""
        patterns: Patterns = Field(default_factory=dict)
        """By reason, the text (or several) that a line of the journal contains. None: the journal is not read."""
        max_bytes: ByteCount = 1 << 20
        """Read at most of the journal in one run; the next run goes on."""
        systemctl: str = "systemctl"
        journalctl: str = "journalctl"

        def targets(self) -> tuple[str, ...]:
            return (f"unix://systemd/{self.unit}",)

    class Reason(ReasonEnum):
        UNIT_MISSING = "unit_missing", "There is no unit of that name, or its file cannot be loaded."
        INACTIVE = "inactive", "The unit is stopped."
        FAILED_UNIT = "failed_unit", "The unit has failed and is not restarted any more."
        RESTARTING = "restarting", "The unit keeps ending and is restarted."
        BEHIND = (
            "behind",
            "The journal grows faster than it is read: what is left of it is not known.",
            Severity.TICKET,
            Status.UNKNOWN,
        )

    settings: Settings

    @classmethod
    def reasons(cls, settings: ProbeSettings | None = None) -> tuple[ReasonInfo, ...]:
        """Those of the kind, and one for each of `patterns`."""
        return reasons_of(settings.patterns if isinstance(settings, cls.Settings) else {}, cls.Reason)

    async def run(self, ctx: ProbeContext) -> Outcome:
        try:
            async with asyncio.timeout(max(0.1, ctx.remaining() - FAREWELL_SECONDS)):
                shown = await self._show()
                restarts = self._restarts(ctx, shown)
                ctx.measure(_ACTIVE, shown.get("ActiveState") in _UP)
                ctx.measure(_RESTARTS, restarts)
                findings = [*self._judge(shown, restarts)]
                if self.settings.patterns:
                    findings += await self._journal(ctx)
        except TimeoutError as error:
            # A manager that does not answer says nothing about the unit.
            raise ProbeFault(CommonReason.DEPENDENCY_UNKNOWN, "systemd gave no answer in time") from error
        return Outcome.of(findings, f"{shown.get('ActiveState')} ({shown.get('SubState')})")

    async def _show(self) -> dict[str, str]:
        """org.freedesktop.systemd1(5), systemctl(1)."""
        arguments = ["show", "--property=LoadState,ActiveState,SubState,Result,NRestarts,ExecMainStatus"]
        done = await _run(
            [self.settings.systemctl, *self._manager(), *arguments, "--", self.settings.unit], MAX_SHOWN_BYTES
        )
        if done.status != 0:
            raise _cannot("systemctl", done)
        rows = (line.partition("=") for line in done.output.decode("utf-8", "replace").splitlines())
        shown = {name: value for name, _, value in rows}
        if "LoadState" not in shown:
            raise _cannot("systemctl", done)
        return shown

    def _judge(self, shown: dict[str, str], restarts: int) -> Iterator[Finding]:
        reason, unit = self.Reason, self.settings.unit
        state, sub = shown.get("ActiveState", ""), shown.get("SubState", "")
        why = f"{state} ({sub}), result {shown.get('Result')}, exit status {shown.get('ExecMainStatus')}"
        if shown["LoadState"] != "loaded":
            yield Finding.of(reason.UNIT_MISSING, f"{unit} is {shown['LoadState']}")
        elif state == "failed":
            yield Finding.of(reason.FAILED_UNIT, why)
        elif sub.startswith("auto-restart") or restarts >= self.settings.restarts:
            yield Finding.of(reason.RESTARTING, f"{why}; {restarts} restarts in the window")
        elif state not in _UP:
            yield Finding.of(reason.INACTIVE, why)

    def _restarts(self, ctx: ProbeContext, shown: dict[str, str]) -> int:
        """Restarts in the window. ``memory["restarts"]``: changes of the counter as ``[time, count]``.

        The counter begins anew when somebody starts the unit by hand.
        """
        now, window = ctx.now(), self.settings.window
        count = int(shown.get("NRestarts") or 0) if (shown.get("NRestarts") or "0").isdigit() else 0
        changes: list[list[float]] = ctx.memory.get("restarts") or [[now, count]]
        if count < changes[-1][1]:
            changes = [[now, 0]]
        if count != changes[-1][1]:
            changes = [*changes, [now, count]]
        start = max((change for change in changes if change[0] <= now - window), default=changes[0])
        ctx.memory["restarts"] = [start, *(each for each in changes if each[0] > now - window and each != start)][-50:]
        return int(count - start[1])

    async def _journal(self, ctx: ProbeContext) -> list[Finding]:
        """journalctl(1); "Journal JSON Format", https://systemd.io/JOURNAL_EXPORT_FORMATS."""
        settings = self.settings
        sightings = Sightings(settings.patterns, ctx.memory)
        # --all: without it a message of more than 4096 bytes is null, and a line of the log unseen.
        form = ["--no-pager", "--all", "--output=json", "--output-fields=MESSAGE"]
        base = [settings.journalctl, *self._manager(), *form]
        base.append(f"--unit={settings.unit}" if not settings.user else f"--user-unit={settings.unit}")
        since = f"--since=@{int(ctx.now() - settings.window)}"
        cursor = ctx.memory.get("cursor")
        # Not --after-cursor: where that entry is gone it skips the one that is nearest, which is new.
        done = await _run([*base, f"--cursor={cursor}" if cursor else since], settings.max_bytes)
        if done.status != 0 and cursor and not done.cut:
            # It points nowhere any more: read on by time.
            done = await _run([*base, since], settings.max_bytes)
        if done.status != 0 and not done.cut:
            raise _cannot("journalctl", done)
        if not settings.user and _PARTLY_SEEN in done.errors:
            said = "this user sees its own messages only; add it to the group systemd-journal"
            raise ProbeFault(CommonReason.CREDENTIALS_REJECTED, said)
        rows = done.output.split(b"\n")
        for row in rows[:-1] if done.cut else rows:
            entry = _entry(row)
            if entry is not None and entry.cursor != cursor:
                ctx.memory["cursor"] = entry.cursor
                sightings.look(entry.message, entry.at, ctx.now(), settings.unit)
        sightings.attach_to(ctx)
        found = sightings.findings(self.all_reasons(settings), ctx.now(), settings.window)
        if done.cut:
            found.append(Finding.of(self.Reason.BEHIND, f"more than {settings.max_bytes} bytes since the last run"))
        return found

    def _manager(self) -> list[str]:
        return ["--user"] if self.settings.user else []


_UP = ("active", "reloading", "refreshing")


class Done(NamedTuple):
    """What a command gave. ``cut``: it had more to say than was read, and was ended."""

    status: int
    output: bytes
    errors: bytes
    cut: bool


class Entry(NamedTuple):
    """One entry of a journal. ``at`` in Unix seconds."""

    cursor: str
    at: float
    message: str


async def _run(command: Sequence[str], limit: int) -> Done:
    """Runs a command without a shell and reads at most ``limit`` bytes of it. It never outlives the run."""
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | {"LC_ALL": "C.UTF-8"}
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
    except OSError as error:
        detail = f"{command[0]} cannot be run: {error.strerror}"
        raise ProbeFault(CommonReason.DEPENDENCY_UNKNOWN, detail) from error
    assert process.stdout is not None, "asked for"
    assert process.stderr is not None, "asked for"
    errors = asyncio.ensure_future(process.stderr.read(4096))
    try:
        output = bytearray()
        while (room := limit + 1 - len(output)) > 0 and (chunk := await process.stdout.read(min(room, 1 << 16))):
            output += chunk
        cut = len(output) > limit
        if not cut:
            await process.wait()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
        # To the end of both pipes, which then close: what is left in them is little.
        await process.stdout.read()
        said = await errors
        await process.wait()
    return Done(process.returncode or 0, bytes(output), said, cut)


def _cannot(tool: str, done: Done) -> ProbeFault:
    said = done.errors.decode("utf-8", "replace")
    refused = any(sign in said.lower() for sign in ("permission", "access denied", "not authorized"))
    reason = CommonReason.CREDENTIALS_REJECTED if refused else CommonReason.DEPENDENCY_UNKNOWN
    return ProbeFault(reason, f"{tool} ended with {done.status}: {quoted(said.strip(), 200)}")


def _entry(row: bytes) -> Entry | None:
    """None for what is no entry. A message that is not UTF-8 is a list of bytes."""
    try:
        document = json.loads(row)
        message: Any = document.get("MESSAGE")
        text = bytes(message).decode("utf-8", "replace") if isinstance(message, list) else str(message or "")
        return Entry(document["__CURSOR"], int(document["__REALTIME_TIMESTAMP"]) / 1e6, text)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None

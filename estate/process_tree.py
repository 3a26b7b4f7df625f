"""All processes that belong to a started server, read from /proc (proc(5)).

A signal to the process group alone is not enough: PostgreSQL's children make groups of their own.
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Seen:
    """One line of /proc/PID/stat."""

    pid: int
    parent: int
    group: int
    state: str
    started: int
    """Clock ticks since boot. With the pid it names one process for ever."""
    threads: int

    @property
    def living(self) -> bool:
        """Whether any thread of it still runs. A zombie whose other threads are ending still holds its sockets."""
        return self.state not in "ZX" or self.threads > 1


def look(pid: int) -> Seen | None:
    """A process as it is now, or None where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The name stands in parentheses and may hold spaces and parentheses itself.
    fields = text[text.rindex(")") + 2 :].split()
    return Seen(pid, int(fields[1]), int(fields[2]), fields[0], int(fields[19]), int(fields[17]))


def alive(seen: Seen) -> bool:
    """Whether this very process still runs."""
    now = look(seen.pid)
    return now is not None and now.started == seen.started and now.living


def members(leader: int) -> list[Seen]:
    """The living processes (no zombies) that are in the group of `leader` or descend from one that is."""
    everyone = [seen for name in os.listdir("/proc") if name.isdigit() and (seen := look(int(name)))]
    children: dict[int, list[Seen]] = {}
    for seen in everyone:
        children.setdefault(seen.parent, []).append(seen)
    found: dict[int, Seen] = {}
    waiting = [seen for seen in everyone if seen.group == leader or seen.pid == leader]
    while waiting:
        seen = waiting.pop()
        if seen.pid not in found:
            found[seen.pid] = seen
            waiting += children.get(seen.pid, [])
    return [seen for seen in found.values() if seen.living]


def send(processes: list[Seen], number: signal.Signals) -> None:
    """Send a signal to each of these that is still the same process."""
    for seen in processes:
        if alive(seen):
            with contextlib.suppress(ProcessLookupError):
                os.kill(seen.pid, number)

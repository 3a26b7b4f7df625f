"""What ``tocsin chain`` shows: a bar, breaks in words, and the status as a document."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tocsin_chain.marks import OpenBreak, key_text
from tocsin_chain.memory import Memory
from tocsin_chain.recall import Recalled
from tocsin_chain.settings import HashChainSettings
from tocsin_chain.walk import Progress as WalkProgress


@contextmanager
def walk_bar() -> Iterator[Callable[[WalkProgress], None] | None]:
    """A progress bar with an ETA on a terminal; None in a pipe."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("rows"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("rows", total=None)

        def report(progress: WalkProgress) -> None:
            # The planner's estimate may be missing or too small; then no end can be told.
            expected = progress.estimate if progress.estimate > progress.rows else None
            bar.update(task, completed=progress.rows, total=progress.rows if progress.done else expected)

        yield report


def list_breaks(items: Iterable[OpenBreak], settings: HashChainSettings, word: str = "open") -> None:
    for item in items:
        found = item.found
        evidence = f", evidence {item.evidence}" if item.evidence else ""
        times = [moment(each) for each in (found.first_time, found.last_time) if each is not None]
        of = f" of {' to '.join(dict.fromkeys(times))}" if times else ""
        typer.echo(
            f"  {word}: {found.kind} in {item.chain or settings.table} at {key_text(found.first)} to "
            f"{key_text(found.last)}, {found.rows} rows{of}, since {moment(item.since)}{evidence}"
        )


def status_document(probe: str, memory: Memory, recalled: Recalled) -> dict[str, Any]:
    marks = recalled.marks
    return {
        "probe": probe,
        "mark": str(memory.places.mark),
        "doubt": recalled.doubt.value if recalled.doubt else None,
        "detail": recalled.detail,
        "full_walk_at": marks.full_walk_at if marks else None,
        "chains": {
            name: {"verified": key_text(mark.head.key), "rows": mark.head.rows, "disputed": mark.resume is not None}
            for name, mark in (marks.chains if marks else {}).items()
        },
        "breaks": [
            {
                "chain": item.chain,
                "kind": item.found.kind.value,
                "first": key_text(item.found.first),
                "last": key_text(item.found.last),
                "rows": item.found.rows,
                "first_time": item.found.first_time,
                "last_time": item.found.last_time,
                "since": item.since,
                "evidence": item.evidence,
            }
            for item in (marks.open if marks else ())
        ],
    }


def moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))

"""``tocsin drill``: cause a fault on purpose and see that exactly the right page comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tocsin.cli.options import without_login
from tocsin.config.errors import nearest
from tocsin.data import folder
from tocsin.paging.drills.catalogue import Drill, read_catalogue
from tocsin.paging.drills.grouping import batches
from tocsin.paging.drills.judging import Verdict
from tocsin.paging.drills.listening import MetricsBell
from tocsin.paging.drills.live import LiveBell, LiveStage, at_its_pace, why_unsafe
from tocsin.paging.drills.rehearsing import Bell, Patience, Stage, StageError, rehearse
from tocsin.paging.drills.reporting import as_document, as_junit
from tocsin.paging.rulefiles import read_rules

LIVE_SETTLE = 120.0
"""Seconds: two group intervals of the reference routing."""

_INSTALL = "drills on the sandbox need {missing}, which is not installed: pip install 'tocsin[sandbox]'"


def drill(
    faults: Annotated[list[str] | None, typer.Argument(metavar="[FAULT]...", help="Which; all when none.")] = None,
    list_only: Annotated[bool, typer.Option("--list", help="List the catalogue, and drill nothing.")] = False,
    prometheus: Annotated[
        bool, typer.Option("--prometheus/--no-prometheus", help="Without: judged by tocsin's own metrics.")
    ] = True,
    at_once: Annotated[int, typer.Option(min=1, help="How many faults of different incidents at once.")] = 4,
    as_json: Annotated[bool, typer.Option("--json", help="The results as JSON.")] = False,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the results as JUnit XML too.")] = None,
    live: Annotated[bool, typer.Option("--live", help="On a staging platform, where you cause the faults.")] = False,
    public_url: Annotated[str | None, typer.Option(metavar="URL", help="With --live: the running daemon.")] = None,
    alertmanager_url: Annotated[str | None, typer.Option(metavar="URL", help="With --live: its Alertmanager.")] = None,
) -> None:
    """Cause faults on purpose, and see that exactly the right page comes, at the right section, and goes again.

    On the practice estate, with a real Prometheus and Alertmanager beside it. Exit 0: every drill passed; 1: some did
    not; 2: nothing could be drilled.

    Examples: `tocsin drill bucket-deleted`, `tocsin drill --no-prometheus --json`,
    `tocsin drill --live --public-url https://tocsin.staging --alertmanager-url https://am.staging dead-letter`
    """
    catalogue = read_catalogue(sorted(folder("drills").glob("*.yaml")))
    if list_only:
        _list(catalogue.values())
        return
    chosen = _chosen(catalogue, faults or [], live)
    teller = _Teller(Console(stderr=True, highlight=False, soft_wrap=True))
    if live and not (public_url and alertmanager_url):
        raise _fail("--live needs --public-url URL of the running daemon and --alertmanager-url URL")
    if junit is not None and (why := _unwritable(junit)):
        raise _fail(why)
    try:
        if live:
            verdicts = asyncio.run(_live(chosen, str(public_url), str(alertmanager_url), teller))
        else:
            verdicts = asyncio.run(_on_the_sandbox(chosen, prometheus, at_once, teller))
    except (StageError, OSError, RuntimeError) as error:
        given = (url.rstrip("/") for url in (public_url, alertmanager_url) if url)
        raise _fail(without_login(str(error), *given)) from None
    heard_by = "alertmanager" if prometheus or live else "metrics"
    lost = _written(junit, as_junit(verdicts)) if junit is not None else ""
    if as_json:
        typer.echo(json.dumps(as_document(verdicts, heard_by), indent=2))
    else:
        _report(verdicts, heard_by)
    if lost:
        raise _fail(lost)
    raise typer.Exit(0 if all(verdict.passed for verdict in verdicts) else 1)


def _unwritable(file: Path) -> str:
    """Why the file cannot be written, empty when it can; leaves it as it is. Drills take long: this is asked first."""
    there = file.exists()
    try:
        file.open("a").close()
        if not there:
            file.unlink()
    except OSError as error:
        return f"cannot write {file}: {error.strerror}"
    return ""


def _written(file: Path, text: str) -> str:
    """Writes the file; returns why not, empty when it is written."""
    try:
        file.write_text(text, "utf-8")
    except OSError as error:
        return f"cannot write {file}: {error.strerror}"
    return ""


def _chosen(catalogue: dict[str, Drill], names: Sequence[str], live: bool) -> list[Drill]:
    for name in names:
        if name not in catalogue:
            raise _fail(f"there is no drill {name!r}; {nearest(name, catalogue) or '`tocsin drill --list` lists them'}")
        if live and catalogue[name].live is None:
            raise _fail(f"{name} is not safe on a running platform; drill it on the sandbox, without --live")
        if not live and not catalogue[name].sandbox:
            raise _fail(f"the sandbox cannot cause {name}; it is drilled on real servers by the project's own tests")
    possible = [found for found in catalogue.values() if (found.live if live else found.sandbox)]
    return [catalogue[name] for name in names] or possible


async def _on_the_sandbox(drills: list[Drill], prometheus: bool, at_once: int, teller: _Teller) -> list[Verdict]:
    try:
        import moto.server  # noqa: F401  # only to learn whether the extra is there

        from tocsin_sandbox.bell import RealBell, programs
        from tocsin_sandbox.session import Plan, Session
        from tocsin_sandbox.stage import SandboxStage
    except ModuleNotFoundError as error:
        raise StageError(_INSTALL.format(missing=str(error.name).partition(".")[0])) from None
    if prometheus:
        programs()
    groups = batches(drills, at_once)
    with teller.progress(len(groups)):
        async with await Session(Plan(), lambda name: teller.tell(f"started: {name}")).start() as session:
            await session.start_daemon()
            url = session.links["status page"]
            stage = SandboxStage(session.switches, url)
            if prometheus:
                async with RealBell(session.folder / "bell", url.removeprefix("http://")) as real:
                    teller.tell("started: Prometheus and Alertmanager")
                    return await _rehearse_all(groups, stage, real, teller)
            heard = MetricsBell(url, read_rules(sorted(folder("alerts").glob("*.yaml")), folder("alerts").parent))
            async with _beside(heard.listen()):
                return await _rehearse_all(groups, stage, heard, teller)


async def _live(drills: list[Drill], url: str, alertmanager: str, teller: _Teller) -> list[Verdict]:
    bell = LiveBell(alertmanager.rstrip("/"), LIVE_SETTLE)
    if why := why_unsafe(await bell.alerts()):
        raise StageError(f"nothing is caused at {alertmanager.rstrip('/')}: {why}")
    drills = await at_its_pace(drills, url.rstrip("/"))
    stage = LiveStage(url.rstrip("/"), _ask)
    async with _beside(bell.listen()):
        with teller.progress(len(drills)):
            return await _rehearse_all([[item] for item in drills], stage, bell, teller, Patience(resolve=600))


@asynccontextmanager
async def _beside(listening: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Runs ``listening`` meanwhile. When it fails, what it raised ends the block."""
    work = asyncio.current_task()
    assert work is not None, "called from a coroutine"
    task = asyncio.create_task(listening, name="listening")
    task.add_done_callback(lambda done: done.cancelled() or work.cancel())
    try:
        yield
    except asyncio.CancelledError:
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            raise error from None
        raise
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _rehearse_all(
    groups: list[list[Drill]], stage: Stage, bell: Bell, teller: _Teller, patience: Patience | None = None
) -> list[Verdict]:
    verdicts: list[Verdict] = []
    for group in groups:
        found = await rehearse(group, stage, bell, teller.tell, patience)
        for verdict in found:
            result = "passed" if verdict.passed else f"FAILED ({'; '.join(verdict.problems)})"
            teller.tell(f"{verdict.drill.name}: {result}", keep=True)
        verdicts += found
        teller.step()
    return verdicts


def _ask(text: str) -> None:
    typer.prompt(f"\n  do now: {text}\n  then press Enter", default="", show_default=False, err=True)


@dataclass(slots=True)
class _Teller:
    """Progress: a bar on a terminal, the results as lines in a pipe."""

    console: Console
    _bar: Progress | None = None

    @contextmanager
    def progress(self, total: int) -> Iterator[None]:
        if not self.console.is_terminal:
            yield
            return
        columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        with Progress(*columns, console=self.console, transient=True) as self._bar:
            self._bar.add_task("starting", total=total)
            yield
        self._bar = None

    def tell(self, text: str, keep: bool = False) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=escape(text))
        if keep or self._bar is None:
            self.console.print(escape(text))

    def step(self) -> None:
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0])


def _report(verdicts: Iterable[Verdict], heard_by: str) -> None:
    console = Console(highlight=False)
    table = Table("drill", "result", "page after", "resolved after", "section", box=None, pad_edge=False)
    for verdict in verdicts:
        result = "[green]passed[/green]" if verdict.passed else "[bold red]FAILED[/bold red]"
        sections = ", ".join(item.section for item in verdict.drill.expected) or "no page"
        table.add_row(
            verdict.drill.name, result, _took(verdict.page_seconds), _took(verdict.resolve_seconds), escape(sections)
        )
        for problem in verdict.problems:
            table.add_row("", f"[red]{escape(problem)}[/red]")
    if not console.is_terminal:
        console.width = 200
    console.print(table)
    if heard_by == "metrics":
        console.print("judged by tocsin's own metrics: no rule was evaluated by Prometheus, no page was routed")


def _list(drills: Iterable[Drill]) -> None:
    for item in drills:
        where = [
            name for name, there in (("sandbox", item.sandbox), ("estate", item.estate), ("live", item.live)) if there
        ]
        sections = ",".join(expected.section for expected in item.expected) or "no page"
        typer.echo(f"{item.name}\t{'+'.join(where)}\t{sections}\t{item.title}")


def _took(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.0f} s"


def _fail(message: str) -> typer.Exit:
    typer.echo(f"tocsin drill: {message}", err=True)
    return typer.Exit(2)

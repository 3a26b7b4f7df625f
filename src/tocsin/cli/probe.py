"""``tocsin probe``: run probes once, now, with the daemon's own code."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, nullcontext
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from tocsin.cli.options import ConfigOption, EnvFileOption, ProfileOption, loaded
from tocsin.config import Configuration
from tocsin.config.errors import nearest
from tocsin.exposing import run_document
from tocsin.model import ProbeSpec, Run, Status
from tocsin.running import ActiveProbe, Controls, PermitPool, Runner, SystemClock, install_workers
from tocsin.sdk import HttpClient, Probe

AT_ONCE = 8
"""Probes that run at the same moment. A hundred that begin together would hold up one another and what they watch."""

_STYLE = {Status.OK: "green", Status.FAILED: "bold red", Status.UNKNOWN: "yellow"}


def probe(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Which probes; all when none.")] = None,
    config: ConfigOption = None,
    profile: ProfileOption = None,
    env_file: EnvFileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One object a line.")] = False,
) -> None:
    """Run probes once, now. Exit 0: all ok; 1: some failed; 3: none failed, some unknown; 2: usage or configuration.

    Examples: `tocsin probe --profile wipe --env-file .env`, `tocsin probe -c tocsin.yaml wipe-realm-master --json`
    """
    configuration, registry = loaded(config, profile, env_file)
    specs = _chosen(configuration, names or [])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        statuses, all_ended = loop.run(_all(specs, configuration, registry, as_json))
        code = 1 if Status.FAILED in statuses else 3 if Status.UNKNOWN in statuses else 0
        if not all_ended:
            # A kind ignores its cancellation, and the runner would wait for it for ever.
            sys.stdout.flush()
            os._exit(code)
    raise typer.Exit(code)


def _chosen(configuration: Configuration, names: Iterable[str]) -> list[ProbeSpec]:
    wanted = list(names)
    for name in wanted:
        if name not in configuration.probes:
            hint = nearest(name, configuration.probes) or "`tocsin plan` lists them"
            typer.echo(f"tocsin probe: there is no probe `{name}`; {hint}", err=True)
            raise typer.Exit(2)
    return [configuration.probes[name] for name in wanted] or list(configuration.probes.values())


async def _all(
    specs: list[ProbeSpec], configuration: Configuration, registry: Mapping[str, type[Probe]], as_json: bool
) -> tuple[set[Status], bool]:
    """The statuses there were, and whether every run has ended."""
    console = Console(highlight=False, soft_wrap=True)
    statuses: set[Status] = set()
    turns = asyncio.Semaphore(AT_ONCE)
    async with _runner(configuration) as runner:
        progress = Progress(
            SpinnerColumn(), TextColumn("{task.completed}/{task.total} probes"), TimeElapsedColumn(), transient=True
        )
        shown = not as_json and console.is_terminal
        with progress if shown else nullcontext():
            task = progress.add_task("probes", total=len(specs))
            for ended in asyncio.as_completed([_one(runner, spec, registry, turns) for spec in specs]):
                spec, run = await ended
                progress.advance(task)
                statuses.add(run.outcome.status)
                if as_json:
                    typer.echo(json.dumps(run_document(spec, run)))
                else:
                    (progress.console if shown else console).print(_line(spec, run), highlight=False, soft_wrap=True)
        return statuses, not runner.leaked


async def _one(
    runner: Runner, spec: ProbeSpec, registry: Mapping[str, type[Probe]], turns: asyncio.Semaphore
) -> tuple[ProbeSpec, Run]:
    async with turns:
        active = ActiveProbe.install(spec, registry)
        try:
            return spec, (await runner.run(active, {})).run
        finally:
            await active.close()  # what a kind cannot close, the end of the process closes


@asynccontextmanager
async def _runner(configuration: Configuration) -> AsyncIterator[Runner]:
    clock = SystemClock()
    workers = install_workers(asyncio.get_running_loop())
    http = HttpClient.open()
    controls = Controls(configuration.controls, http, clock, trust=True)
    try:
        yield Runner(clock=clock, http=http, permits=PermitPool(configuration.caps, clock), controls=controls)
    finally:
        await controls.close()
        await http.close()
        workers.shutdown(wait=False, cancel_futures=True)


def _line(spec: ProbeSpec, run: Run) -> str:
    outcome = run.outcome
    style = _STYLE[outcome.status]
    reason = f" {outcome.reason}" if outcome.reason else ""
    detail = f"  {escape(outcome.detail)}" if outcome.detail else ""
    took = f"{1000 * run.duration_seconds:.0f} ms"
    return f"[{style}]{outcome.status:8}[/]{spec.name:34}{took:>9}[{style}]{reason}[/]{detail}"

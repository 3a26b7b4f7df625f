"""``tocsin plan``: what would run, against what, and which contracts are missing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import aiohttp
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tocsin.cli.options import ConfigOption, EnvFileOption, ProfileOption, loaded, without_login
from tocsin.config import PlannedProbe, describe
from tocsin.config.describing import planned_document
from tocsin.doctor.questions import questions_of
from tocsin.model import MissingContract


def plan(
    config: ConfigOption = None,
    profile: ProfileOption = None,
    env_file: EnvFileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One object a line.")] = False,
    against: Annotated[
        str | None, typer.Option("--against", metavar="URL", help="Show what differs from the daemon at URL.")
    ] = None,
) -> None:
    """Show what would run: probes, targets, intervals, secrets by their source, and what is not configured yet.

    Examples: `tocsin plan --profile wipe --env-file .env`, `tocsin plan -c tocsin.yaml --against http://localhost:9760`
    """
    configuration, _ = loaded(config, profile, env_file)
    rows = describe(configuration)
    if against is not None:
        _difference(rows, asyncio.run(_running(against)))
    elif as_json:
        for row in rows:
            typer.echo(json.dumps(planned_document(row)))
    else:
        _table(rows, _asked(profile))


def _asked(profiles: list[str] | None) -> dict[str, str]:
    """By variable what the doctor of a bundled profile would look for."""
    known = [questions for profile in profiles or () if (questions := questions_of(profile)) is not None]
    return {name: question.sought for questions in known for name, question in questions.questions.items()}


def _table(rows: tuple[PlannedProbe, ...], asked: Mapping[str, str]) -> None:
    console = Console(highlight=False, emoji=False)
    table = Table("probe", "kind", "every", "timeout", "targets", "depends on", "secrets", box=None, pad_edge=False)
    group = ("", "")
    for row in rows:
        if (row.system, row.incident) != group:
            group = (row.system, row.incident)
            table.add_row(f"[bold]{row.system} / {row.incident}[/]")
        marks = "".join(f" [yellow]{mark}[/]" for mark in ("writes", "costly") if getattr(row, mark))
        targets = "[yellow]contract missing[/]" if row.missing else escape(row.off_because or "\n".join(row.targets))
        secrets = escape("\n".join(str(secret) for secret in row.secrets))
        table.add_row(
            f"  {row.name}{marks}", row.kind, row.every, row.timeout, targets, "\n".join(row.depends_on), secrets
        )
    console.print(table)
    console.print(f"\n{len(rows)} probes")
    missing = _by_variable((row.name, contract) for row in rows for contract in row.missing)
    if missing:
        console.print(f"\n[bold]{len(missing)} contracts are missing[/]; each makes its probes answer unknown:")
        console.print(_contracts(missing, asked))
    unset = _by_variable((row.name, contract) for row in rows for contract in row.unchecked)
    if unset:
        console.print(f"\n[bold]{len(unset)} variables are not set[/] that probes can do without. Not checked is:")
        console.print(_contracts(unset, asked))
    if missing or unset:
        console.print("Set them in the environment or in --env-file FILE; `tocsin doctor` proposes what it can find.")


def _by_variable(contracts: Iterable[tuple[str, MissingContract]]) -> dict[str, list[tuple[str, MissingContract]]]:
    found: dict[str, list[tuple[str, MissingContract]]] = {}
    for probe, contract in contracts:
        found.setdefault(contract.variable, []).append((probe, contract))
    return found


def _contracts(found: Mapping[str, list[tuple[str, MissingContract]]], asked: Mapping[str, str]) -> Table:
    """``asked``: what the doctor would look for, by variable: closer than the words of a setting that is a query."""
    table = Table("variable", "what it is", "for", box=None, pad_edge=False)
    for variable, uses in sorted(found.items()):
        words = asked.get(variable) or next((contract.meaning for _, contract in uses if contract.meaning), "")
        places = dict.fromkeys(
            f"{probe}: {contract.setting}" + (f", {contract.why}" if contract.why else "") for probe, contract in uses
        )
        table.add_row(f"  {variable}", escape(words), escape("\n".join(places)))
    return table


async def _running(url: str) -> dict[str, Mapping[str, Any]]:
    """The plan of a running daemon, by probe. Exits with 2 when it does not answer as one."""
    url = url.rstrip("/")
    try:
        timeout = aiohttp.ClientTimeout(total=10)
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
            session.get(f"{url}/api/v1/plan") as answer,
        ):
            answer.raise_for_status()
            return {row["name"]: row for row in (await answer.json())["probes"]}
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as error:
        told = f"no tocsin daemon answers at {url}: {str(error) or type(error).__name__}"
        typer.echo(f"tocsin plan: {without_login(told, url)}", err=True)
        raise typer.Exit(2) from None


def _difference(rows: tuple[PlannedProbe, ...], running: Mapping[str, Mapping[str, Any]]) -> None:
    wanted = {row.name: json.loads(json.dumps(planned_document(row))) for row in rows}
    console = Console(highlight=False, emoji=False)
    same = True
    for name in sorted(wanted.keys() | running.keys()):
        if name not in running:
            console.print(f"[green]+ {name}[/]  {escape(wanted[name]['kind'])}")
        elif name not in wanted:
            console.print(f"[red]- {escape(name)}[/]  {escape(str(running[name].get('kind')))}")
        else:
            before, after = running[name], wanted[name]
            changes = [key for key in after if key != "source" and after[key] != before.get(key)]
            for key in changes:
                change = f"{key}: {before.get(key)} → {after[key]}"
                console.print(f"[yellow]~ {name}[/]  {escape(change)}")
            same = same and not changes
            continue
        same = False
    if same:
        console.print("no difference")

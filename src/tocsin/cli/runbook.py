"""``tocsin runbook``: a page in the terminal, for when nothing else is reachable."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

from tocsin.cli.options import ConfigOption, EnvFileOption, ProfileOption, loaded
from tocsin.config import ConfigError
from tocsin.model import ProbeSpec
from tocsin.runbooks import Page, PageError, checks, filling, find_page, folders, list_pages, made_page
from tocsin.running.graph import Graph


def runbook(
    incident: Annotated[str | None, typer.Argument(help="INCIDENT or SYSTEM/INCIDENT; none lists them all.")] = None,
    config: ConfigOption = None,
    profile: ProfileOption = None,
    env_file: EnvFileOption = None,
) -> None:
    """Show a runbook page, or list them. With a configuration its commands hold your own values.

    Pages of your own are those in the folder that `TOCSIN_RUNBOOKS_DIR` names. Where nobody has written one, it is made
    from the probes of the configuration.

    Example: `tocsin runbook wipe/keycloak-outage --profile wipe --env-file /etc/wipe/.env`
    """
    try:
        _runbook(incident, _specs(config, profile, env_file))
    except PageError as error:
        typer.echo(f"tocsin runbook: {error}", err=True)
        raise typer.Exit(2) from None


def _runbook(incident: str | None, specs: Mapping[str, ProbeSpec]) -> None:
    own = os.environ.get("TOCSIN_RUNBOOKS_DIR")
    roots = folders(Path(own) if own else None)
    pages = sorted({*list_pages(*roots), *((spec.system, spec.incident) for spec in specs.values())})
    if incident is None:
        for system, name in pages:
            typer.echo(f"{system}/{name}")
        return
    found = [(system, name) for system, name in pages if incident in (name, f"{system}/{name}")]
    if len(found) != 1:
        what = "is in several systems" if found else "has no page"
        choice = ", ".join(f"{system}/{name}" for system, name in found or pages)
        typer.echo(f"tocsin runbook: {incident} {what}; choose of: {choice}", err=True)
        raise typer.Exit(2)
    page = find_page(*found[0], *roots) or made_page(*found[0], specs.values())
    if page is None:
        raise PageError(
            f"{'/'.join(found[0])} is not what a page can be called; use lower-case letters, digits and dashes"
        )
    Console().print(_shown(page, specs))


def _specs(config: Path | None, profile: list[str] | None, env_file: Path | None) -> Mapping[str, ProbeSpec]:
    """The probes of the configuration that is given. A page is shown without them rather than not at all."""
    if config is None and not profile:
        return {}
    try:
        return loaded(config, profile, env_file)[0].probes
    except ConfigError as error:
        typer.echo(f"tocsin runbook: shown without your values: {error}", err=True)
        return {}


def _shown(page: Page, specs: Mapping[str, ProbeSpec]) -> Markdown:
    own = [name for name, spec in specs.items() if (spec.system, spec.incident) == (page.system, page.incident)]
    ordered = [specs[name] for name in Graph(specs.values()).in_order(own)]
    listed = checks.table(ordered, page.system, page.incident) or None
    shown = Markdown(checks.unmarked(page.text, listed))
    filling.fill_tokens(shown.parsed, specs)
    return shown

"""``tocsin runbook``: a page in the terminal, for when nothing else is reachable."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

from tocsin.runbooks import PageError, find_page, list_pages


def runbook(
    incident: Annotated[str | None, typer.Argument(help="INCIDENT or SYSTEM/INCIDENT; none lists them all.")] = None,
) -> None:
    """Show a runbook page, or list them.

    Example: `tocsin runbook wipe/keycloak-outage`
    """
    pages = list_pages()
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
    try:
        page = find_page(*found[0])
    except PageError as error:
        typer.echo(f"tocsin runbook: {error}", err=True)
        raise typer.Exit(2) from None
    assert page is not None, "the page was listed a moment ago"
    Console().print(Markdown(page.text))

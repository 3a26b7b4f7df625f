"""``tocsin kinds``: what can be probed, with which settings and reasons."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tocsin.config import BrokenKind, Registry, UnknownKind
from tocsin.sdk import Probe


def kinds(
    kind: Annotated[str | None, typer.Argument(help="Show one kind in full.")] = None,
) -> None:
    """List the probe kinds that are installed, or show one: settings, reasons, gauges.

    Example: `tocsin kinds oidc_realm`
    """
    registry = Registry.discover()
    console = Console()
    if kind is None:
        table = Table("kind", "what it proves", "from", box=None, pad_edge=False)
        for name in registry:
            table.add_row(name, _summary(registry, name), registry.package(name))
        console.print(table)
        return
    try:
        _show(console, registry[kind])
    except UnknownKind as error:
        typer.echo(f"tocsin kinds: {error}", err=True)
        raise typer.Exit(2) from None


def _summary(registry: Registry, name: str) -> str:
    try:
        return escape(registry[name].summary())
    except BrokenKind as error:
        return f"[red]{escape(str(error))}[/]"


def _show(console: Console, probe: type[Probe]) -> None:
    console.print(f"[bold]{probe.kind}[/]  {escape(probe.summary())}\n")
    settings = Table("setting", "type", "default", "meaning", title="Settings", title_justify="left", box=None)
    for name, field in probe.Settings.model_fields.items():
        default = "required" if field.is_required() else _plain(field.get_default(call_default_factory=True))
        settings.add_row(name, *map(escape, (type_name(field.annotation), default, field.description or "")))
    console.print(settings)
    reasons = Table("reason", "status", "severity", "meaning", title="\nReasons", title_justify="left", box=None)
    for info in probe.all_reasons():
        reasons.add_row(info.code, info.status, info.severity, escape(info.meaning))
    console.print(reasons)
    if probe.gauges:
        gauges = Table("gauge", "labels", "meaning", title="\nGauges", title_justify="left", box=None)
        for gauge in probe.gauges:
            gauges.add_row(gauge.name, ", ".join(("probe", *gauge.labels)), escape(gauge.help))
        console.print(gauges)


def type_name(annotation: object) -> str:
    """A type as users read it."""
    return getattr(annotation, "__name__", None) or str(annotation).replace("typing.", "").replace("tocsin.sdk.", "")


def _plain(value: object) -> str:
    return "" if value is None else str(value)

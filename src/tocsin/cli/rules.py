"""``tocsin rules``: the shipped alert rules with your addresses, and the check that everything fits together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tocsin.cli.options import ConfigOption, EnvFileOption, ProfileOption, loaded, unreadable
from tocsin.config import Registry, bundled_probes
from tocsin.config.registry import BrokenKind
from tocsin.data import folder
from tocsin.exposing import catalogue
from tocsin.paging import promtool
from tocsin.paging.lint import Subject, lint
from tocsin.paging.lint.folders import Folders, read_subject
from tocsin.paging.rulefiles import with_limit
from tocsin.runbooks import PageError

rules = typer.Typer(name="rules", no_args_is_help=True, help="Alert rules: export them with your addresses, lint them.")

PUBLIC_URL, GRAFANA_URL, DOCS_URL = "http://localhost:9760", "http://localhost:3000", "https://runbooks.example.com"
"""What stands in the shipped rules for the addresses of the daemon, of Grafana and of pages that need neither."""


@rules.command("export")
def export(
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write the rule files.")],
    public_url: Annotated[str, typer.Option(help="Where users reach the daemon's pages.")] = PUBLIC_URL,
    grafana_url: Annotated[str, typer.Option(help="Where users reach Grafana.")] = GRAFANA_URL,
    docs_url: Annotated[str, typer.Option(help="Where runbooks/ is published without the daemon.")] = DOCS_URL,
    slo: Annotated[bool, typer.Option("--slo", help="Burn-rate tickets on error budgets too: docs/slo.md.")] = False,
    limit: Annotated[
        list[str] | None, typer.Option(metavar="NAME=NUMBER", help="Another tocsin:limit:NAME; repeatable.")
    ] = None,
) -> None:
    """Write the shipped rule files with your addresses in their links, and your limits.

    Example: `tocsin rules export /etc/prometheus/tocsin --public-url https://tocsin.example.org`
    """
    sources = [source for source in _shipped_rules() if slo or source.parent.name != "optional"]
    texts = {source.name: source.read_text("utf-8") for source in sources}
    try:
        for name, number in map(_limit, limit or []):
            texts = with_limit(texts, name, number)
    except ValueError as error:
        typer.echo(f"tocsin rules export: {error}", err=True)
        raise typer.Exit(2) from None
    addresses = ((PUBLIC_URL, public_url), (GRAFANA_URL, grafana_url), (DOCS_URL, docs_url))
    try:
        out.mkdir(parents=True, exist_ok=True)
        for file, text in texts.items():
            for default, chosen in addresses:
                text = text.replace(default, chosen.rstrip("/"))
            (out / file).write_text(text, "utf-8")
            typer.echo(str(out / file))
    except BrokenPipeError:
        raise
    except OSError as error:
        typer.echo(f"tocsin rules export: cannot write {error.filename or out}: {error.strerror}", err=True)
        raise typer.Exit(2) from None
    if docs_url == DOCS_URL:
        typer.echo(
            f"note: alerts about tocsin itself link to {DOCS_URL}; publish runbooks/tocsin where it does not need the "
            "daemon, and give --docs-url",
            err=True,
        )


def _limit(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        limit = float(number)
    except ValueError:
        raise ValueError(f"--limit {text}: write NAME=NUMBER, such as stalled_seconds=120") from None
    if not (math.isfinite(limit) and limit > 0):
        raise ValueError(f"--limit {text}: a limit is a number above 0, such as stalled_seconds=120")
    return name, limit


@rules.command("lint")
def lint_command(
    config: ConfigOption = None,
    profile: ProfileOption = None,
    env_file: EnvFileOption = None,
    alerts: Annotated[
        list[Path] | None, typer.Option("--alerts", metavar="FILE", help="Rule files of your own; repeatable.")
    ] = None,
    alert_tests: Annotated[
        list[Path] | None, typer.Option("--alert-tests", metavar="FILE", help="Their promtool tests; repeatable.")
    ] = None,
    runbooks: Annotated[
        Path | None, typer.Option("--runbooks", metavar="FOLDER", help="Pages of your own: SYSTEM/INCIDENT.md.")
    ] = None,
    dashboards: Annotated[
        Path | None, typer.Option("--dashboards", metavar="FOLDER", help="Grafana dashboards of your own: *.json.")
    ] = None,
    public_url: Annotated[
        str, typer.Option(help="The daemon's address in your rules, as given to `rules export`.")
    ] = PUBLIC_URL,
) -> None:
    """Check that alerts, runbook sections, reasons, metrics and probes fit together; exit 0 when they do, 1 if not.

    Without options: the shipped files and all bundled profiles. Syntax is judged by promtool where it is installed.

    Example: `tocsin rules lint -c tocsin.yaml --alerts my.yaml --runbooks pages/`
    """
    try:
        overlay = Overlay(alerts or [], alert_tests or [], runbooks, dashboards, public_url)
        subject = _subject(config, profile, env_file, overlay)
    except (PageError, BrokenKind) as error:
        typer.echo(str(error))
        raise typer.Exit(1) from None
    except OSError as error:
        raise unreadable("rules lint", error) from None
    problems = [str(problem) for problem in lint(subject)]
    if promtool.installed():
        problems += promtool.complaints([*_shipped_rules(), *(alerts or [])])
    else:
        typer.echo("note: promtool is not in PATH, so the syntax of the rules was not checked", err=True)
    for problem in problems:
        typer.echo(problem)
    if problems:
        typer.echo(f"{len(problems)} problems", err=True)
        raise typer.Exit(1)
    typer.echo("ok")


def shipped_subject() -> Subject:
    """What is linted without options: the shipped files and all bundled profiles."""
    return _subject(None, None, None, Overlay())


@dataclass(frozen=True)
class Overlay:
    """What a user lays over the shipped files."""

    alerts: Sequence[Path] = ()
    tests: Sequence[Path] = ()
    runbooks: Path | None = None
    dashboards: Path | None = None
    public_url: str = PUBLIC_URL


def _shipped_rules() -> list[Path]:
    """The optional ones are linted and known as the others are; only an export leaves them out."""
    return [*sorted(folder("alerts").glob("*.yaml")), *sorted(folder("alerts").glob("optional/*.yaml"))]


def _subject(config: Path | None, profile: list[str] | None, env_file: Path | None, own: Overlay) -> Subject:
    shipped = folder("alerts")
    registry = Registry.discover()
    bundled = bundled_probes(registry)
    probes = bundled if config is None and not profile else dict(loaded(config, profile, env_file)[0].probes)
    reference = shipped.parent / "docs" / "reference"
    folders = Folders(
        root=shipped.parent,
        rules=[*_shipped_rules(), *own.alerts],
        tests=[*sorted(shipped.glob("tests/*.yaml")), *sorted(shipped.glob("optional/tests/*.yaml")), *own.tests],
        runbooks=[folder("runbooks"), *([own.runbooks] if own.runbooks is not None else [])],
        dashboards=[
            file
            for place in (folder("dashboards"), own.dashboards)
            if place is not None
            for file in sorted(place.glob("*.json"))
        ],
        docs=sorted(reference.glob("*.md")),
        daemon_url=own.public_url.rstrip("/"),
    )
    exported = {entry.family.name: entry.family.labels for entry in catalogue(registry)}
    return read_subject(folders, registry, exported, probes, bundled)

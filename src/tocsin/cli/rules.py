"""``tocsin rules``: the shipped alert rules with your addresses, and the check that everything fits together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tocsin.cli.options import ConfigOption, EnvFileOption, ProfileOption, loaded
from tocsin.config import Registry, Sources, load
from tocsin.config.registry import BrokenKind
from tocsin.data import folder
from tocsin.exposing import catalogue
from tocsin.model import ProbeSpec
from tocsin.paging.lint import Subject, lint
from tocsin.paging.lint.folders import Folders, read_subject
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
) -> None:
    """Write the shipped rule files with your addresses in their links.

    Example: `tocsin rules export /etc/prometheus/tocsin --public-url https://tocsin.example.org`
    """
    out.mkdir(parents=True, exist_ok=True)
    for source in sorted(folder("alerts").glob("*.yaml")):
        text = source.read_text("utf-8")
        for default, chosen in ((PUBLIC_URL, public_url), (GRAFANA_URL, grafana_url), (DOCS_URL, docs_url)):
            text = text.replace(default, chosen.rstrip("/"))
        (out / source.name).write_text(text, "utf-8")
        typer.echo(str(out / source.name))
    if docs_url == DOCS_URL:
        typer.echo(
            f"note: alerts about tocsin itself link to {DOCS_URL}; publish runbooks/tocsin where it does not need the "
            "daemon, and give --docs-url",
            err=True,
        )


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
) -> None:
    """Check that alerts, runbook sections, reasons, metrics and probes fit together; exit 0 when they do, 1 if not.

    Without options: the shipped files and all bundled profiles.

    Example: `tocsin rules lint -c tocsin.yaml --alerts my.yaml --runbooks pages/`
    """
    try:
        subject = _subject(config, profile, env_file, alerts or [], alert_tests or [], runbooks)
    except (PageError, BrokenKind) as error:
        typer.echo(str(error))
        raise typer.Exit(1) from None
    problems = lint(subject)
    for problem in problems:
        typer.echo(str(problem))
    if problems:
        typer.echo(f"{len(problems)} problems", err=True)
        raise typer.Exit(1)
    typer.echo("ok")


def shipped_subject() -> Subject:
    """What is linted without options: the shipped files and all bundled profiles."""
    return _subject(None, None, None, [], [], None)


def _subject(
    config: Path | None,
    profile: list[str] | None,
    env_file: Path | None,
    alerts: list[Path],
    alert_tests: list[Path],
    runbooks: Path | None,
) -> Subject:
    shipped = folder("alerts")
    registry = Registry.discover()
    bundled = _bundled(registry)
    probes = bundled if config is None and not profile else dict(loaded(config, profile, env_file)[0].probes)
    reference = shipped.parent / "docs" / "reference"
    folders = Folders(
        root=shipped.parent,
        rules=[*sorted(shipped.glob("*.yaml")), *alerts],
        tests=[*sorted((shipped / "tests").glob("*.yaml")), *alert_tests],
        runbooks=[folder("runbooks"), *([runbooks] if runbooks is not None else [])],
        dashboards=sorted(folder("dashboards").glob("*.json")),
        docs=sorted(reference.glob("*.md")),
        daemon_url=PUBLIC_URL,
    )
    exported = {entry.family.name: entry.family.labels for entry in catalogue(registry)}
    return read_subject(folders, registry, exported, probes, bundled)


def _bundled(registry: Registry) -> dict[str, ProbeSpec]:
    names = sorted(file.stem for file in folder("profiles").glob("*.yaml"))
    return dict(load(Sources(profiles=tuple(names), environ={}), registry).probes)

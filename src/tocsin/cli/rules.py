"""``tocsin rules``: the shipped alert rules with your addresses, and the check that everything fits together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tocsin.cli.options import ConfigOption, EnvFileOption, ProfileOption, loaded
from tocsin.config import Registry, Sources, load
from tocsin.data import folder
from tocsin.exposing import catalogue
from tocsin.model import ProbeSpec
from tocsin.paging.lint import Metric, Subject, lint
from tocsin.paging.rulefiles import read_rules, tested_alerts
from tocsin.runbooks import PageError, find_page, list_pages

rules = typer.Typer(name="rules", no_args_is_help=True, help="Alert rules: export them with your addresses, lint them.")

_PUBLIC, _GRAFANA, _DOCS = "http://localhost:9760", "http://localhost:3000", "https://runbooks.example.com"


@rules.command("export")
def export(
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write the rule files.")],
    public_url: Annotated[str, typer.Option(help="Where users reach the daemon's pages.")] = _PUBLIC,
    grafana_url: Annotated[str, typer.Option(help="Where users reach Grafana.")] = _GRAFANA,
    docs_url: Annotated[str, typer.Option(help="Where runbooks/ is published without the daemon.")] = _DOCS,
) -> None:
    """Write the shipped rule files with your addresses in their links.

    Example: `tocsin rules export /etc/prometheus/tocsin --public-url https://tocsin.example.org`
    """
    out.mkdir(parents=True, exist_ok=True)
    for source in sorted(folder("alerts").glob("*.yaml")):
        text = source.read_text("utf-8")
        for default, chosen in ((_PUBLIC, public_url), (_GRAFANA, grafana_url), (_DOCS, docs_url)):
            text = text.replace(default, chosen.rstrip("/"))
        (out / source.name).write_text(text, "utf-8")
        typer.echo(str(out / source.name))
    if docs_url == _DOCS:
        typer.echo(
            f"note: alerts about tocsin itself link to {_DOCS}; publish runbooks/tocsin where it does not need the "
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
    problems = lint(_subject(config, profile, env_file, alerts or [], alert_tests or [], runbooks))
    for problem in problems:
        typer.echo(str(problem))
    if problems:
        typer.echo(f"{len(problems)} problems", err=True)
        raise typer.Exit(1)
    typer.echo("ok")


def _subject(
    config: Path | None,
    profile: list[str] | None,
    env_file: Path | None,
    alerts: list[Path],
    alert_tests: list[Path],
    runbooks: Path | None,
) -> Subject:
    shipped = folder("alerts")
    root = shipped.parent
    try:
        pages = {name: page for name in list_pages() if (page := find_page(*name))}
        if runbooks is not None:
            pages |= {name: page for name in list_pages(runbooks) if (page := find_page(*name, runbooks))}
    except PageError as error:
        typer.echo(str(error))
        raise typer.Exit(1) from None
    if config is None and not profile:
        registry = Registry.discover()
        probes = _bundled(registry)
    else:
        configuration, registry = loaded(config, profile, env_file)
        probes = dict(configuration.probes)
    dashboards = sorted(folder("dashboards").glob("*.json"))
    reference = root / "docs" / "reference"
    return Subject(
        rules=read_rules([*sorted(shipped.glob("*.yaml")), *alerts], root),
        tested=tested_alerts([*sorted((shipped / "tests").glob("*.yaml")), *alert_tests], root),
        pages=pages,
        probes=probes,
        reasons={kind: registry[kind].all_reasons() for kind in registry},
        catalogue={
            entry.family.name.removesuffix("_total"): Metric(
                entry.family.name.removesuffix("_total"), frozenset(entry.family.labels)
            )
            for entry in catalogue(registry)
        },
        queries=[query for file in dashboards for query in _queries(file, root)],
        docs="\n".join(file.read_text("utf-8") for file in sorted(reference.glob("*.md"))),
    )


def _bundled(registry: Registry) -> dict[str, ProbeSpec]:
    names = sorted(file.stem for file in folder("profiles").glob("*.yaml"))
    return dict(load(Sources(profiles=tuple(names), environ={}), registry).probes)


def _queries(file: Path, root: Path) -> list[tuple[str, int, str]]:
    """Every ``expr`` in a dashboard, with the line it stands on."""
    text = file.read_text("utf-8")
    lines = text.splitlines()
    found: list[tuple[str, int, str]] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            expr = node.get("expr")
            if isinstance(expr, str):
                needle = json.dumps(expr)
                line = next((number for number, row in enumerate(lines, 1) if needle in row), 0)
                found.append((file.relative_to(root).as_posix(), line, expr))
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(json.loads(text))
    return found

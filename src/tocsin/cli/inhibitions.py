"""``tocsin inhibitions``: what Alertmanager needs to know of causes and effects."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tocsin.cli.options import ConfigOption, EnvFileOption, ProfileOption, loaded, unreadable
from tocsin.data import folder
from tocsin.paging.inhibition import beside_the_point, render
from tocsin.paging.inhibition import inhibitions as found_in
from tocsin.paging.rulefiles import read_rules


def inhibitions(
    config: ConfigOption = None,
    profile: ProfileOption = None,
    env_file: EnvFileOption = None,
    alerts: Annotated[
        list[Path] | None, typer.Option("--alerts", metavar="FILE", help="Rule files of your own; repeatable.")
    ] = None,
) -> None:
    """Print Alertmanager's `inhibit_rules` from what the probes depend on: a second net behind the daemon's own.

    While a cause pages, its effects wait, within one cluster and environment; a ticket never holds back a page. Give
    every Prometheus `external_labels: {cluster: …, environment: …}`, and paste the output into alertmanager.yml.

    Example: `tocsin inhibitions -c tocsin.yaml`
    """
    configuration, _ = loaded(config, profile, env_file)
    try:
        rules = read_rules([*sorted(folder("alerts").glob("*.yaml")), *(alerts or [])], Path.cwd())
    except OSError as error:
        raise unreadable("inhibitions", error) from None
    typer.echo(render(found_in(configuration.probes.values()), beside_the_point(rules)), nl=False)

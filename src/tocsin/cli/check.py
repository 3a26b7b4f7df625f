"""``tocsin check``: is this configuration usable?"""

from __future__ import annotations

import typer

from tocsin.cli.options import ConfigOption, EnvFileOption, ProfileOption, loaded


def check(config: ConfigOption = None, profile: ProfileOption = None, env_file: EnvFileOption = None) -> None:
    """Validate the configuration; exit 0 when it is usable, 2 when not.

    Example: `tocsin check --config tocsin.yaml`
    """
    configuration, _ = loaded(config, profile, env_file)
    missing = sum(bool(spec.missing) for spec in configuration.probes.values())
    typer.echo(f"ok: {len(configuration.probes)} probes" + (f", {missing} of them lack a contract" if missing else ""))

"""The options that are the same on all commands, and what they load."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from tocsin.config import Configuration, Registry, Sources, load
from tocsin.model.redaction import Redactor
from tocsin.sdk.http import shown_url

_HERE = Path("tocsin.yaml")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", envvar="TOCSIN_CONFIG", help="The configuration, YAML."),
]
ProfileOption = Annotated[
    list[str] | None,
    typer.Option("--profile", "-p", metavar="NAME", help="A bundled profile (wipe, alexandria) or a path; repeatable."),
]
EnvFileOption = Annotated[
    Path | None,
    typer.Option("--env-file", metavar="FILE", help="The platform's own variables; the process environment wins."),
]


def sources(config: Path | None, profile: list[str] | None, env_file: Path | None, vantage: str = "") -> Sources:
    """What to load. Without any option: ``tocsin.yaml`` in the current folder. Raises `typer.BadParameter`."""
    if config is None and not profile:
        config = _HERE
        if not config.is_file():
            raise typer.BadParameter(
                "nothing to load: give --config FILE or --profile NAME (or put a tocsin.yaml here); "
                "`tocsin sandbox` needs neither"
            )
    return Sources(config, tuple(profile or ()), env_file, os.environ, vantage)


def unreadable(command: str, error: OSError) -> typer.Exit:
    """Says in one line which of the given files cannot be read, and why; what is returned ends with exit code 2."""
    typer.echo(f"tocsin {command}: cannot read {error.filename}: {error.strerror}", err=True)
    return typer.Exit(2)


def without_login(text: str, *urls: str) -> str:
    """A message about addresses that were given, which may hold a password: each as it may be shown, and masked where
    it stands in another form."""
    for url in urls:
        try:
            shown = shown_url(url)
        except ValueError:
            shown = "the address that was given" if "@" in url else url
        if shown != url:
            text = Redactor.of([url]).text(text.replace(url, shown))
    return text


def _of_running_sandbox() -> Path | None:
    from tocsin_sandbox import folders

    running = folders.running(folders.home())
    return Path(running[-1]["configuration"]) if running else None


def loaded(config: Path | None, profile: list[str] | None, env_file: Path | None) -> tuple[Configuration, Registry]:
    """The configuration and the kinds it was validated against. Raises `ConfigError`.

    Without any option and without a ``tocsin.yaml`` here: that of the running sandbox, if there is one.
    """
    if config is None and not profile and not _HERE.is_file() and (config := _of_running_sandbox()):
        typer.echo(f"configuration: {config} (of the running sandbox)", err=True)
    registry = Registry.discover()
    vantage = os.environ.get("TOCSIN_VANTAGE", "")
    return load(sources(config, profile, env_file, vantage), registry), registry

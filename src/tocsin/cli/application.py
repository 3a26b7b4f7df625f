"""The command ``tocsin``: every command mounted, and errors told in one line."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from tocsin import __version__
from tocsin.config import BrokenKind, ConfigError
from tocsin.logs import configure_logs

COMMANDS = {
    "run": "tocsin.cli.run:run",
    "check": "tocsin.cli.check:check",
    "plan": "tocsin.cli.plan:plan",
    "probe": "tocsin.cli.probe:probe",
    "kinds": "tocsin.cli.kinds:kinds",
    "runbook": "tocsin.cli.runbook:runbook",
    "rbac": "tocsin.cli.rbac:rbac",
    "inhibitions": "tocsin.cli.inhibitions:inhibitions",
    "doctor": "tocsin.cli.doctor:doctor",
    "drill": "tocsin.cli.drill:drill",
    "rules": "tocsin.cli.rules:rules",
    "chain": "tocsin.cli.chain:chain",
    "sandbox": "tocsin.cli.sandbox:app",
}
"""Each command's function or application, in the order of the help."""


class Commands(TyperGroup):
    """Imports a command when it is asked for: `tocsin check` does not load what `tocsin sandbox` needs."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        # For a name that is none, the nearest ones are suggested from those that are loaded.
        for name in (cmd_name,) if cmd_name in COMMANDS else COMMANDS:
            if name not in self.commands:
                self.commands[name] = _loaded(name)
        return self.commands.get(cmd_name)


def _loaded(name: str) -> Any:
    module, attribute = COMMANDS[name].split(":")
    command = getattr(import_module(module), attribute)
    around = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    around.callback()(root)
    if isinstance(command, typer.Typer):
        around.add_typer(command)
    else:
        around.command(name)(command)
    return get_group(around).commands[name]


app = typer.Typer(
    name="tocsin",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Probes that know what a platform means by healthy, and pages that open at the right runbook section.",
    epilog="Start with `tocsin sandbox`: a practice estate to break on purpose.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tocsin {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Options of every command."""


def main() -> None:
    """The entry point. A configuration that cannot be used ends with exit code 2 and one line a problem."""
    # Results go to standard output and must stay readable there; `tocsin run` sets up its own.
    configure_logs("warning", "auto")
    try:
        app()
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except BrokenKind as error:
        print(f"tocsin: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(141)

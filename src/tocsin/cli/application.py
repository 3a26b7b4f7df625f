"""The command ``tocsin``: every command mounted, and errors told in one line."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tocsin import __version__
from tocsin.cli.chain import chain
from tocsin.cli.check import check
from tocsin.cli.doctor import doctor
from tocsin.cli.drill import drill
from tocsin.cli.inhibitions import inhibitions
from tocsin.cli.kinds import kinds
from tocsin.cli.plan import plan
from tocsin.cli.probe import probe
from tocsin.cli.rbac import rbac
from tocsin.cli.rules import rules
from tocsin.cli.run import run
from tocsin.cli.runbook import runbook
from tocsin.cli.sandbox import app as sandbox
from tocsin.config import BrokenKind, ConfigError
from tocsin.logs import configure_logs

app = typer.Typer(
    name="tocsin",
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


app.command()(run)
app.command()(check)
app.command()(plan)
app.command()(probe)
app.command()(kinds)
app.command()(runbook)
app.command()(rbac)
app.command()(inhibitions)
app.command()(doctor)
app.command()(drill)
app.add_typer(rules)
app.add_typer(chain)
app.add_typer(sandbox)


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

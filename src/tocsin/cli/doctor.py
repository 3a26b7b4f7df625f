"""``tocsin doctor``: propose what the platform does not publish."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from tocsin.cli.options import EnvFileOption
from tocsin.config import Registry, Sources, load
from tocsin.config.envfile import parse_env_file
from tocsin.doctor.examining import examine
from tocsin.doctor.questions import questions_of
from tocsin.doctor.rendering import env_file as rendered


def doctor(
    profile: Annotated[str, typer.Option("--profile", "-p", metavar="NAME", help="A bundled profile.")] = "wipe",
    env_file: EnvFileOption = None,
    write: Annotated[
        Path | None, typer.Option("--write", metavar="FILE", help="Write the proposal there; never over a file.")
    ] = None,
) -> None:
    """Look at the platform once, read-only, and propose the variables that are not set: tables, columns, status values,
    health addresses, missing indexes. The proposal is an env file to review.

    Example: `tocsin doctor --profile wipe --env-file .env --write proposal.env`
    """
    questions = questions_of(profile)
    if questions is None:
        typer.echo(f"tocsin doctor: there are no questions about the profile {profile}", err=True)
        raise typer.Exit(2)
    configuration = load(Sources(None, (profile,), env_file, os.environ), Registry.discover())
    given = parse_env_file(env_file.read_bytes(), str(env_file), os.environ) if env_file is not None else {}
    findings = asyncio.run(examine(questions, {**given, **os.environ}))
    answered = {proposal.variable for proposal in findings.proposals}
    text = rendered(findings, {contract.variable for _, contract in configuration.missing} - answered)
    if write is None:
        typer.echo(text, nl=False)
    else:
        try:
            with write.open("x", encoding="utf-8") as target:
                target.write(text)
        except OSError as error:
            typer.echo(f"tocsin doctor: cannot write {write}: {error.strerror}", err=True)
            raise typer.Exit(2) from None
        proposed = sum(bool(proposal.value) for proposal in findings.proposals)
        typer.echo(f"{write}: {proposed} proposals to review")
    if findings.troubles:
        for trouble in findings.troubles:
            typer.echo(f"tocsin doctor: {trouble}", err=True)
        raise typer.Exit(1)

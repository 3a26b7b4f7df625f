"""``tocsin chain``: begin, look at, walk, accept, export and infer hash chains."""

from __future__ import annotations

import getpass
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
import yaml

from tocsin.cli.chain_output import list_breaks, moment, status_document, walk_bar
from tocsin.cli.chain_session import operate
from tocsin.cli.options import ConfigOption, EnvFileOption, ProfileOption
from tocsin.model import Secret
from tocsin.sdk import ProbeContext
from tocsin_chain import capture, infer, operations
from tocsin_chain.macs import MacKey
from tocsin_chain.marks import key_text
from tocsin_chain.memory import Memory
from tocsin_chain.operations import Refused, SignOff
from tocsin_chain.settings import HashChainSettings, KeySettings
from tocsin_chain.source import identity_of

chain = typer.Typer(name="chain", no_args_is_help=True, help="Audit chains: their marks, walks, evidence and resets.")

NameArgument = Annotated[
    str, typer.Argument(metavar="PROBE", help="The hash_chain probe; needed when there are several.")
]
WorkersOption = Annotated[int, typer.Option("--workers", min=1, max=16, help="Processes that verify at a time.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, in a sentence; recorded.")]
TicketOption = Annotated[str, typer.Option("--ticket", help="The ticket of the incident; recorded.")]
OperatorOption = Annotated[str, typer.Option("--operator", help="Who does it; recorded. Default: the system's user.")]


@chain.command()
def status(
    name: NameArgument = "",
    config: ConfigOption = None,
    profile: ProfileOption = None,
    env_file: EnvFileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One object.")] = False,
) -> None:
    """What is remembered of the chains, and every open break. Exit 0: whole; 1: breaks; 3: cannot tell.

    Example: `tocsin chain status alexandria-audit-chain -c tocsin.yaml`
    """

    async def work(ctx: ProbeContext, settings: HashChainSettings) -> int:
        memory = Memory(settings, ctx.probe)
        recalled = await memory.recall(ctx)
        marks = recalled.marks
        code = 3 if marks is None or recalled.doubt else 1 if marks.open else 0
        if as_json:
            typer.echo(json.dumps(status_document(ctx.probe, memory, recalled)))
            return code
        typer.echo(f"{ctx.probe}: {recalled.detail or 'the mark authenticates'} ({memory.places.mark})")
        if marks is None:
            typer.echo(
                "First run: `tocsin chain bootstrap`. A lost mark: restore it, or `tocsin chain accept --rebaseline`."
            )
            return code
        walked = "never" if marks.full_walk_at is None else moment(marks.full_walk_at)
        typer.echo(f"last full walk: {walked}; chains: {len(marks.chains)}; accepted resets: {len(marks.accepted)}")
        for each, mark in sorted(marks.chains.items())[:50]:
            disputed = "  IN DISPUTE" if mark.resume else ""
            typer.echo(
                f"  {each or settings.table}: verified to {key_text(mark.head.key)}, {mark.head.rows} rows{disputed}"
            )
        list_breaks(marks.open, settings)
        return code

    operate(work, name, config, profile, env_file)


@chain.command()
def bootstrap(
    name: NameArgument = "",
    config: ConfigOption = None,
    profile: ProfileOption = None,
    env_file: EnvFileOption = None,
    from_witness: Annotated[
        bool, typer.Option("--from-witness", help="Take over the mark that the second witness holds.")
    ] = False,
    reason: ReasonOption = "",
    ticket: TicketOption = "",
    operator: OperatorOption = "",
    workers: WorkersOption = 2,
) -> None:
    """Walk the chains through and make their first mark. Refuses a chain that is broken, unless a reason is given.

    Example: `tocsin chain bootstrap alexandria-audit-chain -c tocsin.yaml`
    """

    async def work(ctx: ProbeContext, settings: HashChainSettings) -> int:
        if from_witness:
            marks = await operations.bootstrap_from_witness(ctx, settings)
            typer.echo(f"{ctx.probe}: took over the witness's mark of {len(marks.chains)} chains")
            return 0
        known = SignOff(operator or _user(), reason, ticket) if reason and ticket else None
        with walk_bar() as report:
            marks, found = await operations.bootstrap(ctx, settings, workers=workers, report=report, known_broken=known)
        rows = sum(mark.head.rows for mark in marks.chains.values())
        typer.echo(f"{ctx.probe}: {rows} rows in {len(marks.chains)} chains verified; the mark is made")
        list_breaks(found, settings)
        return 0

    operate(work, name, config, profile, env_file)


@chain.command()
def accept(
    name: NameArgument = "",
    config: ConfigOption = None,
    profile: ProfileOption = None,
    env_file: EnvFileOption = None,
    reason: ReasonOption = "",
    ticket: TicketOption = "",
    sign_off: Annotated[str, typer.Option("--sign-off", help="Reference of the written compliance sign-off.")] = "",
    backup: Annotated[str, typer.Option("--backup", help="Identity of the backup taken immediately before.")] = "",
    operator: OperatorOption = "",
    only: Annotated[list[str] | None, typer.Option("--chain", help="Only this chain (tenant); repeatable.")] = None,
    rebaseline: Annotated[
        bool, typer.Option("--rebaseline", help="The mark is lost for good: start over from what is there now.")
    ] = False,
    workers: WorkersOption = 2,
) -> None:
    """Record that what happened to a chain was legitimate; it is whole again from here on.

    Example: `tocsin chain accept alexandria-audit-chain --reason "retired unverifiable rows" --ticket SEC-42
    --sign-off CMP-7 --backup pgbackrest/20261123-220000F`
    """

    async def work(ctx: ProbeContext, settings: HashChainSettings) -> int:
        signed = SignOff(operator or _user(), reason, ticket, sign_off, backup)
        with walk_bar() as report:
            taken = await operations.accept(
                ctx, settings, signed, chains=tuple(only or ()), rebaseline=rebaseline, workers=workers, report=report
            )
        typer.echo(f"{ctx.probe}: recorded in {Memory(settings, ctx.probe).places.accepted}")
        list_breaks(taken, settings, "accepted" if not rebaseline else "still open")
        return 0

    operate(work, name, config, profile, env_file)


@chain.command()
def walk(
    name: NameArgument = "",
    config: ConfigOption = None,
    profile: ProfileOption = None,
    env_file: EnvFileOption = None,
    workers: WorkersOption = 2,
) -> None:
    """A full walk from the first row, now, as fast as it goes. Exit 0: whole; 1: breaks.

    Example: `tocsin chain walk alexandria-audit-chain -c tocsin.yaml --workers 4`
    """

    async def work(ctx: ProbeContext, settings: HashChainSettings) -> int:
        begun = time.monotonic()
        with walk_bar() as report:
            progress, found, _ = await operations.walk(ctx, settings, workers=workers, report=report)
        seconds = time.monotonic() - begun
        typer.echo(f"{ctx.probe}: {progress.rows} rows in {len(progress.summaries)} chains, {seconds:.1f} s")
        list_breaks(found, settings)
        return 1 if found else 0

    operate(work, name, config, profile, env_file)


@chain.command()
def export(
    name: NameArgument = "",
    config: ConfigOption = None,
    profile: ProfileOption = None,
    env_file: EnvFileOption = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FOLDER", help="Where to; default: beside the marks.")
    ] = None,
) -> None:
    """Capture the evidence of every open break now, and check the bundles that are there.

    Example: `tocsin chain export alexandria-audit-chain -c tocsin.yaml --to /mnt/incident-4711`
    """

    async def work(ctx: ProbeContext, settings: HashChainSettings) -> int:
        memory = Memory(settings, ctx.probe)
        recalled = await memory.recall(ctx)
        if recalled.marks is None:
            raise Refused(f"{recalled.detail}; without a mark there is no list of open breaks")
        folder = to or memory.places.evidence
        key = memory.key()
        async with operations.session(settings, ctx.probe) as source:
            async with source.snapshot():
                identity = await identity_of(source.connection)
            taken = []
            for item in recalled.marks.open:
                mark = recalled.marks.chains.get(item.chain)
                bundle = await capture.capture(source, settings, folder, key, item, mark, identity, ctx.now())
                taken.append(item if item.evidence or to else replace(item, evidence=bundle.name))
                typer.echo(f"captured {folder / bundle.name}{' (cut for size)' if bundle.cut else ''}")
        if recalled.doubt is None and tuple(taken) != recalled.marks.open:
            await memory.save(ctx, replace(recalled.marks, open=tuple(taken)), ctx.now())
        bad = 0
        for bundle_folder in sorted(entry for entry in folder.glob("*") if (entry / "manifest.json").exists()):
            problems = capture.verify_bundle(bundle_folder, key)
            bad += bool(problems)
            typer.echo(f"{bundle_folder.name}: {'; '.join(problems) or 'signature and hashes are valid'}")
        return 1 if bad else 0

    operate(work, name, config, profile, env_file)


@chain.command("infer")
def infer_form(
    name: NameArgument = "",
    config: ConfigOption = None,
    profile: ProfileOption = None,
    env_file: EnvFileOption = None,
    rows: Annotated[int, typer.Option("--rows", min=2, max=100, help="How many rows must verify.")] = 5,
    key_file: Annotated[
        Path | None, typer.Option("--key-file", help="The platform's key; default: the first of `keys`.")
    ] = None,
    key_encoding: Annotated[str, typer.Option("--key-encoding", help="utf8, hex or base64.")] = "utf8",
    columns: Annotated[list[str] | None, typer.Option("--column", help="Only these columns; repeatable.")] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="Give up after.")] = 120.0,
) -> None:
    """Find the canonical form that verifies, from the key and some rows. Exit 0: found; 3: not found.

    Example: `tocsin chain infer alexandria-audit-chain -c tocsin.yaml --key-file /run/secrets/audit.key`
    """

    async def work(ctx: ProbeContext, settings: HashChainSettings) -> int:
        if key_file is not None:
            given = KeySettings.model_validate({"secret": Secret(key_file.read_text()), "encoding": key_encoding})
        elif settings.keys:
            given = settings.keys[0]
        else:
            raise Refused("there is no key: give --key-file, or `keys` in the configuration")
        samples = await operations.samples(settings, ctx.probe, rows, tuple(columns or ()))
        if len(samples) < 2:
            raise Refused("the table holds fewer than two rows to try with")
        until, tried = time.monotonic() + seconds, 0
        for answer in infer.infer(MacKey(given.material().secret), samples, previous_column=settings.previous_column):
            if isinstance(answer, infer.Guess):
                typer.echo(f"# verifies {len(samples)} rows; form number {answer.tried}")
                shown = {"mode": "hmac", "payload": infer.settings_of(answer.form)}
                typer.echo(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True).rstrip())
                return 0
            tried = answer
            if time.monotonic() > until:
                break
        typer.echo(
            f"none of {tried} forms verifies; check the key and its --key-encoding, narrow the columns by --column, or "
            "write the form as `payload: {sql: …}`",
            err=True,
        )
        return 3

    operate(work, name, config, profile, env_file)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"

"""One operation of ``tocsin chain`` on one probe: chosen, with its surroundings, and its answer as the exit code."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import typer
import uvloop

from tocsin.cli.options import loaded
from tocsin.model import ProbeSpec
from tocsin.running import PermitPool, SystemClock
from tocsin.sdk import HttpClient, ProbeContext, ProbeFault
from tocsin.sdk.context import Permits
from tocsin_chain import acceptlog, capture
from tocsin_chain.operations import Refused
from tocsin_chain.settings import HashChainSettings
from tocsin_chain.vault import KeyMissing, SealBroken

Operation = Callable[[ProbeContext, HashChainSettings], Coroutine[Any, Any, int]]


def operate(work: Operation, name: str, config: Path | None, profile: list[str] | None, env_file: Path | None) -> None:
    """One operation on one probe; its answer is the exit code. 2: refused, with what to do."""
    configuration, _ = loaded(config, profile, env_file)
    spec = _chosen(configuration.probes, name)

    async def session() -> int:
        permits = PermitPool(configuration.caps, SystemClock())
        waiting = time.monotonic() + 60.0
        async with (
            permits.run(spec.settings.targets(), waiting, patience=60.0) as granted,
            _context(spec, granted) as ctx,
        ):
            return await work(ctx, spec.settings)

    try:
        code = uvloop.run(session())
    except (Refused, KeyMissing, SealBroken, ProbeFault, capture.CaptureFailed, acceptlog.LogBroken) as error:
        typer.echo(f"tocsin chain: {error}", err=True)
        raise typer.Exit(2) from None
    except (OSError, ValueError) as error:
        typer.echo(f"tocsin chain: {error}", err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(code)


def _chosen(probes: Any, name: str) -> ProbeSpec:
    chains = {each: spec for each, spec in probes.items() if spec.kind == "hash_chain"}
    if not name and len(chains) == 1:
        name = next(iter(chains))
    spec: ProbeSpec | None = chains.get(name)
    if spec is None:
        known = ", ".join(chains) or "none is configured"
        typer.echo(f"tocsin chain: name one of the hash_chain probes: {known}", err=True)
        raise typer.Exit(2)
    if spec.settings is None:
        missing = ", ".join(contract.variable for contract in spec.missing)
        typer.echo(f"tocsin chain: {name} is not configured; set {missing}", err=True)
        raise typer.Exit(2)
    return spec


@asynccontextmanager
async def _context(spec: ProbeSpec, permits: Permits) -> AsyncIterator[ProbeContext]:
    """Surroundings for an operation, as a run has them, without a deadline."""
    http = HttpClient.open()
    try:
        yield ProbeContext(
            probe=spec.name,
            system=spec.system,
            incident=spec.incident,
            vantage=spec.vantage,
            timeout=7 * 86400.0,
            clock=SystemClock(),
            http=http,
            permits=permits,
            trace_id="0" * 31 + "1",
            span_id="0" * 15 + "1",
            request_id="tocsin-chain",
            memory={},
        )
    finally:
        await http.close()
        await asyncio.sleep(0)

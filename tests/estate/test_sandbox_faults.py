"""Every fault of the sandbox, caused on the running estate, as the probe of the bundled profile sees it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from tests.estate.test_grpc_socket import as_nobody
from tests.probing import Probed, RealClock, probe_once
from tocsin.config import Configuration, Registry, Sources, load
from tocsin.model import Outcome
from tocsin_sandbox.fault import Fault
from tocsin_sandbox.faults import FAULTS
from tocsin_sandbox.session import Plan, Session
from tocsin_sandbox.switches import FlipError

pytestmark = [pytest.mark.estate, pytest.mark.asyncio(loop_scope="module")]


FORBIDDEN = "orchestrator-socket-forbidden"
"""Root may connect to any socket, so that it has no such fault."""


PATIENCE = 20.0
"""Seconds in which a fault is told, on a machine that has other work too."""


@dataclass
class Practice:
    """A running sandbox and its probes, made once, as the daemon keeps them."""

    session: Session
    configuration: Configuration
    kinds: Registry
    clock: RealClock = field(default_factory=RealClock)
    memories: dict[str, dict[str, Any]] = field(default_factory=dict)

    def begin_anew(self) -> None:
        """The true time again: stamps and tokens are judged by it; what was remembered of a later one is forgotten."""
        self.clock.offset = 0.0
        self.memories.clear()

    async def wrong(self) -> dict[str, object]:
        """What is not well, by probe."""
        probed = {name: (await self.until(name, None)) for name in self.configuration.probes}
        return {name: (run.verdict, run.detail) for name, run in probed.items() if run.verdict != ("ok", None)}

    async def until(self, name: str, reason: str | None) -> Probed:
        """Its first run that gives this reason, or one after a while: on a busy machine a run may time out, and the full
        walk of a chain goes on behind the runs."""
        end = time.monotonic() + PATIENCE
        probed = await self.probe(name)
        while probed.outcome.reason != reason and time.monotonic() < end:
            probed = await self.probe(name)
        return probed

    async def probe(self, name: str) -> Probed:
        spec = self.configuration.probes[name]
        if spec.off_because:
            return Probed(Outcome.ok(spec.off_because), (), (), 0.0)
        probe = self.kinds[spec.kind](spec.settings)
        try:
            memory = self.memories.setdefault(name, {})
            return await probe_once(probe, spec.timeout, memory=memory, clock=self.clock, name=name)
        finally:
            await probe.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def practice(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Practice]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TOCSIN_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        async for each in _practice():
            yield each


async def _practice() -> AsyncIterator[Practice]:
    async with await Session(Plan(), lambda name: None).start() as session:
        kinds = Registry.discover()
        configuration = load(Sources(config_file=session.configuration, environ={}), kinds)
        yield Practice(session, configuration, kinds)


async def test_every_probe_of_the_profile_is_ok_on_the_untouched_estate(practice: Practice) -> None:
    assert await practice.wrong() == {}


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.name != FORBIDDEN], ids=lambda fault: fault.name)
async def test_a_fault_turns_the_expected_probe_red_with_the_expected_reason_until_it_is_undone(
    practice: Practice, fault: Fault
) -> None:
    practice.begin_anew()
    assert (await practice.until(fault.expected_probe, None)).verdict == ("ok", None)
    await practice.session.switches.cause(fault.name)
    try:
        if fault.develops:
            await practice.probe(fault.expected_probe)
            practice.clock.offset += fault.develops
        broken = await practice.until(fault.expected_probe, fault.expected_reason)
    finally:
        await practice.session.switches.undo(fault.name)
    practice.clock.offset += fault.lingers
    assert broken.outcome.reason == fault.expected_reason, broken.outcome
    healed = await practice.until(fault.expected_probe, None)
    assert healed.verdict == ("ok", None), healed.outcome


async def test_a_socket_that_lets_nobody_in_is_told_to_who_is_not_root(practice: Practice) -> None:
    orchestrator = practice.session.estate.orchestrator
    orchestrator.permit(False)
    try:
        assert (await asyncio.to_thread(as_nobody, orchestrator.path))[:2] == ["failed", "permission_denied"]
    finally:
        orchestrator.permit(True)
    assert os.geteuid() == 0
    with pytest.raises(FlipError, match="root may connect to any socket; run the sandbox as another user"):
        await practice.session.switches.cause(FORBIDDEN)


async def test_all_faults_together_can_be_healed(practice: Practice) -> None:
    for fault in FAULTS:
        with contextlib.suppress(FlipError):  # one that needs what another has taken away
            await practice.session.switches.cause(fault.name)
    await practice.session.switches.heal()
    assert practice.session.switches.active == ()
    assert await practice.session.estate.alexandria_api.orchestrator_answers()
    # The API's cache of keys and the platform's life need their real time.
    wrong, deadline = await practice.wrong(), asyncio.get_running_loop().time() + 90
    while wrong and asyncio.get_running_loop().time() < deadline:
        practice.begin_anew()
        wrong = await practice.wrong()
    assert wrong == {}

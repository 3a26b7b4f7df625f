"""What befalls Alexandria in the sandbox's cluster, as the bundled profile's probes see it. Against a real API server:
tests/estate/test_sandbox_cluster.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.probing import Probed, RealClock, probe_once
from tocsin.config import Configuration, Registry, Sources, load
from tocsin.data import data
from tocsin.paging.drills.catalogue import Drill, read_catalogue
from tocsin_sandbox.alexandria_cluster import ACTS, NAMESPACE, AlexandriaCluster
from tocsin_sandbox.cluster import ApiServer
from tocsin_sandbox.kubernetes_objects import POD
from tocsin_sandbox.serving import Site, free_port

LATER = 1000.0
"""Seconds after which nothing is young any more, and no line of a log counts."""
SHOWN: dict[str, Drill] = {
    drill.estate: drill
    for drill in read_catalogue([Path(str(data("drills"))) / "alexandria.yaml"]).values()
    if drill.estate in ACTS
}
KINDS = Registry.discover()


@dataclass
class Platform:
    cluster: AlexandriaCluster
    configuration: Configuration
    clock: RealClock = field(default_factory=RealClock)
    memory: dict[str, Any] = field(default_factory=dict)

    async def probe(self, name: str) -> Probed:
        spec = self.configuration.probes[name]
        probe = KINDS[spec.kind](spec.settings)
        try:
            return await probe_once(probe, memory=self.memory, clock=self.clock)
        finally:
            await probe.close()


@pytest_asyncio.fixture
async def platform(tmp_path: Path) -> AsyncIterator[Platform]:
    server = ApiServer()
    site = Site(free_port(), server.build)
    await site.start()
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(server.kubeconfig(site.url, NAMESPACE))
    cluster = AlexandriaCluster(
        call=lambda method, path, body: server.call(method, path, body)[0],
        write_log=lambda container, line: server.log(NAMESPACE, POD, container, line),
        rotate_log=lambda container: server.rotate(NAMESPACE, POD, container),
        node="node-1",
    )
    cluster.furnish("a licence")
    environ = {
        "TOCSIN_ALEXANDRIA_KUBECONFIG": str(kubeconfig),
        "TOCSIN_ALEXANDRIA_ROLLOUT_ENABLED": "true",
        "TOCSIN_ALEXANDRIA_RELEASE_ENABLED": "true",
    }
    yield Platform(cluster, load(Sources(profiles=("alexandria",), environ=environ), KINDS))
    await site.stop()


def test_every_act_is_drilled() -> None:
    assert SHOWN.keys() == ACTS.keys()


@pytest.mark.parametrize("act", ACTS)
async def test_each_act_shows_as_its_drill_says_until_it_is_undone(platform: Platform, act: str) -> None:
    shown = SHOWN[act].shown
    assert shown is not None
    assert (await platform.probe(shown.probe)).verdict == ("ok", None)
    cause, undo = ACTS[act]
    cause(platform.cluster)
    if shown.reason in ("not_ready", "release_pending"):
        platform.clock.offset += LATER  # what is waited for has had its time
    assert (await platform.probe(shown.probe)).verdict == ("failed", shown.reason)
    undo(platform.cluster)
    platform.clock.offset += LATER
    assert (await platform.probe(shown.probe)).verdict == ("ok", None)

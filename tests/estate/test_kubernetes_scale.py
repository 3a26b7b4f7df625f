"""Watches when it gets rough: expired versions, thousands of pods, floods of events, and how often anything is listed."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import re
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from estate.servers.kubernetes import Kubernetes
from tests.kubernetes_pods import create_alexandria
from tests.probing import Probed, probe_once
from tocsin.sdk.kubernetes_objects import MAX_WARNINGS
from tocsin_probes.kubernetes_workload import KubernetesWorkload
from tocsin_sandbox.kubernetes_objects import INSTANCE, SELECTOR, ended, healthy, running, stamp, status

pytestmark = pytest.mark.estate


@pytest.fixture(scope="module")
def own_kubernetes() -> Iterator[Kubernetes]:
    """A server that these tests may restart and fill."""
    with Kubernetes() as started:
        yield started


@asynccontextmanager
async def watching(kubeconfig: Path, namespace: str, **settings: Any) -> AsyncIterator[KubernetesWorkload]:
    given = {"kubeconfig": str(kubeconfig), "namespace": namespace, "selector": SELECTOR, **settings}
    probe = KubernetesWorkload(KubernetesWorkload.Settings.model_validate(given))
    try:
        yield probe
    finally:
        await probe.close()


def lists(probe: KubernetesWorkload) -> dict[str, int]:
    """How often each resource was listed."""
    return {path.rpartition("/")[2]: watch.lists for (path, *_), watch in probe.cluster()._watches.items()}


async def settled(probe: KubernetesWorkload, reason: str | None) -> Probed:
    async with asyncio.timeout(60):
        while (probed := await probe_once(probe)).outcome.reason != reason:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.05)
    return probed


async def post_all(kubernetes: Kubernetes, path: str, bodies: Iterable[Mapping[str, Any]]) -> None:
    """Creates many objects, over connections that are kept."""
    tls = ssl.create_default_context(cafile=str(kubernetes.authority))
    headers = {"Authorization": f"Bearer {kubernetes.admin_token}"}
    remaining = iter(bodies)

    async def some(session: aiohttp.ClientSession) -> None:
        for body in remaining:
            async with session.post(f"{kubernetes.url}{path}", json=body, ssl=tls) as answer:
                assert answer.status == 201, await answer.text()

    async with aiohttp.ClientSession(headers=headers) as session:
        await asyncio.gather(*(some(session) for _ in range(16)))
    await asyncio.sleep(0.1)


class Memory:
    """What this process takes at its peak beyond what it has now. proc(5): 5 in clear_refs begins a new peak."""

    def __init__(self) -> None:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what is free and kept would hide what is taken
        Path("/proc/self/clear_refs").write_text("5")
        self._before = self._kib("VmRSS")

    def grown_mib(self) -> float:
        return (self._kib("VmHWM") - self._before) / 1024

    def _kib(self, name: str) -> int:
        found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
        assert found is not None
        return int(found[1])


class Road:
    """A way to the API server that can be blocked."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @asynccontextmanager
    async def built(self) -> AsyncIterator[Road]:
        await self.unblock()
        try:
            yield self
        finally:
            await self.block()

    async def unblock(self) -> None:
        self._server = await asyncio.start_server(self._through, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def block(self) -> None:
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        self._open |= {writer, back}
        try:
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        finally:
            self._open -= {writer, back}
            for each in (writer, back):
                each.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(1 << 16):
                sink.write(data)
                await sink.drain()
        sink.close()


async def test_a_version_that_has_expired_leads_to_one_list_and_the_right_answer(own_kubernetes: Kubernetes) -> None:
    own_kubernetes.create_namespace("expired")
    create_alexandria(own_kubernetes, "expired")
    async with Road(own_kubernetes.port).built() as road:
        kubeconfig = own_kubernetes.kubeconfig()
        document = json.loads(kubeconfig.read_text())
        document["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{road.port}"
        kubeconfig.write_text(json.dumps(document))
        async with watching(kubeconfig, "expired") as probe:
            assert (await probe_once(probe)).verdict == ("ok", None)
            await road.block()
            await settled(probe, "dependency_unknown")
            pods = "/api/v1/namespaces/expired/pods"
            own_kubernetes.call("DELETE", f"{pods}/alexandria-0?gracePeriodSeconds=0").expect(200)
            # What a restarted API server remembers begins with its start: the version that we know is too old.
            own_kubernetes.kill()
            await asyncio.to_thread(own_kubernetes.start)
            await road.unblock()
            await settled(probe, "no_pods")
            for _ in range(20):
                await probe_once(probe)
            # Of events it keeps no memory of its own: etcd has them all.
            assert lists(probe) == {"pods": 2, "events": 1}


def crowd(count: int) -> Iterator[Mapping[str, Any]]:
    for number in range(count):
        yield {
            "metadata": {"name": f"crowd-{number}", "labels": {"app": "crowd", **(INSTANCE if number == 7 else {})}},
            "spec": {"containers": [{"name": name, "image": "none"} for name in ("api", "orchestrator", "dashboard")]},
        }


async def test_five_thousand_pods_are_listed_once_and_judged_right(own_kubernetes: Kubernetes) -> None:
    own_kubernetes.create_namespace("crowd")
    await post_all(own_kubernetes, "/api/v1/namespaces/crowd/pods", crowd(5000))
    reported = status(*healthy(api=running("api", restartCount=1, lastState=ended("OOMKilled", 137))))
    memory = Memory()
    kubeconfig = own_kubernetes.kubeconfig()
    async with watching(kubeconfig, "crowd", selector="app=crowd") as whole, watching(kubeconfig, "crowd") as ours:
        began = time.monotonic()
        probed = await probe_once(whole, timeout=30)
        first = time.monotonic() - began
        assert probed.measured("tocsin_workload_pods", phase="Pending") == 5000, probed.detail
        own_kubernetes.set_pod_status("crowd", "crowd-7", reported)
        assert "crowd-7" in (await settled(whole, "oom_killed")).detail
        assert "crowd-7" in (await settled(ours, "oom_killed")).detail
        runs = [(await probe_once(whole)).duration_seconds for _ in range(10)]
        assert lists(whole) == {"pods": 1, "events": 1}
    grown = memory.grown_mib()
    print(f"5000 pods: first run {first:.2f} s, further ones {max(runs):.3f} s, {grown:.0f} MiB more at the peak")
    assert max(runs) < 1
    assert grown < 64


async def test_a_flood_of_events_neither_blinds_nor_fills_the_watch(own_kubernetes: Kubernetes) -> None:
    own_kubernetes.create_namespace("flood")
    create_alexandria(own_kubernetes, "flood")

    def events() -> Iterator[Mapping[str, Any]]:
        for number in range(10_000):
            about = f"pod-{number}"
            yield {
                "metadata": {"generateName": "flood-", "namespace": "flood"},
                "involvedObject": {"kind": "Pod", "namespace": "flood", "name": about},
                "type": "Warning",
                "reason": "BackOff",
                "message": "Back-off restarting failed container " + "x" * 200,
                "lastTimestamp": stamp(),
            }

    async with watching(own_kubernetes.kubeconfig(), "flood") as probe:
        assert (await probe_once(probe)).verdict == ("ok", None)
        memory = Memory()
        began = time.monotonic()
        flood = asyncio.create_task(post_all(own_kubernetes, "/api/v1/namespaces/flood/events", events()))
        slowest = 0.0
        try:
            while not flood.done():
                probed = await probe_once(probe)
                assert probed.verdict == ("ok", None), probed.detail
                slowest = max(slowest, probed.duration_seconds)
                await asyncio.sleep(0.2)
        finally:
            flood.cancel()
            await asyncio.wait({flood})
        await flood
        took = time.monotonic() - began
        reported = status(*healthy(api=running("api", restartCount=1, lastState=ended("OOMKilled", 137))))
        own_kubernetes.set_pod_status("flood", "alexandria-0", reported)
        probed = await settled(probe, "oom_killed")
        assert probed.measured("tocsin_workload_warnings", reason="BackOff") == MAX_WARNINGS
        assert lists(probe) == {"pods": 1, "events": 1}
    grown = memory.grown_mib()
    print(f"10000 events in {took:.0f} s: slowest run {slowest:.3f} s, {grown:.0f} MiB more at the peak")
    assert took < 60
    assert grown < 64

"""The sandbox's cluster against a real API server: the same requests, the same shapes. No probe takes part."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from estate.servers.kubelet import Kubelet
from estate.servers.kubernetes import Kubernetes
from tocsin_sandbox.cluster import HISTORY, ApiServer
from tocsin_sandbox.kubernetes_objects import (
    POD,
    SELECTOR,
    alexandria_pod,
    deployment,
    evicted,
    healthy,
    progressing,
    release,
    status,
    warning,
)
from tocsin_sandbox.serving import Site, free_port

pytestmark = pytest.mark.estate

METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
NODE = "node-1"


@dataclass
class Server:
    """One API server and a namespace on it."""

    url: str
    token: str
    namespace: str
    session: aiohttp.ClientSession
    api: ApiServer | None = None

    async def ask(
        self, method: str, path: str, body: object = None, accept: str = "application/json", token: str | None = None
    ) -> tuple[int, Any]:
        """Status and body: JSON, or text. ``{ns}`` in the path is the namespace."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Authorization": f"Bearer {token or self.token}", "Accept": accept, "Content-Type": kind}
        data = None if body is None else json.dumps(body)
        where = self.url + path.format(ns=self.namespace)
        async with self.session.request(method, where, data=data, headers=headers, ssl=False) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if "json" in answer.content_type else text

    async def watch(self, path: str, count: int, seconds: float = 10) -> list[Any]:
        """The first events of a watch."""
        found: list[Any] = []
        headers = {"Authorization": f"Bearer {self.token}"}
        where = self.url + path.format(ns=self.namespace)
        async with asyncio.timeout(seconds), self.session.get(where, headers=headers, ssl=False) as answer:
            assert answer.status == 200
            async for line in answer.content:
                found.append(json.loads(line))
                if len(found) == count:
                    break
        return found


@pytest_asyncio.fixture
async def both(kubernetes: Kubernetes, namespace: str) -> AsyncIterator[tuple[Server, Server]]:
    simulated = ApiServer()
    site = Site(free_port(), simulated.build)
    await site.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield (
                Server(kubernetes.url, kubernetes.admin_token, namespace, session),
                Server(site.url, simulated.token, namespace, session, simulated),
            )
    finally:
        await site.stop()


FREE = {"resourceVersion", "uid", "creationTimestamp", "deletionTimestamp", "continue", "qosClass"}
"""What differs between any two servers; of these only the types are compared."""


def lies(real: Any, simulated: Any, where: str = "") -> list[str]:
    """What the simulator says and the real server does not. It may say less: nothing asks for the rest."""
    if isinstance(simulated, Mapping):
        if not isinstance(real, Mapping):
            return [f"{where}: {simulated!r} is not {real!r}"]
        found = [f"{where}.{name} is invented" for name in simulated if name not in real]
        return found + [
            lie for name in simulated if name in real for lie in lies(real[name], simulated[name], f"{where}.{name}")
        ]
    if isinstance(simulated, list):
        if not isinstance(real, list) or len(real) != len(simulated):
            return [f"{where}: {simulated!r} is not {real!r}"]
        return [
            lie for n, (a, b) in enumerate(zip(real, simulated, strict=True)) for lie in lies(a, b, f"{where}[{n}]")
        ]
    name = where.rpartition(".")[2]
    same = type(real) is type(simulated) if name in FREE else real == simulated
    return [] if same else [f"{where}: {simulated!r} is not {real!r}"]


async def alike(both: tuple[Server, Server], method: str, path: str, body: object = None, **more: Any) -> Any:
    """Asks both, sees that the simulator tells no lie, and gives the real answer."""
    (code, real), (simulated_code, simulated) = [await server.ask(method, path, body, **more) for server in both]
    assert simulated_code == code, (method, path, real, simulated)
    assert lies(real, simulated) == [], (method, path)
    return real


PODS, SECRETS, EVENTS = (f"/api/v1/namespaces/{{ns}}/{name}" for name in ("pods", "secrets", "events"))
DEPLOYMENTS = "/apis/apps/v1/namespaces/{ns}/deployments"


async def test_objects_are_written_and_read_as_on_a_real_server(both: tuple[Server, Server]) -> None:
    await alike(both, "POST", PODS, alexandria_pod(POD, nodeName=NODE))
    await alike(both, "POST", PODS, alexandria_pod(POD, nodeName=NODE))
    reported = {"status": status(*healthy())}
    await alike(both, "PATCH", f"{PODS}/{POD}/status", reported)
    await alike(both, "GET", f"{PODS}/{POD}")
    await alike(both, "PATCH", f"{PODS}/{POD}/status", {"status": evicted()})
    await alike(both, "GET", PODS)
    await alike(both, "POST", DEPLOYMENTS, deployment())
    await alike(
        both, "PATCH", f"{DEPLOYMENTS}/alexandria-ee/status", {"status": progressing("ProgressDeadlineExceeded")}
    )
    await alike(both, "GET", f"{DEPLOYMENTS}/alexandria-ee")
    await alike(both, "POST", SECRETS, release())
    await alike(both, "POST", SECRETS, {"metadata": {"name": "licence"}, "data": {"license.key": "eA=="}})
    await alike(both, "GET", f"{SECRETS}/licence")
    name = release()["metadata"]["name"]
    await alike(both, "PATCH", f"{SECRETS}/{name}", {"metadata": {"labels": {"status": "failed", "version": None}}})
    await alike(both, "GET", f"{SECRETS}/{name}")
    await alike(both, "DELETE", f"{PODS}/{POD}", {"gracePeriodSeconds": 0})
    await alike(both, "GET", PODS)


async def test_what_does_not_exist_or_may_not_be_asked_is_refused_as_on_a_real_server(
    both: tuple[Server, Server],
) -> None:
    for path in (f"{PODS}/none", f"{SECRETS}/none", f"{DEPLOYMENTS}/none", f"{PODS}/none/log"):
        assert (await alike(both, "GET", path))["reason"] == "NotFound"
    await alike(both, "DELETE", f"{SECRETS}/none")
    await alike(both, "PATCH", f"{PODS}/none/status", {"status": {"phase": "Running"}})
    assert (await alike(both, "GET", PODS, token="wrong"))["message"] == "Unauthorized"
    refused = await alike(both, "GET", f"{EVENTS}?fieldSelector=spec.none%3Dx")
    assert refused["code"] == 400


async def test_selectors_choose_as_on_a_real_server(both: tuple[Server, Server]) -> None:
    other = alexandria_pod("other") | {"metadata": {"name": "other", "labels": {"app": "other"}}}
    for pod in (alexandria_pod(POD), other):
        await alike(both, "POST", PODS, pod)
    for selector in (SELECTOR, "app=other", "app!=other", "app==other", "app=none"):
        await alike(both, "GET", f"{PODS}?labelSelector={selector.replace('=', '%3D')}")
    ours = both[0].namespace
    for number, kind in enumerate(("Warning", "Normal")):
        event = warning("FailedMount", "m", about=POD, namespace=ours, name=f"e{number}") | {"type": kind}
        await alike(both, "POST", EVENTS, event)
    found = await alike(both, "GET", f"{EVENTS}?fieldSelector=type%3DWarning")
    assert [item["metadata"]["name"] for item in found["items"]] == ["e0"]


async def test_a_list_comes_in_chunks_as_on_a_real_server(both: tuple[Server, Server]) -> None:
    for number in range(5):
        await alike(both, "POST", PODS, alexandria_pod(f"p{number}"))
    for server in both:
        names, token = [], ""
        for size in (2, 2, 1):
            _, page = await server.ask("GET", f"{PODS}?limit=2&continue={token}")
            names += [item["metadata"]["name"] for item in page["items"]]
            assert len(page["items"]) == size
            token = page["metadata"].get("continue", "")
        assert (names, token) == ([f"p{number}" for number in range(5)], "")
    refused = [await server.ask("GET", f"{PODS}?limit=2&continue=nonsense") for server in both]
    assert [(code, body["reason"]) for code, body in refused] == [(400, "BadRequest")] * 2


async def test_metadata_alone_carries_no_values_as_on_a_real_server(both: tuple[Server, Server]) -> None:
    await alike(both, "POST", SECRETS, release())
    for server in both:
        _, found = await server.ask("GET", f"{SECRETS}?labelSelector=owner%3Dhelm", accept=METADATA)
        assert (found["kind"], found["apiVersion"]) == ("PartialObjectMetadataList", "meta.k8s.io/v1")
        assert [item["metadata"]["labels"]["status"] for item in found["items"]] == ["deployed"]
        assert release()["data"]["release"] not in json.dumps(found)


async def test_a_watch_tells_what_happens_to_what_is_selected_as_on_a_real_server(both: tuple[Server, Server]) -> None:
    seen = []
    reported = {"status": status(*healthy())}  # with the time at which it changed
    for server in both:
        _, listed = await server.ask("GET", PODS)
        version = listed["metadata"]["resourceVersion"]
        query = f"?watch=1&labelSelector={SELECTOR.replace('=', '%3D')}&resourceVersion={version}&timeoutSeconds=60"
        following = asyncio.create_task(server.watch(PODS + query, 7, seconds=60))
        unlabelled = {"metadata": {"labels": {"app.kubernetes.io/instance": None}}}
        labelled = {"metadata": {"labels": {"app.kubernetes.io/instance": "alexandria-ee"}}}
        for method, path, body in (
            ("POST", PODS, alexandria_pod(POD, nodeName=NODE)),
            ("PATCH", f"{PODS}/{POD}/status", reported),
            ("PATCH", f"{PODS}/{POD}", unlabelled),
            ("PATCH", f"{PODS}/{POD}", labelled),
            ("DELETE", f"{PODS}/{POD}", {"gracePeriodSeconds": 30}),
            ("DELETE", f"{PODS}/{POD}", {"gracePeriodSeconds": 0}),
        ):
            code, said = await server.ask(method, path, body)
            assert code in (200, 201), said
        events = await following
        versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
        assert versions == sorted(set(versions))
        seen.append(events)
    real, simulated = seen
    assert [event["type"] for event in real] == [
        *("ADDED", "MODIFIED", "DELETED", "ADDED"),
        *("MODIFIED", "MODIFIED", "DELETED"),
    ]
    for one, other in zip(real, simulated, strict=True):
        assert lies(one, other) == []


async def test_a_watch_is_bookmarked_and_ends_as_on_a_real_server(both: tuple[Server, Server]) -> None:
    for server in both:
        _, listed = await server.ask("GET", PODS)
        version = listed["metadata"]["resourceVersion"]
        query = f"?watch=1&resourceVersion={version}&allowWatchBookmarks=true&timeoutSeconds=4"
        began = time.monotonic()
        events = await server.watch(PODS + query, 10)
        assert 3 < time.monotonic() - began < 7
        assert {event["type"] for event in events} <= {"BOOKMARK"}
        for event in events:
            assert int(event["object"]["metadata"]["resourceVersion"]) >= int(version)


async def test_a_version_that_is_too_old_ends_a_watch_with_410() -> None:
    """A real one does so once it has compacted: tests/estate/test_kubernetes_scale.py."""
    simulated = ApiServer()
    site = Site(free_port(), simulated.build)
    await site.start()
    try:
        simulated.call("POST", "/api/v1/namespaces/n/pods", alexandria_pod(POD))
        for _ in range(HISTORY + 1):
            simulated.call("PATCH", f"/api/v1/namespaces/n/pods/{POD}/status", {"status": {"phase": "Running"}})
        async with aiohttp.ClientSession() as session:
            server = Server(site.url, simulated.token, "n", session)
            [event] = await server.watch(PODS + "?watch=1&resourceVersion=2", 1)
    finally:
        await site.stop()
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (.*)")


async def test_logs_are_read_as_through_a_real_server(kubernetes: Kubernetes, both: tuple[Server, Server]) -> None:
    """The kubelet behind the real one is a stand-in; the API server's own part is its."""
    real, simulated = both
    with Kubelet(kubernetes, f"node-{real.namespace}") as kubelet:
        pod = alexandria_pod(POD, nodeName=kubelet.name)
        for body in (pod, alexandria_pod("unbound")):
            await alike(both, "POST", PODS, body)
        await alike(both, "PATCH", f"{PODS}/{POD}/status", {"status": status(*healthy())})
        assert await alike(both, "GET", f"{PODS}/unbound/log?container=api") == ""
        assert (await alike(both, "GET", f"{PODS}/{POD}/log?container=none"))["code"] == 400
        for server in both:
            _, found = await server.ask(
                "GET", f"{PODS}/{POD}/log?container=api&timestamps=true&limitBytes=1000", accept="*/*"
            )
            assert found == ""
        assert simulated.api is not None
        for line in ("one", "two"):
            kubelet.write(real.namespace, POD, "api", line, time.time())
            simulated.api.log(simulated.namespace, POD, "api", line)
        log = f"{PODS}/{POD}/log?container=api"
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60))
        for server in both:
            _, stamped = await server.ask("GET", f"{log}&timestamps=true", accept="*/*")
            assert LINE.findall(stamped) == ["one", "two"]
            _, cut = await server.ask("GET", f"{log}&timestamps=true&limitBytes=34", accept="*/*")
            assert cut == stamped[:34]
            _, since = await server.ask("GET", f"{log}&timestamps=true&sinceTime={later}", accept="*/*")
            assert since == ""
            _, since = await server.ask("GET", f"{log}&timestamps=true&sinceTime={now}", accept="*/*")
            assert stamped.endswith(since)
        previous = [await server.ask("GET", f"{log}&previous=true", accept="*/*") for server in both]
        assert [code for code, _ in previous] == [400, 400]

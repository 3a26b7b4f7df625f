"""What the Kubernetes kinds make of pods as the API describes them. On a real API server: tests/estate/test_kubernetes_*."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.probing import FreePermits
from tocsin.model import Finding, Outcome
from tocsin.sdk import HttpClient, ProbeContext
from tocsin.sdk.kubernetes_objects import Pods, Warnings
from tocsin_probes.kubernetes_logs import KubernetesLogs
from tocsin_probes.kubernetes_secret import KubernetesSecret
from tocsin_probes.kubernetes_workload import KubernetesWorkload
from tocsin_sandbox.kubernetes_objects import CONTAINERS, POD, ended, evicted, healthy, running, stamp, status, warning

Item = Mapping[str, Any]


def pod(
    name: str = POD, *, status: Item | None = None, age: float = 10, containers: Sequence[str] = CONTAINERS, **more: Any
) -> Item:
    """A pod as the API gives it, so many seconds old."""
    metadata = {"name": name, "uid": name, "creationTimestamp": stamp(age), **more.get("metadata", {})}
    spec = {"containers": [{"name": each} for each in containers], **more.get("spec", {})}
    return {"metadata": metadata, "spec": spec, "status": status or {}}


class Clock:
    def wall(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


def run_of(memory: dict[str, Any]) -> ProbeContext:
    return ProbeContext(
        probe="p", system="s", incident="i", vantage="", timeout=5.0, clock=Clock(), http=HttpClient(),
        permits=FreePermits(), trace_id="0" * 32, span_id="0" * 16, request_id="r", memory=memory,
    )  # fmt: skip


async def workload(
    pods: Sequence[Item] = (),
    events: Sequence[Item] = (),
    objects: Mapping[str, Any] | None = None,
    memory: dict[str, Any] | None = None,
    **settings: Any,
) -> Outcome:
    """The verdict on a namespace that holds these. ``objects``: what `get` gives, by the last part of the path."""
    given = {"namespace": "x", "selector": "a=b", "containers": CONTAINERS, **settings}
    probe = KubernetesWorkload(KubernetesWorkload.Settings.model_validate(given))
    store, warnings = Pods(), Warnings()
    for item in pods:
        store.put(item)
    for item in events:
        warnings.put(item)

    async def get(ctx: ProbeContext, path: str, *_: Any) -> Any:
        return (objects or {}).get(path.rpartition("/")[2])

    async def known(found: Any) -> Any:
        return found

    probe.pods = lambda ctx, selector: known(store)  # type: ignore[method-assign]
    probe.warnings = lambda ctx: known(warnings)  # type: ignore[method-assign]
    probe.cluster().get = get  # type: ignore[method-assign, assignment]
    try:
        return await probe.run(run_of({} if memory is None else memory))
    finally:
        await probe.close()


def told(outcome: Outcome) -> list[tuple[str, str]]:
    return [(finding.reason, finding.status.value) for finding in outcome.findings]


async def test_a_pod_that_is_well_is_ok() -> None:
    assert told(await workload([pod(status=status(*healthy()), age=600)])) == []


def release(state: str) -> Mapping[str, Any]:
    labels = {"status": state, "version": "2", "modifiedAt": "1700000000"}
    return {
        "items": [{"metadata": {"labels": {"status": "deployed", "version": "1"}}}, {"metadata": {"labels": labels}}]
    }


@pytest.mark.parametrize("state", ["failed", "uninstalled", "uninstalling", "superseded", "unknown", ""])
async def test_a_newest_revision_that_is_neither_deployed_nor_under_way_has_failed(state: str) -> None:
    well = [pod(status=status(*healthy()), age=600)]
    found = await workload(well, objects={"secrets": release(state)}, helm_release="alexandria-ee")
    assert told(found) == [("release_failed", "failed")]


async def test_a_missing_deployment_is_no_verdict_on_pods() -> None:
    found = await workload([pod(status=status(*healthy()), age=600)], deployment="alexandria-ee")
    assert told(found) == [("deployment_missing", "unknown")]


async def test_a_container_that_no_pod_has_cannot_be_judged() -> None:
    without = pod(containers=["api", "orchestrator"], status=status(running("api"), running("orchestrator")), age=600)
    found = await workload([without])
    assert told(found) == [("container_missing", "unknown")]
    assert found.detail == "alexandria-0 has no container dashboard"
    renamed = pod(containers=["server"], status=status(running("server")), age=600)
    assert told(await workload([renamed])) == [("container_missing", "unknown")]


async def test_pods_that_share_the_labels_and_have_none_of_the_containers_are_somebody_elses() -> None:
    cache = pod("cache-0", containers=["memcached"], status=status(running("memcached")), age=600)
    assert told(await workload([pod(status=status(*healthy()), age=600), cache])) == []


async def test_pods_of_somebody_else_are_not_counted_as_ready_ones_and_are_not_the_workload() -> None:
    cache = pod("cache-0", containers=["memcached"], status=status(running("memcached")), age=6000)
    well = pod(status=status(*healthy()), age=600)
    both = await workload([well, cache], min_ready=2)
    assert told(both) == [("not_ready", "failed")]
    assert both.detail == "1 pods are ready, 2 must be"
    starting = pod(status={"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]}, age=10)
    assert told(await workload([starting, cache])) == []
    memory: dict[str, Any] = {}
    assert told(await workload([well, cache], memory=memory)) == []
    gone = await workload([cache], memory=memory)
    assert told(gone) == [("no_pods", "failed")]
    assert gone.detail == "none with a=b has api or orchestrator or dashboard"
    renamed = pod(containers=["server"], status=status(running("server")), age=600)
    assert told(await workload([renamed, cache], memory=memory)) == [("container_missing", "unknown")]
    assert told(await workload([cache])) == [("container_missing", "unknown")], "whose it is was never seen"


async def test_an_eviction_is_told_although_its_pod_was_replaced_under_the_same_name() -> None:
    event = warning("Evicted", "The node was low on resource: memory.", about="alexandria-0")
    found = await workload([pod(status=status(*healthy()), age=60)], [event])
    assert told(found) == [("evicted", "failed")]
    assert found.detail == "alexandria-0: The node was low on resource: memory."
    other = warning("Evicted", "The node was low on resource: memory.", about="somebody-else-0")
    assert told(await workload([pod(status=status(*healthy()), age=60)], [other])) == []


async def test_an_eviction_of_long_ago_is_told_while_nothing_has_taken_the_pods_place() -> None:
    long_ago = {"type": "Ready", "status": "False", "lastTransitionTime": stamp(86_400)}
    gone = pod(status={**evicted(), "conditions": [long_ago]}, age=86_400)
    assert told(await workload([gone])) == [("evicted", "failed"), ("not_ready", "failed")]
    well = pod("alexandria-1", status=status(*healthy()), age=600)
    assert told(await workload([gone, well])) == []


async def test_a_container_that_is_not_ready_says_so_although_it_was_restarted_too() -> None:
    api = running("api", seconds=200, ready=False, restartCount=1, lastState=ended("Error", 1, 200))
    found = await workload([pod(status=status(*healthy(api=api)), age=600)])
    assert told(found) == [("not_ready", "failed")] * 2
    assert "restarted" in {
        f.reason for f in (await workload([pod(status=status(*healthy(api=api | {"ready": True})))])).findings
    }


async def test_a_pod_of_which_the_scheduler_says_nothing_is_pending_after_its_time_to_start() -> None:
    assert told(await workload([pod(status={"phase": "Pending"}, age=60)])) == []
    found = await workload([pod(status={"phase": "Pending"}, age=300)], min_ready=0)
    assert told(found) == [("pending", "failed")]
    assert "the scheduler says nothing" in found.detail
    bound = await workload([pod(status={"phase": "Pending"}, age=300, spec={"nodeName": "node-1"})], min_ready=0)
    assert {finding.reason for finding in bound.findings} == {"not_ready"}
    assert "nothing is reported of it" in bound.detail


async def test_a_pod_that_is_being_replaced_is_waited_for_until_it_should_have_ended() -> None:
    leaving = pod(status=status(*healthy()), age=6000, metadata={"deletionTimestamp": stamp(-30)})
    assert told(await workload([leaving])) == []
    overdue = pod(status=status(*healthy()), age=6000, metadata={"deletionTimestamp": stamp(121)})
    found = await workload([overdue])
    assert told(found) == [("no_pods", "failed")]
    assert found.detail == "none with a=b has api or orchestrator or dashboard, 1 that should have ended"
    assert told(await workload()) == [("no_pods", "failed")]


async def test_of_a_crowd_of_findings_the_worst_are_told() -> None:
    restarted = running("api", restartCount=1, lastState=ended("Error", 1, 60))
    crowd = [pod(f"p-{n}", status=status(*healthy(api=restarted)), age=600) for n in range(40)]
    crashing = running("api", ready=False) | {"state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    found = await workload([*crowd, pod("last", status=status(*healthy(api=crashing)), age=600)])
    assert found.reason == "crash_loop"


def judged(changed_ago: float | None, *pods: Item, **settings: Any) -> Outcome:
    given = {"namespace": "x", "secret": ["licence"], "key": "k", "selector": "a=b", **settings}
    probe = KubernetesSecret(KubernetesSecret.Settings.model_validate(given))
    store = Pods()
    for item in pods:
        store.put(item)
    now = time.time()
    return probe._judge("licence", None if changed_ago is None else now - changed_ago, now, store)


def test_a_change_that_no_running_container_can_have_loaded_is_unknown() -> None:
    well = pod(status=status(*healthy()), age=600)
    waiting = pod(status={"phase": "Pending"})
    assert told(judged(None)) == []
    assert told(judged(60, well)) == [("changed_not_loaded", "failed")]
    assert told(judged(3600, well)) == []
    for found in (judged(60), judged(60, waiting), judged(60, well, containers=["server"])):
        assert told(found) == [("dependency_unknown", "unknown")]
    assert "no container server with a=b runs" in judged(60, well, containers=["server"]).detail


async def logs(memory: dict[str, Any], *pods: Item, answers: Mapping[str, bytes] | None = None) -> list[Finding]:
    """One run on logs that are empty unless told: by container, and ``previous`` of the one that ended."""
    given = {"namespace": "x", "selector": "a=b", "containers": CONTAINERS, "patterns": {"broken": "chain broken"}}
    probe = KubernetesLogs(KubernetesLogs.Settings.model_validate(given | {"max_bytes": 1000}))
    store = Pods()
    for item in pods:
        store.put(item)

    async def known(found: Any) -> Any:
        return found

    async def read(ctx: ProbeContext, path: str, query: Mapping[str, str], **_: Any) -> bytes:
        return (answers or {}).get("previous" if "previous" in query else query["container"], b"")

    probe.pods = lambda ctx, selector: known(store)  # type: ignore[method-assign]
    probe.cluster().read = read  # type: ignore[method-assign, assignment]
    try:
        return [*(await probe.run(run_of(memory))).findings]
    finally:
        await probe.close()


async def test_two_restarts_between_runs_leave_a_log_unread_and_say_so() -> None:
    memory: dict[str, Any] = {}

    def restarted(count: int) -> Item:
        api = running("api", restartCount=count, lastState=ended("Error", 1, 5))
        return pod(status=status(*healthy(api=api)), age=600)

    assert await logs(memory, restarted(1)) == []
    assert await logs(memory, restarted(2)) == []
    [found] = await logs(memory, restarted(4))
    assert (found.reason, found.status) == ("behind", "unknown")
    assert "2 restarts since the last run" in found.detail
    assert await logs(memory, restarted(4)) == []
    [found] = await logs(memory, restarted(5), answers={"previous": b"x" * 1000})
    assert "more than 1000 bytes before the restart" in found.detail


async def test_a_log_of_a_container_that_no_pod_has_cannot_be_read() -> None:
    without = pod(containers=["api", "orchestrator"], status=status(running("api"), running("orchestrator")))
    [found] = await logs({}, without)
    assert (found.reason, found.status) == ("container_missing", "unknown")

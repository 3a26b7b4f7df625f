"""`kubernetes_workload` on a real API server: each thing that can befall a pod gets its own reason."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from estate.servers.kubernetes import Kubernetes
from tests.kubernetes_pods import create_alexandria, warn
from tests.probing import Probed, RealClock, first, probe_once
from tocsin.sdk.kubernetes import Cluster
from tocsin_probes.kubernetes_workload import KubernetesWorkload
from tocsin_sandbox.kubernetes_objects import (
    INSTANCE,
    RELEASE,
    SELECTOR,
    ended,
    healthy,
    release,
    running,
    stamp,
    status,
    waiting,
)

pytestmark = pytest.mark.estate

Look = Callable[[], Awaitable[Probed]]


@asynccontextmanager
async def watching(
    kubernetes: Kubernetes, namespace: str, *, later: float = 300, **settings: Any
) -> AsyncIterator[Look]:
    """Runs one probe as often as asked, at a time that lies ``later`` seconds after now."""
    given = {"kubeconfig": str(kubernetes.kubeconfig()), "namespace": namespace, "selector": SELECTOR}
    probe = KubernetesWorkload(KubernetesWorkload.Settings.model_validate(given | settings))
    memory: dict[str, Any] = {}
    try:
        yield lambda: probe_once(probe, memory=memory, clock=RealClock(later))
    finally:
        await probe.close()


async def settled(look: Look, reason: str | None) -> Probed:
    """The first run that gives the reason: what was written must only come through the watch."""
    return await first(look, lambda probed: probed.outcome.reason == reason, str(reason))


def warnings(probed: Probed) -> list[str]:
    return [each.gauge.name for each in probed.measurements if each.gauge.name == "tocsin_workload_warnings"]


async def test_pods_that_run_are_well_and_measured(kubernetes: Kubernetes, namespace: str) -> None:
    create_alexandria(kubernetes, namespace)
    async with watching(kubernetes, namespace) as look:
        probed = await look()
    assert probed.verdict == ("ok", None), probed.detail
    assert probed.detail == "1 of 1 pods are ready"
    assert probed.measured("tocsin_workload_ready_pods") == 1
    assert probed.measured("tocsin_workload_pods", phase="Running") == 1
    assert probed.measured("tocsin_workload_memory_limit_bytes", container="orchestrator") == 512 * 2**20


FAULTS: dict[str, tuple[str, Callable[[], Any], str]] = {
    "crash loop": (
        "crash_loop",
        lambda: status(
            *healthy(
                orchestrator=waiting(
                    "orchestrator", "CrashLoopBackOff", restartCount=7, lastState=ended("Error", 101, 2000)
                )
            )
        ),
        "orchestrator of alexandria-0: 7 restarts, last exit code 101",
    ),
    "killed for memory and up again": (
        "oom_killed",
        lambda: status(
            *healthy(orchestrator=running("orchestrator", restartCount=1, lastState=ended("OOMKilled", 137)))
        ),
        "its memory limit is 512Mi, 1 restarts in all",
    ),
    "killed for memory just now": (
        "oom_killed",
        lambda: status(*healthy(api=running("api", ready=False) | {"state": ended("OOMKilled", 137)})),
        "it has no limit",
    ),
    "no such image": (
        "image_pull",
        lambda: status(*healthy(dashboard=waiting("dashboard", "ImagePullBackOff", "Back-off pulling image"))),
        "dashboard of alexandria-0: ImagePullBackOff: Back-off pulling image",
    ),
    "secret of an environment variable is missing": (
        "cannot_start",
        lambda: status(
            *healthy(api=waiting("api", "CreateContainerConfigError", 'secret "alexandria-ee-license" not found'))
        ),
        'CreateContainerConfigError: secret "alexandria-ee-license" not found',
    ),
    "not ready": (
        "not_ready",
        lambda: status(*healthy(api=running("api", ready=False))),
        "api of alexandria-0: running",
    ),
    "restarted": (
        "restarted",
        lambda: status(*healthy(api=running("api", restartCount=1, lastState=ended("Error", 2)))),
        "api of alexandria-0: 1 in the window (Error, exit code 2)",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_of_a_container_is_told_and_ends(kubernetes: Kubernetes, namespace: str, fault: str) -> None:
    reason, reported, detail = FAULTS[fault]
    create_alexandria(kubernetes, namespace)
    async with watching(kubernetes, namespace) as look:
        assert (await look()).verdict == ("ok", None)
        kubernetes.set_pod_status(namespace, "alexandria-0", reported())
        probed = await settled(look, reason)
        assert detail in probed.detail
        assert probed.outcome.findings[0].component in ("", "api", "orchestrator", "dashboard")
        kubernetes.call("DELETE", f"/api/v1/namespaces/{namespace}/pods/alexandria-0?gracePeriodSeconds=0").expect(200)
        assert "none with" in (await settled(look, "no_pods")).detail
        create_alexandria(kubernetes, namespace)
        await settled(look, None)


async def test_a_pod_that_no_node_takes_is_pending_with_the_schedulers_words(
    kubernetes: Kubernetes, namespace: str
) -> None:
    kubernetes.create_pod(namespace, "alexandria-0", labels=INSTANCE)
    words = "0/3 nodes are available: 3 Insufficient memory."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
    kubernetes.set_pod_status(namespace, "alexandria-0", {"phase": "Pending", "conditions": [condition]})
    async with watching(kubernetes, namespace) as look:
        assert words in (await settled(look, "pending")).detail


async def test_an_eviction_counts_for_a_while_also_when_the_next_pod_is_well(
    kubernetes: Kubernetes, namespace: str
) -> None:
    create_alexandria(kubernetes, namespace)
    create_alexandria(kubernetes, namespace, "alexandria-1")
    evicted = {
        "phase": "Failed",
        "reason": "Evicted",
        "message": "The node was low on resource: memory.",
        "conditions": [
            {
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "TerminationByKubelet",
                "lastTransitionTime": stamp(),
            }
        ],
    }
    kubernetes.set_pod_status(namespace, "alexandria-0", evicted)
    async with watching(kubernetes, namespace) as look:
        assert "low on resource: memory" in (await settled(look, "evicted")).detail
    async with watching(kubernetes, namespace, later=3600) as look:
        assert (await look()).verdict == ("ok", None)


async def test_warnings_are_findings_when_chosen_and_counted_and_attached_otherwise(
    kubernetes: Kubernetes, namespace: str
) -> None:
    create_alexandria(kubernetes, namespace)
    async with watching(kubernetes, namespace) as look:
        warn(kubernetes, namespace, "Unhealthy", "Readiness probe failed", about="alexandria-0")
        warn(kubernetes, namespace, "FailedMount", "secret not found", about="somebody-else")
        probed = await first(look, lambda probed: len(warnings(probed)) == 2, "both warnings")
        assert probed.verdict == ("ok", None)
        assert probed.measured("tocsin_workload_warnings", reason="Unhealthy") == 1
        warn(kubernetes, namespace, "FailedMount", 'secret "alexandria-ee-license" not found', about="alexandria-0")
        probed = await settled(look, "warning_event")
        assert 'pod alexandria-0, 1 times: secret "alexandria-ee-license" not found' in probed.detail
        assert b"Readiness probe failed" in probed.attachments[0].content


async def test_no_pods_comes_with_what_keeps_them_from_being_created(kubernetes: Kubernetes, namespace: str) -> None:
    warn(kubernetes, namespace, "FailedCreate", "exceeded quota", about="alexandria-ee-5f", kind="ReplicaSet")
    async with watching(kubernetes, namespace) as look:
        assert (await look()).detail == f"none with {SELECTOR}: exceeded quota"


async def test_restarts_are_counted_in_the_window_from_the_counter(kubernetes: Kubernetes, namespace: str) -> None:
    create_alexandria(kubernetes, namespace)
    # Old restarts whose last end lies before the window.
    old = running("api", restartCount=4, lastState=ended("Error", 1, 5000))
    kubernetes.set_pod_status(namespace, "alexandria-0", status(*healthy(api=old)))
    async with watching(kubernetes, namespace, restarts=2, later=2000) as look:
        assert (await look()).verdict == ("ok", None)
        kubernetes.set_pod_status(namespace, "alexandria-0", status(*healthy(api=old | {"restartCount": 6})))
        assert "2 in the window" in (await settled(look, "restarted")).detail


async def test_a_rollout_that_exceeded_its_deadline_is_stuck(kubernetes: Kubernetes, namespace: str) -> None:
    create_alexandria(kubernetes, namespace)
    deployments = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    template = {"metadata": {"labels": INSTANCE}, "spec": {"containers": [{"name": "api", "image": "none"}]}}
    body = {
        "metadata": {"name": "alexandria-ee"},
        "spec": {"selector": {"matchLabels": INSTANCE}, "template": template},
    }
    kubernetes.call("POST", deployments, body).expect(201)
    async with watching(kubernetes, namespace, deployment="alexandria-ee") as look:
        assert (await look()).verdict == ("ok", None)
        exceeded = {
            "type": "Progressing",
            "status": "False",
            "reason": "ProgressDeadlineExceeded",
            "message": "has timed out progressing.",
        }
        kubernetes.call("PATCH", f"{deployments}/alexandria-ee/status", {"status": {"conditions": [exceeded]}}).expect()
        assert (await look()).verdict == ("failed", "rollout_stuck")


async def test_of_a_release_only_labels_leave_the_server(
    kubernetes: Kubernetes, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_alexandria(kubernetes, namespace)
    kubernetes.call("POST", f"/api/v1/namespaces/{namespace}/secrets", release()).expect(201)
    bodies: dict[str, bytes] = {}
    read = Cluster.read

    async def recorded(self: Cluster, ctx: Any, path: str, *more: Any, **options: Any) -> bytes:
        bodies[path] = await read(self, ctx, path, *more, **options)
        return bodies[path]

    monkeypatch.setattr(Cluster, "read", recorded)
    async with watching(kubernetes, namespace, helm_release=RELEASE) as look:
        assert (await look()).verdict == ("ok", None)
    [answer] = bodies.values()
    assert json.loads(answer)["items"][0]["metadata"]["labels"]["status"] == "deployed"
    assert set(json.loads(answer)["items"][0]) <= {"kind", "apiVersion", "metadata"}
    assert release()["data"]["release"].encode() not in answer


async def test_a_pod_that_is_being_replaced_is_not_missed(kubernetes: Kubernetes, namespace: str) -> None:
    """As a StatefulSet does it: the next pod of the name is created when the one before has ended."""
    create_alexandria(kubernetes, namespace, nodeName="node-1")
    path = f"/api/v1/namespaces/{namespace}/pods/alexandria-0"
    async with watching(kubernetes, namespace, later=0) as look:
        assert (await look()).verdict == ("ok", None)
        kubernetes.call("DELETE", f"{path}?gracePeriodSeconds=30").expect(200)

        def gone(probed: Probed) -> bool:
            assert probed.verdict == ("ok", None), probed.detail
            return probed.detail == "0 of 0 pods are ready"

        await first(look, gone, "that the pod is gone")
    async with watching(kubernetes, namespace, later=151) as look:
        assert (await look()).verdict == ("failed", "no_pods")


async def test_an_eviction_counts_although_a_pod_of_the_same_name_is_well(
    kubernetes: Kubernetes, namespace: str
) -> None:
    warn(kubernetes, namespace, "Evicted", "The node was low on resource: memory.", about="alexandria-0")
    create_alexandria(kubernetes, namespace)
    async with watching(kubernetes, namespace) as look:
        assert (await look()).verdict == ("failed", "evicted")


async def test_a_release_is_judged_by_the_labels_of_its_newest_revision(
    kubernetes: Kubernetes, namespace: str, tmp_path: Any
) -> None:
    create_alexandria(kubernetes, namespace)
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: demo\nversion: 0.1.0\n")
    (tmp_path / "templates" / "map.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: demo}\ndata: {n: {{ .Values.n | quote }}}\n"
    )
    kubernetes.helm("install", "alexandria-ee", str(tmp_path), "-n", namespace, "--set", "n=1")
    async with watching(kubernetes, namespace, helm_release="alexandria-ee") as look:
        assert (await look()).verdict == ("ok", None)
        kubernetes.helm("upgrade", "alexandria-ee", str(tmp_path), "-n", namespace, "--set", "n=2")
        assert (await look()).verdict == ("ok", None)
        secret = f"/api/v1/namespaces/{namespace}/secrets/sh.helm.release.v1.alexandria-ee.v2"

        def becomes(state: str) -> None:
            labels = {"status": state, "modifiedAt": "1700000000"}
            kubernetes.call("PATCH", secret, {"metadata": {"labels": labels}}).expect()

        becomes("pending-upgrade")
        assert (await look()).verdict == ("failed", "release_pending")
        becomes("failed")
        probed = await look()
        assert probed.verdict == ("failed", "release_failed")
        assert probed.detail == "revision 2 of alexandria-ee is failed"
        kubernetes.helm("uninstall", "alexandria-ee", "-n", namespace, "--keep-history")
        probed = await look()
        assert probed.verdict == ("failed", "release_failed")
        assert probed.detail == "revision 2 of alexandria-ee is uninstalled"

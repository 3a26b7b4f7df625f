"""Pods as a kubelet and a scheduler would report them, for tests on a real API server."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from estate.servers.kubernetes import Kubernetes

INSTANCE = {"app.kubernetes.io/instance": "alexandria-ee"}
SELECTOR = "app.kubernetes.io/instance=alexandria-ee"
CONTAINERS = ("api", "orchestrator", "dashboard")


def stamp(seconds_ago: float = 0) -> str:
    """A time as the API writes it."""
    return (datetime.now(UTC) - timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def running(name: str, *, seconds: float = 600, ready: bool = True, **more: Any) -> dict[str, Any]:
    """The status of a container that runs for so long."""
    state = {"running": {"startedAt": stamp(seconds)}}
    return {"name": name, "image": "none", "imageID": "", "ready": ready, "restartCount": 0, "state": state} | more


def waiting(name: str, reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    """The status of a container that does not run."""
    return running(name, ready=False) | {"state": {"waiting": {"reason": reason, "message": message}}} | more


def ended(reason: str, exit_code: int, seconds_ago: float = 30) -> dict[str, Any]:
    """The state of a container that ended."""
    times = {"startedAt": stamp(seconds_ago + 60), "finishedAt": stamp(seconds_ago)}
    return {"terminated": {"reason": reason, "exitCode": exit_code, **times}}


def healthy(**instead: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The statuses of all three containers, of which some are given."""
    return [instead.get(name) or running(name) for name in CONTAINERS]


def status(*containers: Mapping[str, Any], ready: bool | None = None, phase: str = "Running") -> dict[str, Any]:
    """A pod's status; ready when all its containers are, unless told."""
    all_ready = all(container["ready"] for container in containers) if ready is None else ready
    conditions = [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp(600)},
        {"type": "Ready", "status": str(all_ready), "lastTransitionTime": stamp(600)},
    ]
    return {"phase": phase, "conditions": conditions, "containerStatuses": list(containers)}


def create_alexandria(kubernetes: Kubernetes, namespace: str, name: str = "alexandria-0", **spec: Any) -> None:
    """A pod of the platform that is well."""
    limits = {"orchestrator": {"limits": {"memory": "512Mi"}, "requests": {"memory": "512Mi"}}}
    containers = [
        {"name": each, "image": "example.invalid/none:1", "resources": limits.get(each, {})} for each in CONTAINERS
    ]
    kubernetes.create_pod(namespace, name, labels=INSTANCE, spec={"containers": containers, **spec})
    kubernetes.set_pod_status(namespace, name, status(*healthy()))


def warn(kubernetes: Kubernetes, namespace: str, reason: str, message: str, *, about: str, kind: str = "Pod") -> None:
    """A warning event, as of now."""
    body = {
        "metadata": {"generateName": f"{about}.", "namespace": namespace},
        "involvedObject": {"kind": kind, "namespace": namespace, "name": about},
        "type": "Warning",
        "reason": reason,
        "message": message,
        "count": 1,
        "firstTimestamp": stamp(),
        "lastTimestamp": stamp(),
    }
    kubernetes.call("POST", f"/api/v1/namespaces/{namespace}/events", body).expect(201)

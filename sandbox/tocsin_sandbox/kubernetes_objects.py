"""Alexandria's objects as a cluster shows them: pods as a kubelet and a scheduler report them, events, what Helm keeps.

Fields: Kubernetes API reference v1.34, Pod v1 core, ContainerStatus v1 core, Event v1 core. The server adds the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

POD = "alexandria-0"
RELEASE = "alexandria-ee"
INSTANCE = {"app.kubernetes.io/instance": RELEASE}
SELECTOR = f"app.kubernetes.io/instance={RELEASE}"
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


def unschedulable() -> dict[str, Any]:
    """The status of a pod that the scheduler finds no node for."""
    words = "0/3 nodes are available: 3 Insufficient memory."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
    return {"phase": "Pending", "containerStatuses": [], "conditions": [condition]}


def evicted() -> dict[str, Any]:
    """The status of a pod that its node has put out."""
    condition = {"type": "Ready", "status": "False", "lastTransitionTime": stamp()}
    words = "The node was low on resource: memory."
    return {"phase": "Failed", "reason": "Evicted", "message": words, "conditions": [condition]}


def alexandria_pod(name: str = POD, **spec: Any) -> dict[str, Any]:
    """A pod of the platform, to be created."""
    limits = {"orchestrator": {"limits": {"memory": "512Mi"}, "requests": {"memory": "512Mi"}}}
    containers = [
        {"name": each, "image": "example.invalid/none:1", "resources": limits.get(each, {})} for each in CONTAINERS
    ]
    return {"metadata": {"name": name, "labels": dict(INSTANCE)}, "spec": {"containers": containers, **spec}}


def warning(
    reason: str, message: str, *, about: str, kind: str = "Pod", namespace: str = "", name: str = ""
) -> dict[str, Any]:
    """A warning event, as of now, to be created; without a ``name`` the server gives it one."""
    called = {"name": name} if name else {"generateName": f"{about}."}
    return {
        "metadata": {**called, "namespace": namespace},
        "involvedObject": {"kind": kind, "namespace": namespace, "name": about},
        "type": "Warning",
        "reason": reason,
        "message": message,
        "count": 1,
        "firstTimestamp": stamp(),
        "lastTimestamp": stamp(),
    }


def deployment() -> dict[str, Any]:
    """The platform's Deployment, to be created."""
    template = {"metadata": {"labels": INSTANCE}, "spec": {"containers": [{"name": "api", "image": "none"}]}}
    return {"metadata": {"name": RELEASE}, "spec": {"selector": {"matchLabels": INSTANCE}, "template": template}}


def progressing(reason: str) -> dict[str, Any]:
    """The status of a Deployment whose rollout is stuck (``ProgressDeadlineExceeded``) or done."""
    stuck = reason == "ProgressDeadlineExceeded"
    words = "has timed out progressing." if stuck else "has successfully progressed."
    condition = {"type": "Progressing", "status": str(not stuck), "reason": reason, "message": words}
    return {"conditions": [condition]}


def release(state: str = "deployed", revision: int = 1) -> dict[str, Any]:
    """The Secret in which Helm 3 keeps a revision, to be created: pkg/storage/driver/secrets.go."""
    labels = {
        "owner": "helm",
        "name": RELEASE,
        "status": state,
        "version": str(revision),
        "modifiedAt": "1700000000",
    }
    name = f"sh.helm.release.v1.{RELEASE}.v{revision}"
    return {"metadata": {"name": name, "labels": labels}, "type": "helm.sh/release.v1", "data": {"release": "SDRzSQ=="}}

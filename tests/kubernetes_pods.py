"""Alexandria's pods and events on a real API server."""

from __future__ import annotations

from typing import Any

from estate.servers.kubernetes import Kubernetes
from tocsin_sandbox.kubernetes_objects import POD, alexandria_pod, healthy, status, warning


def create_alexandria(kubernetes: Kubernetes, namespace: str, name: str = POD, **spec: Any) -> None:
    """A pod of the platform that is well."""
    kubernetes.call("POST", f"/api/v1/namespaces/{namespace}/pods", alexandria_pod(name, **spec)).expect(201)
    kubernetes.set_pod_status(namespace, name, status(*healthy()))


def warn(kubernetes: Kubernetes, namespace: str, reason: str, message: str, *, about: str, kind: str = "Pod") -> None:
    """A warning event, as of now."""
    body = warning(reason, message, about=about, kind=kind, namespace=namespace)
    kubernetes.call("POST", f"/api/v1/namespaces/{namespace}/events", body).expect(201)

"""Alexandria in a cluster: its pod, Secrets, Deployment and release, and what can befall them.

Written through the API of a cluster, the sandbox's or a real one, as scheduler, kubelet and Helm would write it.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from tocsin_sandbox.kubernetes_objects import (
    POD,
    RELEASE,
    alexandria_pod,
    deployment,
    ended,
    evicted,
    healthy,
    progressing,
    release,
    running,
    status,
    unschedulable,
    waiting,
    warning,
)

NAMESPACE = "alexandria"
LICENSE_SECRET = "alexandria-ee-license"
DSN_SECRET = "alexandria-ee"
AGAIN_SECONDS = 2.0
"""How often what lasts shows itself anew."""

_CORE = f"/api/v1/namespaces/{NAMESPACE}"
_DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
_MOUNT_EVENT = f"{POD}.mount"

_log = logging.getLogger("tocsin.sandbox")


@dataclass(slots=True)
class AlexandriaCluster:
    """``call``: one request to the API, its status. ``write_log``: one line of a container of the pod, now;
    ``rotate_log``: what it wrote is no longer served. ``node``: where the pod runs. ``api_started``: when the api
    container was (Unix seconds)."""

    call: Callable[[str, str, Mapping[str, Any] | None], int]
    write_log: Callable[[str, str], None]
    rotate_log: Callable[[str], None]
    node: str
    api_started: float = field(default_factory=lambda: time.time() - 600)
    _lasting: dict[str, Callable[[], None]] = field(default_factory=dict)
    _turn: Lock = field(default_factory=Lock)

    def furnish(self, license: str) -> None:
        """Everything that the profile looks at, well."""
        self.create_pod()
        self._do("POST", _DEPLOYMENTS, deployment())
        self._do("POST", f"{_CORE}/secrets", release())
        self.furnish_dsn()
        self.install(license)

    def create_pod(self) -> None:
        self._do("POST", f"{_CORE}/pods", alexandria_pod(POD, nodeName=self.node), or_else=409)
        self.pod()

    def drop_pod(self) -> None:
        self._do("DELETE", f"{_CORE}/pods/{POD}", {"gracePeriodSeconds": 0}, or_else=404)

    def pod(self, **containers: Mapping[str, Any]) -> None:
        """Report the pod with these containers in another state than well."""
        self.report(status(*healthy(**{"api": self.running_api()} | containers)))

    def report(self, reported: Mapping[str, Any]) -> None:
        """Write the pod's status."""
        self._do("PATCH", f"{_CORE}/pods/{POD}/status", {"status": reported})

    def running_api(self, **more: Any) -> dict[str, Any]:
        """The status of the api container, which was started when it was."""
        return running("api", seconds=time.time() - self.api_started, **more)

    def restart_api(self) -> None:
        """The api container is started anew, and reads its licence."""
        self.api_started = time.time() + 1  # times of the API have whole seconds
        self.pod()

    def install(self, license: str) -> None:
        """Put a licence into its Secret."""
        self.secret(LICENSE_SECRET, {"license.key": license})

    def furnish_dsn(self) -> None:
        self.secret(DSN_SECRET, {"database-dsn": "postgresql://alex@db/alexandria"})

    def secret(self, name: str, values: Mapping[str, str]) -> None:
        """Create or replace a Secret."""
        self.drop_secret(name)
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        self._do("POST", f"{_CORE}/secrets", {"metadata": {"name": name}, "data": data})

    def drop_secret(self, name: str) -> None:
        self._do("DELETE", f"{_CORE}/secrets/{name}", None, or_else=404)

    def warn_of_mount(self) -> None:
        """The event as of now, in place of the one before."""
        event = warning("FailedMount", "MountVolume.SetUp failed", about=POD, namespace=NAMESPACE, name=_MOUNT_EVENT)
        self._do("DELETE", f"{_CORE}/events/{_MOUNT_EVENT}", None, or_else=404)
        self._do("POST", f"{_CORE}/events", event)

    def label_release(self, state: str) -> None:
        name = release()["metadata"]["name"]
        self._do("PATCH", f"{_CORE}/secrets/{name}", {"metadata": {"labels": {"status": state}}})

    def roll_out(self, reason: str) -> None:
        self._do("PATCH", f"{_DEPLOYMENTS}/{RELEASE}/status", {"status": progressing(reason)})

    # What is seen for a while only shows itself again and again as long as it lasts

    def repeat(self, name: str, act: Callable[[], None]) -> None:
        """Do it now and every `AGAIN_SECONDS` until it must `cease`."""
        with self._turn:
            act()
            self._lasting[name] = act

    def cease(self, name: str) -> None:
        """End what is repeated under this name; what is being done is done by then."""
        with self._turn:
            self._lasting.pop(name, None)

    async def run(self) -> None:
        """The life of what lasts, until cancelled."""
        while True:
            await asyncio.sleep(AGAIN_SECONDS)
            with self._turn:
                for name, act in self._lasting.items():
                    try:
                        act()
                    except RuntimeError as error:
                        _log.warning("%s cannot be shown again: %s", name, error)

    def _do(self, method: str, path: str, body: Mapping[str, Any] | None, *, or_else: int = 200) -> None:
        """One request. ``or_else``: another status that is as good. Raises `RuntimeError`."""
        code = self.call(method, path, body)
        if code not in (200, 201, or_else):
            raise RuntimeError(f"{method} {path}: HTTP {code}")


Act = Callable[[AlexandriaCluster], None]


def _pod(**containers: Any) -> Act:
    return lambda cluster: cluster.pod(**containers)


def _lasting(name: str, act: Act, mend: Act = lambda cluster: None) -> tuple[Act, Act]:
    def undo(cluster: AlexandriaCluster) -> None:
        cluster.cease(name)
        mend(cluster)

    return lambda cluster: cluster.repeat(name, lambda: act(cluster)), undo


def _logged(line: str) -> tuple[Act, Act]:
    return _lasting(line, lambda cluster: cluster.write_log("api", line), lambda cluster: cluster.rotate_log("api"))


def _replace(cluster: AlexandriaCluster) -> None:
    cluster.drop_pod()
    cluster.create_pod()


def _starve(cluster: AlexandriaCluster) -> None:
    cluster.pod(orchestrator=running("orchestrator", lastState=ended("OOMKilled", 137, 0)))


_WELL = _pod()

ACTS: Mapping[str, tuple[Act, Act]] = {
    "drop-pod": (lambda cluster: cluster.drop_pod(), lambda cluster: cluster.create_pod()),
    "crash-orchestrator": (_pod(orchestrator=waiting("orchestrator", "CrashLoopBackOff", restartCount=7)), _WELL),
    "starve-orchestrator": _lasting("starve", _starve, _WELL),
    "evict-pod": (lambda cluster: cluster.report(evicted()), _replace),
    "unschedule-pod": (lambda cluster: cluster.report(unschedulable()), _WELL),
    "lose-image": (_pod(api=waiting("api", "ImagePullBackOff")), _WELL),
    "unmount-secret": (_pod(api=waiting("api", "CreateContainerConfigError", 'secret "x" not found')), _WELL),
    "unready-api": (lambda cluster: cluster.pod(api=cluster.running_api(ready=False)), _WELL),
    "warn-of-mount": _lasting("mount", lambda cluster: cluster.warn_of_mount()),
    "stick-rollout": (
        lambda cluster: cluster.roll_out("ProgressDeadlineExceeded"),
        lambda cluster: cluster.roll_out("NewReplicaSetAvailable"),
    ),
    "fail-release": (
        lambda cluster: cluster.label_release("failed"),
        lambda cluster: cluster.label_release("deployed"),
    ),
    "leave-release-pending": (
        lambda cluster: cluster.label_release("pending-upgrade"),
        lambda cluster: cluster.label_release("deployed"),
    ),
    "drop-dsn-secret": (
        lambda cluster: cluster.drop_secret(DSN_SECRET),
        lambda cluster: cluster.furnish_dsn(),
    ),
    "log-missing-socket": _logged("dial unix /run/alexandria/orchestrator.sock: no such file or directory"),
    "log-deadline": _logged("rpc error: context deadline exceeded"),
    "log-invalid-licence": _logged("fatal: license blob invalid"),
    "log-licence-signature": _logged("license signature verification failed"),
    "log-licence-expiring": _logged('{"event_type":"license.expiring"}'),
    "log-broken-chain": _logged("audit chain broken at seq 17"),
    "log-hmac-mismatch": _logged("HMAC mismatch seq=17"),
    "log-anchor-reset": _logged("audit chain anchor reset"),
}
"""How it is caused, how it is undone."""

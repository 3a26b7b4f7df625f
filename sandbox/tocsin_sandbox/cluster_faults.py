"""Faults of Alexandria in its cluster: pods, rollout and release, Secrets, what its logs say."""

from __future__ import annotations

from dataclasses import replace

from tocsin_sandbox.alexandria_cluster import ACTS, LICENSE_SECRET
from tocsin_sandbox.alexandria_cluster import Act as ClusterAct
from tocsin_sandbox.alexandria_environment import WINDOW_SECONDS
from tocsin_sandbox.estate import Estate
from tocsin_sandbox.fault import Act, Fault

_SERVING = "api-not-serving"
_QUOTA = "quota-exceeded"
_AUDIT = "audit-chain-failure"
_POD = "pod"
_RELEASE = "release"
_SECRET = "licence secret"


async def _renew_licence(estate: Estate) -> None:
    renewed = replace(estate.alexandria_api.license, days=estate.alexandria_api.license.days + 365)
    estate.cluster.install(estate.license_file.sign(renewed))


async def _drop_licence(estate: Estate) -> None:
    estate.cluster.drop_secret(LICENSE_SECRET)


async def _restore_licence(estate: Estate) -> None:
    """It is put back, and the api container is started after that."""
    estate.cluster.install(estate.license_file.sign(estate.alexandria_api.license))
    estate.cluster.restart_api()


def _on_cluster(act: ClusterAct) -> Act:
    async def acts(estate: Estate) -> None:
        act(estate.cluster)

    return acts


def _fault(
    name: str, title: str, effect: str, incident: str, probe: str, reason: str, act: str,
    knob: str = "", lingers: float = 0.0,
) -> Fault:  # fmt: skip
    cause, undo = map(_on_cluster, ACTS[act])
    return Fault(name, title, effect, "alexandria", incident, probe, reason, cause, undo, knob, lingers=lingers)


def _of_pod(name: str, title: str, effect: str, reason: str, act: str) -> Fault:
    return _fault(name, title, effect, _SERVING, "alexandria-pods", reason, act, _POD)


def _logged(name: str, title: str, incident: str, probe: str, reason: str, act: str) -> Fault:
    effect = "The api container writes the published line again and again."
    return _fault(name, title, effect, incident, probe, reason, act, lingers=WINDOW_SECONDS + 1)


FAULTS = (
    _of_pod("pods-gone", "There is no pod any more", "The pod is deleted; none follows.", "no_pods", "drop-pod"),
    _of_pod(
        "orchestrator-crash-loop", "The orchestrator crashes again and again", "It waits in CrashLoopBackOff.",
        "crash_loop", "crash-orchestrator",
    ),
    _of_pod(
        "orchestrator-out-of-memory", "The orchestrator was killed for its memory", "It ends as OOMKilled.",
        "oom_killed", "starve-orchestrator",
    ),
    _of_pod("pod-evicted", "The pod was evicted", "Its node was low on memory.", "evicted", "evict-pod"),
    _of_pod(
        "pod-pending", "No node takes the pod", "The scheduler finds too little memory.", "pending", "unschedule-pod"
    ),
    _of_pod(
        "image-pull", "The api's image cannot be pulled", "It waits in ImagePullBackOff.", "image_pull", "lose-image"
    ),
    _of_pod(
        "secret-not-mountable", "The api cannot start without its Secret", "It waits in CreateContainerConfigError.",
        "cannot_start", "unmount-secret",
    ),
    _of_pod("api-not-ready", "The api runs and is not ready", "Its readiness fails.", "not_ready", "unready-api"),
    _fault(
        "mount-fails", "Kubernetes warns that a volume cannot be mounted", "An event says FailedMount.",
        _SERVING, "alexandria-pods", "warning_event", "warn-of-mount", lingers=WINDOW_SECONDS + 1,
    ),
    _fault(
        "rollout-stuck", "The rollout does not get on", "The Deployment has exceeded its deadline.",
        _SERVING, "alexandria-rollout", "rollout_stuck", "stick-rollout",
    ),
    _fault(
        "release-failed", "The Helm release has failed", "Its newest revision is labelled so.",
        _SERVING, "alexandria-release", "release_failed", "fail-release", _RELEASE,
    ),
    _fault(
        "release-pending", "The Helm release is left in the middle of an upgrade", "It stays in pending-upgrade.",
        _SERVING, "alexandria-release", "release_pending", "leave-release-pending", _RELEASE,
    ),
    Fault(
        "licence-renewed-not-restarted", "The licence in the Secret is not the one that was loaded",
        "The Secret holds another licence; the api was not restarted.",
        "alexandria", _SERVING, "alexandria-license-secret", "changed_not_loaded",
        _renew_licence, _restore_licence, _SECRET,
    ),
    Fault(
        "licence-secret-gone", "The licence's Secret is gone", "It is deleted; what runs goes on.",
        "alexandria", _SERVING, "alexandria-license-secret", "secret_missing", _drop_licence, _restore_licence, _SECRET,
    ),
    _fault(
        "dsn-secret-gone", "The Secret with the database's address is gone", "It is deleted; what runs goes on.",
        _SERVING, "alexandria-database-secret", "secret_missing", "drop-dsn-secret",
    ),
    _logged(
        "logged-orchestrator-socket-missing", "The api logs that the socket is missing",
        _SERVING, "alexandria-logs", "orchestrator_socket_missing", "log-missing-socket",
    ),
    _logged(
        "logged-orchestrator-deadline", "The api logs that the orchestrator is too slow",
        _SERVING, "alexandria-logs", "orchestrator_deadline", "log-deadline",
    ),
    _logged(
        "logged-license-blob-invalid", "The api logs that the licence is invalid",
        _SERVING, "alexandria-logs", "license_blob_invalid", "log-invalid-licence",
    ),
    _logged(
        "logged-license-signature-failed", "The api logs that the licence's signature is wrong",
        _SERVING, "alexandria-logs", "license_signature_failed", "log-licence-signature",
    ),
    _logged(
        "logged-license-expiring", "The api logs that the licence ends",
        _QUOTA, "alexandria-license-log", "license_expiring", "log-licence-expiring",
    ),
    _logged(
        "logged-audit-chain-broken", "The api logs that the chain is broken",
        _AUDIT, "alexandria-audit-logs", "audit_chain_broken", "log-broken-chain",
    ),
    _logged(
        "logged-hmac-mismatch", "The api logs that an HMAC does not match",
        _AUDIT, "alexandria-audit-logs", "hmac_mismatch", "log-hmac-mismatch",
    ),
    _logged(
        "logged-anchor-reset", "The api logs that the chain's anchor was reset",
        _AUDIT, "alexandria-audit-logs", "anchor_reset", "log-anchor-reset",
    ),
)  # fmt: skip

"""`kubernetes_workload`: the pods of a workload run, container by container."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias
from urllib.parse import quote

from pydantic import Field

from tocsin.sdk import Finding, Gauge, Outcome, ProbeContext, ReasonEnum, Seconds, Severity, Status, Words
from tocsin.sdk.kubernetes import Cluster, KubernetesProbe, KubernetesSettings, Permission
from tocsin.sdk.kubernetes_objects import Container, Pod, Warned, bytes_of, lacking
from tocsin.sdk.quantities import format_duration

MAX_TOLD = 20
"""Findings of one run, and reasons of events that are counted apart; a crowd of pods says the same thing."""

MAX_OTHERS = 50
"""Names of containers of somebody else's pods that are remembered."""

_HELM_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""Asks for names and labels alone: what a release holds never leaves the API server."""

_PODS = Gauge("tocsin_workload_pods", "Pods that match, by phase.", ("phase",))
_READY = Gauge("tocsin_workload_ready_pods", "Pods that match and are ready.")
_RESTARTS = Gauge(
    "tocsin_workload_restarts", "Restarts in the window, by container, all pods together.", ("container",)
)
_LIMIT = Gauge("tocsin_workload_memory_limit_bytes", "The smallest memory limit of a container.", ("container",))
_WARNINGS = Gauge("tocsin_workload_warnings", "Pods and owners with warning events in the window.", ("reason",))


Restarts: TypeAlias = "dict[tuple[str, str], int]"
"""Restarts in the window, by the pod's uid and the container."""


class KubernetesWorkload(KubernetesProbe):
    """Pods exist, are scheduled, and each of their containers runs, is ready and stays up.

    Pods and warning events are watched, not listed at each run. What needs more than that is off until asked for:
    `deployment` (get on that Deployment) and `helm_release` (list on Secrets, of which only labels are fetched).
    """

    kind = "kubernetes_workload"
    gauges = (_PODS, _READY, _RESTARTS, _LIMIT, _WARNINGS)

    class Settings(KubernetesSettings):
        selector: str
        """Labels of the pods: ``app.kubernetes.io/instance=alexandria-ee``."""
        containers: Words = ()
        """Which containers are judged, and with them the pods that have any; unset: all."""
        min_ready: int = Field(default=1, ge=0)
        """How many pods must be ready."""
        starting: Seconds = 120.0
        """How long a pod may take from its creation until its containers are ready; also how long beyond its grace
        until it has ended."""
        window: Seconds = 900.0
        """How long a restart, an eviction, a kill for memory and a warning event count."""
        restarts: int = Field(default=1, ge=1)
        """Restarts of one container in the window from which on it is `restarted`."""
        events: bool = True
        """Watch warning events too."""
        warnings: Words = ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox", "FailedCreate")
        """Reasons of events that are findings. All others are counted and attached."""
        deployment: str = ""
        """A Deployment whose rollout must not be stuck. Needs ``get`` on it."""
        helm_release: str = ""
        """A Helm release whose newest revision must be deployed. Needs ``list`` on Secrets."""
        release_patience: Seconds = 900.0
        """How long an install, upgrade or rollback of the release may be under way."""

        def permissions(self) -> tuple[Permission, ...]:
            watched = ("pods", "events") if self.events else ("pods",)
            needed = [Permission(verb, resource) for resource in watched for verb in ("list", "watch")]
            if self.deployment:
                needed.append(Permission("get", "deployments", "apps", (self.deployment,)))
            if self.helm_release:
                needed.append(Permission("list", "secrets"))
            return tuple(needed)

    class Reason(ReasonEnum):
        NO_PODS = "no_pods", "No pod matches the selector."
        CONTAINER_MISSING = (
            "container_missing",
            "A pod has no container of a name that is configured, so that it cannot be judged.",
            Severity.TICKET,
            Status.UNKNOWN,
        )
        CRASH_LOOP = "crash_loop", "A container keeps ending and is restarted with growing delays."
        OOM_KILLED = "oom_killed", "A container was killed because it reached its memory limit."
        EVICTED = "evicted", "A pod was evicted: its node ran out of memory, disk or another resource."
        PENDING = "pending", "A pod is not taken by any node."
        IMAGE_PULL = "image_pull", "The image of a container cannot be pulled."
        CANNOT_START = (
            "cannot_start",
            "A container cannot be created or started: a Secret, a ConfigMap or a volume that it names is missing.",
        )
        NOT_READY = "not_ready", "Too few pods are ready, or a container has not become ready in its time."
        RESTARTED = "restarted", "A container was restarted in the window.", Severity.TICKET
        WARNING_EVENT = "warning_event", "Kubernetes reports one of the chosen warnings.", Severity.TICKET
        ROLLOUT_STUCK = "rollout_stuck", "The rollout of the Deployment has exceeded its deadline."
        DEPLOYMENT_MISSING = (
            "deployment_missing",
            "There is no Deployment of that name, so that its rollout cannot be judged.",
            Severity.TICKET,
            Status.UNKNOWN,
        )
        RELEASE_PENDING = (
            "release_pending",
            "An install, upgrade or rollback of the Helm release has not ended; the next one will be refused.",
            Severity.TICKET,
        )
        RELEASE_FAILED = "release_failed", "The newest revision of the Helm release has failed, or is not deployed."

    settings: Settings

    async def run(self, ctx: ProbeContext) -> Outcome:
        settings, cluster = self.settings, self.cluster()
        namespace = settings.chosen_namespace()
        matching = self._own(ctx, list(await self.pods(ctx, settings.selector)))
        pods = [pod for pod in matching if not pod.leaving]
        warnings = (await self.warnings(ctx)).since(ctx.now() - settings.window) if settings.events else []
        restarts = self._restarts(ctx, pods)
        findings = [*self._judge(ctx.now(), matching, warnings, restarts)]
        if settings.deployment:
            findings += await self._rollout(ctx, cluster, namespace)
        if settings.helm_release:
            findings += await self._release(ctx, cluster, namespace)
        self._measure(ctx, pods, warnings, restarts)
        if findings and warnings:
            lines = (f"{w.about}/{w.name} {w.reason} x{w.count}: {w.message}" for w in warnings[:100])
            ctx.attach("warning-events.txt", "\n".join(lines))
        ready = sum(pod.ready for pod in pods)
        worst = sorted(findings, key=lambda finding: finding.rank, reverse=True)[:MAX_TOLD]
        return Outcome.of(worst, f"{ready} of {len(pods)} pods are ready")

    def _judge(self, now: float, matching: list[Pod], warnings: list[Warned], restarts: Restarts) -> Iterator[Finding]:
        reason, settings = self.Reason, self.settings
        pods = [pod for pod in matching if not pod.leaving]
        # A pod that is replaced under its own name is created when the one before has ended.
        replaced = any(pod.gone_by is not None and now < pod.gone_by + settings.starting for pod in matching)
        if not pods and not replaced:
            refused = next((f": {w.message}" for w in warnings if w.reason == "FailedCreate"), "")
            ending = f", {len(matching)} that should have ended" if matching else ""
            having = f" has {' or '.join(settings.containers)}" if settings.containers else ""
            yield Finding.of(reason.NO_PODS, f"none with {settings.selector}{having}{ending}{refused}")
        evictions = {w.name: w.message for w in warnings if w.about == "Pod" and w.reason == "Evicted"}
        unreplaced = all(pod.phase in _ENDED for pod in pods)
        living = []
        for pod in pods:
            recent = now - max(pod.changed_at, pod.created_at) < settings.window
            if pod.phase == "Failed" and pod.reason == "Evicted" and (recent or unreplaced):
                yield Finding.of(reason.EVICTED, f"{pod.name}: {pod.message}", pod.name)
            elif pod.name in evictions:
                # Also of a pod that is well: a StatefulSet replaces what was evicted under the same name.
                yield Finding.of(reason.EVICTED, f"{pod.name}: {evictions[pod.name]}", pod.name)
            if pod.phase in _ENDED:
                continue
            living.append(pod)
            if pod.unschedulable:
                yield Finding.of(reason.PENDING, f"{pod.name}: {pod.unschedulable}", pod.name)
                continue
            if pod.phase == "Pending" and not pod.scheduled:
                if now - pod.created_at > settings.starting:
                    yield Finding.of(reason.PENDING, f"{pod.name}: the scheduler says nothing about it", pod.name)
                continue
            for container in self._chosen(pod):
                finding = self._judge_container(pod, container, now, restarts[pod.uid, container.name])
                if finding is not None:
                    yield finding
        for name, absent in lacking(matching, settings.containers).items():
            yield Finding.of(reason.CONTAINER_MISSING, f"{name} has no container {' or '.join(absent)}", name)
        ready = sum(pod.ready for pod in living)
        if pods and ready < settings.min_ready and any(now - pod.created_at > settings.starting for pod in pods):
            yield Finding.of(reason.NOT_READY, f"{ready} pods are ready, {settings.min_ready} must be")
        names = {pod.name for pod in pods}
        for warned in warnings:
            if warned.reason in settings.warnings and (warned.about != "Pod" or warned.name in names):
                detail = f"{warned.about.lower()} {warned.name}, {warned.count} times: {warned.message}"
                yield Finding.of(reason.WARNING_EVENT, detail, warned.reason)

    def _judge_container(self, pod: Pod, container: Container, now: float, restarts: int) -> Finding | None:
        """The most telling thing that is wrong with one container."""
        reason, settings = self.Reason, self.settings
        where = f"{container.name} of {pod.name}"
        for ended in filter(None, (container.ended, container.last_ended)):
            if ended.reason == "OOMKilled" and now - ended.at < settings.window:
                limit = f"its memory limit is {container.memory_limit}" if container.memory_limit else "it has no limit"
                again = f", {container.restarts} restarts in all" if container.restarts else ""
                ago = format_duration(max(0, round(now - ended.at)))
                return Finding.of(reason.OOM_KILLED, f"{where}, {ago} ago; {limit}{again}", container.name)
        if container.waiting == "CrashLoopBackOff":
            last = container.last_ended
            code = f", last exit code {last.exit_code}" if last else ""
            return Finding.of(reason.CRASH_LOOP, f"{where}: {container.restarts} restarts{code}", container.name)
        if container.waiting in _PULL:
            return Finding.of(reason.IMAGE_PULL, f"{where}: {container.waiting}: {container.message}", container.name)
        if container.waiting in _START:
            return Finding.of(reason.CANNOT_START, f"{where}: {container.waiting}: {container.message}", container.name)
        young = now - max(pod.created_at, container.running_since or 0.0) <= settings.starting
        if not container.ready and not container.init and not young:
            return Finding.of(reason.NOT_READY, f"{where}: {_state(container)}", container.name)
        if restarts >= settings.restarts:
            last = container.last_ended
            code = f" ({last.reason or 'ended'}, exit code {last.exit_code})" if last else ""
            return Finding.of(reason.RESTARTED, f"{where}: {restarts} in the window{code}", container.name)
        return None

    def _own(self, ctx: ProbeContext, matching: list[Pod]) -> list[Pod]:
        """Without the pods that share the labels and have none of the containers: they are somebody else's.

        Where no pod has any, these are the ones whose containers stood beside the workload earlier, by
        ``memory["others"]``; all others may be the workload, with its containers renamed.
        """
        wanted = set(self.settings.containers)
        names = {pod.uid: {container.name for container in pod.containers} for pod in matching}
        own = [pod for pod in matching if not wanted or names[pod.uid] & wanted]
        others = set(ctx.memory.get("others", ()))
        if not own:
            return [pod for pod in matching if not names[pod.uid] <= others]
        others.update(*(found for found in names.values() if wanted and not found & wanted))
        ctx.memory["others"] = sorted(others)[:MAX_OTHERS]
        return own

    def _restarts(self, ctx: ProbeContext, pods: Iterable[Pod]) -> Restarts:
        """Restarts in the window, by pod and container: from what was seen of their counters.

        ``memory["counters"]``: by pod's uid and container the changes of its counter as ``[time, count]``. On first
        sight a last end that lies in the window stands for one.
        """
        now, window = ctx.now(), self.settings.window
        before: dict[str, Any] = ctx.memory.get("counters", {})
        after: dict[str, Any] = {}
        found: Restarts = {}
        for pod in pods:
            for container in pod.containers:
                key = f"{pod.uid}/{container.name}"
                last = container.last_ended
                recent = last is not None and container.restarts and now - last.at < window
                base = container.restarts - 1 if recent else container.restarts
                # A pod that is younger than the window brings its counter's whole growth with it.
                changes = before.get(key) or [[now, 0 if now - pod.created_at < window else base]]
                if changes[-1][1] != container.restarts:
                    changes = [*changes, [now, container.restarts]]
                # What the counter was when the window began.
                start = max((change for change in changes if change[0] <= now - window), default=changes[0])
                found[pod.uid, container.name] = container.restarts - start[1]
                kept = [start, *(change for change in changes if change[0] > now - window and change != start)][-50:]
                if len(kept) > 1 or container.restarts:
                    after[key] = kept
        ctx.memory["counters"] = dict(list(after.items())[:500])
        return found

    def _chosen(self, pod: Pod) -> Iterator[Container]:
        wanted = self.settings.containers
        return (each for each in pod.containers if not wanted or each.init or each.name in wanted)

    def _measure(self, ctx: ProbeContext, pods: list[Pod], warnings: list[Warned], counted: Restarts) -> None:
        for phase in ("Pending", "Running", "Succeeded", "Failed", "Unknown"):
            ctx.measure(_PODS, sum(pod.phase == phase for pod in pods), phase=phase)
        ctx.measure(_READY, sum(pod.ready for pod in pods))
        restarts: Counter[str] = Counter()
        limits: dict[str, float] = {}
        for pod in pods:
            for container in self._chosen(pod):
                restarts[container.name] += counted[pod.uid, container.name]
                limit = bytes_of(container.memory_limit)
                if limit is not None:
                    limits[container.name] = min(limit, limits.get(container.name, limit))
        for name, count in restarts.items():
            ctx.measure(_RESTARTS, count, container=name)
        for name, limit in limits.items():
            ctx.measure(_LIMIT, limit, container=name)
        for name, count in Counter(warned.reason for warned in warnings).most_common(MAX_TOLD):
            ctx.measure(_WARNINGS, count, reason=name)

    async def _rollout(self, ctx: ProbeContext, cluster: Cluster, namespace: str) -> list[Finding]:
        name = self.settings.deployment
        found = await cluster.get(ctx, f"/apis/apps/v1/namespaces/{quote(namespace)}/deployments/{quote(name)}")
        if found is None:
            return [Finding.of(self.Reason.DEPLOYMENT_MISSING, f"there is no Deployment {name}", name)]
        for condition in (found.get("status") or {}).get("conditions") or ():
            if condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
                return [Finding.of(self.Reason.ROLLOUT_STUCK, f"{name}: {condition.get('message', '')}", name)]
        return []

    async def _release(self, ctx: ProbeContext, cluster: Cluster, namespace: str) -> list[Finding]:
        """By the labels that Helm 3 puts on its Secrets: ``owner``, ``name``, ``status``, ``version``,
        ``modifiedAt``."""
        name = self.settings.helm_release
        query = {"labelSelector": f"owner=helm,name={name}", "limit": "500"}
        found = await cluster.get(ctx, f"/api/v1/namespaces/{quote(namespace)}/secrets", query, _HELM_METADATA)
        labels = [item["metadata"].get("labels") or {} for item in (found or {}).get("items") or ()]
        if not labels:
            return [Finding.of(self.Reason.RELEASE_FAILED, f"there is no Helm release {name}", name)]
        newest = max(labels, key=lambda each: int(each.get("version", "0")))
        status, since = newest.get("status", ""), float(newest.get("modifiedAt") or newest.get("createdAt") or 0)
        said = f"revision {newest.get('version')} of {name} is {status}"
        if status.startswith("pending-"):
            under_way = max(0, round(ctx.now() - since))
            if under_way <= self.settings.release_patience:
                return []
            return [Finding.of(self.Reason.RELEASE_PENDING, f"{said} for {format_duration(under_way)}", name)]
        return [] if status == "deployed" else [Finding.of(self.Reason.RELEASE_FAILED, said, name)]


def _state(container: Container) -> str:
    if container.ended is not None:
        return f"ended ({container.ended.reason or 'no reason given'}, exit code {container.ended.exit_code})"
    return container.waiting or ("running" if container.running_since is not None else "nothing is reported of it")


_ENDED = ("Failed", "Succeeded")
_PULL = ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_START = (
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "PreCreateHookError",
    "PostStartHookError",
)
"""Reasons of a waiting container, as kubelet gives them: pkg/kubelet/container/sync_result.go and images/types.go."""

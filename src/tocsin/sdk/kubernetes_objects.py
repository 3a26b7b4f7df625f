"""The facts about pods and events that kinds judge, out of the API's JSON, and little more, so that thousands fit.

Fields: Kubernetes API reference v1.34, Pod v1 core, ContainerStatus v1 core, Event v1 core.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

MAX_WARNINGS: Final = 2000
"""Different pairs of object and reason whose warnings are remembered; the oldest go first."""
MAX_MESSAGE: Final = 300


@dataclass(frozen=True, slots=True)
class Ended:
    """Why a container ended. ``at`` in Unix seconds, 0 when the API does not say."""

    reason: str
    exit_code: int
    at: float


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a pod, init containers included. ``waiting``: why it does not run, empty when it does."""

    name: str
    init: bool
    ready: bool
    restarts: int
    waiting: str
    message: str
    running_since: float | None
    ended: Ended | None
    last_ended: Ended | None
    memory_limit: str


@dataclass(frozen=True, slots=True)
class Pod:
    """``changed_at``: when the latest of its conditions changed. ``scheduled``: a node has it; ``unschedulable``: the
    scheduler's words while none takes it. ``gone_by``: it is being deleted and should have ended then. Times are in
    Unix seconds."""

    name: str
    uid: str
    phase: str
    reason: str
    message: str
    created_at: float
    ready: bool
    changed_at: float
    scheduled: bool
    unschedulable: str
    gone_by: float | None
    containers: tuple[Container, ...]

    @property
    def leaving(self) -> bool:
        return self.gone_by is not None


@dataclass(frozen=True, slots=True)
class Warned:
    """The warnings of one reason about one object. ``latest`` in Unix seconds."""

    about: str
    name: str
    reason: str
    count: int
    latest: float
    message: str


class Store(Protocol):
    """What a watch feeds: raw objects as they are put and deleted."""

    def put(self, item: Mapping[str, Any]) -> None: ...
    def delete(self, item: Mapping[str, Any]) -> None: ...
    def __len__(self) -> int: ...


class Pods:
    """Pods by uid."""

    def __init__(self) -> None:
        self._by_uid: dict[str, Pod] = {}

    def put(self, item: Mapping[str, Any]) -> None:
        pod = pod_of(item)
        self._by_uid[pod.uid] = pod

    def delete(self, item: Mapping[str, Any]) -> None:
        self._by_uid.pop(item["metadata"]["uid"], None)

    def __iter__(self) -> Iterator[Pod]:
        return iter(self._by_uid.values())

    def __len__(self) -> int:
        return len(self._by_uid)


class Warnings:
    """Warning events, by object and reason. Events expire on the server; here they are displaced by newer ones."""

    def __init__(self) -> None:
        self._by_key: OrderedDict[tuple[str, str, str], Warned] = OrderedDict()
        self._counted: OrderedDict[str, int] = OrderedDict()

    def put(self, item: Mapping[str, Any]) -> None:
        about = item.get("involvedObject") or {}
        series = item.get("series") or {}
        latest = unix(
            series.get("lastObservedTime")
            or item.get("lastTimestamp")
            or item.get("eventTime")
            or item["metadata"].get("creationTimestamp")
        )
        # An event is written again with a higher count each time it happens: only the growth is new.
        uid, total = item["metadata"].get("uid", ""), int(series.get("count") or item.get("count") or 1)
        growth = max(0, total - self._counted.pop(uid, 0))
        self._counted[uid] = total
        key = (str(about.get("kind", "")), str(about.get("name", "")), str(item.get("reason", "")))
        known = self._by_key.pop(key, None)
        count = growth + (known.count if known else 0)
        newest = known is None or latest >= known.latest
        message = str(item.get("message") or "")[:MAX_MESSAGE] if newest else known.message if known else ""
        self._by_key[key] = Warned(*key, count, max(latest, known.latest if known else 0.0), message)
        while len(self._by_key) > MAX_WARNINGS:
            self._by_key.popitem(last=False)
        while len(self._counted) > MAX_WARNINGS:
            self._counted.popitem(last=False)

    def delete(self, item: Mapping[str, Any]) -> None:
        """What happened has happened."""

    def since(self, earliest: float) -> list[Warned]:
        """Those whose latest is at or after ``earliest`` (Unix seconds), newest first."""
        return sorted(
            (warned for warned in self._by_key.values() if warned.latest >= earliest), key=lambda warned: -warned.latest
        )

    def __len__(self) -> int:
        return len(self._by_key)


def lacking(pods: Iterable[Pod], wanted: Collection[str]) -> dict[str, list[str]]:
    """By pod's name which of the ``wanted`` containers it does not have.

    Labels that a chart shares with what it brings along match pods that have none of them: those are somebody else's,
    unless no pod has any.
    """
    found = {pod.name: sorted(set(wanted).difference(each.name for each in pod.containers)) for pod in pods}
    nobody = all(len(names) == len(set(wanted)) for names in found.values())
    return {pod: names for pod, names in found.items() if names and (nobody or len(names) < len(set(wanted)))}


def pod_of(item: Mapping[str, Any]) -> Pod:
    """The facts about one pod. Raises `KeyError` when it is no pod."""
    metadata, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
    conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
    ready, scheduled = conditions.get("Ready", {}), conditions.get("PodScheduled", {})
    return Pod(
        name=metadata["name"],
        uid=metadata["uid"],
        phase=status.get("phase", ""),
        reason=status.get("reason", ""),
        message=str(status.get("message", ""))[:MAX_MESSAGE],
        created_at=unix(metadata.get("creationTimestamp")),
        ready=ready.get("status") == "True",
        changed_at=max((unix(each.get("lastTransitionTime")) for each in conditions.values()), default=0.0),
        scheduled=bool(spec.get("nodeName")) or scheduled.get("status") == "True",
        unschedulable=str(scheduled.get("message") or scheduled.get("reason") or "not scheduled")[:MAX_MESSAGE]
        if scheduled.get("status") == "False"
        else "",
        # The time of the request and the grace period together.
        gone_by=unix(metadata["deletionTimestamp"]) if "deletionTimestamp" in metadata else None,
        containers=tuple(_containers(spec, status)),
    )


def _containers(spec: Mapping[str, Any], status: Mapping[str, Any]) -> Iterator[Container]:
    for init, declared, reported in (
        (True, "initContainers", "initContainerStatuses"),
        (False, "containers", "containerStatuses"),
    ):
        states = {entry["name"]: entry for entry in status.get(reported) or ()}
        for container in spec.get(declared) or ():
            entry = states.get(container["name"], {})
            state, last = entry.get("state") or {}, entry.get("lastState") or {}
            waiting = state.get("waiting") or {}
            running = state.get("running")
            yield Container(
                name=container["name"],
                init=init,
                ready=bool(entry.get("ready")),
                restarts=int(entry.get("restartCount") or 0),
                waiting=waiting.get("reason", ""),
                message=str(waiting.get("message", ""))[:MAX_MESSAGE],
                running_since=unix(running.get("startedAt")) if running is not None else None,
                ended=_ended(state),
                last_ended=_ended(last),
                memory_limit=str(((container.get("resources") or {}).get("limits") or {}).get("memory", "")),
            )


def _ended(state: Mapping[str, Any]) -> Ended | None:
    ended = state.get("terminated")
    if ended is None:
        return None
    return Ended(ended.get("reason", ""), int(ended.get("exitCode") or 0), unix(ended.get("finishedAt")))


def unix(stamp: object) -> float:
    """Unix seconds of a time as the API writes it (RFC 3339, up to microseconds); 0.0 for nothing."""
    return datetime.fromisoformat(str(stamp)).timestamp() if stamp else 0.0


_SUFFIXES: Final = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15} | {
    f"{letter}i": 2.0 ** (10 * power) for power, letter in enumerate("KMGTP", 1)
}


def bytes_of(quantity: str) -> float | None:
    """A memory quantity (``512Mi``, ``1G``, ``1e9``) in bytes; None for nothing. Kubernetes documentation, "Resource
    units in Kubernetes"."""
    number = quantity.rstrip("kKMGTPim")
    try:
        return float(number) * _SUFFIXES[quantity[len(number) :]]
    except (ValueError, KeyError):
        return None

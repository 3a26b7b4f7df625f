"""`kubernetes_logs`: known strings in the logs of a workload's containers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import quote

from pydantic import Field

from tocsin.sdk import (
    ByteCount,
    CommonReason,
    Finding,
    Outcome,
    ProbeContext,
    ProbeSettings,
    ReasonEnum,
    ReasonInfo,
    Seconds,
    Severity,
    Status,
    Words,
)
from tocsin.sdk.kubernetes import KubernetesProbe, KubernetesSettings, NoSuchObject, Permission, StatusFault
from tocsin.sdk.kubernetes_objects import Container, Pod, lacking
from tocsin.sdk.patterns import Patterns, Sightings, reasons_of
from tocsin.sdk.quantities import format_duration

MAX_CONTAINERS = 50
"""Containers whose logs are read in one run."""
MAX_MATCHED = 50
"""Times of lines that matched, remembered of one container, so that none counts twice."""
_SECOND = 10**9


class KubernetesLogs(KubernetesProbe):
    """None of the configured strings is in the logs. Each is a reason of its own, held for `window`.

    Reads on from where the last run ended, also after a restart of the daemon and of the container: of one that was
    restarted, the end of the log before is read too. What the node has rotated away cannot be read.
    """

    kind = "kubernetes_logs"

    class Settings(KubernetesSettings):
        selector: str
        """Labels of the pods."""
        containers: Words = ()
        """Which of their containers; unset: all."""
        patterns: Annotated[Patterns, Field(min_length=1)]
        window: Seconds = 600.0
        """How long a line counts after it was read; on its first run the probe reads as far back."""
        catch_up: Seconds = 3600.0
        """How far back it reads after a pause. What lies further back is left out, and said to be."""
        max_bytes: ByteCount = 1 << 20
        """Read at most of one container in one run; the next run goes on."""

        def permissions(self) -> tuple[Permission, ...]:
            return (Permission("list", "pods"), Permission("watch", "pods"), Permission("get", "pods/log"))

    class Reason(ReasonEnum):
        BEHIND = (
            "behind",
            "The logs grow faster than they are read, or a part of them was left out: what it held is not known.",
            Severity.TICKET,
            Status.UNKNOWN,
        )
        CONTAINER_MISSING = (
            "container_missing",
            "A pod has no container of a name that is configured, so that its log cannot be read.",
            Severity.TICKET,
            Status.UNKNOWN,
        )

    settings: Settings

    @classmethod
    def reasons(cls, settings: ProbeSettings | None = None) -> tuple[ReasonInfo, ...]:
        """Those of the kind, and one for each of `patterns`."""
        return reasons_of(settings.patterns if isinstance(settings, cls.Settings) else {}, cls.Reason)

    async def run(self, ctx: ProbeContext) -> Outcome:
        settings = self.settings
        namespace = settings.chosen_namespace()
        pods = await self.pods(ctx, settings.selector)
        sightings = Sightings(settings.patterns, ctx.memory)
        chosen = list(self._chosen(pods))
        before: dict[str, list[int]] = ctx.memory.get("places", {})
        places: dict[str, list[int]] = {}
        findings = [
            Finding.of(self.Reason.CONTAINER_MISSING, f"{name} has no container {' or '.join(names)}", name)
            for name, names in lacking(pods, settings.containers).items()
        ]
        read = 0
        for pod, container in chosen[:MAX_CONTAINERS]:
            key = f"{pod.uid}/{container.name}"
            tail = _Tail.resumed(before.get(key), ctx.now(), settings, container)
            try:
                read += await self._read(ctx, namespace, pod, tail, sightings)
            except StatusFault as fault:
                findings.append(fault.finding)
                places[key] = before.get(key, tail.place(ctx.now()))
                continue
            if tail.behind:
                findings.append(Finding.of(self.Reason.BEHIND, f"{pod.name}/{container.name}: {tail.behind}", key))
            places[key] = tail.place(ctx.now())
            # Remembered at once: a run that is cut off goes on from here.
            ctx.memory["places"] = {**before, **places}
        ctx.memory["places"] = places
        names = {f"{pod.name}/{container.name}" for pod, container in chosen}
        ctx.memory["matched"] = {
            where: times for where, times in ctx.memory.get("matched", {}).items() if where in names
        }
        if len(chosen) > MAX_CONTAINERS:
            findings.append(Finding.of(self.Reason.BEHIND, f"{len(chosen)} containers, {MAX_CONTAINERS} are read"))
        findings += sightings.findings(self.all_reasons(settings), ctx.now(), settings.window)
        sightings.attach_to(ctx)
        if not chosen:
            findings.append(
                Finding.of(CommonReason.DEPENDENCY_UNKNOWN, f"no container with {settings.selector} has a log")
            )
        return Outcome.of(findings, f"{read} new lines in {len(chosen)} containers, none of them known as a fault")

    def _chosen(self, pods: Iterable[Pod]) -> Iterator[tuple[Pod, Container]]:
        """Containers that have a log, those of the newest pods first."""
        wanted = self.settings.containers
        for pod in sorted(pods, key=lambda pod: -pod.created_at):
            for container in pod.containers:
                started = container.running_since is not None or container.ended or container.last_ended
                if started and (container.name in wanted if wanted else not container.init):
                    yield pod, container

    async def _read(self, ctx: ProbeContext, namespace: str, pod: Pod, tail: _Tail, sightings: Sightings) -> int:
        """Reads what is new, and gives the number of lines."""
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(pod.name, safe='')}/log"
        where, limit, lines = f"{pod.name}/{tail.container.name}", self.settings.max_bytes, 0
        matched: dict[str, list[int]] = ctx.memory.setdefault("matched", {})
        for ended in (True, False) if tail.restarted else (False,):
            query = tail.query(limit, ended) | {"container": tail.container.name}
            try:
                body = await self.cluster().read(ctx, path, query, max_bytes=2 * limit)
            except NoSuchObject:
                break
            except StatusFault as fault:
                if fault.status == 400:
                    # The container has no log (any more): it waits, or what came before was removed.
                    tail.behind = "the log of the container that ended is gone" if ended else tail.behind
                    continue
                raise
            for written, line in tail.ended_lines(body, limit) if ended else tail.new_lines(body, limit):
                lines += 1
                if ended and written in matched.get(where, ()):
                    continue
                if sightings.look(line, written / _SECOND, ctx.now(), where):
                    matched[where] = [*matched.get(where, ()), written][-MAX_MATCHED:]
        return lines


class _Tail:
    """How far one container's log has been read.

    ``last``: the time of the newest line that was read, in nanoseconds; ``same``: how many lines of exactly that time
    were. The API takes whole seconds, so that each answer begins with lines that are known. ``prior``: what ``last``
    was one run before. A new log may be read before the API says that the container was restarted; of the log that
    ended, what came after ``prior`` may be new then.
    """

    def __init__(self, container: Container, last: int, same: int, prior: int, restarted: bool) -> None:
        self.container = container
        self.last = last
        self.same = same
        self.prior = prior
        self.restarted = restarted
        self.behind = ""
        self._began = last

    @classmethod
    def resumed(
        cls, place: list[int] | None, now: float, settings: KubernetesLogs.Settings, container: Container
    ) -> _Tail:
        ended = container.last_ended
        if place is None:
            start = int(now - settings.window)
            recent = ended is not None and ended.at > start and container.running_since is not None
            return cls(container, start * _SECOND, 0, start * _SECOND, recent)
        last, same, restarts, read_at, prior = place
        again = container.restarts - restarts
        tail = cls(container, last, same, prior, again > 0 and ended is not None)
        if again > 1:
            # Of the logs that ended only the last is kept.
            tail.behind = f"{again} restarts since the last run, of which only the last log is kept"
        earliest = int(now - settings.catch_up)
        if read_at < earliest:
            tail.behind = f"nothing was read for {format_duration(round(now - read_at))}"
            tail.last, tail.same = max((last, same), (earliest * _SECOND, 0))
        return tail

    def place(self, now: float) -> list[int]:
        """As it is remembered, after a read at ``now`` (Unix seconds)."""
        return [self.last, self.same, self.container.restarts, int(now), self._began]

    def query(self, limit: int, ended: bool) -> dict[str, str]:
        """Kubernetes API reference v1.34, "Read log of the specified Pod"."""
        since = datetime.fromtimestamp((self.prior if ended else self.last) // _SECOND, UTC)
        asked = {"sinceTime": since.strftime("%Y-%m-%dT%H:%M:%SZ"), "timestamps": "true", "limitBytes": str(limit)}
        return asked | ({"previous": "true"} if ended else {})

    def ended_lines(self, body: bytes, limit: int) -> Iterator[tuple[int, str]]:
        """The lines of the log that ended with its container, each with its time in nanoseconds."""
        if len(body) >= limit:
            self.behind = f"more than {limit} bytes before the restart, of which the last are not read"
        for row in body.split(b"\n"):
            written, line = _line(row)
            if written is not None and written >= self.prior:
                yield written, line

    def new_lines(self, body: bytes, limit: int) -> Iterator[tuple[int, str]]:
        """The lines that were not read before, each with its time in nanoseconds."""
        began = self.last
        rows = body.split(b"\n")
        cut = len(body) >= limit
        if cut:
            rows.pop()
        known, repeated = self.same, 0
        for row in rows:
            written, line = _line(row)
            if written is None or written < self.last:
                continue
            if written == began and repeated < known:
                repeated += 1
                continue
            self.same = self.same + 1 if written == self.last else 1
            self.last = written
            yield written, line
        if cut:
            self.behind = f"more than {limit} bytes since the last run"
            if self.last // _SECOND == began // _SECOND:
                # All of it is of one second: asking again would give the same bytes.
                self.last, self.same = (began // _SECOND + 1) * _SECOND, 0


def _line(row: bytes) -> tuple[int | None, str]:
    stamp, _, line = row.partition(b" ")
    return _nanoseconds(stamp), line.decode("utf-8", "replace")


def _nanoseconds(stamp: bytes) -> int | None:
    """Unix time of an RFC 3339 time with up to nine decimals; None for anything else."""
    try:
        text = stamp.decode("ascii")
        head, _, rest = text.partition(".")
        decimals = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        zone = rest[len(decimals) :] if rest else ""
        whole = datetime.fromisoformat(head + zone)
    except (UnicodeDecodeError, ValueError):
        return None
    if whole.tzinfo is None:
        return None
    return int(whole.timestamp()) * _SECOND + int(decimals.ljust(9, "0") or "0")

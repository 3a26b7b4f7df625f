"""Kubernetes as probes need it: one client a cluster and identity, shared by all probes, with watches that it keeps.

The API server is a means, never the target: whatever is wrong with it leaves a probe ``unknown``. A refusal (401, 403)
is ``credentials_rejected`` and names the verb and the resource that are missing; anything else is
``dependency_unknown``. Objects are raw JSON: the models of a general client take a hundred times their time and room.
"""

from __future__ import annotations

import asyncio
import json
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote
from weakref import WeakKeyDictionary

import aiohttp

from tocsin.model import CommonReason
from tocsin.sdk.faults import ProbeFault, explain, quoted
from tocsin.sdk.kubernetes_access import Access, default_namespace, read_access, server_of
from tocsin.sdk.kubernetes_objects import Pods, Warnings
from tocsin.sdk.kubernetes_watch import SHARE, Watch
from tocsin.sdk.probe import Probe, ProbeSettings

if TYPE_CHECKING:
    from tocsin.sdk.context import ProbeContext

ACCESS_BELIEVED: Final = 60.0
"""Seconds until credentials are read again; kubelet renews a projected token when a fifth of its life is left."""
MAX_ANSWER_BYTES: Final = 16 << 20
REQUEST_SECONDS: Final = 30.0
"""How long one request may take when no run waits for it."""


@dataclass(frozen=True, slots=True, order=True)
class Permission:
    """What a probe must be allowed to do in its namespace: one entry of a Role. ``names`` empty: any object."""

    verb: str
    resource: str
    group: str = ""
    names: tuple[str, ...] = ()


class KubernetesSettings(ProbeSettings):
    """Where the API server is and which namespace is meant. Without `kubeconfig`: those of the pod we run in."""

    kubeconfig: str = ""
    """A kubeconfig file; unset: the service account that is mounted into our pod."""
    context: str = ""
    """A context of the kubeconfig; unset: its current one."""
    namespace: str = ""
    """Unset: that of the kubeconfig's context, or of our pod."""

    def targets(self) -> tuple[str, ...]:
        server = server_of(self.kubeconfig, self.context)
        return (server,) if server else ()

    def chosen_namespace(self) -> str:
        """The configured namespace or the one that stands in for it."""
        return self.namespace or default_namespace(self.kubeconfig, self.context)

    @abstractmethod
    def permissions(self) -> tuple[Permission, ...]:
        """Exactly what this probe needs, with these settings."""


class KubernetesProbe(Probe):
    """Base of the kinds that ask a Kubernetes API server."""

    settings: Any
    _cluster: Cluster | None = None

    def cluster(self) -> Cluster:
        """The shared client; it lives until the last probe that took it is closed."""
        if self._cluster is None:
            self._cluster = Cluster.shared(self.settings.kubeconfig, self.settings.context, self)
        return self._cluster

    async def first_secret(self, ctx: ProbeContext, names: Sequence[str]) -> tuple[str, Any | None]:
        """The first of these Secrets that exists in the namespace, with its name; ``("", None)`` when none does."""
        namespace = quote(self.settings.chosen_namespace(), safe="")
        for name in names:
            found = await self.cluster().get(ctx, f"/api/v1/namespaces/{namespace}/secrets/{quote(name, safe='')}")
            if found is not None:
                return name, found
        return "", None

    async def pods(self, ctx: ProbeContext, selector: str) -> Pods:
        """The pods that match, as of a moment ago. Raises `ProbeFault` when that cannot be had in the run's time."""
        store: Pods = await self._watched("pods", {"labelSelector": selector}, Pods).current(ctx)
        return store

    async def warnings(self, ctx: ProbeContext) -> Warnings:
        """The namespace's warning events, as of a moment ago. Raises `ProbeFault` like `pods`."""
        store: Warnings = await self._watched("events", {"fieldSelector": "type=Warning"}, Warnings).current(ctx)
        return store

    def _watched(self, resource: str, query: Mapping[str, str], store: Any) -> Watch[Any]:
        path = f"/api/v1/namespaces/{quote(self.settings.chosen_namespace(), safe='')}/{resource}"
        return self.cluster().watch(path, query, store, self)

    async def close(self) -> None:
        if self._cluster is not None:
            cluster, self._cluster = self._cluster, None
            await cluster.release(self)


_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, str], Cluster]] = WeakKeyDictionary()


class Cluster:
    """One API server as one identity sees it."""

    def __init__(self, kubeconfig: str = "", context: str = "") -> None:
        self._key = (kubeconfig, context)
        self._server = server_of(kubeconfig, context) or "kubernetes"
        self._users: set[object] = set()
        self._session: aiohttp.ClientSession | None = None
        self._access: Access | None = None
        self._access_until = 0.0
        self._watches: dict[tuple[str, ...], Watch[Any]] = {}
        self._watchers: dict[tuple[str, ...], set[object]] = {}

    @classmethod
    def shared(cls, kubeconfig: str, context: str, user: object) -> Cluster:
        """The one of this event loop, until each user is released."""
        clusters = _shared.setdefault(asyncio.get_running_loop(), {})
        cluster = clusters.setdefault((kubeconfig, context), cls(kubeconfig, context))
        cluster._users.add(user)
        return cluster

    async def release(self, user: object) -> None:
        """Ends the watches that nobody else has taken; with the last user the connections too."""
        self._users.discard(user)
        last = not self._users
        clusters = _shared.get(asyncio.get_running_loop(), {})
        if last and clusters.get(self._key) is self:
            del clusters[self._key]
        for key, watchers in list(self._watchers.items()):
            watchers.discard(user)
            if not watchers:
                del self._watchers[key]
                await self._watches.pop(key).close()
        if not last:
            return
        if self._session is not None:
            await self._session.close()
            self._session = None
            for _ in range(3):
                # What was aborted is closed by the loop in its next rounds.
                await asyncio.sleep(0)

    def watch(self, path: str, query: Mapping[str, str], store: Any, user: object) -> Watch[Any]:
        """The watch of a resource; it goes on until each that took it is released."""
        key = (path, *query.values())
        if key not in self._watches:
            self._watches[key] = Watch(self, path, {name: text for name, text in query.items() if text}, store)
        self._watchers.setdefault(key, set()).add(user)
        return self._watches[key]

    async def get(
        self, ctx: ProbeContext, path: str, query: Mapping[str, str] | None = None, accept: str = "application/json"
    ) -> Any | None:
        """One JSON document; None when there is no such object. Raises `ProbeFault`."""
        try:
            body = await self.read(ctx, path, query, accept=accept)
        except NoSuchObject:
            return None
        return _json(body, path)

    async def read(
        self,
        ctx: ProbeContext,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        accept: str = "*/*",
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> bytes:
        """The body of one answer. Raises `NoSuchObject`, or another `ProbeFault`."""
        headers = {"Accept": accept, "traceparent": ctx.traceparent, "X-Request-ID": ctx.request_id}
        async with (
            ctx.permits.request(self._server),
            # Less than the run has: it ends with what is wrong with the API server, not with a deadline of its own.
            self.answer(path, query or {}, headers, ctx.remaining() * SHARE) as answer,
        ):
            return await bounded(answer, max_bytes, path)

    @asynccontextmanager
    async def answer(
        self, path: str, query: Mapping[str, str], headers: Mapping[str, str], seconds: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A successful answer, not yet read. ``seconds`` bounds the whole exchange.

        Raises `ProbeFault` for everything else, also for what happens while the block reads the answer.
        """
        until = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout_at(until):
                access = await self._current_access()
            seconds = until - asyncio.get_running_loop().time()
            headers = dict(headers) | ({"Authorization": access.authorization} if access.authorization else {})
            timeout = aiohttp.ClientTimeout(total=max(0.1, seconds), sock_connect=10)
            async with self._opened().get(
                f"{access.server}{path}",
                params=dict(query),
                headers=headers,
                timeout=timeout,
                ssl=access.tls if access.tls is not None else True,
                server_hostname=access.server_hostname,
                allow_redirects=False,
            ) as answer:
                # 204: the log of a pod that is on no node yet.
                if answer.status not in (200, 204):
                    raise await self._refusal(answer, path, query)
                try:
                    yield answer
                except BaseException:
                    _abort(answer.connection)
                    raise
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            finding = explain(error)
            raise unreachable(f"{finding.reason}: {finding.detail}") from error

    async def _current_access(self) -> Access:
        now = asyncio.get_running_loop().time()
        if self._access is None or now >= self._access_until:
            self._access = await read_access(*self._key)
            self._access_until = now + ACCESS_BELIEVED
        return self._access

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=32, keepalive_timeout=60)
            self._session = aiohttp.ClientSession(connector=connector, response_class=_Answer)
        return self._session

    async def _refusal(self, answer: aiohttp.ClientResponse, path: str, query: Mapping[str, str]) -> ProbeFault:
        try:
            said = json.loads(await bounded(answer, 64 << 10, path)).get("message", "")
        except (ValueError, AttributeError, ProbeFault):
            said = ""
        wanted = verb_and_resource(path, query)
        match answer.status:
            case 401:
                # A token that was renewed since is read for the next request.
                self._access = None
                detail = f"the API server does not accept our credentials (401): cannot {wanted}"
                return ProbeFault(CommonReason.CREDENTIALS_REJECTED, detail)
            case 403:
                detail = f"we may not {wanted}: allow it with a Role (`tocsin rbac`); {said}"
                return ProbeFault(CommonReason.CREDENTIALS_REJECTED, detail)
            case 404:
                return NoSuchObject(said or path)
            case status:
                return StatusFault(status, f"HTTP {status} to {wanted}: {quoted(said, 200)}")


class _Answer(aiohttp.ClientResponse):
    """An answer that nobody waits for any more takes its connection with it."""

    async def start(self, connection: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        try:
            return await super().start(connection)
        except BaseException:
            _abort(connection)
            raise


def _abort(connection: aiohttp.connector.Connection | None) -> None:
    """Closes at once: a TLS farewell would outlive the watch, and a server that stands still never says its part."""
    if connection is not None and connection.transport is not None:
        connection.transport.abort()


class NoSuchObject(ProbeFault):
    """404: what was asked for does not exist."""

    def __init__(self, said: str) -> None:
        super().__init__(CommonReason.DEPENDENCY_UNKNOWN, f"the Kubernetes API: {said}")


class StatusFault(ProbeFault):
    """Any other status; ``status`` is the code."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(CommonReason.DEPENDENCY_UNKNOWN, f"the Kubernetes API: {said}")
        self.status = status


def unreachable(why: str) -> ProbeFault:
    """The API server gives no answer that could be judged."""
    return ProbeFault(CommonReason.DEPENDENCY_UNKNOWN, f"the Kubernetes API cannot be asked: {why}")


def verb_and_resource(path: str, query: Mapping[str, str]) -> str:
    """``list pods in namespace x``: what RBAC calls a GET request. Kubernetes documentation, "Authorization Overview",
    section "Determine the request verb"."""
    parts = path.strip("/").split("/")
    _, namespace, *rest = parts[parts.index("namespaces") :]
    resource, name, sub = (*rest, "", "", "")[:3]
    verb = "get" if name else "watch" if query.get("watch") else "list"
    return f"{verb} {resource}{f'/{sub}' if sub else ''}{f' {name}' if name else ''} in namespace {namespace}"


async def bounded(answer: aiohttp.ClientResponse, limit: int, path: str) -> bytes:
    """The body. Raises `ProbeFault` when it is larger than ``limit`` bytes."""
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise unreachable(f"{path} gave more than {limit} bytes")
    return bytes(body)


def _json(body: bytes, path: str) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise unreachable(f"{path} is not JSON: {error}") from error

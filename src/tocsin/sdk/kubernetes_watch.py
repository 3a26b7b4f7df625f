"""All objects of one resource in one namespace, kept current: a paged list now and then, a watch in between.

Kubernetes documentation, "Kubernetes API Concepts": "Efficient detection of changes", "410 Gone responses", "Watch
bookmarks", "Retrieving large results sets in chunks".
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from tocsin.model import CommonReason
from tocsin.sdk.faults import ProbeFault, explain
from tocsin.sdk.kubernetes_objects import Store

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    import aiohttp

    from tocsin.sdk.context import ProbeContext

RESYNC_SECONDS: Final = 600.0
"""How often everything is listed anew, in case a watch missed something."""
WATCH_SECONDS: Final = 20
"""How long one watch request lasts; the next one goes on from where it ended, and costs nothing.

It bounds how old an answer can be when the server stands still without closing the connection.
"""
SLACK_SECONDS: Final = 5.0
PAGE: Final = 250
"""Objects of one page of a list: what is decoded without giving way to other work."""
MIN_PAGE: Final = 8
"""To which pages that are too large are halved. So many objects as etcd takes at most (1.5 MiB by default) fit."""
MAX_PAGE_BYTES: Final = 32 << 20
MAX_OBJECTS: Final = 100_000
MAX_EVENT_BYTES: Final = 8 << 20
"""More than the largest object that etcd takes (1.5 MiB by default)."""
SHARE: Final = 0.8
"""Of a run's remaining time, how much is waited for the API server."""
RETRY_SECONDS: Final = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0)

S = TypeVar("S", bound=Store)


class Client(Protocol):
    def answer(
        self, path: str, query: Mapping[str, str], headers: Mapping[str, str], seconds: float
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]: ...


class Watch(Generic[S]):
    """Keeps a store current from the first time somebody asks for it until `close`.

    ``lists`` counts the lists that were begun, for tests and benchmarks.
    """

    def __init__(self, client: Client, path: str, query: Mapping[str, str], make: Callable[[], S]) -> None:
        self.lists = 0
        self._client = client
        self._path = path
        self._query = dict(query)
        self._make = make
        self._store: S | None = None
        self._version = ""
        self._page = PAGE
        self._listed_at = 0.0
        self._heard_at = 0.0
        self._fault: ProbeFault | None = None
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    async def current(self, ctx: ProbeContext) -> S:
        """The store, heard of within `WATCH_SECONDS` and a little. Raises `ProbeFault` when the run's time is not
        enough for that, with what went wrong last."""
        loop = asyncio.get_running_loop()
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._keep(), name=f"watch {self._path}")
        until = loop.time() + ctx.remaining() * SHARE
        while (store := self._fresh(loop.time())) is None:
            if self._fault is not None and self._fault.finding.reason != CommonReason.DEPENDENCY_UNKNOWN:
                # Credentials do not get better within a run.
                raise self._fault
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._changed.wait()
                continue
            raise self._fault or ProbeFault(
                CommonReason.DEPENDENCY_UNKNOWN, f"the Kubernetes API gave no {self._path.rpartition('/')[2]} in time"
            )
        return store

    async def close(self) -> None:
        """Ends the watch."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=1)
            self._task = None

    def _fresh(self, now: float) -> S | None:
        if self._fault is not None or now - self._heard_at > WATCH_SECONDS + SLACK_SECONDS:
            return None
        return self._store

    async def _keep(self) -> None:
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            try:
                if not self._version or loop.time() - self._listed_at > RESYNC_SECONDS:
                    await self._list()
                await self._follow()
                failures = 0
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the runs are to say it, and the watch goes on
                if _is_expired(error) and not failures:
                    self._version = ""
                    failures += 1
                    continue
                self._version = "" if _is_expired(error) else self._version
                finding = explain(error)
                self._fault = error if isinstance(error, ProbeFault) else _as_fault(finding.reason, finding.detail)
                self._changed.set()
                await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)] * random.uniform(0.8, 1.2))
                failures += 1

    async def _list(self) -> None:
        """Reads everything, a page at a time, and swaps it in when it is complete."""
        self.lists += 1
        store, query, count = self._make(), dict(self._query), 0
        while True:
            page = await self._get_page(query)
            items = page.get("items") or ()
            count += len(items)
            if count > MAX_OBJECTS:
                raise _as_fault("too_much", f"more than {MAX_OBJECTS} objects match {self._query}")
            for item in items:
                store.put(item)
            following = page["metadata"].get("continue")
            if not following:
                break
            query["continue"] = following
        self._store, self._version = store, page["metadata"]["resourceVersion"]
        self._listed_at = asyncio.get_running_loop().time()

    async def _get_page(self, query: Mapping[str, str]) -> Any:
        """One page; from the first that is too large on they are smaller. Raises `ProbeFault` (too_much)."""
        while True:
            asked = {**query, "limit": str(self._page)}
            try:
                async with self._client.answer(self._path, asked, _JSON, WATCH_SECONDS) as answer:
                    return json.loads(await _page_of(answer))
            except _TooLargeError:
                if self._page <= MIN_PAGE:
                    what = f"{self._page} objects take more than {MAX_PAGE_BYTES} bytes"
                    raise _as_fault("too_much", what) from None
                self._page = max(MIN_PAGE, self._page // 2)

    async def _follow(self) -> None:
        """One watch request, to its end. Raises a fault with the status 410 when a list is needed first."""
        query = {
            **self._query,
            "watch": "1",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        async with self._client.answer(self._path, query, _JSON, WATCH_SECONDS + SLACK_SECONDS) as answer:
            # Only now is a list worth anything: who may list but not watch is told at the first run.
            self._heard()
            async for line in _lines(answer):
                self._apply(json.loads(line))
                self._heard()
        self._heard()

    def _apply(self, event: Mapping[str, Any]) -> None:
        kind, item = event["type"], event["object"]
        if kind == "ERROR":
            raise _WatchError(int(item.get("code") or 0), str(item.get("message", "")))
        assert self._store is not None, "a watch begins after a list"
        if kind in ("ADDED", "MODIFIED"):
            self._store.put(item)
        elif kind == "DELETED":
            self._store.delete(item)
        self._version = item["metadata"]["resourceVersion"]

    def _heard(self) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        self._fault = None
        self._changed.set()


_JSON: Final = {"Accept": "application/json"}


class _WatchError(ProbeFault):
    """An ERROR event inside a watch; ``status`` as of an HTTP answer."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(CommonReason.DEPENDENCY_UNKNOWN, f"the Kubernetes API ended a watch: {status} {said}")
        self.status = status


def _is_expired(error: Exception) -> bool:
    return getattr(error, "status", 0) == 410


def _as_fault(reason: str, detail: str) -> ProbeFault:
    return ProbeFault(CommonReason.DEPENDENCY_UNKNOWN, f"the Kubernetes API cannot be watched: {reason}: {detail}")


class _TooLargeError(Exception):
    """A page has more than `MAX_PAGE_BYTES`."""


async def _page_of(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > MAX_PAGE_BYTES:
            raise _TooLargeError
    return bytes(body)


async def _lines(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The events of a watch, one JSON document a line. Raises `ProbeFault` for one that is larger than any object."""
    rest = bytearray()
    async for chunk in answer.content.iter_any():
        rest += chunk
        while (end := rest.find(b"\n")) >= 0:
            line = bytes(rest[:end])
            del rest[: end + 1]
            if line.strip():
                yield line
        if len(rest) > MAX_EVENT_BYTES:
            raise _as_fault("too_much", f"an event of more than {MAX_EVENT_BYTES} bytes")

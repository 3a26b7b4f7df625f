"""The rhythm of a watch in virtual time: when it lists, when it goes on, and when its store is no longer believed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.probing import FreePermits
from tocsin.model import CommonReason
from tocsin.sdk import HttpClient, ProbeContext, ProbeFault, kubernetes_watch
from tocsin.sdk.kubernetes import Cluster
from tocsin.sdk.kubernetes_objects import Pods
from tocsin.sdk.kubernetes_watch import (
    MAX_PAGE_BYTES,
    MIN_PAGE,
    PAGE,
    RESYNC_SECONDS,
    SLACK_SECONDS,
    WATCH_SECONDS,
    Watch,
)

pytestmark = pytest.mark.looptime


class LoopClock:
    def wall(self) -> float:
        return self.monotonic()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


def a_run(timeout: float = 5.0) -> ProbeContext:
    return ProbeContext(
        probe="p",
        system="s",
        incident="i",
        vantage="",
        timeout=timeout,
        clock=LoopClock(),
        http=HttpClient(),
        permits=FreePermits(),
        trace_id="0" * 32,
        span_id="0" * 16,
        request_id="r",
        memory={},
    )


class Answer:
    """Stands for a response: its body comes in ``pieces``; a number is a pause in seconds."""

    def __init__(self, *pieces: bytes | float) -> None:
        self.pieces = pieces
        self.content = self

    async def iter_any(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, bytes):
                yield piece
            else:
                await asyncio.sleep(piece)


class Server:
    """An API server as a script: what it answers to a list and to a watch, and what it was asked."""

    def __init__(self, *pods: str) -> None:
        self.pods = list(pods)
        self.version = 10
        self.asked: list[str] = []
        self.sent = 0
        self.watch: list[Answer | ProbeFault] = []
        """The answers to the next watches; then each is silent for its time."""
        self.fault: ProbeFault | None = None
        self.object_bytes = 0
        """How large each object is, when the page is told by its size and not by twos."""

    @asynccontextmanager
    async def answer(
        self, path: str, query: Mapping[str, str], headers: Mapping[str, str], seconds: float
    ) -> AsyncIterator[Any]:
        watching = "watch" in query
        self.asked.append(f"watch {query['resourceVersion']}" if watching else "list" + query.get("continue", ""))
        answer: Answer | ProbeFault
        if self.fault is not None:
            answer = self.fault
        elif watching:
            answer = self.watch.pop(0) if self.watch else Answer(float(query["timeoutSeconds"]))
        else:
            answer = self._page(query)
        if isinstance(answer, ProbeFault):
            raise answer
        yield answer

    def _page(self, query: Mapping[str, str]) -> Answer:
        """Pages of two; with `object_bytes` of as many as are asked for, a megabyte at a time."""
        start = int(query.get("continue", "0"))
        metadata = {"resourceVersion": str(self.version)}
        end = start + (int(query["limit"]) if self.object_bytes else 2)
        if end < len(self.pods):
            metadata["continue"] = str(end)
        items = [pod(name) for name in self.pods[start:end]]
        body = json.dumps({"metadata": metadata, "items": items}).encode()
        filler = len(items) * self.object_bytes >> 20
        self.sent += filler
        return Answer(*[b" " * (1 << 20)] * filler, body)


def pod(name: str, version: int = 11) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": name, "resourceVersion": str(version)}}


def event(kind: str, item: Mapping[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"


EXPIRED = event("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"})


@asynccontextmanager
async def watching(server: Server) -> AsyncIterator[Watch[Pods]]:
    watch = Watch(server, "/api/v1/namespaces/x/pods", {}, Pods)
    try:
        yield watch
    finally:
        await watch.close()


async def names(watch: Watch[Pods], timeout: float = 5.0) -> list[str]:
    return sorted(each.name for each in await watch.current(a_run(timeout)))


async def test_pages_are_put_together_and_events_follow() -> None:
    server = Server("a", "b", "c", "d", "e")
    half = event("DELETED", pod("a", 13))
    server.watch.append(Answer(0.1, event("ADDED", pod("f", 12)) + half[:20], 0.1, half[20:], 5.0))
    async with watching(server) as watch:
        assert await names(watch) == ["a", "b", "c", "d", "e"]
        assert server.asked == ["list", "list2", "list4", "watch 10"]
        await asyncio.sleep(1)
        assert await names(watch) == ["b", "c", "d", "e", "f"]
        await asyncio.sleep(5)
        assert server.asked[-1] == "watch 13"


async def test_pages_that_are_too_large_are_asked_for_in_halves() -> None:
    server = Server(*(f"p{number:03}" for number in range(PAGE)))
    server.object_bytes = 1 << 20
    async with watching(server) as watch:
        assert len(await names(watch)) == PAGE
        size = PAGE
        while size > MAX_PAGE_BYTES >> 20:
            size //= 2
        assert watch._page == size
        assert len(server.asked) == 1 + (PAGE // size).bit_length() - 1 + -(-PAGE // size) - 1 + 1


async def test_objects_that_no_page_holds_are_a_reason_and_not_a_flood() -> None:
    server = Server(*(f"p{number:03}" for number in range(PAGE)))
    server.object_bytes = MAX_PAGE_BYTES
    async with watching(server) as watch:
        with pytest.raises(ProbeFault, match=f"too_much: {MIN_PAGE} objects take more than {MAX_PAGE_BYTES} bytes"):
            await names(watch)


async def test_more_objects_than_are_held_are_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_watch, "MAX_OBJECTS", 4)
    async with watching(Server("a", "b", "c", "d", "e")) as watch:
        with pytest.raises(ProbeFault, match="too_much: more than 4 objects match"):
            await names(watch)


async def test_a_watch_ends_with_the_last_that_took_it_although_others_use_the_cluster() -> None:
    """As after a reload that changes one probe's selector."""
    server, path = Server("a"), "/api/v1/namespaces/x/pods"
    before, after, other = object(), object(), object()
    cluster = Cluster.shared("", "", before)
    cluster.answer = server.answer  # type: ignore[method-assign]
    assert Cluster.shared("", "", other) is cluster
    old = cluster.watch(path, {"labelSelector": "old"}, Pods, before)
    kept = cluster.watch(path, {"labelSelector": "kept"}, Pods, before)
    assert cluster.watch(path, {"labelSelector": "kept"}, Pods, other) is kept
    await names(old)
    await names(kept)
    assert Cluster.shared("", "", after) is cluster
    await cluster.release(before)
    assert (old._task, kept._task is None) == (None, False)
    assert cluster.watch(path, {"labelSelector": "old"}, Pods, after) is not old
    for user in (after, other):
        await cluster.release(user)
    assert kept._task is None
    assert Cluster.shared("", "", after) is not cluster
    await Cluster.shared("", "", after).release(after)


async def test_a_bookmark_moves_the_version_and_nothing_else() -> None:
    server = Server("a")
    server.watch.append(Answer(event("BOOKMARK", {"metadata": {"resourceVersion": "99"}})))
    async with watching(server) as watch:
        assert await names(watch) == ["a"]
        await asyncio.sleep(1)
        assert server.asked == ["list", "watch 10", "watch 99"]


async def test_everything_is_listed_once_a_resync_and_watched_in_between() -> None:
    server = Server("a")
    async with watching(server) as watch:
        for _ in range(int(3 * RESYNC_SECONDS / 5)):
            assert await names(watch) == ["a"]
            await asyncio.sleep(5)
        assert 3 <= server.asked.count("list") <= 4
        assert server.asked.count("watch 10") >= 3 * RESYNC_SECONDS / (WATCH_SECONDS + 1)


async def test_what_a_watch_missed_is_seen_at_the_resync() -> None:
    server = Server("a")
    async with watching(server) as watch:
        assert await names(watch) == ["a"]
        server.pods = ["b"]
        await asyncio.sleep(RESYNC_SECONDS + 2 * WATCH_SECONDS)
        assert await names(watch) == ["b"]


async def test_an_expired_version_leads_to_a_list_at_once_and_again_only_after_a_while() -> None:
    server = Server("a")
    server.watch += [Answer(0.05, EXPIRED), Answer(5.0), Answer(EXPIRED), Answer(EXPIRED), Answer(EXPIRED)]
    async with watching(server) as watch:
        assert await names(watch) == ["a"]
        server.pods = ["b"]
        await asyncio.sleep(0.1)
        assert await names(watch) == ["b"]
        assert server.asked == ["list", "watch 10", "list", "watch 10"]
        await asyncio.sleep(30)
        assert await names(watch) == ["b"]
        # The second and third in a row wait before they list.
        assert server.asked.count("list") == 5


async def test_a_server_that_stands_still_is_not_believed_for_longer_than_a_watch() -> None:
    server = Server("a")
    server.watch.append(Answer(1000.0))
    async with watching(server) as watch:
        assert await names(watch) == ["a"]
        await asyncio.sleep(WATCH_SECONDS)
        assert await names(watch) == ["a"]
        await asyncio.sleep(SLACK_SECONDS + 1)
        with pytest.raises(ProbeFault) as raised:
            await names(watch)
        assert raised.value.finding.reason == CommonReason.DEPENDENCY_UNKNOWN


async def test_a_fault_is_told_after_most_of_the_run_and_is_over_when_the_server_is_back() -> None:
    server = Server("a")
    server.fault = ProbeFault(CommonReason.DEPENDENCY_UNKNOWN, "connection_refused")
    async with watching(server) as watch:
        began = asyncio.get_running_loop().time()
        with pytest.raises(ProbeFault, match="connection_refused"):
            await names(watch)
        assert asyncio.get_running_loop().time() - began == pytest.approx(4.0, abs=0.1)
        server.fault = None
        assert await names(watch, timeout=20) == ["a"]


async def test_a_refusal_is_told_at_once() -> None:
    server = Server("a")
    server.fault = ProbeFault(CommonReason.CREDENTIALS_REJECTED, "we may not list pods")
    async with watching(server) as watch:
        for _ in range(2):
            began = asyncio.get_running_loop().time()
            with pytest.raises(ProbeFault, match="we may not list pods"):
                await names(watch)
            assert asyncio.get_running_loop().time() - began < 1


async def test_who_may_list_but_not_watch_is_told_at_the_first_run() -> None:
    server = Server("a")
    server.watch.append(ProbeFault(CommonReason.CREDENTIALS_REJECTED, "we may not watch pods"))
    async with watching(server) as watch:
        with pytest.raises(ProbeFault, match="we may not watch pods"):
            await names(watch)


async def test_closing_ends_it_and_it_can_be_closed_unused() -> None:
    server = Server("a")
    async with watching(server):
        pass
    async with watching(server) as watch:
        await names(watch)
        await watch.close()
        asked = len(server.asked)
        await asyncio.sleep(1000)
        assert len(server.asked) == asked

"""A Kubernetes API server as far as Alexandria's profile asks one, for objects that nothing acts on.

What each answer rests on, all of Kubernetes 1.34: lists, watches, bookmarks, 410, chunks and metadata alone are
"Kubernetes API Concepts"; merges are RFC 7396; errors are Status in the API reference (meta/v1); logs are "Read log of
the specified Pod" there. tests/estate/test_sandbox_cluster.py asks a real one the same and compares the answers.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import secrets
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tocsin_sandbox.cluster_logs import Logs
from tocsin_sandbox.kubernetes_objects import stamp

HISTORY = 1000
"""How many changes a watch can go back; older versions are 410 Gone."""
GRACE_SECONDS = 30
"""terminationGracePeriodSeconds of a pod that names none."""
BOOKMARK_BEFORE_END = 2.0

Object = dict[str, Any]
Key = tuple[str, str, str]
"""Resource, namespace, name."""

KINDS = {"pods": "Pod", "events": "Event", "secrets": "Secret", "deployments": "Deployment"}
VERSIONS = {"deployments": "apps/v1"}
FIELDS = {
    "events": {"type", "reason", "involvedObject.kind", "involvedObject.name", "metadata.name"},
    "pods": {"metadata.name", "status.phase", "spec.nodeName"},
    "secrets": {"metadata.name", "type"},
    "deployments": {"metadata.name"},
}
"""By resource the fields that a selector may name. "Field Selectors"."""
_METADATA_ONLY = "as=PartialObjectMetadataList"


@dataclass(frozen=True, slots=True)
class Change:
    """One version of the cluster: an object before and after; None where there is none."""

    version: int
    key: Key
    before: Object | None
    after: Object | None


class StatusError(Exception):
    """An answer that is not what was asked for; ``body`` is a Status."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.body = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": code,
        }


@dataclass(slots=True)
class ApiServer:
    """The cluster. ``token``: who may ask; there are no roles."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    logs: Logs = field(default_factory=Logs)
    _objects: dict[Key, Object] = field(default_factory=dict)
    _history: deque[Change] = field(default_factory=lambda: deque(maxlen=HISTORY))
    _version: int = 1
    _watchers: set[asyncio.Event] = field(default_factory=set)

    def kubeconfig(self, server: str, namespace: str) -> str:
        """The content of a kubeconfig file. JSON is YAML."""
        name = "sandbox"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": [{"name": name, "cluster": {"server": server}}],
            "users": [{"name": name, "user": {"token": self.token}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": namespace}}],
        }
        return json.dumps(content, indent=1)

    def build(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        for root in ("/api/v1/namespaces/{namespace}/{resource}", "/apis/apps/v1/namespaces/{namespace}/{resource}"):
            app.router.add_get(root, self._list)
            app.router.add_post(root, self._write)
            app.router.add_get(f"{root}/{{name}}", self._get)
            for method in ("DELETE", "PATCH"):
                app.router.add_route(method, f"{root}/{{name}}", self._write)
            app.router.add_patch(f"{root}/{{name}}/status", self._write)
        app.router.add_get("/api/v1/namespaces/{namespace}/pods/{name}/log", self._log)
        return app

    # Writing, as scheduler, kubelet and controllers would

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, Object]:
        """One request that changes something: POST, PATCH (which merges) or DELETE; status and answer."""
        parts = path.partition("?")[0].strip("/").split("/")
        namespace, resource, *rest = parts[parts.index("namespaces") + 1 :]
        name = rest[0] if rest else ""
        content = deepcopy(dict(body or {}))
        try:
            match method:
                case "POST":
                    return 201, self._create(resource, namespace, content)
                case "PATCH" if rest[1:] == ["status"]:
                    return 200, self._merge(resource, namespace, name, {"status": content.get("status", {})})
                case "PATCH":
                    return 200, self._merge(resource, namespace, name, content)
                case "DELETE":
                    grace = content.get("gracePeriodSeconds", GRACE_SECONDS)
                    return 200, self._delete(resource, namespace, name, int(grace))
        except StatusError as error:
            return error.code, error.body
        raise ValueError(f"{method} changes nothing here")

    def log(self, namespace: str, pod: str, container: str, line: str) -> None:
        """A container writes a line, now; nothing when there is no such pod."""
        for uid in self._uid(namespace, pod):
            self.logs.write(uid, container, line)

    def rotate(self, namespace: str, pod: str, container: str) -> None:
        """What it wrote so far is no longer served."""
        for uid in self._uid(namespace, pod):
            self.logs.rotate(uid, container)

    def _uid(self, namespace: str, pod: str) -> list[str]:
        found = self._objects.get(("pods", namespace, pod))
        return [found["metadata"]["uid"]] if found else []

    def _create(self, resource: str, namespace: str, item: Object) -> Object:
        metadata = item.setdefault("metadata", {})
        if "name" not in metadata:
            metadata["name"] = f"{metadata.get('generateName', '')}{secrets.token_hex(3)}"
        key = (resource, namespace, metadata["name"])
        if key in self._objects:
            raise StatusError(409, "AlreadyExists", f'{_qualified(resource)} "{key[2]}" already exists')
        metadata |= {"namespace": namespace, "uid": str(uuid.uuid4()), "creationTimestamp": stamp()}
        if resource == "pods":
            item["status"] = {"phase": "Pending", "qosClass": "Burstable"}
        elif resource == "secrets":
            item.setdefault("type", "Opaque")
        return self._put(key, None, item)

    def _merge(self, resource: str, namespace: str, name: str, patch: Object) -> Object:
        before = self._find(resource, namespace, name)
        after: Object = merged(before, patch)
        return self._put((resource, namespace, name), before, after)

    def _delete(self, resource: str, namespace: str, name: str, grace: int) -> Object:
        before = self._find(resource, namespace, name)
        key = (resource, namespace, name)
        # "Pod Lifecycle", section "Termination of Pods": the kubelet has the grace period, and removes it itself.
        leaving = {"deletionTimestamp": stamp(-grace), "deletionGracePeriodSeconds": grace}
        if resource == "pods" and grace and before["spec"].get("nodeName"):
            return self._put(key, before, merged(before, {"metadata": leaving}))
        if "deletionTimestamp" in before["metadata"]:
            # Who forces it shortens the period first.
            self._put(key, before, merged(before, {"metadata": leaving}))
            before = self._objects[key]
        self._version += 1
        del self._objects[key]
        gone: Object = merged(before, {"metadata": {"resourceVersion": str(self._version)}})
        self._record(Change(self._version, key, gone, None))
        return gone

    def _put(self, key: Key, before: Object | None, after: Object) -> Object:
        self._version += 1
        after = merged(after, {"metadata": {"resourceVersion": str(self._version)}})
        self._objects[key] = after
        self._record(Change(self._version, key, before, after))
        return _typed(key[0], after)

    def _record(self, change: Change) -> None:
        self._history.append(change)
        for watcher in self._watchers:
            watcher.set()

    def _find(self, resource: str, namespace: str, name: str) -> Object:
        found = self._objects.get((resource, namespace, name))
        if found is None:
            raise StatusError(404, "NotFound", f'{_qualified(resource)} "{name}" not found')
        return found

    # Requests

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            if scheme != "Bearer" or not secrets.compare_digest(token.encode(), self.token.encode()):
                raise StatusError(401, "Unauthorized", "Unauthorized")
            resource = request.match_info.get("resource", "pods")
            if resource not in KINDS or request.path.startswith("/apis/") != (resource in VERSIONS):
                raise StatusError(404, "NotFound", "the server could not find the requested resource")
            response: web.StreamResponse = await handler(request)
        except StatusError as error:
            return web.json_response(error.body, status=error.code)
        return response

    async def _write(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else {}
        if "gracePeriodSeconds" in request.query:
            body["gracePeriodSeconds"] = int(request.query["gracePeriodSeconds"])
        status, answer = self.call(request.method, request.path, body)
        return web.json_response(answer, status=status)

    async def _get(self, request: web.Request) -> web.Response:
        place = request.match_info
        found = self._find(place["resource"], place["namespace"], place["name"])
        return web.json_response(_typed(place["resource"], found))

    async def _list(self, request: web.Request) -> web.StreamResponse:
        resource, namespace = request.match_info["resource"], request.match_info["namespace"]
        chosen = selected(request.query, resource)
        if request.query.get("watch") in ("1", "true"):
            return await self._watch(request, resource, namespace, chosen)
        items = [
            item
            for (kind, where, _), item in sorted(self._objects.items(), key=lambda entry: entry[0])
            if (kind, where) == (resource, namespace) and chosen(item)
        ]
        start = _start_of(request.query.get("continue", ""))
        items = [item for item in items if item["metadata"]["name"] >= start]
        limit = int(request.query.get("limit", "0")) or len(items)
        metadata: Object = {"resourceVersion": str(self._version)}
        if len(items) > limit:
            token = json.dumps({"v": "meta.k8s.io/v1", "start": items[limit]["metadata"]["name"]})
            metadata["continue"] = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
        if _METADATA_ONLY in request.headers.get("Accept", ""):
            version, kind = "meta.k8s.io/v1", "PartialObjectMetadataList"
            items = [{"metadata": item["metadata"]} for item in items]
        else:
            version, kind = VERSIONS.get(resource, "v1"), f"{KINDS[resource]}List"
        return web.json_response({"kind": kind, "apiVersion": version, "metadata": metadata, "items": items[:limit]})

    async def _watch(
        self, request: web.Request, resource: str, namespace: str, chosen: Callable[[Object], bool]
    ) -> web.StreamResponse:
        """One JSON document a line, until ``timeoutSeconds`` are over."""
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        loop = asyncio.get_running_loop()
        until = loop.time() + float(request.query.get("timeoutSeconds", "1800"))
        bookmark = until - BOOKMARK_BEFORE_END if "allowWatchBookmarks" in request.query else until
        version, woken = int(request.query.get("resourceVersion") or self._version), asyncio.Event()
        self._watchers.add(woken)
        try:
            while loop.time() < until:
                woken.clear()
                oldest = self._history[0].version if len(self._history) == HISTORY else 0
                if version < oldest - 1:
                    await _send(answer, "ERROR", _expired(version, oldest))
                    break
                for change in list(self._history):
                    if change.version > version and change.key[:2] == (resource, namespace):
                        for kind, item in _seen(change, chosen):
                            await _send(answer, kind, _typed(resource, item))
                version = max(version, self._version)
                if bookmark <= loop.time() < until and bookmark < until:
                    place = {"resourceVersion": str(version), "creationTimestamp": None}
                    await _send(answer, "BOOKMARK", _typed(resource, {"metadata": place}))
                    bookmark = until
                try:
                    async with asyncio.timeout_at(min(bookmark, until)):
                        await woken.wait()
                except TimeoutError:
                    pass
        finally:
            self._watchers.discard(woken)
        return answer

    async def _log(self, request: web.Request) -> web.Response:
        pod = self._find("pods", request.match_info["namespace"], request.match_info["name"])
        name = pod["metadata"]["name"]
        container = request.query.get("container") or pod["spec"]["containers"][0]["name"]
        if container not in {each["name"] for each in pod["spec"]["containers"]}:
            raise StatusError(400, "BadRequest", f"container {container} is not valid for pod {name}")
        if not pod["spec"].get("nodeName"):
            return web.Response(status=204)
        states = {each["name"]: each for each in pod["status"].get("containerStatuses", ())}
        state = states.get(container, {})
        waits = state.get("state", {}).get("waiting")
        if waits and "terminated" not in state.get("lastState", {}):
            words = f'container "{container}" in pod "{name}" is waiting to start: {waits["reason"]}'
            raise StatusError(400, "BadRequest", words)
        body = self.logs.read(pod["metadata"]["uid"], container, request.query)
        if body is None:
            words = f'previous terminated container "{container}" in pod "{name}" not found'
            raise StatusError(400, "BadRequest", words)
        return web.Response(body=body, content_type="text/plain")


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2. Neither argument is changed."""
    if not isinstance(patch, Mapping):
        return deepcopy(patch)
    found = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), value)
    return found


def selected(query: Mapping[str, str], resource: str) -> Callable[[Object], bool]:
    """What ``labelSelector`` and ``fieldSelector`` choose, of the forms ``a=b``, ``a==b`` and ``a!=b``."""
    labels = list(_terms(query.get("labelSelector", "")))
    fields = list(_terms(query.get("fieldSelector", "")))
    for name, _, _ in fields:
        if name not in FIELDS[resource]:
            raise StatusError(400, "BadRequest", f"field label not supported: {name}")

    def chosen(item: Object) -> bool:
        own = item["metadata"].get("labels") or {}
        return all((own.get(name) == value) is wanted for name, value, wanted in labels) and all(
            (_field(item, name) == value) is wanted for name, value, wanted in fields
        )

    return chosen


def _terms(selector: str) -> Iterator[tuple[str, str, bool]]:
    for term in filter(None, selector.split(",")):
        name, sign, value = term.partition("=")
        if not sign:
            raise StatusError(400, "BadRequest", f"the sandbox's cluster cannot select by {term!r}")
        yield name.rstrip("!"), value.lstrip("="), not name.endswith("!")


def _field(item: Object, name: str) -> str:
    found: Any = item
    for part in name.split("."):
        found = found.get(part, "") if isinstance(found, Mapping) else ""
    return str(found)


def _seen(change: Change, chosen: Callable[[Object], bool]) -> Iterator[tuple[str, Object]]:
    """What a watch with a selector is told: an object that is chosen no longer is gone for it."""
    before = change.before is not None and chosen(change.before)
    after = change.after is not None and chosen(change.after)
    if after:
        assert change.after is not None
        yield ("MODIFIED" if before else "ADDED"), change.after
    elif before:
        assert change.before is not None
        yield "DELETED", merged(change.before, {"metadata": {"resourceVersion": str(change.version)}})


def _typed(resource: str, item: Object) -> Object:
    return {"kind": KINDS[resource], "apiVersion": VERSIONS.get(resource, "v1"), **item}


def _qualified(resource: str) -> str:
    group = VERSIONS.get(resource, "").rpartition("/")[0]
    return f"{resource}.{group}" if group else resource


def _expired(version: int, oldest: int) -> Object:
    return StatusError(410, "Expired", f"too old resource version: {version} ({oldest})").body


async def _send(answer: web.StreamResponse, kind: str, item: Object) -> None:
    await answer.write(json.dumps({"type": kind, "object": item}).encode() + b"\n")


def _start_of(token: str) -> str:
    """The name at which the page begins."""
    if not token:
        return ""
    try:
        return str(json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))["start"])
    except (binascii.Error, ValueError, KeyError, TypeError):
        raise StatusError(400, "BadRequest", "continue key is not valid") from None

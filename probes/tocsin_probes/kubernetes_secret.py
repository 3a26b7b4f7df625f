"""`kubernetes_secret`: a Secret and its key are there, hold something, and are what the running pods have read."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import secrets
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from tocsin.sdk import CommonReason, Outcome, ProbeContext, ProbeFault, ReasonEnum, Severity, Status, Words
from tocsin.sdk.kubernetes import KubernetesProbe, KubernetesSettings, Permission
from tocsin.sdk.kubernetes_objects import Pod
from tocsin.sdk.quantities import format_duration


class KubernetesSecret(KubernetesProbe):
    """A Secret exists under one of its names, its key is there and not empty.

    With a `selector` also: no container runs that started before the value changed, for what reads it only at its
    start. While none runs that could be judged, a change leaves it unknown. Secrets carry no time of change, so the
    probe remembers a salted, slow hash of the value and when it was seen last. The value itself is not kept, logged or
    exported.
    """

    kind = "kubernetes_secret"

    class Settings(KubernetesSettings):
        secret: Annotated[Words, Field(min_length=1, max_length=10)]
        """Its name, or several of which one must exist; the first that exists counts."""
        key: str
        selector: str = ""
        """Labels of the pods that read the Secret at their start; unset: changes are not judged."""
        containers: Words = ()
        """Which of their containers read it; unset: any."""

        def permissions(self) -> tuple[Permission, ...]:
            watched = tuple(Permission(verb, "pods") for verb in ("list", "watch")) if self.selector else ()
            return (Permission("get", "secrets", names=self.secret), *watched)

    class Reason(ReasonEnum):
        SECRET_MISSING = "secret_missing", "There is no Secret of that name."
        KEY_MISSING = "key_missing", "The Secret has no such key."
        EMPTY = "empty", "The value of the key is empty, or only white space."
        CHANGED_NOT_LOADED = (
            "changed_not_loaded",
            "The value has changed since a container that reads it at its start was started.",
            Severity.TICKET,
        )

    settings: Settings

    async def run(self, ctx: ProbeContext) -> Outcome:
        settings, reason = self.settings, self.Reason
        namespace = settings.chosen_namespace()
        name, found = await self.first_secret(ctx, settings.secret)
        if found is None:
            return Outcome.bad(reason.SECRET_MISSING, f"no Secret {' or '.join(settings.secret)} in {namespace}")
        data = found.get("data") or {}
        if settings.key not in data:
            keys = f"its keys are {', '.join(sorted(data)[:10])}" if data else "it has no keys"
            return Outcome.bad(reason.KEY_MISSING, f"{name} has no key {settings.key}; {keys}")
        value = _decoded(data[settings.key])
        if not value.strip():
            return Outcome.bad(reason.EMPTY, f"{settings.key} of {name} is empty")
        if not settings.selector:
            return Outcome.ok(f"{name} has {settings.key}")
        metadata = found["metadata"]
        version = f"{metadata['uid']}/{metadata['resourceVersion']}"
        del found, data
        valid_from = await self._remember(ctx, version, value)
        del value
        pods = await self.pods(ctx, settings.selector)
        outcome = self._judge(name, valid_from, ctx.now(), pods)
        if outcome.status == Status.OK:
            # The change is loaded: what starts from now on reads it too, and pods that are gone leave nothing open.
            ctx.memory.pop("changed_after", None)
        return outcome

    async def _remember(self, ctx: ProbeContext, version: str, value: bytes) -> float | None:
        """When the value that came before was seen last (Unix seconds); None when only this one was ever seen.

        What started after that may have read either, and is given the benefit of the doubt.
        """
        memory = ctx.memory
        if memory.get("version") != version:
            salt = bytes.fromhex(memory.setdefault("salt", secrets.token_hex(16)))
            digest = (await asyncio.to_thread(_hashed, value, salt)).hex()
            if memory.get("digest") not in (None, digest):
                memory["changed_after"] = memory["seen_at"]
            memory["digest"], memory["version"] = digest, version
        memory["seen_at"] = ctx.now()
        changed_after: float | None = memory.get("changed_after")
        return changed_after

    def _judge(self, name: str, valid_from: float | None, now: float, pods: Iterable[Pod]) -> Outcome:
        if valid_from is None:
            return Outcome.ok(f"{name} has {self.settings.key}, and no change of it waits to be loaded")
        ago = format_duration(max(0, round(now - valid_from)))
        wanted = self.settings.containers
        started = {
            f"{container.name} of {pod.name}": container.running_since
            for pod in pods
            for container in pod.containers
            if not pod.leaving
            and not container.init
            and (not wanted or container.name in wanted)
            and container.running_since is not None
        }
        if not started:
            whose = f"container {' or '.join(wanted)}" if wanted else "container"
            detail = f"{name} changed {ago} ago; no {whose} with {self.settings.selector} runs"
            return Outcome.bad(CommonReason.DEPENDENCY_UNKNOWN, detail, name)
        stale = [where for where, since in started.items() if since < int(valid_from)]
        if stale:
            more = f" and {len(stale) - 1} more" if len(stale) > 1 else ""
            detail = f"{name} changed {ago} ago; {stale[0]}{more} started before: restart to load it"
            return Outcome.bad(self.Reason.CHANGED_NOT_LOADED, detail, name)
        return Outcome.ok(f"{name} has {self.settings.key}, and every container started after its last change")


def _hashed(value: bytes, salt: bytes) -> bytes:
    """RFC 7914: slow, so that a short value cannot be guessed from what is remembered."""
    return hashlib.scrypt(value, salt=salt, n=2**14, r=8, p=1)


def _decoded(text: object) -> bytes:
    try:
        return base64.b64decode(str(text or ""), validate=True)
    except binascii.Error:
        raise ProbeFault(
            CommonReason.DEPENDENCY_UNKNOWN, "the Kubernetes API gave a value that is not base64"
        ) from None

"""A second place for the mark: a file, an object in S3, or a ConfigMap."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Protocol

from tocsin.sdk import ProbeContext, TlsSettings
from tocsin.sdk.faults import explain
from tocsin.sdk.s3 import Bucket
from tocsin.sdk.state_files import read_if_there, write_atomically
from tocsin_chain.recall import WitnessUnreachable
from tocsin_chain.settings import ConfigMapSettings, ObjectSettings, WitnessSettings

MAX_BYTES = 64 << 20
_FIELD_MANAGER = "tocsin"


class Witness(Protocol):
    """Holds one text. ``read`` and ``write`` raise `WitnessUnreachable`."""

    async def read(self, ctx: ProbeContext) -> bytes | None:
        """The text; None when there is none."""

    async def write(self, ctx: ProbeContext, text: bytes) -> None: ...


def witness_of(settings: WitnessSettings | None, probe: str) -> Witness | None:
    """The configured witness."""
    if settings is None:
        return None
    if settings.file is not None:
        return FileWitness(settings.file)
    if settings.s3 is not None:
        return ObjectWitness(settings.s3, settings.s3.object_key or f"tocsin/chain/{probe}.mark")
    assert settings.config_map is not None
    return ConfigMapWitness(settings.config_map, f"{probe}.mark")


class FileWitness:
    """A file, best on another machine's disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def read(self, ctx: ProbeContext) -> bytes | None:
        try:
            return read_if_there(self.path)
        except OSError as error:
            raise WitnessUnreachable(str(error)) from error

    async def write(self, ctx: ProbeContext, text: bytes) -> None:
        try:
            write_atomically(self.path, text)
        except OSError as error:
            raise WitnessUnreachable(str(error)) from error


class ObjectWitness:
    """An object in S3; a bucket with versions or object lock keeps the older ones, too."""

    def __init__(self, settings: ObjectSettings, key: str) -> None:
        self.settings = settings
        self.key = key

    async def read(self, ctx: ProbeContext) -> bytes | None:
        bucket = Bucket(ctx, self.settings, self.settings.bucket)
        try:
            answer = await bucket.call("GET", self.key, max_bytes=MAX_BYTES, absent_ok=True)
        except Exception as error:
            raise WitnessUnreachable(explain(error).detail) from error
        return None if answer.status == 404 else answer.body

    async def write(self, ctx: ProbeContext, text: bytes) -> None:
        bucket = Bucket(ctx, self.settings, self.settings.bucket)
        try:
            await bucket.call("PUT", self.key, body=text)
        except Exception as error:
            raise WitnessUnreachable(explain(error).detail) from error


class ConfigMapWitness:
    """An entry of a ConfigMap, compressed, because a ConfigMap holds at most 1 MiB (Kubernetes documentation,
    "ConfigMaps"). Written by server-side apply, so that the object comes into being with the first mark."""

    def __init__(self, settings: ConfigMapSettings, entry: str) -> None:
        self.settings = settings
        self.entry = entry

    async def read(self, ctx: ProbeContext) -> bytes | None:
        status, body = await self._call(ctx, "GET", "", None)
        if status == 404:
            return None
        if status != 200:
            raise WitnessUnreachable(f"the API server answered {status}")
        held = json.loads(body).get("binaryData", {}).get(self.entry)
        try:
            return None if held is None else zlib.decompress(base64.b64decode(held))
        except (ValueError, zlib.error):
            return b"not a mark\n"

    async def write(self, ctx: ProbeContext, text: bytes) -> None:
        applied = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": self.settings.name},
            "binaryData": {self.entry: base64.b64encode(zlib.compress(text, 9)).decode()},
        }
        query = f"?fieldManager={_FIELD_MANAGER}-{self.entry}&force=true"
        status, _ = await self._call(ctx, "PATCH", query, json.dumps(applied))
        if status not in (200, 201):
            raise WitnessUnreachable(f"the API server answered {status}")

    async def _call(self, ctx: ProbeContext, method: str, query: str, body: str | None) -> tuple[int, bytes]:
        settings = self.settings
        try:
            namespace = settings.namespace or settings.token_file.with_name("namespace").read_text().strip()
            token = settings.token_file.read_text().strip()
            answer = await ctx.http.fetch(
                method,
                f"{settings.url}/api/v1/namespaces/{namespace}/configmaps/{settings.name}{query}",
                headers={"Authorization": f"Bearer {token}", "Content-Type": "application/apply-patch+yaml"},
                body=body,
                max_bytes=MAX_BYTES,
                tls=TlsSettings(ca_file=str(settings.ca_file)) if settings.url.startswith("https:") else None,
            )
        except Exception as error:
            raise WitnessUnreachable(explain(error).detail) from error
        return answer.status, answer.body

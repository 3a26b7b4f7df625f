"""`s3_bucket`: a bucket can be used in the ways that its platform uses it."""

from __future__ import annotations

import fnmatch
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from tocsin.sdk import (
    CommonReason,
    Finding,
    Gauge,
    Outcome,
    Probe,
    ProbeContext,
    ProbeFault,
    ReasonEnum,
    Seconds,
    Severity,
    Status,
)
from tocsin.sdk.quantities import format_duration
from tocsin.sdk.s3 import Bucket, S3Fault, S3Settings, parsed, session_expires_at

MAX_LEFTOVERS = 3
"""Canaries and uploads that could not be removed; with so many the probe writes no more."""

RECHECK_NATURE = 3600.0
"""Seconds for which the answer about versioning and object lock is believed."""

_OPERATION_OK = Gauge(
    "tocsin_bucket_operation_ok", "1 when the operation succeeded, 0 when it did not.", ("bucket", "operation")
)


class S3Bucket(Probe):
    """A bucket exists, is the one named, and takes the operations that its platform needs.

    What is written is one object under ``prefix`` and a random id of this probe on this replica. It is recorded before
    it is written and deleted again, by version id where the bucket keeps versions. What a run that was cut off left is
    deleted by the next one; what a killed daemon left is overwritten, and its versions are deleted within an hour.
    """

    kind = "s3_bucket"
    gauges = (_OPERATION_OK,)
    writes = True

    class Settings(S3Settings):
        bucket: str
        """The bucket's name."""
        access: Literal["read_write", "read_only", "write_only"] = "read_write"
        """``write_only`` is proven by an upload that is begun and aborted; nothing is read, listed or left."""
        prefix: str = "tocsin-canary/"
        """Where canaries are written; for ``read_only`` where to look for an object (unset: the whole bucket)."""
        put: bool = False
        """For ``write_only``: also put an object, always the same, and try to delete it. Its consumer may see it."""
        expected_name: str = ""
        """What ``bucket`` must be in this environment; ``*`` matches anything. Empty: any."""
        versioning: Literal["", "enabled", "suspended", "off"] = ""
        """What versioning must be. Empty: anything."""
        lifecycle: Literal["", "present", "absent"] = ""
        """Whether the bucket must have lifecycle rules. Empty: either."""
        session_left: Seconds = 300.0
        """A session token that says its end must be valid for so long."""

    class Reason(ReasonEnum):
        BUCKET_MISSING = "bucket_missing", "The bucket does not exist."
        NAME_MISMATCH = "name_mismatch", "The configured bucket is not the one that this environment should have."
        LIST_DENIED = "list_denied", "Listing the bucket is denied."
        WRITE_DENIED = "write_denied", "Writing an object is denied."
        READ_DENIED = "read_denied", "Reading an object is denied."
        DELETE_DENIED = "delete_denied", "Deleting what was written, or aborting an upload, is denied."
        READ_BACK_DIFFERS = "read_back_differs", "What is read back is not what was written."
        STORAGE_FULL = "storage_full", "The storage or the bucket's quota is full."
        SLOW_DOWN = "slow_down", "The storage refuses requests because there are too many."
        CONFIGURATION_DIFFERS = (
            "configuration_differs",
            "Versioning or lifecycle of the bucket is not as declared.",
            Severity.TICKET,
        )
        CLOCK_SKEW = (
            "clock_skew",
            "The clocks of the probe and of the storage differ too much for signatures.",
            Severity.TICKET,
            Status.UNKNOWN,
        )

    async def run(self, ctx: ProbeContext) -> Outcome:
        settings: S3Bucket.Settings = self.settings
        if settings.expected_name and not fnmatch.fnmatchcase(settings.bucket, settings.expected_name):
            detail = f"the bucket is {settings.bucket}, this environment's is {settings.expected_name}"
            return Outcome.bad(self.Reason.NAME_MISMATCH, detail)
        visit = _Visit(ctx, settings, Bucket(ctx, settings, settings.bucket, _REASONS))
        try:
            await visit.all_operations()
        except ProbeFault as fault:
            visit.findings.append(fault.finding)
        finally:
            for name, ok in visit.operations.items():
                ctx.measure(_OPERATION_OK, float(ok), bucket=settings.bucket, operation=name)
        return Outcome.of(visit.findings, f"{settings.access} works" + visit.note)


_REASONS = {
    "NoSuchBucket": S3Bucket.Reason.BUCKET_MISSING,
    "RequestTimeTooSkewed": S3Bucket.Reason.CLOCK_SKEW,
    "QuotaExceeded": S3Bucket.Reason.STORAGE_FULL,
    "XMinioAdminBucketQuotaExceeded": S3Bucket.Reason.STORAGE_FULL,
    "XMinioStorageFull": S3Bucket.Reason.STORAGE_FULL,
} | dict.fromkeys(
    ("SlowDown", "SlowDownRead", "SlowDownWrite", "TooManyRequests", "ServiceUnavailable"), S3Bucket.Reason.SLOW_DOWN
)

_DENIED = {
    "list": S3Bucket.Reason.LIST_DENIED,
    "write": S3Bucket.Reason.WRITE_DENIED,
    "read": S3Bucket.Reason.READ_DENIED,
    "delete": S3Bucket.Reason.DELETE_DENIED,
}


class _Visit:
    """One run: what it found, and the journal, in the probe's memory, of what it wrote and has not deleted.

    ``canaries`` are version ids (empty where there are none, or none is known yet), ``uploads`` are upload ids.
    """

    def __init__(self, ctx: ProbeContext, settings: S3Bucket.Settings, bucket: Bucket) -> None:
        self.ctx = ctx
        self.settings = settings
        self.bucket = bucket
        self.findings: list[Finding] = []
        self.operations: dict[str, bool] = {}
        self.note = ""
        owner = ctx.memory.setdefault("owner", secrets.token_hex(8))
        self.own_prefix = f"{settings.prefix}{owner}/"
        self.key = f"{self.own_prefix}canary"

    async def all_operations(self) -> None:
        self._check_session()
        await self._remove_leftovers()
        match self.settings.access:
            case "read_only":
                await self._read_something()
            case "write_only":
                await self._begin_and_abort()
                if self.settings.put:
                    await self._put_for_consumer()
            case "read_write":
                async with self._operation("list"):
                    await self.bucket.listing(self.own_prefix)
                locked, _ = await self._nature()
                if locked:
                    self.note = "; objects are locked by default, so writing is proven by an upload that is aborted"
                    await self._begin_and_abort()
                else:
                    await self._canary()
        await self._check_configuration()

    @asynccontextmanager
    async def _operation(self, name: str) -> AsyncIterator[None]:
        """Judges one operation. That it is denied is a finding and no reason to skip the others."""
        ok = False
        try:
            yield
            ok = True
        except S3Fault as fault:
            if fault.status != 403 or fault.finding.reason != CommonReason.FORBIDDEN:
                raise
            finding = Finding.of(_DENIED[name], fault.finding.detail, name)
            self.findings += [finding] if self.operations.get(name, True) else []
        finally:
            self.operations[name] = ok and self.operations.get(name, True)

    async def _canary(self) -> None:
        if not self._has_room("canaries"):
            return
        body = f"tocsin probe {self.ctx.probe} {self.ctx.request_id} {secrets.token_hex(16)}\n".encode()
        entry = self._record("canaries", "")
        async with self._operation("write"):
            answer = await self.bucket.call("PUT", self.key, body=body, headers={"content-type": "text/plain"})
            self._forget("canaries", entry)
            entry = self._record("canaries", answer.headers.get("x-amz-version-id", ""))
        if not self.operations["write"]:
            self._forget("canaries", entry)
            return
        async with self._operation("read"):
            answer = await self.bucket.call("GET", self.key, absent_ok=True)
            if answer.body != body:
                read = f"{len(answer.body)} bytes that differ" if answer.status == 200 else "nothing"
                detail = f"{read} where {len(body)} bytes were just written"
                self.findings.append(Finding.of(S3Bucket.Reason.READ_BACK_DIFFERS, detail, "read"))
        await self._remove("canaries", entry)

    async def _begin_and_abort(self) -> None:
        if not self._has_room("uploads"):
            return
        entry: str | None = None
        async with self._operation("write"):
            answer = await self.bucket.call("POST", self.key, {"uploads": ""})
            upload = parsed(answer, "InitiateMultipartUploadResult").findtext("{*}UploadId") or ""
            entry = self._record("uploads", upload)
        if entry is not None:
            await self._remove("uploads", entry)

    async def _put_for_consumer(self) -> None:
        async with self._operation("write"):
            await self.bucket.call("PUT", self.key, body=f"tocsin probe {self.ctx.probe}\n".encode())
            try:
                await self.bucket.erase(self.key)
            except S3Fault as fault:
                if fault.status != 403:
                    raise
                self.note = "; the canary may not be deleted and stays"

    async def _read_something(self) -> None:
        found = None
        async with self._operation("list"):
            prefix = self.settings.prefix if "prefix" in self.settings.model_fields_set else ""
            found = await self.bucket.listing(prefix, limit=10)
        if found is None:
            return
        async with self._operation("read"):
            # Who may read is told that there is no such key; who may not is denied.
            key = next((item.key for item in found if item.size), f"{self.settings.prefix}absent")
            await self.bucket.call("GET", key, headers={"range": "bytes=0-0"}, absent_ok=True)

    async def _remove_leftovers(self) -> None:
        for journal in ("canaries", "uploads"):
            for entry in list(self.ctx.memory.get(journal, [])):
                await self._remove(journal, entry)

    async def _remove(self, journal: str, entry: str) -> None:
        async with self._operation("delete"):
            if journal == "uploads":
                await self.bucket.call("DELETE", self.key, {"uploadId": entry}, absent_ok=True)
            else:
                _, versioned = await self._nature()
                await self.bucket.erase(self.key, entry, versioned=versioned)
            self._forget(journal, entry)

    async def _nature(self) -> tuple[bool, bool]:
        """Whether new objects are locked by default (then no canary is written), and whether versions are kept.

        Both are false where the credentials may not ask; what follows from being wrong is ``delete_denied``.
        """
        known = self.ctx.memory.get("nature")
        if known is None or known[0] < self.ctx.now():
            locked, versioned = False, False
            try:
                versioned = await self.bucket.versioning() != "off"
                locked = versioned and await self.bucket.has_default_retention()
                for left in await self.bucket.versions_of(self.key) if versioned else ():
                    await self.bucket.erase(self.key, left.version)
            except S3Fault as fault:
                if fault.status not in (400, 403, 501):
                    raise
            known = [self.ctx.now() + RECHECK_NATURE, locked, versioned]
            self.ctx.memory["nature"] = known
        return bool(known[1]), bool(known[2])

    async def _check_configuration(self) -> None:
        found: dict[str, tuple[str, str]] = {}
        if self.settings.versioning:
            found["versioning"] = (await self.bucket.versioning(), self.settings.versioning)
        if self.settings.lifecycle:
            found["lifecycle"] = ("present" if await self.bucket.has_lifecycle() else "absent", self.settings.lifecycle)
        for what, (state, declared) in found.items():
            if state != declared:
                detail = f"{what} is {state}, declared is {declared}"
                self.findings.append(Finding.of(S3Bucket.Reason.CONFIGURATION_DIFFERS, detail, what))

    def _check_session(self) -> None:
        ends = session_expires_at(self.settings.session_token)
        if ends is not None and ends - self.ctx.now() < self.settings.session_left:
            left = format_duration(max(0.0, float(round(ends - self.ctx.now()))))
            self.findings.append(Finding.of(CommonReason.CERTIFICATE_EXPIRING, f"the session token ends in {left}"))

    def _has_room(self, journal: str) -> bool:
        """False, and nothing may be written, when too much of what was written could not be removed."""
        return len(self.ctx.memory.get(journal, [])) < MAX_LEFTOVERS

    def _record(self, journal: str, entry: str) -> str:
        self.ctx.memory[journal] = [*self.ctx.memory.get(journal, []), entry]
        return entry

    def _forget(self, journal: str, entry: str) -> None:
        self.ctx.memory[journal] = [known for known in self.ctx.memory.get(journal, []) if known != entry]

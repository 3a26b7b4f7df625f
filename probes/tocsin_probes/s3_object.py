"""`s3_object`: a sample of what is stored can be fetched and is what it claims to be."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, model_validator

from tocsin.sdk import (
    ByteCount,
    CommonReason,
    Finding,
    Gauge,
    Outcome,
    Probe,
    ProbeContext,
    ReasonEnum,
    Secret,
    Severity,
    Status,
)
from tocsin.sdk.documents import is_json, is_pdf
from tocsin.sdk.postgres import COLUMN_MISSING, QUERY_ERROR, TABLE_MISSING, read_only, reasons_of_query, targets_of
from tocsin.sdk.s3 import Bucket, S3Fault, S3Settings
from tocsin.sdk.sql_text import Name, Select, quoted

_SAMPLED = Gauge("tocsin_objects_sampled", "Objects that the last run fetched.")


@dataclass(frozen=True, slots=True)
class Sample:
    """An object to look at. ``checksum``: what it must be, in hex or base64; empty when there is none."""

    key: str
    checksum: str = ""


class S3Object(Probe):
    """Stored objects, chosen by a query or by name, can be fetched and are what they claim to be."""

    kind = "s3_object"
    gauges = (_SAMPLED,)

    class Settings(S3Settings):
        bucket: str
        """The bucket that the objects are in."""
        key: str = ""
        """A fixed object; or a query chooses."""
        dsn: Secret | None = None
        """Of the database that knows the objects; a role that may read what the query asks for."""
        query: Select | None = None
        """One SELECT that returns the objects to look at, best the newest first."""
        key_column: Name = "key"
        checksum_column: Name = ""
        samples: int = Field(default=1, ge=1, le=10)
        checksum: str = ""
        """What the fixed object's checksum must be, in hex or base64."""
        checksum_type: Literal["sha256", "sha512", "sha1", "md5"] = "sha256"
        type: Literal["any", "pdf", "json"] = "any"
        max_bytes: ByteCount = 10 << 20
        """A larger object is not read in full and is ``too_large``."""
        empty_ok: bool = False
        """Whether a query that returns nothing is well (a new platform) rather than unknown."""

        @model_validator(mode="after")
        def _one_source(self) -> Self:
            if bool(self.key) == bool(self.query) or bool(self.query) != bool(self.dsn):
                raise ValueError("set either key, or dsn and query")
            return self

        def targets(self) -> tuple[str, ...]:
            return (*super().targets(), *(targets_of(self.dsn) if self.dsn else ()))

    class Reason(ReasonEnum):
        OBJECT_MISSING = "object_missing", "An object that the platform knows is not in the bucket."
        BUCKET_MISSING = "bucket_missing", "The bucket does not exist."
        CHECKSUM_MISMATCH = "checksum_mismatch", "The stored object is not the one whose checksum was recorded."
        NOT_A_PDF = "not_a_pdf", "The stored object is not a complete PDF."
        NOT_JSON = "not_json", "The stored object is not JSON."
        TOO_LARGE = (
            "too_large",
            "The object is larger than the limit, so it was not judged.",
            Severity.TICKET,
            Status.UNKNOWN,
        )
        NOTHING_TO_SAMPLE = (
            "nothing_to_sample",
            "The query returns no object, so nothing could be proven.",
            Severity.TICKET,
            Status.UNKNOWN,
        )
        TABLE_MISSING = TABLE_MISSING
        COLUMN_MISSING = COLUMN_MISSING
        QUERY_ERROR = QUERY_ERROR

    async def run(self, ctx: ProbeContext) -> Outcome:
        settings: S3Object.Settings = self.settings
        samples = await self._samples(ctx)
        if not samples and not settings.empty_ok:
            return Outcome.bad(self.Reason.NOTHING_TO_SAMPLE, "the query returns no row")
        bucket = Bucket(ctx, settings, settings.bucket, {"NoSuchBucket": self.Reason.BUCKET_MISSING})
        findings = [finding for sample in samples for finding in await self._look(bucket, sample)]
        ctx.measure(_SAMPLED, len(samples))
        return Outcome.of(findings, f"{len(samples)} objects are what they claim")

    async def _samples(self, ctx: ProbeContext) -> list[Sample]:
        settings: S3Object.Settings = self.settings
        if settings.query is None or settings.dsn is None:
            return [Sample(settings.key, settings.checksum)]
        checksum = f"{quoted(settings.checksum_column)}::text" if settings.checksum_column else "''"
        async with read_only(ctx, settings.dsn, reasons_of_query(self.Reason), settings) as connection:
            rows = await connection.fetch(
                f"SELECT {quoted(settings.key_column)}::text AS key, {checksum} AS checksum "
                f"FROM (\n{settings.query}\n) AS q LIMIT {settings.samples}"
            )
        return [Sample(row["key"] or "", row["checksum"]) for row in rows]

    async def _look(self, bucket: Bucket, sample: Sample) -> list[Finding]:
        settings: S3Object.Settings = self.settings
        if not sample.key:
            return [Finding.of(self.Reason.OBJECT_MISSING, "the row names no object")]
        try:
            answer = await bucket.call("GET", sample.key, max_bytes=settings.max_bytes)
        except S3Fault as fault:
            if fault.status == 404 and fault.code != "NoSuchBucket":
                return [Finding.of(self.Reason.OBJECT_MISSING, f"{sample.key}: {fault.finding.detail}")]
            raise
        if answer.truncated:
            return [Finding.of(self.Reason.TOO_LARGE, f"{sample.key} is larger than {settings.max_bytes} bytes")]
        # Hashing and parsing megabytes would hold the loop for tens of milliseconds.
        reason = await asyncio.to_thread(self._judge, answer.body, sample.checksum)
        if reason:
            return [Finding.of(reason, f"{sample.key}, {len(answer.body)} bytes")]
        if sample.checksum is None:
            detail = f"{sample.key}: its row has no {settings.checksum_column}"
            return [Finding.of(CommonReason.DEPENDENCY_UNKNOWN, detail)]
        return []

    def _judge(self, body: bytes, checksum: str | None) -> ReasonEnum | None:
        settings: S3Object.Settings = self.settings
        if checksum and not is_checksum(checksum, hashlib.new(settings.checksum_type, body).digest()):
            return self.Reason.CHECKSUM_MISMATCH
        if settings.type == "pdf" and not is_pdf(body):
            return self.Reason.NOT_A_PDF
        if settings.type == "json" and not is_json(body):
            return self.Reason.NOT_JSON
        return None


def is_checksum(text: str, digest: bytes) -> bool:
    """Whether ``text`` is this digest in hex or base64, perhaps after a name: ``sha256:…``."""
    bare = text.rpartition(":")[2].strip()
    return bare.lower() == digest.hex() or bare == base64.b64encode(digest).decode()

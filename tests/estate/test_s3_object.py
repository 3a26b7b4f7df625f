"""`s3_object` on a real MinIO, with rows of a real PostgreSQL that name the objects."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from estate.servers.minio import MinIO
from estate.servers.postgresql import PostgreSQL
from estate.servers.sigv4 import Credentials
from tests.probing import FreePermits, Probed, probe_once
from tocsin_probes.s3_object import S3Object

pytestmark = pytest.mark.estate

PDF = b"%PDF-1.7\n" + b"x" * 3000 + b"\nstartxref\n0\n%%EOF\n"
QUERY = "SELECT object_key, sha256 FROM certificates ORDER BY created_at DESC"


class Rows:
    """The platform's table of certificates."""

    def __init__(self, server: PostgreSQL, database: str) -> None:
        self.dsn = server.dsn(database)
        self.target = f"postgresql://127.0.0.1:{server.port}"
        self._server, self._database = server, database
        self.execute("CREATE TABLE certificates (object_key text, sha256 text, created_at timestamptz DEFAULT now())")

    def execute(self, sql: str) -> None:
        self._server.execute(sql, database=self._database)


@pytest.fixture
def rows(postgresql: PostgreSQL, database: str) -> Rows:
    return Rows(postgresql, database)


async def fetch(minio: MinIO, bucket: str, credentials: Credentials | None = None, **own: Any) -> Probed:
    keys = credentials or minio.root
    permits = own.pop("permits", None)
    usual = {
        "endpoint_url": minio.url,
        "bucket": bucket,
        "access_key_id": keys.access_key,
        "secret_access_key": keys.secret_key,
        "session_token": keys.session_token or "",
    }
    return await probe_once(S3Object(S3Object.Settings.model_validate(usual | own)), permits=permits)


async def test_objects_that_the_newest_rows_name_are_what_they_claim(minio: MinIO, bucket: str, rows: Rows) -> None:
    permits = FreePermits()
    minio.put(bucket, "a/1 é+.pdf", PDF)
    digest = hashlib.sha256(PDF).hexdigest()
    rows.execute(
        f"INSERT INTO certificates VALUES ('a/1 é+.pdf', '{digest}', now()), ('absent', '', now() - interval '1 day')"
    )
    own = {"dsn": rows.dsn, "query": QUERY, "key_column": "object_key", "checksum_column": "sha256", "type": "pdf"}
    seen = await fetch(minio, bucket, permits=permits, **own)
    assert seen.verdict == ("ok", None), seen.detail
    assert seen.measured("tocsin_objects_sampled") == 1
    assert permits.asked == [rows.target, minio.url]
    assert (await fetch(minio, bucket, samples=2, **own)).verdict == ("failed", "object_missing")


async def test_each_way_in_which_an_object_is_not_what_it_claims_is_told_apart(minio: MinIO, bucket: str) -> None:
    sha = hashlib.sha256(PDF)
    for body, own, reason in (
        (PDF, {"type": "pdf", "checksum": sha.hexdigest().upper()}, None),
        (PDF, {"checksum": "sha256:" + base64.b64encode(sha.digest()).decode()}, None),
        (PDF, {"checksum": hashlib.md5(PDF).hexdigest(), "checksum_type": "md5"}, None),
        (PDF + b"!", {"checksum": sha.hexdigest()}, "checksum_mismatch"),
        (PDF[:2000], {"type": "pdf"}, "not_a_pdf"),
        (b"<html>", {"type": "pdf"}, "not_a_pdf"),
        (b"", {"type": "pdf"}, "not_a_pdf"),
        (b'{"a": [1, "\xc3\xa9"]}', {"type": "json"}, None),
        (b'{"a": [1', {"type": "json"}, "not_json"),
        (b'"\xff"', {"type": "json"}, "not_json"),
        (b"[" * 100_000, {"type": "json"}, "not_json"),
        (b"x" * 2000, {"max_bytes": "1KiB"}, "too_large"),
    ):
        minio.put(bucket, "sample", body)
        seen = await fetch(minio, bucket, key="sample", **own)
        assert seen.outcome.reason == reason, (body[:20], own, seen.detail)


async def test_what_is_missing_or_denied_is_told_apart(minio: MinIO, bucket: str, rows: Rows) -> None:
    assert (await fetch(minio, bucket, key="absent")).verdict == ("failed", "object_missing")
    assert (await fetch(minio, "elsewhere", key="a")).verdict == ("failed", "bucket_missing")
    assert (await fetch(minio, bucket, Credentials("stranger", "x"), key="a")).verdict == (
        "unknown",
        "credentials_rejected",
    )
    denied = await fetch(minio, bucket, minio.credentials(bucket, "write"), key="a")
    assert denied.verdict == ("failed", "forbidden")
    unproven = {"dsn": rows.dsn, "query": "SELECT 'a' AS key, NULL AS sum", "key_column": "key"}
    minio.put(bucket, "a", b"x")
    assert (await fetch(minio, bucket, **unproven)).verdict == ("ok", None)
    without = await fetch(minio, bucket, **unproven, checksum_column="sum")
    assert (without.verdict, without.detail) == (("unknown", "dependency_unknown"), "a: its row has no sum")
    wrong = await fetch(minio, bucket, **unproven, checksum_column="sum", type="pdf")
    assert wrong.verdict == ("failed", "not_a_pdf"), "what is known to be bad comes first"
    unpublished = unproven | {"query": "SELECT 'a' AS key, '' AS sum"}
    assert (await fetch(minio, bucket, **unpublished, checksum_column="sum")).verdict == ("ok", None)
    own = {"dsn": rows.dsn, "query": QUERY, "key_column": "object_key"}
    assert (await fetch(minio, bucket, **own)).verdict == ("unknown", "nothing_to_sample")
    assert (await fetch(minio, bucket, **own, empty_ok=True)).verdict == ("ok", None)
    assert (await fetch(minio, bucket, **own | {"key_column": "path"})).verdict == ("unknown", "column_missing")
    rows.execute("INSERT INTO certificates VALUES (NULL, NULL)")
    assert (await fetch(minio, bucket, **own)).verdict == ("failed", "object_missing")

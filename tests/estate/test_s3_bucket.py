"""`s3_bucket` on a real MinIO: every reason, and that nothing is left and nothing foreign is touched."""

from __future__ import annotations

import asyncio
import datetime
import itertools
from typing import Any

import pytest

from estate.servers.minio import MinIO
from estate.servers.sigv4 import Credentials, signed_headers
from tests.probing import FreePermits, Probed, probe_once
from tocsin_probes.s3_bucket import S3Bucket

pytestmark = pytest.mark.estate


def made(minio: MinIO, bucket: str, credentials: Credentials | None = None, **own: Any) -> S3Bucket:
    keys = credentials or minio.root
    usual = {
        "endpoint_url": minio.url,
        "bucket": bucket,
        "access_key_id": keys.access_key,
        "secret_access_key": keys.secret_key,
        "session_token": keys.session_token or "",
    }
    return S3Bucket(S3Bucket.Settings(**usual | own))


async def visit(minio: MinIO, bucket: str, credentials: Credentials | None = None, **own: Any) -> Probed:
    surroundings = {name: own.pop(name) for name in ("memory", "clock", "permits", "timeout") if name in own}
    return await probe_once(made(minio, bucket, credentials, **own), **surroundings)


def reasons(seen: Probed) -> set[tuple[str, str]]:
    return {(finding.reason, finding.component) for finding in seen.outcome.findings}


async def test_a_bucket_that_works_is_ok_and_nothing_stays_in_it(minio: MinIO, bucket: str) -> None:
    permits = FreePermits()
    seen = await visit(minio, bucket, permits=permits)
    assert seen.verdict == ("ok", None), seen.detail
    for operation in ("list", "write", "read", "delete"):
        assert seen.measured("tocsin_bucket_operation_ok", bucket=bucket, operation=operation) == 1
    assert minio.versions(bucket) == []
    assert set(permits.asked) == {minio.url} == set(made(minio, bucket).settings.targets())


async def test_a_missing_bucket_is_missing_for_every_access(minio: MinIO) -> None:
    for access in ("read_write", "read_only", "write_only"):
        seen = await visit(minio, "absent", access=access)
        assert seen.verdict == ("failed", "bucket_missing"), access
        assert "x-amz-request-id" in seen.detail


async def test_each_denied_operation_is_told_apart_and_the_others_go_on(minio: MinIO, bucket: str) -> None:
    for denied, allowed, left in (
        ("list", ("read", "write", "delete"), 0),
        ("read", ("list", "write", "delete"), 0),
        ("write", ("list", "read", "delete"), 0),
        ("delete", ("list", "read", "write"), 1),
    ):
        seen = await visit(minio, bucket, minio.credentials(bucket, *allowed))
        assert reasons(seen) == {(f"{denied}_denied", denied)}, seen.outcome
        assert seen.measured("tocsin_bucket_operation_ok", operation=denied) == 0
        assert len(minio.versions(bucket)) == left


async def test_a_bucket_of_another_name_is_never_written_to(minio: MinIO, bucket: str) -> None:
    permits = FreePermits()
    seen = await visit(minio, bucket, expected_name="production-*", permits=permits)
    assert seen.verdict == ("failed", "name_mismatch")
    assert permits.asked == []
    assert (await visit(minio, bucket, expected_name=f"{bucket[:6]}*")).verdict == ("ok", None)


async def test_the_probe_s_own_credentials_are_unknown_and_never_shown(minio: MinIO, bucket: str) -> None:
    bad = {
        "unknown key": Credentials("stranger", "estate-root-secret"),
        "wrong secret": Credentials(minio.root.access_key, "wrong-secret"),
        "wrong token": Credentials(minio.root.access_key, minio.root.secret_key, "wrong-token"),
    }
    for what, credentials in bad.items():
        for access in ("read_write", "read_only", "write_only"):
            seen = await visit(minio, bucket, credentials, access=access)
            assert seen.verdict == ("unknown", "credentials_rejected"), (what, seen.detail)
            assert "secret" not in seen.detail
    assert (await visit(minio, bucket, Credentials("", ""))).verdict == ("unknown", "credentials_missing")
    assert (await visit(minio, bucket, region="elsewhere")).verdict == ("unknown", "credentials_rejected")


async def test_clocks_that_differ_are_unknown(minio: MinIO, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for hours in (-1, 1):
        skewed = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=hours)
        monkeypatch.setattr("botocore.auth.get_current_datetime", lambda skewed=skewed: skewed)
        assert (await visit(minio, bucket)).verdict == ("unknown", "clock_skew")


async def test_a_session_that_ends_soon_is_told_before_it_does(minio: MinIO, bucket: str) -> None:
    session = minio.session(seconds=900)
    assert (await visit(minio, bucket, session)).verdict == ("ok", None)
    seen = await visit(minio, bucket, session, session_left="1h")
    assert seen.verdict == ("failed", "certificate_expiring")
    assert seen.outcome.severity == "ticket"


@pytest.mark.parametrize("versioning", ["Enabled", "Suspended"])
async def test_versions_are_deleted_for_good(minio: MinIO, bucket: str, versioning: str) -> None:
    minio.set_versioning(bucket, "Enabled")
    minio.set_versioning(bucket, versioning)
    for _ in range(2):
        assert (await visit(minio, bucket)).verdict == ("ok", None)
    assert b"<DeleteMarker>" not in minio.call("GET", f"/{bucket}", query={"versions": ""}).body
    assert minio.versions(bucket) == []


async def test_a_delete_that_may_only_hide_the_version_is_denied(minio: MinIO, bucket: str) -> None:
    minio.set_versioning(bucket, "Enabled")
    credentials = minio.credentials(bucket, "list", "read", "write", "s3:DeleteObject")
    assert reasons(await visit(minio, bucket, credentials)) == {("delete_denied", "delete")}


async def test_canaries_that_cannot_be_deleted_stop_the_writing(minio: MinIO, bucket: str) -> None:
    for versioning, most in (("Suspended", 1), ("Enabled", 3)):
        minio.set_versioning(bucket, versioning)
        memory: dict[str, Any] = {}
        stuck = minio.credentials(bucket, "list", "read", "write")
        for _ in range(6):
            seen = await visit(minio, bucket, stuck, memory=memory)
            assert reasons(seen) == {("delete_denied", "delete")}
        assert len(minio.versions(bucket)) == most
        assert (await visit(minio, bucket, memory=memory)).verdict == ("ok", None)
        assert minio.versions(bucket) == []


async def test_what_a_cut_off_run_or_a_killed_daemon_left_goes_and_foreign_objects_stay(
    minio: MinIO, bucket: str
) -> None:
    for versioning, journal in itertools.product(("Suspended", "Enabled"), ([""], [])):
        minio.set_versioning(bucket, versioning)
        memory: dict[str, Any] = {}
        await visit(minio, bucket, memory=memory)
        own = f"tocsin-canary/{memory['owner']}"
        foreign = {"document.pdf", "tocsin-canary/another-replica/canary", f"{own}/canary-of-a-person"}
        for key in (f"{own}/canary", *foreign):
            minio.put(bucket, key, b"x")
        memory["canaries"] = journal
        memory["nature"][0] = 0.0
        assert (await visit(minio, bucket, memory=memory)).verdict == ("ok", None)
        assert memory["canaries"] == []
        assert set(minio.keys(bucket)) == foreign
        assert {key for key, _ in minio.versions(bucket)} == foreign
        minio.delete_bucket(bucket)
        minio.create_bucket(bucket)


async def test_a_run_that_is_cut_off_has_recorded_what_it_wrote(minio: MinIO, bucket: str) -> None:
    memory: dict[str, Any] = {}
    await visit(minio, bucket, memory=memory)
    run = asyncio.create_task(visit(minio, bucket, memory=memory))
    for _ in range(10_000):
        if memory["canaries"]:
            break
        await asyncio.sleep(0)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert len(memory["canaries"]) == 1
    assert (await visit(minio, bucket, memory=memory)).verdict == ("ok", None)
    assert memory["canaries"] == []
    assert minio.versions(bucket) == []


async def test_a_write_only_bucket_is_proven_without_reading_listing_or_leaving(minio: MinIO, bucket: str) -> None:
    credentials = minio.credentials(bucket, "write")
    seen = await visit(minio, bucket, credentials, access="write_only")
    assert seen.verdict == ("ok", None), seen.detail
    assert {m.label_map()["operation"] for m in seen.measurements} == {"write", "delete"}
    assert minio.versions(bucket) == []
    uploads = minio.call("GET", f"/{bucket}", query={"uploads": "", "prefix": "tocsin-canary"}).body
    assert b"<Upload>" not in uploads
    denied = await visit(minio, bucket, minio.credentials(bucket, "read", "list"), access="write_only")
    assert reasons(denied) == {("write_denied", "write")}


async def test_an_upload_that_cannot_be_aborted_is_aborted_when_it_can(minio: MinIO, bucket: str) -> None:
    memory: dict[str, Any] = {}
    create_only = minio.credentials(bucket, "s3:PutObject")
    seen = await visit(minio, bucket, create_only, access="write_only", memory=memory)
    assert reasons(seen) == {("delete_denied", "delete")}
    assert len(memory["uploads"]) == 1
    assert (await visit(minio, bucket, access="write_only", memory=memory)).verdict == ("ok", None)
    assert memory["uploads"] == []


async def test_putting_into_a_write_only_bucket_is_opt_in_and_leaves_one_object_at_most(
    minio: MinIO, bucket: str
) -> None:
    memory: dict[str, Any] = {}
    for _ in range(2):
        seen = await visit(
            minio, bucket, minio.credentials(bucket, "write"), access="write_only", put=True, memory=memory
        )
        assert seen.verdict == ("ok", None), seen.detail
        assert seen.detail.endswith("the canary may not be deleted and stays")
    assert minio.keys(bucket) == [f"tocsin-canary/{memory['owner']}/canary"]
    assert (await visit(minio, bucket, access="write_only", put=True, memory=memory)).verdict == ("ok", None)
    assert minio.keys(bucket) == []


async def test_a_read_only_bucket_is_listed_and_read_and_never_written(minio: MinIO, bucket: str) -> None:
    readers = minio.credentials(bucket, "read", "list")
    assert (await visit(minio, bucket, readers, access="read_only")).verdict == ("ok", None)
    minio.put(bucket, "agents/empty", b"")
    minio.put(bucket, "agents/tool.bin", b"x" * 100)
    assert (await visit(minio, bucket, readers, access="read_only")).verdict == ("ok", None)
    assert minio.keys(bucket) == ["agents/empty", "agents/tool.bin"]
    for allowed, denied in (("list", "read"), ("read", "list")):
        seen = await visit(minio, bucket, minio.credentials(bucket, allowed), access="read_only")
        assert reasons(seen) == {(f"{denied}_denied", denied)}


async def test_a_bucket_that_locks_objects_is_proven_by_an_aborted_upload(minio: MinIO) -> None:
    minio.create_bucket("locked", object_lock=True)
    assert (await visit(minio, "locked")).verdict == ("ok", None)
    rule = b"<DefaultRetention><Mode>GOVERNANCE</Mode><Days>1</Days></DefaultRetention>"
    lock = b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule>%s</Rule></ObjectLockConfiguration>"
    minio.call("PUT", "/locked", query={"object-lock": ""}, body=lock % rule).expect(200)
    seen = await visit(minio, "locked")
    assert seen.verdict == ("ok", None), seen.detail
    assert "locked by default" in seen.detail
    assert minio.versions("locked") == []
    minio.call("DELETE", "/locked").expect(204)


async def test_versioning_and_lifecycle_are_as_declared_or_not(minio: MinIO, bucket: str) -> None:
    well = await visit(minio, bucket, versioning="off", lifecycle="absent")
    assert well.verdict == ("ok", None)
    differs = await visit(minio, bucket, versioning="enabled", lifecycle="present")
    assert reasons(differs) == {("configuration_differs", "versioning"), ("configuration_differs", "lifecycle")}


async def test_a_bucket_over_its_quota_is_full(minio: MinIO, bucket: str) -> None:
    quota = {"bucket": bucket}
    minio.call("PUT", "/minio/admin/v3/set-bucket-quota", query=quota, body=b'{"quota":1,"quotatype":"hard"}').expect(
        200
    )
    seen = await visit(minio, bucket)
    assert seen.verdict == ("failed", "storage_full"), seen.detail


async def test_a_server_that_has_too_many_requests_slows_down() -> None:
    with MinIO(environment={"MINIO_API_REQUESTS_MAX": "1", "MINIO_API_REQUESTS_DEADLINE": "100ms"}) as busy:
        busy.create_bucket("any")
        host = f"127.0.0.1:{busy.port}"
        sent = signed_headers(busy.root, "PUT", host, "/any/held", {}, b"123456789")
        lines = [f"{name}: {value}" for name, value in (sent | {"content-length": "9"}).items()]
        reader, writer = await asyncio.open_connection("127.0.0.1", busy.port)
        try:
            # An upload whose body does not come keeps the only place; an answer says that it got one.
            writer.write("\r\n".join(["PUT /any/held HTTP/1.1", *lines, "expect: 100-continue", "", ""]).encode())
            assert (await reader.readline()).startswith(b"HTTP/1.1 100")
            seen = await visit(busy, "any")
        finally:
            writer.close()
            await writer.wait_closed()
    assert seen.verdict == ("failed", "slow_down"), seen.detail


async def test_a_stopped_or_frozen_server_ends_the_run_in_time(bucket: str, minio: MinIO) -> None:
    minio.pause()
    try:
        frozen = await visit(minio, bucket, timeout=1.0)
    finally:
        minio.resume()
    assert frozen.verdict == ("failed", "timeout")
    assert frozen.duration_seconds < 1.5
    with MinIO() as other:
        other.stop()
        assert (await visit(other, "any")).verdict == ("failed", "connection_refused")


async def test_something_that_is_not_s3_is_not_taken_for_it() -> None:
    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(page, "127.0.0.1", 0) as other:
        url = f"http://127.0.0.1:{other.sockets[0].getsockname()[1]}"
        for access in ("read_write", "read_only", "write_only"):
            settings = {"endpoint_url": url, "bucket": "b", "access_key_id": "a", "secret_access_key": "s"}
            seen = await probe_once(S3Bucket(S3Bucket.Settings(**settings, access=access)))
            assert seen.verdict == ("failed", "unexpected_body"), access

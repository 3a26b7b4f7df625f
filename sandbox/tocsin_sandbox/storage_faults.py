"""Faults of the object store: the incident page's "Storage Outage"."""

from __future__ import annotations

from tocsin_sandbox.estate import Estate
from tocsin_sandbox.fault import Act, Fault
from tocsin_sandbox.storage import StorageMood
from tocsin_sandbox.wipe import BUCKETS

_PROOFS = BUCKETS["S3_BUCKET_PROOFS"]
_EXPORTS = BUCKETS["S3_BUCKET_EXPORTS"]
_DROP = BUCKETS["S3_BUCKET_BILLING_DROP"]


async def _stop(estate: Estate) -> None:
    await estate.storage.stop()


async def _start(estate: Estate) -> None:
    await estate.storage.start()


async def _remove_bucket(estate: Estate) -> None:
    names = {bucket["Name"] for bucket in (await estate.storage.call("list_buckets"))["Buckets"]}
    if _EXPORTS in names:
        await estate.storage.delete_bucket(_EXPORTS)


async def _restore_bucket(estate: Estate) -> None:
    names = {bucket["Name"] for bucket in (await estate.storage.call("list_buckets"))["Buckets"]}
    if _EXPORTS not in names:
        await estate.storage.create_bucket(_EXPORTS)


def _mood(mood: StorageMood) -> Act:
    async def act(estate: Estate) -> None:
        estate.storage.behave(mood)

    return act


async def _revoke(estate: Estate) -> None:
    estate.storage.revoke_credentials()


async def _restore(estate: Estate) -> None:
    estate.storage.restore_credentials()


def _fault(name: str, title: str, effect: str, probe: str, reason: str, cause: Act, undo: Act, knob: str = "") -> Fault:
    return Fault(name, title, effect, "wipe", "storage-outage", probe, reason, cause, undo, knob)


def _denied(name: str, title: str, bucket: str, probe: str, reason: str, *actions: str) -> Fault:
    """A policy takes ``actions`` on ``bucket`` away; one such policy at a time."""

    async def deny(estate: Estate) -> None:
        await estate.storage.deny(bucket, *actions)

    async def allow(estate: Estate) -> None:
        await estate.storage.deny(bucket)

    effect = f"A policy denies {' and '.join(actions)} on {bucket}."
    return _fault(name, title, effect, probe, reason, deny, allow, f"policy of {bucket}")


FAULTS = (
    _fault(
        "storage-stopped", "The object store is down", "The S3 server is stopped: connections are refused.",
        "wipe-storage-health", "connection_refused", _stop, _start,
    ),
    _fault(
        "bucket-deleted", "The export bucket is gone", "The bucket of S3_BUCKET_EXPORTS is emptied and deleted.",
        "wipe-bucket-exports", "bucket_missing", _remove_bucket, _restore_bucket,
    ),
    _denied(
        "bucket-write-denied", "Proofs cannot be stored", _PROOFS, "wipe-bucket-proofs", "write_denied", "s3:PutObject",
    ),
    _denied(
        "bucket-read-denied", "Proofs cannot be read", _PROOFS, "wipe-bucket-proofs", "read_denied", "s3:GetObject",
    ),
    _denied(
        "bucket-delete-denied", "Proofs cannot be deleted", _PROOFS, "wipe-bucket-proofs", "delete_denied",
        "s3:DeleteObject", "s3:DeleteObjectVersion",
    ),
    _denied(
        "bucket-list-denied", "The proof bucket cannot be listed", _PROOFS, "wipe-bucket-proofs", "list_denied",
        "s3:ListBucket", "s3:ListBucketVersions",
    ),
    _denied(
        "drop-write-denied", "Billing files cannot be delivered", _DROP, "wipe-bucket-billing-drop", "write_denied",
        "s3:PutObject",
    ),
    _fault(
        "storage-slow-down", "The object store asks to slow down", "Every request is answered 503 SlowDown.",
        "wipe-bucket-proofs", "slow_down", _mood(StorageMood.SLOW_DOWN), _mood(StorageMood.NORMAL), "storage mood",
    ),
    _fault(
        "storage-corrupt", "Objects are read back changed", "The last byte of every object is flipped when it is read.",
        "wipe-bucket-proofs", "read_back_differs", _mood(StorageMood.CORRUPT), _mood(StorageMood.NORMAL),
        "storage mood",
    ),
    _fault(
        "storage-silent", "The object store accepts and never answers", "S3 requests are taken and left unanswered.",
        "wipe-bucket-proofs", "timeout", _mood(StorageMood.SILENT), _mood(StorageMood.NORMAL), "storage mood",
    ),
    _fault(
        "storage-key-revoked", "The storage credentials were revoked",
        "The access key is taken out of the server: InvalidAccessKeyId.",
        "wipe-bucket-proofs", "credentials_rejected", _revoke, _restore,
    ),
)  # fmt: skip

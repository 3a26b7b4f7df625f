"""S3 by moto, with moto's own signature checks and IAM policies: a denied write is denied by a real policy.

Published of the platform: five buckets by variable, the billing drop is an optional, write-only delivery target.
MinIO is the local object store, so its liveness path ``/minio/health/live`` answers 200 here too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl, quote, unquote

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from werkzeug.serving import BaseWSGIServer

REGION = "eu-west-3"
USER = "tocsin"
_EMPTYINGS = 20
"""How often a bucket is emptied before it is told that it cannot be deleted."""

_WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_SLOW_DOWN = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message><RequestId>sandbox</RequestId></Error>"""


_request = threading.local()
"""``address``: path and query of the request that this thread serves, as they were sent."""


class StorageMood(StrEnum):
    """What no policy of S3 can express. ``CORRUPT``: objects are read back with their last byte changed."""

    NORMAL = "normal"
    SLOW_DOWN = "slow_down"
    CORRUPT = "corrupt"
    SILENT = "silent"


class Storage:
    """The object store: a WSGI server on a thread. Its content survives `stop` and `start`."""

    def __init__(self, port: int, buckets: Iterable[str], write_only: Iterable[str]) -> None:
        self.port = port
        self.buckets = tuple(buckets)
        self.write_only = frozenset(write_only)
        self.denied: dict[str, frozenset[str]] = {}
        self.mood = StorageMood.NORMAL
        self.access_key_id = ""
        self.secret_access_key = ""
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None
        self._app: _WsgiApp | None = None
        self._admin: dict[str, str] = {}
        self._revoked: list[Any] = []
        self._woken = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        return self._server is not None

    async def start(self) -> None:
        if self._server is not None:
            return
        first = self._app is None
        await asyncio.to_thread(self._serve)
        if first:
            await asyncio.to_thread(self._furnish)

    async def stop(self) -> None:
        if self._server is not None:
            await asyncio.to_thread(self._shut_down)

    def behave(self, mood: StorageMood) -> None:
        """Turn to ``mood``; requests that a silent server held back go on."""
        self.mood = mood
        if mood is StorageMood.SILENT:
            self._woken.clear()
        else:
            self._woken.set()

    async def deny(self, bucket: str, *actions: str) -> None:
        """Take ``actions`` (IAM names, ``s3:PutObject``) on ``bucket`` from the platform's user; none allows all."""
        if actions:
            self.denied[bucket] = frozenset(actions)
        else:
            self.denied.pop(bucket, None)
        await asyncio.to_thread(self._write_policy)

    async def call(self, operation: str, **arguments: Any) -> Any:
        """One S3 operation as the administrator: ``await storage.call("delete_bucket", Bucket="b")``."""
        return await asyncio.to_thread(lambda: getattr(self._client("s3"), operation)(**arguments))

    async def delete_bucket(self, bucket: str) -> None:
        """Remove ``bucket`` with every object and version. Who writes into it meanwhile can only delay that."""
        for _ in range(_EMPTYINGS):
            versions = await self.call("list_object_versions", Bucket=bucket)
            for entry in (*versions.get("Versions", []), *versions.get("DeleteMarkers", [])):
                await self.call("delete_object", Bucket=bucket, Key=entry["Key"], VersionId=entry["VersionId"])
            try:
                await self.call("delete_bucket", Bucket=bucket)
                return
            except ClientError as error:
                refused = error
                if error.response["Error"]["Code"] != "BucketNotEmpty":
                    raise
        raise refused

    async def create_bucket(self, bucket: str) -> None:
        await self.call("create_bucket", Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})

    def revoke_credentials(self) -> None:
        """Take the access key that the platform uses out of the server: it is unknown (InvalidAccessKeyId) now."""
        keys = self._access_keys()
        self._revoked.extend(keys)
        keys.clear()

    def restore_credentials(self) -> None:
        """Put the same key back, which no S3 or IAM call can do."""
        self._access_keys().extend(self._revoked)
        self._revoked.clear()

    def _access_keys(self) -> list[Any]:
        from moto.core.models import DEFAULT_ACCOUNT_ID
        from moto.iam.models import iam_backends

        return cast("list[Any]", iam_backends[DEFAULT_ACCOUNT_ID]["aws"].get_user(USER).access_keys)

    def _serve(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
        if self._app is None:
            _check_canonical_signatures()
            self._app = cast("_WsgiApp", DomainDispatcherApplication(create_backend_app))
        if self.mood is StorageMood.SILENT:
            self._woken.clear()
        self._server = make_server(
            "127.0.0.1", self.port, self._front, threaded=True, request_handler=MotoRequestHandler
        )
        self._server.daemon_threads = True  # type: ignore[attr-defined]  # of socketserver.ThreadingMixIn
        self._server.block_on_close = False  # type: ignore[attr-defined]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="storage", daemon=True
        )
        self._thread.start()

    def _shut_down(self) -> None:
        assert self._server is not None
        assert self._thread is not None
        self._woken.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server = self._thread = None

    def _front(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        assert self._app is not None
        _request.address = environ["REQUEST_URI"]
        if environ.get("PATH_INFO", "").startswith("/minio/health/"):
            start_response("200 OK", [("Content-Length", "0")])
            return [b""]
        if self.mood is StorageMood.SLOW_DOWN:
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [_SLOW_DOWN]
        if self.mood is StorageMood.SILENT:
            self._woken.wait()
        if environ["QUERY_STRING"].partition("=")[0] == "versioning" and environ["REQUEST_METHOD"] == "GET":
            return self._versioning(environ, start_response)
        answer = self._app(environ, start_response)
        if self.mood is StorageMood.CORRUPT and environ["REQUEST_METHOD"] == "GET" and not environ.get("QUERY_STRING"):
            return _corrupted(answer)
        return answer

    def _versioning(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """GetBucketVersioning with the root element that the Amazon S3 API Reference gives it; moto names another."""
        assert self._app is not None

        def without_length(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            return start_response(status, [header for header in headers if header[0] != "Content-Length"], *rest)

        body = b"".join(self._app(environ, without_length))
        return [body.replace(b"GetBucketVersioningResponse", b"VersioningConfiguration")]

    def _client(self, service: str) -> Any:
        import botocore.session
        from botocore.config import Config

        config = Config(retries={"max_attempts": 0}, connect_timeout=5, read_timeout=3, s3={"addressing_style": "path"})
        return botocore.session.get_session().create_client(
            service, endpoint_url=self.url, region_name=REGION, config=config, **self._admin
        )

    def _furnish(self) -> None:
        """Create users, policies and buckets; then turn authorisation on. moto's state is the process's: reset it."""
        import moto.settings

        moto.settings.INITIAL_NO_AUTH_ACTION_COUNT = float("inf")
        urllib.request.urlopen(f"{self.url}/moto-api/reset", data=b"", timeout=5).close()
        self._admin = {"aws_access_key_id": "setup", "aws_secret_access_key": secrets.token_hex(16)}
        iam = self._client("iam")
        for user in ("administrator", USER):
            iam.create_user(UserName=user)
        self._put_policy(iam, "administrator", [{"Effect": "Allow", "Action": "*", "Resource": "*"}])
        key = iam.create_access_key(UserName=USER)["AccessKey"]
        self.access_key_id, self.secret_access_key = key["AccessKeyId"], key["SecretAccessKey"]
        key = iam.create_access_key(UserName="administrator")["AccessKey"]
        self._admin = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
        self._write_policy()
        s3 = self._client("s3")
        for bucket in self.buckets:
            s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        moto.settings.INITIAL_NO_AUTH_ACTION_COUNT = 0.0

    def _write_policy(self) -> None:
        self._put_policy(self._client("iam"), USER, policy(self.buckets, self.write_only, self.denied))

    def _put_policy(self, iam: Any, user: str, statements: list[dict[str, Any]]) -> None:
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        iam.put_user_policy(UserName=user, PolicyName="sandbox", PolicyDocument=document)


def _encoded(text: str) -> str:
    return quote(text, safe="-_.~")


def _check_canonical_signatures() -> None:
    """moto checks a signature against the query as it is spelled; a server encodes it anew first, since clients may
    send ``/`` and sign ``%2F`` (Signature Version 4, "Create a canonical request")."""
    from moto.iam.access_control import S3IAMRequest

    if "check_signature" in vars(S3IAMRequest):
        return
    inherited = S3IAMRequest.check_signature

    def check_signature(self: Any) -> None:
        path, _, query = _request.address.partition("?")
        pairs = ((_encoded(name), _encoded(value)) for name, value in parse_qsl(query, keep_blank_values=True))
        self._path = quote(unquote(path), safe="/-_.~") + "?" + "&".join(f"{name}={value}" for name, value in pairs)
        inherited(self)

    setattr(S3IAMRequest, "check_signature", check_signature)  # noqa: B010  # a plain assignment is no replacement to mypy


def policy(
    buckets: Iterable[str], write_only: frozenset[str], denied: dict[str, frozenset[str]]
) -> list[dict[str, Any]]:
    """IAM statements for the platform's user: everything in its buckets, only writing in the write-only ones, less
    what a fault denies."""
    statements: list[dict[str, Any]] = [
        {"Effect": "Allow", "Action": "s3:*", "Resource": [arn for bucket in buckets for arn in _arns(bucket)]}
    ]
    for bucket in sorted(write_only):
        writing = ["s3:PutObject", "s3:AbortMultipartUpload"]
        statements.append({"Effect": "Deny", "NotAction": writing, "Resource": _arns(bucket)})
    for bucket, actions in sorted(denied.items()):
        statements.append({"Effect": "Deny", "Action": sorted(actions), "Resource": _arns(bucket)})
    return statements


def _arns(bucket: str) -> list[str]:
    return [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]


def _corrupted(answer: Iterable[bytes]) -> Iterator[bytes]:
    with contextlib.closing(cast("Any", answer)) if hasattr(answer, "close") else contextlib.nullcontext():
        body = b"".join(answer)
    yield body[:-1] + bytes([body[-1] ^ 1]) if body else body

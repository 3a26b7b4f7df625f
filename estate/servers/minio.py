"""MinIO: S3 on loopback, with credentials that may do some things and not others.

Facts: MinIO documentation, "AssumeRole" (STS with an inline session policy, 15 minutes at least), "Healthcheck API";
Amazon S3 API Reference for the operations.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

from estate.install import ensure
from estate.ports import LOOPBACK, reserve_port
from estate.process import Server
from estate.servers.sigv4 import Credentials, canonical_query, signed_headers
from estate.web import Answer, answers, request

REGION = "us-east-1"

ACTIONS: Mapping[str, tuple[str, ...]] = {
    "read": ("s3:GetObject", "s3:GetObjectVersion"),
    "write": ("s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"),
    "delete": ("s3:DeleteObject", "s3:DeleteObjectVersion"),
    "list": ("s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads"),
    "bucket": ("s3:GetBucketLocation", "s3:GetBucketVersioning", "s3:GetLifecycleConfiguration"),
    "buckets": ("s3:ListAllMyBuckets",),
}
"""Short names for what `credentials` may allow."""


class MinIO(Server):
    """One node, one drive. `root` is its administrator's key."""

    name: ClassVar[str] = "minio"

    def __init__(self, *, environment: Mapping[str, str] | None = None) -> None:
        self._binary = ensure("minio") / "bin" / "minio"
        super().__init__()
        self.port = reserve_port()
        self._console_port = reserve_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.root = Credentials("estate-root", "estate-root-secret")
        self._environment = dict(environment or {})

    def environment(self) -> Mapping[str, str]:
        return {
            "MINIO_ROOT_USER": self.root.access_key,
            "MINIO_ROOT_PASSWORD": self.root.secret_key,
            "MINIO_REGION": REGION,
            # No call home for updates.
            "MINIO_UPDATE": "off",
            "MINIO_BROWSER": "off",
            **self._environment,
        }

    def command(self) -> Sequence[str]:
        return [
            str(self._binary),
            "server",
            "--quiet",
            f"--address={LOOPBACK}:{self.port}",
            f"--console-address={LOOPBACK}:{self._console_port}",
            f"--certs-dir={self.folder / 'certs'}",
            str(self.folder / "data"),
        ]

    def ready(self) -> bool:
        # The node is "live" before it can serve S3; an answered ListBuckets is what a client needs.
        return answers(f"{self.url}/minio/health/cluster") and self.call("GET", "/").status == 200

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        credentials: Credentials | None = None,
        service: str = "s3",
    ) -> Answer:
        """One signed request (root's, unless told otherwise). `path` is `/bucket/key`, not yet escaped."""
        escaped = quote(path, safe="/-_.~")
        parameters = query or {}
        sent = signed_headers(
            credentials or self.root,
            method,
            f"{LOOPBACK}:{self.port}",
            escaped,
            parameters,
            body,
            service=service,
            region=REGION,
            headers=headers,
        )
        url = f"{self.url}{escaped}" + (f"?{canonical_query(parameters)}" if parameters else "")
        return request(method, url, body=body, headers=sent, timeout=20)

    def create_bucket(self, bucket: str, *, versioning: bool = False, object_lock: bool = False) -> None:
        """Create a bucket. Object lock brings versioning with it."""
        headers = {"x-amz-bucket-object-lock-enabled": "true"} if object_lock else None
        self.call("PUT", f"/{bucket}", headers=headers).expect(200)
        if versioning and not object_lock:
            self.set_versioning(bucket, "Enabled")

    def set_versioning(self, bucket: str, status: str) -> None:
        """`Enabled` or `Suspended`."""
        body = f"<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>".encode()
        self.call("PUT", f"/{bucket}", query={"versioning": ""}, body=body).expect(200)

    def delete_bucket(self, bucket: str) -> None:
        """Delete a bucket with everything in it, all versions included."""
        # MinIO's extension: remove a bucket that is not empty.
        self.call("DELETE", f"/{bucket}", headers={"x-minio-force-delete": "true"}).expect(204, 404)

    def buckets(self) -> list[str]:
        """The names of all buckets."""
        return _texts(self.call("GET", "/").expect(200).body, "Bucket", "Name")

    def set_policy(self, bucket: str, policy: Mapping[str, Any] | None) -> None:
        """Set or remove the bucket policy (it decides for anonymous requests)."""
        if policy is None:
            self.call("DELETE", f"/{bucket}", query={"policy": ""}).expect(204)
        else:
            self.call("PUT", f"/{bucket}", query={"policy": ""}, body=json.dumps(policy).encode()).expect(200, 204)

    def put(self, bucket: str, key: str, body: bytes, *, headers: Mapping[str, str] | None = None) -> Answer:
        """Write an object."""
        return self.call("PUT", f"/{bucket}/{key}", body=body, headers=headers).expect(200)

    def get(self, bucket: str, key: str) -> bytes:
        """Read an object. Raises UnexpectedAnswer when there is none."""
        return self.call("GET", f"/{bucket}/{key}").expect(200).body

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object, or put a delete marker on it in a versioned bucket."""
        self.call("DELETE", f"/{bucket}/{key}").expect(204)

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """The keys under a prefix, at most the 1000 first."""
        answer = self.call("GET", f"/{bucket}", query={"list-type": "2", "prefix": prefix}).expect(200)
        return _texts(answer.body, "Contents", "Key")

    def versions(self, bucket: str, prefix: str = "") -> list[tuple[str, str]]:
        """Key and version id of every version under a prefix (delete markers left out)."""
        body = self.call("GET", f"/{bucket}", query={"versions": "", "prefix": prefix}).expect(200).body
        return list(zip(_texts(body, "Version", "Key"), _texts(body, "Version", "VersionId"), strict=True))

    def session(self, policy: Mapping[str, Any] | None = None, *, seconds: int = 3600) -> Credentials:
        """Temporary credentials of root's, narrowed by an IAM policy. They last 900 seconds at least."""
        form = {"Action": "AssumeRole", "Version": "2011-06-15", "DurationSeconds": str(seconds)}
        if policy is not None:
            form["Policy"] = json.dumps(policy)
        answer = self.call(
            "POST",
            "/",
            body=urlencode(form).encode(),
            headers={"content-type": "application/x-www-form-urlencoded"},
            service="sts",
        ).expect(200)
        found = [
            _texts(answer.body, "Credentials", name) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")
        ]
        (access,), (secret,), (token,) = found
        return Credentials(access, secret, token)

    def credentials(self, bucket: str, *allowed: str, prefix: str = "") -> Credentials:
        """Temporary credentials for one bucket that may only do what is named: keys of ACTIONS, or `s3:…` actions.

        `prefix` narrows object actions to keys under it.
        """
        actions = [action for word in allowed for action in ACTIONS.get(word, (word,))]
        on_bucket = {action for word in ("list", "bucket") for action in ACTIONS[word]}
        statements = []
        for resource, chosen in (
            (f"arn:aws:s3:::{bucket}/{prefix}*", [a for a in actions if a not in on_bucket and a not in _ANYWHERE]),
            (f"arn:aws:s3:::{bucket}", [a for a in actions if a in on_bucket]),
            ("arn:aws:s3:::*", [a for a in actions if a in _ANYWHERE]),
        ):
            if chosen:
                statements.append({"Effect": "Allow", "Action": chosen, "Resource": [resource]})
        if not statements:
            # A policy must say something: this one allows what nobody asks for.
            statements = [{"Effect": "Deny", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::*"]}]
        return self.session({"Version": "2012-10-17", "Statement": statements})


_ANYWHERE = frozenset(ACTIONS["buckets"])


def _texts(body: bytes, element: str, child: str) -> list[str]:
    """The text of `child` inside each `element`, whatever their namespace."""
    root = ElementTree.fromstring(body)
    return [found.text or "" for found in root.findall(f".//{{*}}{element}/{{*}}{child}")]

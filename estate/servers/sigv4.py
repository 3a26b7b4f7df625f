"""AWS Signature Version 4 for one request, so that a test's own S3 calls do not share a client with what they test.

Facts: AWS General Reference, "Create a signed AWS API request" (canonical request, string to sign, signing key).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote


@dataclass(frozen=True)
class Credentials:
    """An access key; with a token, a temporary one."""

    access_key: str
    secret_key: str
    session_token: str | None = None


def canonical_query(query: Mapping[str, str]) -> str:
    """Parameters sorted and escaped as the signature, and so the URL, needs them."""
    return "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in sorted(query.items()))


def signed_headers(
    credentials: Credentials,
    method: str,
    host: str,
    path: str,
    query: Mapping[str, str],
    body: bytes,
    *,
    service: str = "s3",
    region: str = "us-east-1",
    headers: Mapping[str, str] | None = None,
    now: datetime | None = None,
) -> dict[str, str]:
    """All headers to send. `path` is already percent-encoded; `host` includes the port."""
    moment = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    payload = hashlib.sha256(body).hexdigest()
    sent = {name.lower(): value for name, value in (headers or {}).items()}
    sent |= {"host": host, "x-amz-date": moment, "x-amz-content-sha256": payload}
    if credentials.session_token is not None:
        sent["x-amz-security-token"] = credentials.session_token
    names = ";".join(sorted(sent))
    canonical = "\n".join(
        [
            method,
            path,
            canonical_query(query),
            *(f"{name}:{sent[name].strip()}" for name in sorted(sent)),
            "",
            names,
            payload,
        ]
    )
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{credentials.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.new(key, text.encode(), "sha256").hexdigest()
    sent["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return sent

"""S3 as probes need it: one signed request at a time over the run's HTTP client, and the one place where S3's error
codes get reasons.

No retries (the schedule retries), no state between requests, nothing blocking: a request is signed (Signature Version
4) in well under a millisecond, sent with the run's ``traceparent`` and ``X-Request-ID``, under the caps of its
endpoint, and its answer is read up to a limit. Sources: Amazon S3 API Reference, "Error Responses" and "Authenticating
Requests (AWS Signature Version 4)"; MinIO's additional codes from its ``cmd/api-errors.go``.
"""

from __future__ import annotations

import base64
import binascii
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tocsin.model import CommonReason, ReasonEnum, Secret, Status
from tocsin.sdk.faults import ProbeFault, status_finding
from tocsin.sdk.http import HttpResponse, TlsSettings, origin
from tocsin.sdk.probe import ProbeSettings

if TYPE_CHECKING:
    from tocsin.sdk.context import ProbeContext

Reasons = Mapping[str, ReasonEnum]
"""A kind's own reasons by S3 error code."""

MAX_ANSWER_BYTES = 256 << 10
"""How much of a listing or an error is read."""

_COMMON: Reasons = {
    "AuthorizationHeaderMalformed": CommonReason.CREDENTIALS_REJECTED,
    "ExpiredToken": CommonReason.CREDENTIALS_REJECTED,
    "InvalidAccessKeyId": CommonReason.CREDENTIALS_REJECTED,
    "InvalidSecurity": CommonReason.CREDENTIALS_REJECTED,
    "InvalidToken": CommonReason.CREDENTIALS_REJECTED,
    "InvalidTokenId": CommonReason.CREDENTIALS_REJECTED,
    "NotSignedUp": CommonReason.CREDENTIALS_REJECTED,
    "RequestTimeTooSkewed": CommonReason.CREDENTIALS_REJECTED,
    "SignatureDoesNotMatch": CommonReason.CREDENTIALS_REJECTED,
    "AccessDenied": CommonReason.FORBIDDEN,
    "AccountProblem": CommonReason.FORBIDDEN,
    "AllAccessDisabled": CommonReason.FORBIDDEN,
    "NoSuchBucket": CommonReason.NOT_FOUND,
    "NoSuchKey": CommonReason.NOT_FOUND,
    "RequestTimeout": CommonReason.TIMEOUT,
    "SlowDown": CommonReason.RATE_LIMITED,
    "SlowDownRead": CommonReason.RATE_LIMITED,
    "SlowDownWrite": CommonReason.RATE_LIMITED,
    "TooManyRequests": CommonReason.RATE_LIMITED,
}


class S3Settings(ProbeSettings):
    """What every S3 kind is told about its endpoint and credentials."""

    endpoint_url: str = ""
    """Empty: Amazon's endpoint of the region."""
    region: str = "us-east-1"
    access_key_id: Secret
    """Of an identity of the probe's own that may do what the probe does."""
    secret_access_key: Secret
    """Of the same identity."""
    session_token: Secret | None = None
    """Of temporary credentials; others have none."""
    path_style: bool = True
    """``ENDPOINT/BUCKET/KEY``; false: the bucket is part of the host name."""
    tls: TlsSettings = TlsSettings()

    def endpoint(self) -> str:
        """The address of the service, without a slash at the end."""
        return self.endpoint_url.rstrip("/") or f"https://s3.{self.region}.amazonaws.com"

    def targets(self) -> tuple[str, ...]:
        return (origin(self.endpoint()),)


class S3Fault(ProbeFault):
    """An answer that is an error. ``code`` is S3's, empty when the answer is not S3's XML; ``status`` is HTTP's."""

    def __init__(self, reason: ReasonEnum, detail: str, code: str, status: int) -> None:
        super().__init__(reason, detail)
        self.code = code
        self.status = status


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One line of a listing. ``version`` is empty in a listing without versions."""

    key: str
    size: int = 0
    version: str = ""


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket, as one run sees it. Every method raises `S3Fault` for an error that S3 answers, with the kind's
    ``reasons`` first, and what `tocsin.sdk.HttpClient.fetch` raises."""

    ctx: ProbeContext
    settings: S3Settings
    name: str
    reasons: Reasons = field(default_factory=dict)

    async def call(
        self,
        method: str,
        key: str = "",
        query: Mapping[str, str] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        max_bytes: int = MAX_ANSWER_BYTES,
        absent_ok: bool = False,
    ) -> HttpResponse:
        """One request. With ``absent_ok`` a 404 for anything but the bucket is an answer, too."""
        endpoint, path = self.settings.endpoint(), "/" + quote(key, safe="/-_.~")
        if self.settings.path_style:
            path = f"/{quote(self.name, safe='-_.~')}" + (path if key else "")
        else:
            endpoint = endpoint.replace("://", f"://{self.name}.", 1)
        canonical = canonical_query(query or {})
        url = f"{endpoint}{path}" + (f"?{canonical}" if canonical else "")
        sent = self._signed(method, url, headers or {}, body)
        content = body if method in ("PUT", "POST") else None
        answer = await self.ctx.http.fetch(
            method, url, headers=sent, body=content, max_bytes=max_bytes, tls=self.settings.tls
        )
        if answer.status < 300:
            return answer
        fault = _fault(answer, self.reasons, self.name)
        if absent_ok and fault.status == 404 and fault.code not in ("", "NoSuchBucket"):
            return answer
        raise fault

    async def listing(self, prefix: str = "", limit: int = 1) -> list[StoredObject]:
        """The first objects under a prefix."""
        query = {"list-type": "2", "max-keys": str(limit), "prefix": prefix}
        root = parsed(await self.call("GET", query=query), "ListBucketResult")
        found = root.findall("{*}Contents")
        return [StoredObject(_text(item, "Key"), int(_text(item, "Size") or 0)) for item in found]

    async def versions_of(self, key: str) -> list[StoredObject]:
        """All versions and delete markers of exactly this key, 100 at most."""
        query = {"versions": "", "prefix": key, "max-keys": "100"}
        root = parsed(await self.call("GET", query=query), "ListVersionsResult")
        found = [*root.findall("{*}Version"), *root.findall("{*}DeleteMarker")]
        return [StoredObject(key, version=_text(item, "VersionId")) for item in found if _text(item, "Key") == key]

    async def erase(self, key: str, version: str = "", *, versioned: bool = False) -> None:
        """Deletes an object for good: this version, or, without one, all that there is under exactly this key.

        A delete without a version id would leave the object in a bucket that keeps versions, under a marker. So only
        give keys that nobody else writes. ``versioned`` says that the bucket keeps versions or did once: while that is
        suspended, not every server says that it left a marker. An object that is gone already is no error.
        """
        if version:
            await self.call("DELETE", key, {"versionId": version}, absent_ok=True)
            return
        answer = await self.call("DELETE", key, absent_ok=True)
        if versioned or answer.headers.get("x-amz-delete-marker") == "true":
            for found in await self.versions_of(key):
                await self.call("DELETE", key, {"versionId": found.version})

    async def versioning(self) -> str:
        """``enabled``, ``suspended`` or ``off``."""
        root = parsed(await self.call("GET", query={"versioning": ""}), "VersioningConfiguration")
        return (_text(root, "Status") or "off").lower()

    async def has_lifecycle(self) -> bool:
        """Whether the bucket has lifecycle rules."""
        return (await self.call("GET", query={"lifecycle": ""}, absent_ok=True)).status == 200

    async def has_default_retention(self) -> bool:
        """Whether new objects are kept from being deleted for a time."""
        return b"<DefaultRetention>" in (await self.call("GET", query={"object-lock": ""}, absent_ok=True)).body

    def _signed(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """The headers with a signature, made by botocore: the arithmetic of its signer only, which does no I/O."""
        try:
            access_key, secret_key = self.settings.access_key_id.reveal(), self.settings.secret_access_key.reveal()
            token = self.settings.session_token.reveal() if self.settings.session_token else None
        except OSError as error:
            raise ProbeFault(CommonReason.CREDENTIALS_MISSING, f"cannot read a key: {error.strerror}") from error
        if not access_key or not secret_key:
            raise ProbeFault(CommonReason.CREDENTIALS_MISSING, "access_key_id or secret_access_key is empty")
        request = AWSRequest(method, url, dict(headers), body)
        S3SigV4Auth(Credentials(access_key, secret_key, token), "s3", self.settings.region).add_auth(request)
        return dict(request.headers.items())


def canonical_query(query: Mapping[str, str]) -> str:
    """Parameters as they are signed and sent: encoded and in order."""
    return "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in sorted(query.items()))


def parsed(answer: HttpResponse, root: str) -> ElementTree.Element:
    """The XML of an answer whose root must be ``root``. Raises `ProbeFault` with ``unexpected_body``."""
    element = _xml(answer)
    if element is None or element.tag.rpartition("}")[2] != root:
        raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"not S3: the answer is no {root}")
    return element


def session_expires_at(token: Secret | None) -> float | None:
    """End of a session token that says it (a JWT, as MinIO's STS gives), Unix seconds; None when it does not."""
    try:
        payload = token.reveal().split(".")[1] if token else ""
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"])
    except (OSError, IndexError, KeyError, TypeError, ValueError, OverflowError, binascii.Error):
        return None


def _fault(answer: HttpResponse, reasons: Reasons, bucket: str) -> S3Fault:
    error = _xml(answer)
    code = _text(error, "Code") if error is not None else ""
    request_id = answer.headers.get("x-amz-request-id", "")
    detail = f"HTTP {answer.status} {code or 'without an S3 error'}"
    message = _text(error, "Message") if error is not None else ""
    detail += f" for bucket {bucket}" + (f": {message[:200]}" if message else "")
    detail += f" (x-amz-request-id {request_id})" if request_id else ""
    reason = reasons.get(code) or _COMMON.get(code)
    if reason is not None:
        return S3Fault(reason, detail, code, answer.status)
    common = status_finding(answer.status, detail, Status.FAILED)
    return S3Fault(CommonReason(common.reason), detail, code, answer.status)


def _xml(answer: HttpResponse) -> ElementTree.Element | None:
    """None for anything but small, plain XML; a document type could declare entities that grow without bound."""
    if answer.truncated or b"<!" in answer.body:
        return None
    try:
        return ElementTree.fromstring(answer.body)
    except ElementTree.ParseError:
        return None


def _text(element: ElementTree.Element, child: str) -> str:
    return element.findtext(f"{{*}}{child}") or ""

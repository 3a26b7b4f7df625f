"""HTTP as probes need it: one fresh connection a request, bounded answers, no surprise redirects, certificate facts.

The client is our own because it is the daemon's main expense: it connects, writes one request and reads one bounded
answer, at about a third of the CPU of a general client, and holds no more than the answer's bound in memory. What
probes do not need is not there: kept-alive connections, pools, cookies, proxies, compression, HTTP/2.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Final

import yarl
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from tocsin.model import CommonReason, Finding, Gauge, Status
from tocsin.sdk.dial import dial
from tocsin.sdk.documents import parse_json
from tocsin.sdk.faults import ProbeFault, quoted, status_finding
from tocsin.sdk.http1 import AnswerReader

if TYPE_CHECKING:
    from tocsin.sdk.context import ProbeContext

CERTIFICATE_EXPIRY: Final = Gauge(
    "tocsin_certificate_expiry_timestamp_seconds", "End of validity of the certificate that the target showed."
)
"""Measured by every kind that sees a target's certificate."""

MAX_BODY_BYTES: Final = 1 << 20
"""How much of an answer is read unless a probe asks for more or less."""

MAX_REDIRECTS: Final = 5
"""How many redirects are followed, when they are; the next one is returned as it is."""

_REDIRECTS: Final = (301, 302, 303, 307, 308)


class TlsSettings(BaseModel):
    """Trust and client certificate, all PEM files; read again when they change on disk."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    ca_file: str | None = None
    """PEM of the roots that the server's certificate must lead to."""
    client_cert_file: str | None = None
    """PEM of the client's certificate, where the server asks for one (mTLS)."""
    client_key_file: str | None = None
    """PEM of its key."""


_NO_TLS_FILES: Final = TlsSettings()


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A complete answer. ``body`` holds at most the asked bytes; ``truncated`` says that there was more.

    ``headers`` is a mapping that ignores case. ``certificate_expires_at``: end of validity of the server's
    certificate (Unix seconds), None without TLS.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    truncated: bool = False
    certificate_expires_at: float | None = None

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def encoding(self) -> str:
        """How the body is encoded, in lower case, although nothing but ``identity`` is asked for; empty: it is not."""
        encoding = self.headers.get("Content-Encoding", "").strip().lower()
        return encoding if self.body and encoding != "identity" else ""

    def text(self) -> str:
        """The body as UTF-8; bytes that are not are replaced."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON (`parse_json`, in UTF-8). Raises `ProbeFault` (unexpected_body), saying where and what."""
        if self.truncated:
            raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"more than {len(self.body)} bytes of answer")
        if self.encoding:
            raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"encoded with {quoted(self.encoding)}, not asked for")
        try:
            return parse_json(self.body.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            what = f"not JSON ({error}); it begins {quoted(self.body[:80])}"
            raise ProbeFault(CommonReason.UNEXPECTED_BODY, what) from error

    def expect(self, *statuses: int, unauthorized: Status = Status.UNKNOWN) -> HttpResponse:
        """Itself when the status is one of ``statuses``; raises `ProbeFault` with the reason for it otherwise."""
        if self.status in statuses:
            return self
        raise _StatusFault(status_finding(self.status, f"HTTP {self.status} from {shown_url(self.url)}", unauthorized))


class _StatusFault(ProbeFault):
    def __init__(self, finding: Finding) -> None:
        Exception.__init__(self, finding.detail)
        self.finding = finding


@dataclass(frozen=True, slots=True)
class _Target:
    """What a URL says about the request: made once for each URL and kept."""

    url: str
    host: str
    port: int
    secure: bool
    origin: str
    path: str
    headers: Mapping[str, str]


class _Exchange(asyncio.Protocol):
    """One answer as it comes in over one connection."""

    __slots__ = ("_error", "_finished", "_waiter", "reader")

    def __init__(self, reader: AnswerReader) -> None:
        self.reader = reader
        self._finished = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def complete(self) -> None:
        """Waits for the end of the answer; raises what kept it from coming."""
        if not self._finished:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._error is not None:
            raise self._error

    def data_received(self, data: bytes) -> None:
        if self._finished:
            return
        try:
            if self.reader.feed(data):
                self._finish(None)
        except ProbeFault as fault:
            self._finish(fault)

    def connection_lost(self, error: Exception | None) -> None:
        if self._finished:
            return
        try:
            self.reader.end()
        except ConnectionResetError as incomplete:
            self._finish(error or incomplete)
        else:
            self._finish(error)

    def _finish(self, error: Exception | None) -> None:
        self._finished = True
        self._error = error
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


@dataclass(slots=True)
class HttpClient:
    """What all HTTP requests go through: it keeps TLS contexts, and nothing else. Each request connects anew, so that
    name resolution, accept and TLS are proven each time; how many at a time is the permits' business."""

    user_agent: str = "tocsin"
    contexts: dict[tuple[str | None, ...], tuple[tuple[int, ...], ssl.SSLContext]] = field(default_factory=dict)
    """By files: when they were written, and what was made of them."""
    ctx: ProbeContext | None = None

    @classmethod
    def open(cls, *, user_agent: str = "tocsin") -> HttpClient:
        return cls(user_agent)

    async def close(self) -> None:
        """Forgets the TLS contexts; lets the loop close what the last requests left."""
        self.contexts.clear()
        await asyncio.sleep(0)

    def bound(self, ctx: ProbeContext) -> HttpClient:
        """This client, sending the identifiers of one run and counting against its caps."""
        return HttpClient(self.user_agent, self.contexts, ctx)

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | str | None = None,
        max_bytes: int = MAX_BODY_BYTES,
        follow_redirects: bool = False,
        tls: TlsSettings | None = None,
    ) -> HttpResponse:
        """One request and its whole answer, up to ``max_bytes`` of it.

        Another origin that a redirect leads to gets none of ``headers`` and no client certificate; a redirect that
        would take ``body`` there is not followed, but returned. Raises `OSError` for what happens on the network, and
        `ProbeFault` when the answer is no HTTP, or when a certificate or CA file cannot be read. Raises `ValueError`
        for a URL that is not http or https, or a header that holds a line break.
        """
        target = _target(url)
        content = body.encode() if isinstance(body, str) else body
        for _ in range(MAX_REDIRECTS):
            answer = await self._exchange(method, target, headers, content, max_bytes, tls)
            following = _redirection(answer, target) if follow_redirects else None
            if following is None:
                return answer
            if answer.status == 303 or (answer.status in (301, 302) and method == "POST"):
                method, content = ("HEAD" if method == "HEAD" else "GET"), None
            if following.origin != target.origin:
                if content:
                    return answer
                headers, tls = None, (tls and TlsSettings(ca_file=tls.ca_file))
            target = following
        return await self._exchange(method, target, headers, content, max_bytes, tls)

    async def _exchange(
        self,
        method: str,
        target: _Target,
        headers: Mapping[str, str] | None,
        content: bytes | None,
        max_bytes: int,
        tls: TlsSettings | None,
    ) -> HttpResponse:
        request = self._request(method, target, headers, content)
        context = self.tls_context(tls or _NO_TLS_FILES) if target.secure else None
        bodyless = method == "HEAD"
        permit: Any = nullcontext() if self.ctx is None else self.ctx.permits.request(target.origin)
        async with permit:
            transport, exchange = await dial(
                lambda: _Exchange(AnswerReader(max_bytes=max_bytes, bodyless=bodyless)),
                target.host,
                target.port,
                tls=context,
            )
            try:
                certificate = transport.get_extra_info("peercert") if context else None
                transport.write(request)
                await exchange.complete()
            finally:
                transport.abort()
        answer = exchange.reader
        return HttpResponse(
            url=target.url,
            status=answer.status,
            headers=answer.headers,
            body=bytes(answer.body),
            truncated=answer.truncated,
            certificate_expires_at=expiry_of(certificate),
        )

    def _request(self, method: str, target: _Target, headers: Mapping[str, str] | None, content: bytes | None) -> bytes:
        fields = {**target.headers, "user-agent": self.user_agent}
        if self.ctx is not None:
            fields["traceparent"] = self.ctx.traceparent
            fields["x-request-id"] = self.ctx.request_id
        if content is not None or method in ("POST", "PUT", "PATCH"):
            fields["content-length"] = str(len(content or b""))
        if headers:
            fields.update((name.lower(), value) for name, value in headers.items())
        lines = [f"{method} {target.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        head = "\r\n".join(lines)
        if head.count("\r") != len(lines) - 1 or head.count("\n") != len(lines) - 1:
            raise ValueError("a request header holds a line break")
        return f"{head}\r\n\r\n".encode() + (content or b"")

    def tls_context(self, tls: TlsSettings) -> ssl.SSLContext:
        """What verifies a server and shows our certificate, if any; for kinds that speak other protocols too.

        Raises `ProbeFault` (credentials_missing) when a file cannot be read.
        """
        files = (tls.ca_file, tls.client_cert_file, tls.client_key_file)
        try:
            written = tuple(os.stat(name).st_mtime_ns if name else 0 for name in files)
            known = self.contexts.get(files)
            if known is not None and known[0] == written:
                return known[1]
            context = ssl.create_default_context(cafile=tls.ca_file)
            if tls.client_cert_file:
                context.load_cert_chain(tls.client_cert_file, tls.client_key_file)
        except (OSError, ssl.SSLError) as error:
            raise ProbeFault(CommonReason.CREDENTIALS_MISSING, f"cannot read TLS files: {error}") from error
        self.contexts[files] = (written, context)
        return context


def origin(url: str) -> str:
    """``scheme://host:port`` of a URL, without user info, path or query. Raises `ValueError` when it is not HTTP."""
    return _target(url).origin


def _is_http_url(url: str) -> str:
    """For settings: refuses what is no HTTP URL, and one with a password in it, because URLs are shown."""
    origin(url)
    if yarl.URL(url).user is not None:
        raise ValueError("a URL is shown in the plan and in logs; put its user and password into a header")
    return url


HttpUrl = Annotated[str, AfterValidator(_is_http_url)]
"""A setting that is an http:// or https:// URL without credentials."""

OptionalUrl = Annotated[HttpUrl | None, BeforeValidator(lambda value: value or None)]
"""The same, or nothing; an empty text is nothing, as an unset variable gives it."""

FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
"""The header for a body made by `urllib.parse.urlencode`."""


def certificate_finding(expires_at: float | None, now: float, days: float) -> Finding | None:
    """``certificate_expiring`` when a certificate that ends at ``expires_at`` has fewer than ``days`` left at ``now``
    (both Unix seconds)."""
    if expires_at is None or (expires_at - now) / 86400 >= days:
        return None
    return Finding.of(CommonReason.CERTIFICATE_EXPIRING, f"{(expires_at - now) / 86400:.1f} days left")


def expiry_of(certificate: Mapping[str, Any] | None) -> float | None:
    """End of validity in Unix seconds of what a transport's ``peercert`` says; None without TLS."""
    return _parsed_time(certificate["notAfter"]) if certificate else None


def shown_url(url: str) -> str:
    """A URL as it may be shown: without user info and query, which may hold secrets."""
    return str(yarl.URL(url).with_query(None).with_user(None).with_fragment(None))


def _parse(url: str) -> _Target:
    parsed = yarl.URL(url)
    host, port = parsed.raw_host, parsed.port
    if parsed.scheme not in ("http", "https") or not host or not port:
        raise ValueError(f"{quoted(url)} is not an http:// or https:// URL")
    headers = {"host": parsed.host_port_subcomponent or host, "accept": "*/*", "accept-encoding": "identity"}
    if parsed.user is not None:
        pair = f"{parsed.user}:{parsed.password or ''}".encode()
        headers["authorization"] = f"Basic {base64.b64encode(pair).decode('ascii')}"
    return _Target(
        url=str(parsed.with_user(None).with_fragment(None)),
        host=host,
        port=port,
        secure=parsed.scheme == "https",
        origin=f"{parsed.scheme}://{parsed.host_subcomponent}:{port}",
        path=parsed.raw_path_qs,
        headers={**headers, "connection": "close"},
    )


_target = lru_cache(maxsize=4096)(_parse)
"""Parsed once for each configured URL."""


def _redirection(answer: HttpResponse, target: _Target) -> _Target | None:
    """Where a redirect leads; None when the answer is none, or leads to what is not HTTP."""
    location = answer.headers.get("Location", "")
    if answer.status not in _REDIRECTS or not location:
        return None
    try:
        return _parse(str(yarl.URL(target.url).join(yarl.URL(location))))
    except ValueError:
        return None


@lru_cache(maxsize=4096)
def _parsed_time(text: str) -> float:
    return float(ssl.cert_time_to_seconds(text))

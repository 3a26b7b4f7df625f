"""HTTP as probes need it: one capped session, bounded bodies, no surprise redirects, certificate facts."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import yarl
from pydantic import BaseModel, ConfigDict

from tocsin.model import CommonReason, Finding, Status
from tocsin.sdk.faults import ProbeFault, status_finding

if TYPE_CHECKING:
    from tocsin.sdk.context import ProbeContext

MAX_BODY_BYTES = 1 << 20
"""How much of an answer is read unless a probe asks for more or less."""


class TlsSettings(BaseModel):
    """Trust and client certificate, all PEM files; read again when they change on disk."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ca_file: str | None = None
    client_cert_file: str | None = None
    client_key_file: str | None = None


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A complete answer. ``body`` holds at most the asked bytes; ``truncated`` says that there was more.

    ``certificate_expires_at``: end of validity of the server's certificate (Unix seconds), None without TLS.
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

    def text(self) -> str:
        """The body as UTF-8; bytes that are not are replaced."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON (RFC 8259: no NaN). Raises `ProbeFault` with ``unexpected_body``, saying where and what."""
        if self.truncated:
            raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"more than {len(self.body)} bytes of answer")
        try:
            return json.loads(self.body.decode("utf-8"), parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            start = self.text()[:80]
            raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"not JSON ({error}); it begins {start!r}") from error

    def expect(self, *statuses: int, unauthorized: Status = Status.UNKNOWN) -> HttpResponse:
        """Itself when the status is one of ``statuses``; raises `ProbeFault` with the reason for it otherwise."""
        if self.status in statuses:
            return self
        raise _StatusFault(status_finding(self.status, f"HTTP {self.status} from {_shown(self.url)}", unauthorized))


class _StatusFault(ProbeFault):
    def __init__(self, finding: Finding) -> None:
        Exception.__init__(self, finding.detail)
        self.finding = finding


class _Response(aiohttp.ClientResponse):
    """Remembers the peer's certificate, which is out of reach once a short body has been read."""

    peer_certificate: Mapping[str, Any] | None = None

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        transport = connection.transport
        tls = transport.get_extra_info("ssl_object") if transport is not None else None
        if tls is not None:
            self.peer_certificate = tls.getpeercert()
        return await super().start(connection)


@dataclass(slots=True)
class HttpClient:
    """The shared session. Create inside a running loop; `close` it there.

    ``fresh_connections``: each request connects anew, so that name resolution, accept and TLS are proven each time.
    """

    session: aiohttp.ClientSession
    contexts: dict[tuple[object, ...], ssl.SSLContext] = field(default_factory=dict)
    ctx: ProbeContext | None = None

    @classmethod
    def open(cls, *, connections_per_host: int = 8, user_agent: str = "tocsin") -> HttpClient:
        connector = aiohttp.TCPConnector(
            limit=0, limit_per_host=connections_per_host, force_close=True, use_dns_cache=False
        )
        session = aiohttp.ClientSession(
            connector=connector,
            response_class=_Response,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
            timeout=aiohttp.ClientTimeout(total=None, connect=None),
            headers={"User-Agent": user_agent},
            trust_env=False,
        )
        return cls(session)

    async def close(self) -> None:
        await self.session.close()

    def bound(self, ctx: ProbeContext) -> HttpClient:
        """This client, sending the identifiers of one run and counting against its caps."""
        return HttpClient(self.session, self.contexts, ctx)

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

        Raises what aiohttp, the socket or TLS raise (`tocsin.sdk.faults.explain` knows them), and `ProbeFault` when
        a client certificate or CA file cannot be read.
        """
        sent = {"Accept-Encoding": "identity", **(headers or {})}
        permit: Any = nullcontext()
        if self.ctx is not None:
            sent = {"traceparent": self.ctx.traceparent, "X-Request-ID": self.ctx.request_id, **sent}
            permit = self.ctx.permits.request(origin(url))
        options: dict[str, Any] = {}
        if tls is not None and url.startswith("https:"):
            options["ssl"] = self._context(tls)
        async with (
            permit,
            self.session.request(
                method, url, headers=sent, data=body, allow_redirects=follow_redirects, max_redirects=5, **options
            ) as response,
        ):
            content, truncated = await _read_bounded(response.content, max_bytes)
            if truncated:
                response.close()
            return HttpResponse(
                url=str(response.url),
                status=response.status,
                headers=response.headers,
                body=content,
                truncated=truncated,
                certificate_expires_at=_expiry(getattr(response, "peer_certificate", None)),
            )

    def _context(self, tls: TlsSettings) -> ssl.SSLContext:
        files = (tls.ca_file, tls.client_cert_file, tls.client_key_file)
        try:
            key = tuple((name, os.stat(name).st_mtime_ns if name else None) for name in files)
            if key not in self.contexts:
                context = ssl.create_default_context(cafile=tls.ca_file)
                if tls.client_cert_file:
                    context.load_cert_chain(tls.client_cert_file, tls.client_key_file)
                self.contexts[key] = context
        except (OSError, ssl.SSLError) as error:
            raise ProbeFault(CommonReason.CREDENTIALS_MISSING, f"cannot read TLS files: {error}") from error
        return self.contexts[key]


def origin(url: str) -> str:
    """``scheme://host:port`` of a URL, without user info, path or query."""
    parsed = yarl.URL(url)
    return f"{parsed.scheme}://{parsed.host}:{parsed.port}"


async def _read_bounded(stream: aiohttp.StreamReader, limit: int) -> tuple[bytes, bool]:
    chunks: list[bytes] = []
    size = 0
    async for chunk in stream.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            return b"".join(chunks)[:limit], True
        await asyncio.sleep(0)
    return b"".join(chunks), False


def _expiry(certificate: Mapping[str, Any] | None) -> float | None:
    return float(ssl.cert_time_to_seconds(certificate["notAfter"])) if certificate else None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _shown(url: str) -> str:
    parsed = yarl.URL(url)
    return str(parsed.with_query(None).with_user(None))

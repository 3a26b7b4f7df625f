"""The one place where an exception becomes a reason."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl

import aiohttp

from tocsin.model import CommonReason, Finding, Outcome, ReasonEnum, ReasonInfo, Status

_CERTIFICATE_EXPIRED = 10
"""X509_V_ERR_CERT_HAS_EXPIRED, openssl verify(1), section DIAGNOSTICS."""


class ProbeFault(Exception):
    """Raised by a kind, or by a client of the SDK, to end a run with this reason."""

    def __init__(self, reason: ReasonEnum | ReasonInfo, detail: str = "", component: str = "") -> None:
        super().__init__(detail or str(reason))
        self.finding = Finding.of(reason, detail, component)

    def outcome(self) -> Outcome:
        return Outcome.of([self.finding])


def explain(error: BaseException, unauthorized: Status = Status.UNKNOWN) -> Finding:
    """The finding for any exception that a run ended with; unknown/probe_error when nothing here knows it.

    ``unauthorized`` is the kind's word on what 401 and 403 mean (see `tocsin.sdk.Probe`).
    """
    for candidate in _chain(error):
        finding = _explain_one(candidate)
        if finding is not None:
            return finding
    return Finding.of(CommonReason.PROBE_ERROR, f"{type(error).__name__}: {error}")


def status_finding(status: int, detail: str, unauthorized: Status) -> Finding:
    """The finding for an HTTP status that the kind did not expect. RFC 9110 section 15."""
    own = unauthorized is Status.UNKNOWN
    if status == 401:
        return Finding.of(CommonReason.CREDENTIALS_REJECTED if own else CommonReason.UNAUTHORIZED, detail)
    if status == 403:
        return Finding.of(CommonReason.CREDENTIALS_REJECTED if own else CommonReason.FORBIDDEN, detail)
    if status == 404:
        return Finding.of(CommonReason.NOT_FOUND, detail)
    if status == 429:
        return Finding.of(CommonReason.RATE_LIMITED, detail)
    if 500 <= status <= 599:
        return Finding.of(CommonReason.SERVER_ERROR, detail)
    return Finding.of(CommonReason.UNEXPECTED_STATUS, detail)


def _chain(error: BaseException) -> list[BaseException]:
    """The exception and its causes, outermost first, at most eight."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and len(chain) < 8:
        chain.append(current)
        inner = getattr(current, "os_error", None) or getattr(current, "certificate_error", None)
        current = inner or current.__cause__ or current.__context__
    return chain


def _explain_one(error: BaseException) -> Finding | None:
    detail = str(error) or type(error).__name__
    match error:
        case ProbeFault():
            return error.finding
        case TimeoutError() | asyncio.TimeoutError():
            return Finding.of(CommonReason.TIMEOUT, "no complete answer within the timeout")
        case ssl.SSLCertVerificationError():
            expired = error.verify_code == _CERTIFICATE_EXPIRED
            return Finding.of(CommonReason.CERTIFICATE_EXPIRED if expired else CommonReason.TLS_ERROR, detail)
        case ssl.SSLError():
            return Finding.of(CommonReason.TLS_ERROR, detail)
        case socket.gaierror():
            return Finding.of(CommonReason.DNS_FAILURE, detail)
        case ConnectionRefusedError():
            return Finding.of(CommonReason.CONNECTION_REFUSED, detail)
        case ConnectionResetError() | BrokenPipeError() | ConnectionAbortedError() | asyncio.IncompleteReadError():
            return Finding.of(CommonReason.CONNECTION_RESET, detail)
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return Finding.of(CommonReason.CONNECTION_RESET, detail)
        case aiohttp.ClientResponseError():
            return Finding.of(CommonReason.UNEXPECTED_BODY, f"not an HTTP answer: {error.message}")
        case OSError() if error.errno in (errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL):
            return Finding.of(CommonReason.LOCAL_NETWORK, detail)
        case OSError() if error.errno in (errno.EHOSTUNREACH, errno.ETIMEDOUT):
            return Finding.of(CommonReason.TIMEOUT, detail)
        case OSError() if error.errno in (errno.EMFILE, errno.ENFILE):
            return Finding.of(CommonReason.PROBE_ERROR, detail)
    return None

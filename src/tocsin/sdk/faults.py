"""The one place where an exception becomes a reason."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import ssl

import aiohttp

from tocsin.model import CommonReason, Finding, Outcome, ReasonEnum, ReasonInfo, Status

MAX_DETAIL = 500
"""How many characters of an exception's text are kept."""

_CERTIFICATE_EXPIRED = 10
"""X509_V_ERR_CERT_HAS_EXPIRED, openssl verify(1), section DIAGNOSTICS."""

_OUR_CERTIFICATE_REFUSED = re.compile(
    r"ALERT_(BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|CERTIFICATE_\w+|UNKNOWN_CA|ACCESS_DENIED)$"
)
"""Alerts by which a server refuses the client's certificate. RFC 8446 section 6.2, names as in OpenSSL."""

_ERRNO_IN_TEXT = re.compile(r"\[Errno (\d+)\]")


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
        finding = _explain_one(candidate, unauthorized)
        if finding is not None:
            return finding
    return Finding.of(CommonReason.PROBE_ERROR, f"{type(error).__name__}: {_text(error)}")


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


def quoted(said: bytes | str, limit: int = 80) -> str:
    """What a target said, fit for a detail: in quotes, bounded, and with everything unprintable escaped."""
    text = said.decode("utf-8", "backslashreplace") if isinstance(said, bytes) else said
    return repr(text[:limit]) + ("…" if len(text) > limit else "")


def _chain(error: BaseException) -> list[BaseException]:
    """The exception and what it was raised for, outermost first, at most eight.

    A library's error made while another was handled says what that one was. One of Python's own says that the code
    that handled it is wrong, and stands for itself.
    """
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and len(chain) < 8:
        chain.append(current)
        inner = getattr(current, "os_error", None) or getattr(current, "certificate_error", None)
        if isinstance(current, BaseExceptionGroup):
            # What a task group raises; the first of its errors is the one that cancelled the others.
            inner = current.exceptions[0]
        handled = None
        if not current.__suppress_context__ and type(current).__module__ != "builtins":
            handled = current.__context__
        current = inner or current.__cause__ or handled
    return chain


def _text(error: BaseException) -> str:
    """The exception's own words: bounded, on one line, and free of what cannot be written as UTF-8."""
    try:
        words = str(error)[:MAX_DETAIL].encode("utf-8", "backslashreplace").decode("utf-8")
    except Exception:  # noqa: BLE001 - an exception whose own words fail has none
        return ""
    return " ".join(words.split())


def _explain_one(error: BaseException, unauthorized: Status) -> Finding | None:
    detail = _text(error) or type(error).__name__
    match error:
        case ProbeFault():
            return error.finding
        case aiohttp.ClientConnectorCertificateError():
            return None  # the error that it was raised for knows more
        case asyncio.IncompleteReadError() | aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return Finding.of(CommonReason.CONNECTION_RESET, detail)
        case aiohttp.ClientResponseError():
            if error.status >= 400 and error.status != 400:
                return status_finding(error.status, f"HTTP {error.status}: {quoted(error.message)}", unauthorized)
            return Finding.of(CommonReason.UNEXPECTED_BODY, f"not an HTTP answer: {quoted(error.message)}")
        case TimeoutError() if error.errno is None:
            return Finding.of(CommonReason.TIMEOUT, "no complete answer within the timeout")
        case ssl.SSLCertVerificationError():
            expired = error.verify_code == _CERTIFICATE_EXPIRED
            return Finding.of(CommonReason.CERTIFICATE_EXPIRED if expired else CommonReason.TLS_ERROR, detail)
        case ssl.SSLError():
            refused = _OUR_CERTIFICATE_REFUSED.search(str(error.reason or ""))
            return Finding.of(CommonReason.CREDENTIALS_REJECTED if refused else CommonReason.TLS_ERROR, detail)
        case socket.gaierror():
            return Finding.of(CommonReason.DNS_FAILURE, detail)
        case OSError():
            return _explain_errno(error, detail)
    return None


_BY_ERRNO = {
    errno.ECONNREFUSED: CommonReason.CONNECTION_REFUSED,
    errno.ECONNRESET: CommonReason.CONNECTION_RESET,
    errno.ECONNABORTED: CommonReason.CONNECTION_RESET,
    errno.EPIPE: CommonReason.CONNECTION_RESET,
    errno.EHOSTUNREACH: CommonReason.TIMEOUT,
    errno.ETIMEDOUT: CommonReason.TIMEOUT,
    errno.ENETUNREACH: CommonReason.LOCAL_NETWORK,
    errno.ENETDOWN: CommonReason.LOCAL_NETWORK,
    errno.EADDRNOTAVAIL: CommonReason.LOCAL_NETWORK,
}
"""connect(2), recv(2), send(2)."""

_BY_CLASS = {
    ConnectionRefusedError: errno.ECONNREFUSED,
    ConnectionResetError: errno.ECONNRESET,
    ConnectionAbortedError: errno.ECONNABORTED,
    BrokenPipeError: errno.EPIPE,
}
"""For errors that a library raises by class, without a number."""


def _explain_errno(error: OSError, detail: str) -> Finding | None:
    if error.filename is not None and error.errno in (errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.EISDIR):
        # What a kind reads from files is its own: credentials, keys, certificates.
        return Finding.of(CommonReason.CREDENTIALS_MISSING, detail)
    numbers = [error.errno or next((number for kind, number in _BY_CLASS.items() if isinstance(error, kind)), 0)]
    if not any(numbers):
        # asyncio puts the errors of several addresses into one text.
        numbers = [int(found) for found in _ERRNO_IN_TEXT.findall(detail)]
    known = [_BY_ERRNO[number] for number in numbers if number in _BY_ERRNO]
    if not known:
        return None
    return Finding.of(min(known, key=lambda reason: reason is CommonReason.LOCAL_NETWORK), detail)

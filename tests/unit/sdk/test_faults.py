"""Which exception becomes which reason."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl

import aiohttp
import pytest

from tocsin.model import CommonReason, Status
from tocsin.sdk.faults import ProbeFault, explain, quoted, status_finding


def certificate_error(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    return error


def alert(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] alert")
    error.reason = reason
    return error


EXPLAINED = [
    (TimeoutError(), "timeout"),
    (TimeoutError(errno.ETIMEDOUT, "timed out"), "timeout"),
    (OSError(errno.EHOSTUNREACH, "No route to host"), "timeout"),
    (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "dns_failure"),
    (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "connection_refused"),
    (ConnectionRefusedError("refused"), "connection_refused"),
    (ConnectionResetError("closed"), "connection_reset"),
    (BrokenPipeError(), "connection_reset"),
    (asyncio.IncompleteReadError(b"", 4), "connection_reset"),
    (aiohttp.ServerDisconnectedError(), "connection_reset"),
    (certificate_error(10), "certificate_expired"),
    (certificate_error(18), "tls_error"),
    (alert("WRONG_VERSION_NUMBER"), "tls_error"),
    (alert("TLSV1_ALERT_UNKNOWN_CA"), "credentials_rejected"),
    (alert("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "credentials_rejected"),
    (OSError(errno.ENETUNREACH, "Network is unreachable"), "local_network"),
    (OSError("Multiple exceptions: [Errno 101] unreachable, [Errno 111] refused"), "connection_refused"),
    (OSError("Multiple exceptions: [Errno 101] unreachable, [Errno 99] no address"), "local_network"),
    (FileNotFoundError(errno.ENOENT, "No such file", "/run/secrets/token"), "credentials_missing"),
    (PermissionError(errno.EACCES, "Permission denied", "/run/secrets/token"), "credentials_missing"),
    (OSError(errno.EMFILE, "Too many open files"), "probe_error"),
    (KeyError("oops"), "probe_error"),
    (ProbeFault(CommonReason.RATE_LIMITED, "slow down"), "rate_limited"),
]


@pytest.mark.parametrize(("error", "reason"), EXPLAINED, ids=[f"{type(e).__name__}-{r}" for e, r in EXPLAINED])
def test_each_exception_has_its_reason(error: Exception, reason: str) -> None:
    assert explain(error).reason == reason


class LibraryError(Exception):
    pass


def raised(outer: type[Exception]) -> Exception:
    """``outer``, raised while a refused connection was handled."""
    error = outer("oops")
    error.__context__ = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
    return error


def test_what_a_library_error_was_raised_for_is_what_counts() -> None:
    assert explain(raised(LibraryError)).reason == "connection_refused"


def test_a_bug_in_the_handling_of_an_error_is_a_bug() -> None:
    assert explain(raised(KeyError)).reason == "probe_error"


def test_a_detail_is_bounded_and_can_be_written_as_utf8() -> None:
    detail = explain(RuntimeError("a\nb \udcff " + "x" * 10_000)).detail
    assert len(detail) < 600
    assert "\n" not in detail
    detail.encode("utf-8")


@pytest.mark.parametrize(
    ("status", "ours", "theirs"),
    [
        (401, "credentials_rejected", "unauthorized"),
        (403, "credentials_rejected", "forbidden"),
        (404, "not_found", "not_found"),
        (429, "rate_limited", "rate_limited"),
        (503, "server_error", "server_error"),
        (302, "unexpected_status", "unexpected_status"),
    ],
)
def test_a_status_means_the_target_or_our_credentials(status: int, ours: str, theirs: str) -> None:
    assert status_finding(status, "", Status.UNKNOWN).reason == ours
    assert status_finding(status, "", Status.FAILED).reason == theirs


def test_what_a_target_said_is_quoted_escaped_and_cut() -> None:
    assert quoted(b"a\n\xff\x00" + b"x" * 9, 7) == "'a\\n\\\\xff\\x00'…"

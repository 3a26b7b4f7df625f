"""Bounded reasons: the enum values that become metric labels, runbook headings and anchors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from tocsin.model.status import Severity, Status

CODE_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,62}")
"""What a reason may look like: it is a metric label, a URL fragment and a heading."""


@dataclass(frozen=True, slots=True)
class ReasonInfo:
    """One reason as users see it.

    ``code``: lower-case words joined by underscores, at most 63 characters.
    ``meaning``: one line in plain words.
    ``severity``: what it is worth when nothing overrides it.
    ``status``: ``failed`` (the target is bad) or ``unknown`` (the probe could not tell); never ``ok``.
    """

    code: str
    meaning: str
    severity: Severity = Severity.PAGE
    status: Status = Status.FAILED

    def __post_init__(self) -> None:
        if not CODE_PATTERN.fullmatch(self.code):
            raise ValueError(f"reason {self.code!r}: use lower-case letters, digits and underscores, at most 63")
        if self.status is Status.OK:
            raise ValueError(f"reason {self.code!r}: an ok run has no reason")


class ReasonEnum(StrEnum):
    """Base of every kind's ``Reason``: each member is ``CODE = "code", "meaning"[, severity[, status]]``."""

    info: ReasonInfo

    def __new__(
        cls,
        code: str,
        meaning: str = "",
        severity: Severity = Severity.PAGE,
        status: Status = Status.FAILED,
    ) -> Self:
        member = str.__new__(cls, code)
        member._value_ = code
        member.info = ReasonInfo(code, meaning, severity, status)
        return member


_UNKNOWN = (Severity.TICKET, Status.UNKNOWN)


class CommonReason(ReasonEnum):
    """Reasons that any kind may give; the engine maps exceptions to them in one place (`tocsin.sdk.faults`)."""

    TIMEOUT = "timeout", "No complete answer within the probe's timeout."
    DNS_FAILURE = "dns_failure", "The name of the target did not resolve."
    CONNECTION_REFUSED = "connection_refused", "Nothing listens on the target's port."
    CONNECTION_RESET = "connection_reset", "The connection was closed in the middle of the exchange."
    TLS_ERROR = "tls_error", "The TLS handshake or the verification of the certificate failed."
    CERTIFICATE_EXPIRED = "certificate_expired", "The target's certificate is past its end of validity."
    CERTIFICATE_EXPIRING = (
        "certificate_expiring",
        "A certificate or credential reaches its end of validity soon.",
        Severity.TICKET,
    )
    UNAUTHORIZED = "unauthorized", "The target answered 401 to credentials that it should accept."
    FORBIDDEN = "forbidden", "The target answered 403 to a request that it should allow."
    NOT_FOUND = "not_found", "The target answered 404 for something that should exist."
    RATE_LIMITED = "rate_limited", "The target refused because of too many requests.", Severity.TICKET
    SERVER_ERROR = "server_error", "The target answered with a 5xx status."
    UNEXPECTED_STATUS = "unexpected_status", "The target answered with a status that is not among the expected ones."
    UNEXPECTED_BODY = "unexpected_body", "The target's answer cannot be read as what it should be."
    CONTRACT_MISSING = (
        "contract_missing",
        "A contract that the platform does not publish has not been configured.",
        *_UNKNOWN,
    )
    CREDENTIALS_MISSING = "credentials_missing", "The probe's own credentials cannot be read.", *_UNKNOWN
    CREDENTIALS_REJECTED = "credentials_rejected", "The target refused the probe's own credentials.", *_UNKNOWN
    PROBE_ERROR = "probe_error", "The probe itself failed in a way it did not foresee; this is a bug.", *_UNKNOWN
    LOCAL_NETWORK = "local_network", "The probe's own network is out of order; the target may be well.", *_UNKNOWN
    THROTTLED = "throttled", "The probe's own cap on the load it may cause kept it from finishing.", *_UNKNOWN
    DEPENDENCY_UNKNOWN = (
        "dependency_unknown",
        "Something this probe needs to judge its target could not be checked.",
        *_UNKNOWN,
    )

"""What the author of a probe kind imports: the base class, the settings types, the context of a run, and clients.

Clients for whole protocols are modules of their own (`tocsin.sdk.postgres`, `tocsin.sdk.s3`), imported by those who
need them.
"""

from tocsin.model import (
    CommonReason,
    Finding,
    Gauge,
    Outcome,
    ReasonEnum,
    ReasonInfo,
    Secret,
    Severity,
    Status,
)
from tocsin.sdk.context import ProbeContext
from tocsin.sdk.faults import ProbeFault
from tocsin.sdk.http import HttpClient, HttpResponse, TlsSettings
from tocsin.sdk.probe import Probe, ProbeSettings
from tocsin.sdk.quantities import ByteCount, Seconds, Words, Zone

__all__ = [
    "ByteCount",
    "CommonReason",
    "Finding",
    "Gauge",
    "HttpClient",
    "HttpResponse",
    "Outcome",
    "Probe",
    "ProbeContext",
    "ProbeFault",
    "ProbeSettings",
    "ReasonEnum",
    "ReasonInfo",
    "Seconds",
    "Secret",
    "Severity",
    "Status",
    "TlsSettings",
    "Words",
    "Zone",
]

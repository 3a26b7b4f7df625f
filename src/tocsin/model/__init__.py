"""The words everything else speaks: statuses, reasons, findings, outcomes, specs. Pure; no I/O, no clock."""

from tocsin.model.measurement import Gauge, Measurement
from tocsin.model.outcome import Finding, Outcome
from tocsin.model.reason import CommonReason, ReasonEnum, ReasonInfo
from tocsin.model.run import Attachment, Run
from tocsin.model.secret import MASK, Reference, Secret
from tocsin.model.spec import MaintenanceWindow, MissingContract, ProbeSpec
from tocsin.model.state import Counts, Entry, ProbeState, Transition
from tocsin.model.status import Severity, Status

__all__ = [
    "MASK",
    "Attachment",
    "CommonReason",
    "Counts",
    "Entry",
    "Finding",
    "Gauge",
    "MaintenanceWindow",
    "Measurement",
    "MissingContract",
    "Outcome",
    "ProbeSpec",
    "ProbeState",
    "ReasonEnum",
    "ReasonInfo",
    "Reference",
    "Run",
    "Secret",
    "Severity",
    "Status",
    "Transition",
]

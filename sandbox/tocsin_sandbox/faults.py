"""The catalogue of faults: every switch there is, by name."""

from __future__ import annotations

from tocsin_sandbox import (
    alexandria_audit_faults,
    alexandria_faults,
    chain_faults,
    cluster_faults,
    database_faults,
    identity_faults,
    platform_faults,
    signer_faults,
    storage_faults,
)
from tocsin_sandbox.fault import Fault

FAULTS: tuple[Fault, ...] = (
    *identity_faults.FAULTS,
    *signer_faults.FAULTS,
    *storage_faults.FAULTS,
    *database_faults.FAULTS,
    *chain_faults.FAULTS,
    *platform_faults.FAULTS,
    *alexandria_faults.FAULTS,
    *alexandria_audit_faults.FAULTS,
    *cluster_faults.FAULTS,
)
"""In the order in which they are listed: by incident."""

BY_NAME: dict[str, Fault] = {fault.name: fault for fault in FAULTS}

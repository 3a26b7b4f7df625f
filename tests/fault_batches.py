"""Which faults of the catalogue may be caused at once, and what else each of them makes fail."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

from tests.alexandria_actions import OVERLAID
from tocsin.config import Registry, bundled_probes
from tocsin.model import ProbeSpec
from tocsin.paging.drills.catalogue import Drill
from tocsin.paging.drills.grouping import batches

EFFECTS: dict[str, dict[str, str]] = {
    "orchestrator-socket-stale": {
        "alexandria-ready-inside": "orchestrator_down",
        "alexandria-ready-pod": "orchestrator_down",
    },
    "licence-secret-gone": {"alexandria-license-blob": "missing"},
    "licence-renewed-not-restarted": {"alexandria-license-blob": "differs_from_running"},
    "licence-damaged": {"alexandria-license-blob-entitlements": "signature_invalid"},
    "licence-untrusted": {"alexandria-license-blob-entitlements": "untrusted_kid"},
    "page-instead-of-licence": {"alexandria-license": "html_instead_of_json"},
    "audit-row-edited": {"alexandria-audit-verify": "chain_broken"},
    "audit-rows-deleted": {"alexandria-audit-verify": "chain_broken"},
}
"""By fault the probes that must fail because of it, and for which reason."""
SHARED = {
    "alexandria-pods": {
        "alexandria-license-secret", "alexandria-database-secret",
        "alexandria-logs", "alexandria-license-log", "alexandria-audit-logs",
    },
    "alexandria-audit-chain": {"alexandria-audit-writer"},
}  # fmt: skip
"""Probes whose faults touch the same thing, the pod or the rows of the audit log, although none explains another."""
ASKS = {
    "alexandria-setup-closed": ["alexandria-ready"],
    "alexandria-license-blob": ["alexandria-license-json"],
    "alexandria-logs": ["alexandria-pods"],
    "alexandria-license-log": ["alexandria-pods"],
    "alexandria-audit-logs": ["alexandria-pods"],
}
"""Probes that cannot tell anything while others fail, although these explain none of their failures."""
HIDING = ({"license-expired", "license-used-up"}, {"certificates-unanchored", "verification-invented"})
"""Faults of which one hides the other, or changes what it shows: an ended grant has nothing left that could be used up; an
invented anchor is looked up on the chain once it is the only one."""


DEVELOPS = {"wal-not-archived": 10.0}
"""Seconds that must pass until it is a fault: what is not archived for so long."""
AT_ONCE = 18


def together(drills: Iterable[Drill]) -> list[list[Drill]]:
    """The drills in batches of faults that do not meet: none explains what another shows, or undoes it."""
    return batches(drills, AT_ONCE, _meet)


def _meet(one: Drill, other: Drill) -> bool:
    if one.system != other.system:
        return False
    if one.system == "wipe" and (one.alone or other.alone or {one.name, other.name} in HIDING):
        return True
    return any(
        first in _reach(second)
        or second in _reach(first)
        or second in SHARED.get(first, ())
        or first in SHARED.get(second, ())
        for first in _shown(one)
        for second in _shown(other)
    )


def _shown(drill: Drill) -> set[str]:
    assert drill.shown is not None
    return {drill.shown.probe, *drill.shown.also, *EFFECTS.get(drill.name, ())}


@cache
def shipped_probes() -> Mapping[str, ProbeSpec]:
    """Every probe of the bundled profiles."""
    return bundled_probes(Registry.discover())


@cache
def _reach(probe: str) -> frozenset[str]:
    """The probe and all that may explain its failure."""
    direct = OVERLAID.get(probe) or ASKS.get(probe) or shipped_probes()[probe].depends_on
    return frozenset((probe,)).union(*map(_reach, direct))

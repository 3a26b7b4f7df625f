"""The bundled Alexandria profiles on real parts: each fault of the catalogue that they can show, judged by the board."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import pytest

from tests.alexandria_actions import ACTIONS, OVERLAID, configuration
from tests.alexandria_estate import AlexandriaEstate
from tests.daemon import Daemon
from tests.faulting import PATIENCE, ROOT, Faulting, Seen, configure
from tocsin.cli.rules import shipped_subject
from tocsin.paging.drills.catalogue import Drill, Shown, read_catalogue

pytestmark = [pytest.mark.estate, pytest.mark.timeout(1200)]

FAULTS = {name: drill for name, drill in read_catalogue([ROOT / "drills/alexandria.yaml"]).items() if drill.estate}
EFFECTS: dict[str, dict[str, str]] = {
    "orchestrator-socket-stale": {
        "alexandria-ready-inside": "orchestrator_down",
        "alexandria-ready-pod": "orchestrator_down",
    },
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
ASKS = {"alexandria-setup-closed": ["alexandria-ready"]}
"""Probes that cannot tell anything while others fail, although these explain none of their failures."""


@dataclass
class Explaining(Faulting[AlexandriaEstate]):
    """Also waits for the `EFFECTS` of a fault, each of which must say that it is one."""

    def _judge(self, found: Sequence[Seen]) -> None:
        wanted = {effect for seen in found for effect in EFFECTS.get(seen.drill.name, {}).items()}

        def shown() -> bool:
            states = {name: probe["state"] for name, probe in self.daemon.probes().items()}
            explained = {(name, state["reason"]) for name, state in states.items() if state["caused_by"]}
            return wanted <= explained

        self.daemon.until(shown, f"to see the effects {sorted(wanted)}", PATIENCE)
        super()._judge(found)


@pytest.fixture(scope="module")
def faulting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulting[AlexandriaEstate]]:
    folder = tmp_path_factory.mktemp("alexandria")
    with AlexandriaEstate() as estate:
        config = configure(folder, configuration(estate, folder))
        with Daemon(folder, ["--config", str(config)]) as daemon:
            found = Explaining(estate, daemon, ACTIONS)
            found.well()
            yield found
            found.record("alexandria", list(FAULTS.values()))


def batches(drills: Sequence[Drill]) -> list[list[Drill]]:
    """The faults in as few batches as it takes when those that meet have each a batch of their own."""
    found: list[list[Drill]] = []
    for drill in drills:
        batch = next((batch for batch in found if not any(_meet(drill, other) for other in batch)), None)
        if batch is None:
            found.append([drill])
        else:
            batch.append(drill)
    return found


def _meet(one: Drill, other: Drill) -> bool:
    """Whether one could explain what the other shows, or undo it."""
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
def _reach(probe: str) -> frozenset[str]:
    """The probe and all that may explain its failure."""
    direct = OVERLAID.get(probe) or ASKS.get(probe) or shipped_subject().known[probe].depends_on
    return frozenset((probe,)).union(*map(_reach, direct))


def test_every_action_is_caused_and_every_fault_has_its_action() -> None:
    assert {drill.estate for drill in FAULTS.values()} == ACTIONS.keys()
    assert EFFECTS.keys() <= FAULTS.keys()


@pytest.mark.parametrize(
    "drills", [pytest.param(batch, id="+".join(drill.name for drill in batch)) for batch in batches([*FAULTS.values()])]
)
def test_each_fault_is_told_apart_within_two_intervals_and_nothing_else_fails_unexplained(
    faulting: Faulting[AlexandriaEstate], drills: list[Drill]
) -> None:
    found = faulting.cause(drills)
    assert {seen.drill.name: seen.problems for seen in found if seen.problems} == {}


def test_the_end_of_a_licence_is_told_by_each_that_knows_of_it(faulting: Faulting[AlexandriaEstate]) -> None:
    """Two incidents at once, so that it is no drill: the licence that runs, and the one that is installed."""
    ended = Drill(
        name="licence-in-grace", title="The licence has ended", system="alexandria", incident="quota-exceeded",
        expected=(), estate="end-licence",
        shown=Shown(
            "alexandria-license-entitlements", "in_grace",
            also={"alexandria-license": "expired", "alexandria-license-blob": "differs_from_running"},
        ),
    )  # fmt: skip

    def days(days: int) -> None:
        faulting.estate.api.license.days = days

    end = {"end-licence": (lambda _: days(-3), lambda _: days(200))}
    (seen,) = Faulting(faulting.estate, faulting.daemon, end).cause([ended])
    assert seen.problems == []

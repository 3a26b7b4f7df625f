"""The bundled profiles on real parts: each fault of the catalogue is told by its probe, for the right reason, within two
of its intervals, and nothing else fails that is not explained by it.

Each reason of each kind is caused in every run, here or by a drill, and of each probe where what it asks for is written
in the profile; what shows a reason once more is for the long run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from tests import alexandria_actions, wipe_actions
from tests.fault_batches import ASKS, DEVELOPS, EFFECTS, shipped_probes, together
from tests.faulting import ROOT, Faulting
from tests.platforms import Platforms, both
from tocsin.model import CommonReason
from tocsin.paging.drills.catalogue import Drill, Shown, read_catalogue

pytestmark = [
    pytest.mark.estate,
    pytest.mark.timeout(600),
    # The estate's S3 client leaves the socket of a request that a frozen store never answers to the collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

REAL = [drill for drill in read_catalogue(sorted((ROOT / "drills").glob("*.yaml"))).values() if drill.estate]
OF_WIPE = [drill for drill in REAL if drill.system == "wipe"]
OF_ALEXANDRIA = [drill for drill in REAL if drill.system == "alexandria"]
WRITTEN = frozenset({"sql_rows", "logql", "promql", "alert_state", "heartbeat"})
"""Kinds whose query is written in the profile: each probe of them can be wrong by itself."""
WIDE = (
    "keycloak-stopped",
    "database-stopped",
    "telemetry-stopped",
    "orchestrator-socket-stale",
    "page-instead-of-licence",
)
"""Faults with many effects, or with some that no other fault has."""


def brief(drills: Iterable[Drill]) -> list[Drill]:
    """One fault for each reason of each kind of each platform, or of each probe of `WRITTEN` kinds, without those that
    `tests/drills` causes in each run; and the `WIDE` ones."""
    found: dict[tuple[str, str, str], Drill] = {}
    for drill in sorted(drills, key=lambda drill: drill.long):
        assert drill.shown is not None
        probe = shipped_probes()[drill.shown.probe]
        found.setdefault((drill.system, probe.name if probe.kind in WRITTEN else probe.kind, drill.shown.reason), drill)
    chosen = [drill.name for drill in found.values() if drill.long]
    return [drill for drill in drills if drill.name in (*chosen, *WIDE)]


BRIEF = brief(REAL)
FURTHER = [drill for drill in REAL if drill not in BRIEF]


@pytest.fixture(scope="module")
def platforms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platforms]:
    with both(tmp_path_factory.mktemp("faults")) as found:
        yield found


@pytest.fixture(scope="module")
def faulting(platforms: Platforms) -> Iterator[Faulting]:
    found = Faulting(platforms.daemon, platforms.act, platforms.missing, ASKS, EFFECTS, DEVELOPS)
    yield found
    found.record("wipe", OF_WIPE)
    found.record("alexandria", OF_ALEXANDRIA)


def test_the_catalogue_holds_what_the_platforms_can_suffer() -> None:
    shown = [drill.shown for drill in REAL]
    assert all(shown)
    assert sum(each is not None and each.status == "unknown" for each in shown) <= 3
    for each in shown:
        assert each is not None
        assert CommonReason.PROBE_ERROR not in {each.reason, *each.also.values()}


def test_every_fault_of_the_catalogue_has_its_action_and_every_action_its_fault() -> None:
    assert {drill.estate for drill in OF_WIPE} == wipe_actions.ACTIONS.keys()
    assert {drill.estate for drill in OF_ALEXANDRIA} == alexandria_actions.ACTIONS.keys()
    assert EFFECTS.keys() <= {drill.name for drill in OF_ALEXANDRIA}


def test_at_least_forty_and_twenty_five_faults_are_caused_in_each_run() -> None:
    assert sum(drill.system == "wipe" for drill in BRIEF) >= 40
    assert sum(drill.system == "alexandria" for drill in BRIEF) >= 25


@pytest.mark.parametrize(
    "drills",
    [
        *(pytest.param(batch, id="+".join(each.name for each in batch)) for batch in together(BRIEF)),
        *(
            pytest.param(batch, id="+".join(each.name for each in batch), marks=pytest.mark.long)
            for batch in together(FURTHER)
        ),
    ],
)
def test_a_fault_of_the_catalogue_is_told_by_its_probe_and_by_no_other(faulting: Faulting, drills: list[Drill]) -> None:
    seen = faulting.cause(drills)
    assert {each.drill.name: each.problems for each in seen if each.problems} == {}


def test_the_end_of_a_licence_is_told_by_each_that_knows_of_it(platforms: Platforms) -> None:
    """Two incidents at once, so that it is no drill: the licence that runs, and the one that is installed."""
    ended = Drill(
        name="licence-in-grace", title="The licence has ended", system="alexandria", incident="quota-exceeded",
        expected=(), estate="end-licence",
        shown=Shown(
            "alexandria-license-entitlements", "in_grace",
            also={"alexandria-license": "expired", "alexandria-license-blob": "differs_from_running"},
        ),
    )  # fmt: skip

    def act(_: Drill, step: int) -> None:
        platforms.alexandria.api.license.days = (-3, 200)[step]

    (seen,) = Faulting(platforms.daemon, act, platforms.missing, ASKS).cause([ended])
    assert seen.problems == []

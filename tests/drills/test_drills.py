"""Each drill of the catalogue that real servers can show: one page, at its section, within its time, then gone.

The bundled profile runs against Keycloak (on a PostgreSQL of its own), MinIO and PostgreSQL; rules and routing are the
shipped ones, with shorter times. Faults of different incidents are caused together: each must still give its own one page.
With TOCSIN_RECORD=1 the measured times go to docs/measured, from where docs/drills.md takes them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drills.wipe_platform import ACTIONS, ROOT, EstateBell, EstateStage, Platform, wipe_platform
from tocsin.paging.drills.catalogue import Drill, read_catalogue
from tocsin.paging.drills.grouping import batches
from tocsin.paging.drills.judging import Verdict
from tocsin.paging.drills.rehearsing import rehearse
from tocsin.paging.drills.reporting import as_document

pytestmark = [pytest.mark.estate, pytest.mark.timeout(900)]

CATALOGUE = read_catalogue([ROOT / "drills/wipe.yaml"])
REAL = [drill for drill in CATALOGUE.values() if drill.estate]
RECORD = ROOT / "docs/measured/drills-estate.json"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with wipe_platform(tmp_path_factory.mktemp("wipe")) as found:
        yield found


@pytest.fixture(scope="module")
def results() -> Iterator[list[Verdict]]:
    found: list[Verdict] = []
    yield found
    if os.environ.get("TOCSIN_RECORD") and len(found) == len(REAL):
        Path(RECORD).write_text(json.dumps(as_document(found, "alertmanager"), indent=1) + "\n")


def test_every_action_is_drilled_and_every_drill_has_its_action() -> None:
    assert {drill.estate for drill in REAL} == ACTIONS.keys()


@pytest.mark.parametrize(
    "drills", [pytest.param(batch, id="+".join(drill.name for drill in batch)) for batch in batches(REAL, 4)]
)
async def test_each_fault_is_one_page_at_its_section_and_resolves(
    platform: Platform, results: list[Verdict], drills: list[Drill]
) -> None:
    verdicts = await rehearse(drills, EstateStage(platform), EstateBell(platform), print)
    results += verdicts
    assert {verdict.drill.name: verdict.problems for verdict in verdicts if verdict.problems} == {}

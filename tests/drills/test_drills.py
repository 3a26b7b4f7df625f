"""Each drill of the catalogue that real servers can show: one page, at its section, within its time, then gone.

The bundled profiles of both platforms run against their real parts; rules and routing are the shipped ones, with shorter
times. Faults of different incidents are caused together: each must still give its own one page. With TOCSIN_RECORD=1 the
measured times go to docs/measured, from where docs/drills.md takes them.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from estate.servers.sigv4 import Credentials
from tests.bell import links
from tests.drills.ground import Ground, GroundBell, ground
from tests.faulting import ROOT
from tests.healthy import assert_each_looked_and_was_well, looks
from tocsin.paging.drills.catalogue import Drill, read_catalogue
from tocsin.paging.drills.grouping import batches
from tocsin.paging.drills.judging import Verdict
from tocsin.paging.drills.rehearsing import rehearse
from tocsin.paging.drills.reporting import as_document
from tocsin_sandbox.wipe import BUCKETS

pytestmark = [
    pytest.mark.estate,
    pytest.mark.timeout(1200),
    # The estate's S3 client leaves the socket of a request that a frozen store never answers to the collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

CATALOGUE = read_catalogue(sorted((ROOT / "drills").glob("*.yaml")))
REAL = [drill for drill in CATALOGUE.values() if drill.estate]
BRIEF = [drill for drill in REAL if not drill.long]
AT_ONCE = 14
RECORD = ROOT / "docs/measured/drills-estate.json"


HIDDEN = {
    "storage-stopped": ("bucket-deleted",),
    "database-stopped": (
        "dead-letter",
        "jobs-old",
        "proofs-stalled",
        "certificates-unanchored",
        "license-expired",
        "proofs-awaiting-license",
        "report-missing",
    ),
}
"""Faults that cannot be seen while the first one lasts, and must not ring."""
ROOTS = (
    "keycloak-database-stopped", "signer-stopped", "storage-stopped", "database-stopped", "backup-late", "captcha-refused",
     "mail-stopped", "developer-data", "setup-open", "seats-exhausted", "audit-log-cut",
    "dsn-secret-gone",
)  # fmt: skip


@dataclass
class Crowd(Ground):
    """Causes with each fault what it hides, at one moment: the daemon looks neither between them nor between repairs."""

    async def cause(self, drill: Drill) -> None:
        with self._unseen():
            for name in HIDDEN.get(drill.name, ()):
                await super().cause(CATALOGUE[name])
            await super().cause(drill)

    async def undo(self, drill: Drill) -> None:
        with self._unseen():
            await super().undo(drill)
            for name in HIDDEN.get(drill.name, ()):
                await super().undo(CATALOGUE[name])

    @contextmanager
    def _unseen(self) -> Iterator[None]:
        os.kill(self.daemon.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.daemon.pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def platforms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with ground(tmp_path_factory.mktemp("drills")) as found:
        yield found


@pytest.fixture(scope="module")
def results() -> Iterator[list[Verdict]]:
    found: list[Verdict] = []
    yield found
    if os.environ.get("TOCSIN_RECORD"):
        record(found)


def record(verdicts: list[Verdict]) -> None:
    """Writes how they went; what this run did not drill stays as it was recorded before."""
    document = as_document(verdicts, "alertmanager")
    rows = {row["drill"]: row for row in json.loads(RECORD.read_text())["drills"]} if RECORD.is_file() else {}
    rows |= {row["drill"]: row for row in document["drills"]}
    kept = [rows[drill.name] for drill in REAL if drill.name in rows]
    passed = sum(row["passed"] for row in kept)
    document |= {"passed": passed, "failed": len(kept) - passed, "drills": kept}
    RECORD.write_text(json.dumps(document, indent=1) + "\n")


def test_every_incident_of_both_platforms_is_drilled_and_at_least_thirty_drills_are_held_each_time() -> None:
    assert {drill.group for drill in BRIEF} == {drill.group for drill in CATALOGUE.values()}
    assert len(BRIEF) >= 30


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(120, id="two-minutes"),
        pytest.param(1800, id="half-an-hour", marks=[pytest.mark.long, pytest.mark.timeout(3000)]),
    ],
)
def test_a_healthy_estate_never_rings_and_restarts_change_nothing(platforms: Ground, seconds: int) -> None:
    """At ten times the pace of the profiles: what happens here in two minutes takes twenty in production. Every probe is
    ok ten times and more, and the servers saw it."""
    bell, daemon = platforms.bell, platforms.daemon
    platforms.all_well()
    since = time.time()
    time.sleep(seconds / 4)
    daemon.stop()
    daemon.start()
    platforms.all_well()
    before = looks(platforms)
    for part in (bell.prometheus, bell.alertmanager):
        time.sleep(seconds / 4)
        part.stop()
        part.start()
    time.sleep(seconds / 4)
    # In half an hour on a machine with other work one run may time out; what that may not do is ring.
    assert_each_looked_and_was_well(platforms, before, always=seconds <= 120)
    rang = [item for item in bell.receiver.notifications() if item.received_at >= since and item.path != "/watchdog"]
    assert [(item.path, item.status, sorted(item.names())) for item in rang] == []
    platforms.all_well(10)


@pytest.mark.parametrize(
    "drills", [pytest.param(batch, id="+".join(drill.name for drill in batch)) for batch in batches(BRIEF, AT_ONCE)]
)
async def test_each_fault_is_one_page_at_its_section_and_resolves(
    platforms: Ground, results: list[Verdict], drills: list[Drill]
) -> None:
    await _drilled(platforms, results, drills)


@pytest.mark.long
@pytest.mark.parametrize(
    "drills",
    [
        pytest.param(batch, id="+".join(drill.name for drill in batch))
        for batch in batches([drill for drill in REAL if drill.long], AT_ONCE)
    ],
)
async def test_each_further_fault_is_one_page_at_its_section_and_resolves(
    platforms: Ground, results: list[Verdict], drills: list[Drill]
) -> None:
    await _drilled(platforms, results, drills)


def test_a_page_outlives_restarts_kills_of_the_daemon_and_the_end_of_the_probes_own_credential(
    platforms: Ground,
) -> None:
    platforms.all_well()
    wipe, daemon, bell = platforms.wipe, platforms.daemon, platforms.bell
    since = time.time()
    platforms.act(CATALOGUE["bucket-write-denied"], 0)
    try:
        page = bell.page("storage-outage", "firing", since)
        assert links(page) == {"wipe/storage-outage#s3_bucket.write_denied"}
        for part in (bell.prometheus, bell.alertmanager):
            part.stop()
            part.start()
        for _ in range(3):
            daemon.kill()
            daemon.start()
        wipe.give_key(BUCKETS["S3_BUCKET_EXPORTS"], Credentials("expired-key", "expired-secret", "expired-token"))
        daemon.until(
            lambda: daemon.probes()["wipe-bucket-exports"]["state"]["status"] == "unknown", "not to be able to tell"
        )
        assert daemon.value("tocsin_probe_alerting", probe="wipe-bucket-exports") == 1
        assert daemon.value("tocsin_probe_reason", probe="wipe-bucket-exports", reason="credentials_rejected") == 1
        bell.settle()
        assert [item.status for item in bell.pages(since)] == ["firing"]
    finally:
        wipe.give_key(BUCKETS["S3_BUCKET_EXPORTS"], wipe.minio.session())
    bell.page("storage-outage", "resolved", since, 60)
    bell.settle()
    bell.assert_only(since, {"storage-outage"})


async def test_twenty_faults_at_once_are_as_many_pages_as_there_are_root_causes(platforms: Ground) -> None:
    roots = [CATALOGUE[name] for name in ROOTS]
    assert len(roots) + sum(map(len, HIDDEN.values())) == 20
    assert len({drill.group for drill in roots}) == len(roots)
    crowd = Crowd(platforms.wipe, platforms.alexandria, platforms.daemon, platforms.bell)
    since = time.time()
    verdicts = await rehearse(roots, crowd, GroundBell(platforms), print)
    assert {verdict.drill.name: verdict.problems for verdict in verdicts if verdict.problems} == {}
    pages = [item for item in platforms.bell.pages(since) if item.status == "firing"]
    assert len({item.body["groupKey"] for item in pages}) == len(roots)


async def _drilled(platforms: Ground, results: list[Verdict], drills: list[Drill]) -> None:
    verdicts = await rehearse(drills, platforms, GroundBell(platforms), print)
    results += verdicts
    assert {verdict.drill.name: verdict.problems for verdict in verdicts if verdict.problems} == {}

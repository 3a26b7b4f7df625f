"""Wipe's bundled profile on real parts: well, every probe is ok; each fault of the catalogue is told by its probe, for the
right reason, within two of its intervals, and nothing else fails that is not explained by it."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator

import pytest
import yaml

from estate.process import Server
from estate.web import request
from tests.daemon import Daemon
from tests.faulting import ROOT, Faulting, configure
from tests.wipe_actions import ACTIONS, MISSING, configuration
from tests.wipe_estate import WipeEstate
from tocsin.paging.drills.catalogue import Drill, read_catalogue

pytestmark = [pytest.mark.estate, pytest.mark.timeout(600)]

REAL = [drill for drill in read_catalogue([ROOT / "drills/wipe.yaml"]).values() if drill.estate]
TIMES = 10
"""How often every probe runs on the healthy estate."""

ASKED_OF_DATABASE = frozenset(
    {"postgres", "sql_rows", "job_queue", "event_rate", "heartbeat", "s3_object", "hash_chain"}
)


@pytest.fixture(scope="module")
def faulting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulting[WipeEstate]]:
    folder = tmp_path_factory.mktemp("wipe")
    with WipeEstate() as estate:
        config = configure(folder, configuration(estate, folder))
        with Daemon(folder, ["--config", str(config)]) as daemon:
            found = Faulting(estate, daemon, ACTIONS, frozenset(MISSING))
            found.well()
            yield found
            found.record("wipe", REAL)


def runs(daemon: Daemon) -> dict[tuple[str, str], float]:
    """How often each probe ended in each outcome."""
    pattern = re.compile(r'tocsin_probe_runs_total{probe="([\w-]+)",outcome="(\w+)"')
    found = ((pattern.match(sample), value) for sample, value in daemon.metrics().items())
    return {(match[1], match[2]): value for match, value in found if match}


def lines(server: Server, pattern: str) -> Counter[str]:
    """How often each first group of a pattern is in a server's log."""
    return Counter(re.findall(pattern, server.log.read_text(errors="replace")))


def asked(estate: WipeEstate) -> Counter[str]:
    """What the servers themselves have counted or written down of the requests that they were sent."""
    found: Counter[str] = Counter()
    for database in (estate.database, estate.keycloak_database):
        found += lines(database, r"connection authorized: .* application_name=(tocsin/\S+)")
    found += lines(estate.keycloak, r'"?(?:GET|POST) /realms/(\S+?)(?:\?\S*)? HTTP')
    found += lines(estate.anvil, r"(eth_getBlockByNumber|eth_getBalance|eth_call|eth_getTransactionReceipt)")
    found += lines(estate.signing_node, r"(eth_signTransaction)")
    found += lines(estate.tsa, r"(/api/v1/timestamp)\b")
    for entry in estate.signer.audit_log.read_text().splitlines():
        written = json.loads(entry)
        if written["type"] == "response":
            found[written["request"]["path"]] += 1
    metrics = request("GET", f"{estate.minio.url}/minio/v2/metrics/cluster").expect(200).text
    for api, count in re.findall(r'minio_s3_requests_total\{api="(\w+)".*\} (\S+)', metrics):
        found[f"s3 {api}"] = round(float(count))
    own = request("GET", f"{estate.prometheus.url}/metrics").expect(200).text
    for handler, count in re.findall(r'prometheus_http_requests_total\{code="200",handler="(\S+)"\} (\S+)', own):
        found[f"prometheus {handler}"] = round(float(count))
    return found


MUST_BE_ASKED = {
    **{
        f"{realm}/{path}": 1
        for realm in ("master", "exawipe")
        for path in (
            ".well-known/openid-configuration",
            "protocol/openid-connect/certs",
            "protocol/openid-connect/token",
        )
    },
    "eth_getBlockByNumber": 1,
    "eth_getBalance": 1,
    "eth_call": 1,
    "eth_getTransactionReceipt": 1,
    "eth_signTransaction": 1,
    "/api/v1/timestamp": 2,  # by its own probe and by the PDF signer
    "transit/decrypt/wipe-data": 1,
    "transit/hmac/wipe-mac": 1,
    "transit/verify/wipe-mac": 1,
    "transit/sign/wipe-receipt": 1,
    "kv/signer": 1,
    "s3 headbucket": 1,
    "s3 getobject": 4,
    "s3 putobject": 3,
    "s3 newmultipartupload": 1,
    "prometheus /api/v1/rules": 3,
    "prometheus /api/v1/query": 1,
}
"""By request, how many probes cause it at each of their runs."""


def test_every_fault_of_the_catalogue_has_its_action_and_every_action_its_fault() -> None:
    assert {drill.estate for drill in REAL} == ACTIONS.keys()


def test_on_a_healthy_estate_every_probe_is_ok_ten_times_and_the_servers_saw_it(faulting: Faulting[WipeEstate]) -> None:
    estate, daemon = faulting.estate, faulting.daemon
    probes = daemon.probes()
    watched = probes.keys() - MISSING.keys()
    ran, seen = runs(daemon), asked(estate)

    def since() -> dict[tuple[str, str], float]:
        return {key: value - ran.get(key, 0) for key, value in runs(daemon).items()}

    deadline = time.monotonic() + 90
    now = since()
    while slow := {name for name in watched if now.get((name, "ok"), 0) < TIMES}:
        assert time.monotonic() < deadline, slow
        time.sleep(1)
        now = since()
    assert {key: count for key, count in now.items() if key[1] != "ok" and key[0] in watched and count} == {}
    came = asked(estate) - seen
    by_dsn = {
        f"tocsin/{name}": 1 for name in watched if probes[name]["kind"] in ASKED_OF_DATABASE and name != "wipe-backup"
    }
    few = {what: came[what] for what, each in {**MUST_BE_ASKED, **by_dsn}.items() if came[what] < TIMES * each}
    assert few == {}


def behind(probe: str, depends_on: dict[str, list[str]]) -> set[str]:
    """A probe and all that explains its failures."""
    return {probe}.union(*(behind(other, depends_on) for other in depends_on[probe]))


def together(drills: list[Drill], at_once: int = 12) -> list[list[Drill]]:
    """The drills in batches, in which none explains what another shows."""
    declared = yaml.safe_load((ROOT / "profiles/wipe.yaml").read_text())["probes"]
    depends_on = {name: probe.get("depends_on", []) for name, probe in declared.items()}

    def tells(drill: Drill) -> set[str]:
        assert drill.shown is not None
        return {drill.shown.probe, *drill.shown.also}

    def apart(one: Drill, other: Drill) -> bool:
        return not any(
            tells(first) & behind(probe, depends_on)
            for first, second in ((one, other), (other, one))
            for probe in tells(second)
        )

    found: list[list[Drill]] = []
    for drill in drills:
        fitting = (
            batch
            for batch in found
            if not drill.alone
            and not batch[0].alone
            and len(batch) < at_once
            and all(apart(drill, each) for each in batch)
        )
        batch = next(fitting, None)
        if batch is None:
            found.append([drill])
        else:
            batch.append(drill)
    return found


@pytest.mark.parametrize(
    "drills", [pytest.param(batch, id="+".join(drill.name for drill in batch)) for batch in together(REAL)]
)
def test_a_fault_is_told_by_its_probe_and_by_no_other(faulting: Faulting[WipeEstate], drills: list[Drill]) -> None:
    seen = faulting.cause(drills)
    assert {each.drill.name: each.problems for each in seen if each.problems} == {}

"""Whether every probe of both platforms has looked at what is well, as the servers themselves saw it."""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

from tests.daemon import Daemon
from tests.platforms import Platforms
from tests.wipe_requests import MUST_BE_ASKED, asked, asked_for_samples

TIMES = 10
"""How often every probe is to run."""
ASKED_OF_DATABASE = frozenset(
    {"postgres", "sql_rows", "job_queue", "event_rate", "heartbeat", "s3_object", "hash_chain"}
)
_RUNS = re.compile(r'tocsin_probe_runs_total{probe="([\w-]+)",outcome="(\w+)"')


class Looks(NamedTuple):
    """``runs``: by probe and outcome, what the daemon counts since its start; ``requests``: what the servers counted."""

    runs: Counter[tuple[str, str]]
    requests: Counter[str]


def looks(platforms: Platforms) -> Looks:
    """What there has been so far."""
    return Looks(_runs(platforms.daemon), asked(platforms.wipe))


def assert_each_looked_and_was_well(platforms: Platforms, before: Looks, *, always: bool = True) -> None:
    """Since ``before`` every probe was ok at least ``TIMES`` times, and ``always``; the servers have seen it."""
    now = looks(platforms)
    probes = platforms.daemon.probes()
    watched = probes.keys() - platforms.missing
    ran = now.runs - before.runs
    assert not always or {key: count for key, count in ran.items() if key[1] != "ok" and key[0] in watched} == {}
    assert {name: ran[name, "ok"] for name in watched if ran[name, "ok"] < TIMES} == {}
    came = now.requests - before.requests
    by_dsn = {
        f"tocsin/{name}": 1
        for name in watched
        if name.startswith("wipe-") and probes[name]["kind"] in ASKED_OF_DATABASE and name != "wipe-backup"
    }
    expected = {**MUST_BE_ASKED, **asked_for_samples(platforms.wipe), **by_dsn}
    assert {what: came[what] for what, each in expected.items() if came[what] < TIMES * each} == {}


def _runs(daemon: Daemon) -> Counter[tuple[str, str]]:
    found = ((_RUNS.match(sample), value) for sample, value in daemon.metrics().items())
    return Counter({(match[1], match[2]): round(value) for match, value in found if match})

"""Every query of every dashboard returns rows from a real Prometheus that scrapes real data.

A daemon probes targets that answer, refuse and wait for their cause, with the contracts of the bundled profiles missing.
What cannot be had cheaply (a bucket, a queue, a signer) is measured by one invented entry of each installed kind, shown
through tocsin's own page: so the names are the kinds' own, and one that is renamed leaves its panel empty.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from estate.servers.prometheus import Prometheus, ScrapeJob
from tests import exposing_gallery as gallery
from tests.daemon import Daemon
from tests.targets import Target
from tocsin.config import Registry
from tocsin.exposing import WebServer
from tocsin.model import Counts, Entry, Measurement, Outcome, ProbeSpec, ProbeState, Run, Status
from tocsin.paging.promql import Selector, parse

pytestmark = pytest.mark.estate

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "dashboards").glob("*.json"))
CAUSE, EFFECT = "wipe-cause", "wipe-effect"
CLUSTER = "north"
VARIABLES = {"$system": "wipe", "$__rate_interval": "15s", "$cluster": CLUSTER, "$environment": ".*"}
NAMED = {"sql_rows": ("unanchored-certificates", "proofs-awaiting-license"), "license_quota": ("license",)}
"""Probes that a panel asks for by name; one of any other kind is named after it."""
IN_CLUSTER = {"metric_relabel_configs": [{"target_label": "cluster", "replacement": CLUSTER}]}
QUICK = "kind: http, system: wipe, incident: api-outage, every: 1s, timeout: 500ms, retry_every: 200ms"
CONFIGURATION = """
version: 1
profiles: [wipe]
caps: {{default: {{requests_per_minute: 60}}}}
probes:
  wipe-web: {{{quick}, url: "{good}"}}
  wipe-cause: {{{quick}, url: "{bad}"}}
  wipe-effect: {{{quick}, url: "{bad}", depends_on: [wipe-cause]}}
  wipe-ticket: {{{quick}, url: "{bad}", severity: ticket}}
"""


@dataclass(frozen=True)
class Query:
    """One query of a panel, an annotation or a variable, with Grafana's variables filled in.

    On the dashboard of one probe there are two: a probe whose failure is explained does not alert.
    """

    place: str
    exprs: tuple[str, ...]


def queries(files: list[Path]) -> Iterator[Query]:
    for file in files:
        document = json.loads(file.read_text("utf-8"))
        for panel in document["panels"]:
            for target in panel.get("targets", ()):
                yield Query(f"{file.stem}: {panel['title']} {target['refId']}", filled(target["expr"]))
        for annotation in document["annotations"].get("list", ()):
            yield Query(f"{file.stem}: annotation {annotation['name']}", filled(annotation["expr"]))
        for variable in document["templating"]["list"]:
            if variable["type"] == "query":
                asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
                assert asked is not None, variable["query"]
                yield Query(f"{file.stem}: variable {variable['name']}", filled(f"group by ({asked[2]}) ({asked[1]})"))


def filled(expr: str) -> tuple[str, ...]:
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    exprs = (expr.replace("$probe", EFFECT), expr.replace("$probe", CAUSE))
    assert "$" not in exprs[0], expr
    return tuple(dict.fromkeys(exprs))


QUERIES = list(queries(FILES))


def measured(registry: Registry) -> Mapping[str, Entry]:
    """A probe of each installed kind that measures all it can, twice where a label tells samples apart."""
    now = time.time()
    found = {}
    for kind, name in [(each, name) for each in sorted(registry) for name in NAMED.get(each, (each,))]:
        spec = ProbeSpec(f"wipe-measured-{name}", kind, "wipe", "api-outage", settings=None)
        samples = tuple(
            Measurement(gauge, value, tuple(labelled(label, value) for label in gauge.labels))
            for gauge in registry[kind].gauges
            for value in ((0.0, 1.0) if gauge.labels else (1.0,))
        )
        run = Run(spec.name, Outcome.ok(), now, 0.1, "0" * 32, "tocsin-0", samples)
        state = ProbeState(Status.OK, now - 60, last_run_at=now, last_ok_at=now, last_status=Status.OK)
        found[spec.name] = Entry(spec, state, run, Counts({Status.OK: 1}))
    return found


def labelled(label: str, value: float) -> str:
    return ("seats", "tenants")[int(value)] if label == "resource" else f"{label}-{value:.0f}"


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("dashboards")
    with ExitStack() as stack:
        target = stack.enter_context(Target())
        configuration = folder / "tocsin.yaml"
        bad = stack.enter_context(Target())
        configuration.write_text(CONFIGURATION.format(quick=QUICK, good=target.url, bad=bad.url))
        daemon = Daemon(folder, ["--config", str(configuration)])
        stack.enter_context(daemon)
        registry = Registry.discover()
        measured(registry)
        site = replace(
            gallery.site(),
            entries=lambda: measured(registry),
            facts=lambda: replace(gallery.facts(), heartbeat_at=time.time()),
        )
        exporter = WebServer(site, "127.0.0.1", 0, None)
        exporter.start()
        stack.callback(exporter.stop)
        server = Prometheus(
            rules=[ROOT / "alerts" / "tocsin.yaml"],
            jobs=[
                ScrapeJob("tocsin", (f"127.0.0.1:{daemon.port}",), more=IN_CLUSTER),
                ScrapeJob("tocsin-measured", (f"127.0.0.1:{exporter.port}",), more=IN_CLUSTER),
            ],
        )
        stack.enter_context(server)
        seen_well = "tocsin_probe_last_ok_timestamp_seconds"
        daemon.until(lambda: all(daemon.value(seen_well, probe=name) for name in (CAUSE, EFFECT)), "to see both well")
        bad.__exit__(None, None, None)
        daemon.until(lambda: daemon.value("tocsin_probe_caused_by", probe=EFFECT) == 1, "to explain the effect")
        daemon.until(lambda: daemon.value("tocsin_probe_skipped_total", probe=EFFECT), "to skip a run")
        # A rate needs two scrapes, a recorded series one evaluation more.
        daemon.until(
            lambda: server.query(f'rate(tocsin_probe_skipped_total{{probe="{EFFECT}"}}[15s])'), "to be scraped"
        )
        daemon.until(lambda: server.query(f'tocsin:probe_reason{{probe="{EFFECT}"}}'), "to be recorded")
        yield server


def rows(server: Prometheus, expr: str) -> int:
    """How many rows the query returns; 0 also when one of the series it reads is not there.

    So a query that falls back (`or vector(0)`) does not hide that its metric is gone.
    """
    if not all(server.query(written(selector)) for selector in parse(expr).selectors):
        return 0
    return len(server.query(expr))


def written(selector: Selector) -> str:
    matchers = ", ".join(f"{each.label}{each.operator}{json.dumps(each.value)}" for each in selector.matchers)
    return f"{selector.metric}{{{matchers}}}"


def test_there_is_a_query_in_every_panel_and_every_dashboard_is_here() -> None:
    assert [file.stem for file in FILES] == ["incident-scope", "itself", "probe", "system"]
    for file in FILES:
        for panel in json.loads(file.read_text("utf-8"))["panels"]:
            assert panel["type"] == "row" or panel["targets"], panel["title"]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.place)
def test_a_query_of_a_dashboard_returns_rows(query: Query, prometheus: Prometheus) -> None:
    assert any(rows(prometheus, expr) for expr in query.exprs), query.exprs


def test_a_metric_that_is_renamed_leaves_its_panels_empty(prometheus: Prometheus) -> None:
    """The test above can fail: for each metric of each query, under another name."""
    for query in QUERIES:
        for expr in query.exprs:
            for metric in {selector.metric for selector in parse(expr).selectors}:
                renamed = re.sub(rf"{metric}\b", f"{metric}_renamed", expr)
                assert rows(prometheus, renamed) == 0, f"{query.place}: {renamed}"


def test_what_is_not_scraped_leaves_its_panels_empty(prometheus: Prometheus) -> None:
    for query in QUERIES:
        elsewhere = [re.sub(r'(=~?)"wipe', r'\1"elsewhere', expr) for expr in query.exprs]
        assert elsewhere == list(query.exprs) or not any(rows(prometheus, expr) for expr in elsewhere), elsewhere


def test_what_is_in_another_cluster_or_environment_is_not_shown(prometheus: Prometheus) -> None:
    """But for the choice of a cluster itself, and for the counts that say 0 when nothing is there."""
    for query in QUERIES:
        for expr in query.exprs:
            for here, elsewhere in (
                (f'cluster=~"{CLUSTER}"', 'cluster=~"south"'),
                ('environment=~".*"', 'environment=~"x"'),
            ):
                moved = expr.replace(here, elsewhere)
                assert moved == expr or rows(prometheus, moved) == 0, f"{query.place}: {moved}"
                assert moved != expr or "variable" in query.place, f"{query.place} looks everywhere"


@pytest.mark.parametrize("number", range(2))
def test_a_join_that_the_labels_page_shows_returns_rows(number: int, prometheus: Prometheus) -> None:
    shown = re.findall(r"```promql\n(.*?)```", (ROOT / "docs" / "labels.md").read_text("utf-8"), re.DOTALL)
    assert len(shown) == 2
    joined = prometheus.query(shown[number].replace("wipe-db", CAUSE))
    assert joined
    assert all({"probe", "system", "incident"} <= set(row["metric"]) for row in joined)

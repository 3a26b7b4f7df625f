"""The metrics page, read back by the parsers of prometheus_client."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests import exposing_gallery as gallery
from tocsin.exposing import Histogram, SelfFacts, catalogue
from tocsin.exposing.exposition import Family, accepts_openmetrics, escape, number
from tocsin.exposing.families import PROBE_FAMILIES, RESERVED
from tocsin.exposing.metrics import MetricsPage
from tocsin.model import Entry, Gauge, Measurement, Outcome, ProbeState, Severity, Status
from tocsin.sdk import Probe, ProbeContext, ProbeSettings, ReasonEnum

Samples = dict[str, list[tuple[dict[str, str], float]]]
ENGINE_METRICS = Path(__file__).with_name("engine_metrics.txt")


def rendered(entries: dict[str, Entry], *, openmetrics: bool = False, page: MetricsPage | None = None) -> str:
    return (page or MetricsPage()).render(entries, gallery.facts(), openmetrics=openmetrics)


def samples(text: str, *, openmetrics: bool = False) -> Samples:
    found: Samples = {}
    for family in parse_openmetrics(text) if openmetrics else parse_text(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return found


def of(found: Samples, name: str, probe: str) -> list[tuple[dict[str, str], float]]:
    return [
        ({key: value for key, value in labels.items() if key not in ("probe", "system", "incident", "kind")}, value)
        for labels, value in found.get(name, [])
        if labels["probe"] == probe
    ]


@pytest.fixture(scope="module")
def found() -> Samples:
    return samples(rendered(gallery.entries()))


def test_both_formats_parse_and_say_the_same() -> None:
    entries = gallery.entries()
    plain, openmetrics = rendered(entries), rendered(entries, openmetrics=True)
    ours = {name: values for name, values in samples(plain).items() if name.startswith("tocsin_")}
    theirs = samples(openmetrics, openmetrics=True)
    assert ours == {name: values for name, values in theirs.items() if name.startswith("tocsin_")}
    assert openmetrics.endswith("# EOF\n")
    assert "# TYPE tocsin_probe_runs counter" in openmetrics
    assert "# TYPE tocsin_probe_runs_total counter" in plain


def test_no_series_is_there_twice(found: Samples) -> None:
    for name, values in found.items():
        keys = [tuple(sorted(labels.items())) for labels, _ in values]
        assert len(keys) == len(set(keys)), name


def test_every_series_has_exactly_the_labels_of_its_family(found: Samples) -> None:
    for family in PROBE_FAMILIES:
        for labels, _ in found.get(family.name, []):
            assert tuple(labels) == family.labels


@pytest.mark.parametrize(
    ("probe", "severity", "value"),
    [
        ("wipe-realm-exawipe", "page", 1.0),
        ("wipe-unanchored-certificates", "ticket", 1.0),
        ("alexandria-api", "ticket", 1.0),
        ("wipe-bucket-certificates", "page", 1.0),
        ("wipe-bucket-proofs", "page", 0.0),
        ("wipe-keycloak-db", "page", 0.0),
        ("wipe-signer-decrypt", "page", 0.0),
    ],
)
def test_each_probe_has_one_alerting_series(found: Samples, probe: str, severity: str, value: float) -> None:
    assert of(found, "tocsin_probe_alerting", probe) == [({"severity": severity}, value)]


def test_the_confirmed_status_is_one_of_three_series(found: Samples) -> None:
    for entry in gallery.entries().values():
        assert of(found, "tocsin_probe_status", entry.spec.name) == [
            ({"status": status.value}, float(entry.state.status is status)) for status in Status
        ]


def test_the_reason_is_absent_when_ok_and_before_the_first_run(found: Samples) -> None:
    reason = "tocsin_probe_reason"
    assert of(found, reason, "wipe-realm-exawipe") == [({"reason": "issuer_mismatch", "severity": "page"}, 1.0)]
    assert of(found, reason, "wipe-keycloak-db") == []
    assert of(found, reason, "wipe-signer-decrypt") == []


def test_every_finding_is_exported_with_its_component(found: Samples) -> None:
    assert of(found, "tocsin_probe_finding", "wipe-queues") == [
        ({"reason": "stalled", "component": "proofs.validated"}, 1.0),
        ({"reason": "backlog", "component": "proofs.retry"}, 1.0),
        ({"reason": "dead_letters", "component": "reports.generate"}, 1.0),
    ]


def test_an_effect_names_its_cause_and_others_name_none(found: Samples) -> None:
    assert of(found, "tocsin_probe_caused_by", "wipe-bucket-proofs") == [({"cause": "wipe-db"}, 1.0)]
    assert len(found["tocsin_probe_caused_by"]) == 1


def test_what_may_explain_a_probe_is_exported_whether_it_fails_or_not(found: Samples) -> None:
    assert of(found, "tocsin_probe_depends_on_info", "wipe-realm-master") == [
        ({"cause": "wipe-keycloak-db"}, 1.0),
        ({"cause": "wipe-keycloak-health"}, 1.0),
    ]
    assert of(found, "tocsin_probe_depends_on_info", "wipe-keycloak-db") == []


def test_a_probe_that_never_ran_has_no_times_but_its_configured_ones(found: Samples) -> None:
    name = "wipe-signer-decrypt"
    for absent in ("last_run_timestamp", "last_ok_timestamp", "status_since_timestamp", "duration"):
        assert of(found, f"tocsin_probe_{absent}_seconds", name) == []
    assert of(found, "tocsin_probe_interval_seconds", name) == [({}, 300.0)]
    assert of(found, "tocsin_probe_timeout_seconds", name) == [({}, 5.0)]
    assert of(found, "tocsin_probe_runs_total", name) == [({"outcome": status.value}, 0.0) for status in Status]


def test_a_restored_state_is_exported_before_the_first_run() -> None:
    entry = gallery.entries()["wipe-realm-exawipe"]
    found = samples(rendered({"x": Entry(entry.spec, entry.state)}))
    assert of(found, "tocsin_probe_alerting", "wipe-realm-exawipe") == [({"severity": "page"}, 1.0)]
    assert of(found, "tocsin_probe_last_run_timestamp_seconds", "wipe-realm-exawipe") == [({}, gallery.NOW - 12)]


def test_skips_and_missing_contracts_are_counted_by_their_own_labels(found: Samples) -> None:
    assert of(found, "tocsin_probe_skipped_total", "wipe-bucket-drop") == [({"cause": "overlap"}, 4.0)]
    assert of(found, "tocsin_config_missing_contract_info", "wipe-signer") == [
        ({"variable": "TOCSIN_WIPE_SIGNER_CONTRACT"}, 1.0)
    ]


def test_measurements_carry_the_probe_first_and_any_text_in_labels(found: Samples) -> None:
    assert [labels for labels, _ in found["tocsin_queue_jobs"]][2] == {
        "probe": "wipe-queues",
        "queue": 'odd "name"\\\n',
        "status": "waiting",
    }
    assert [next(iter(labels)) for labels, _ in found["tocsin_queue_jobs"]] == ["probe"] * 3


def test_what_the_next_run_does_not_measure_is_gone() -> None:
    page, entries = MetricsPage(), gallery.entries()
    assert "tocsin_queue_jobs{" in rendered(entries, page=page)
    queues = entries["wipe-queues"]
    assert queues.run is not None
    entries["wipe-queues"] = replace(queues, run=replace(queues.run, measurements=()))
    assert "tocsin_queue_jobs" not in rendered(entries, page=page)
    del entries["wipe-queues"]
    assert "wipe-queues" not in rendered(entries, page=page)


def test_a_kept_page_says_the_same_as_a_fresh_one() -> None:
    page, entries = MetricsPage(), gallery.entries()
    rendered(entries, page=page)
    entries["wipe-db"] = replace(entries["wipe-db"], state=entries["wipe-queues"].state)
    ours = [line for line in rendered(entries, page=page).splitlines() if "process_" not in line]
    assert ours == [line for line in rendered(entries).splitlines() if "process_" not in line]


def test_only_what_ran_is_rendered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from tocsin.exposing import metrics

    page, entries, names = MetricsPage(), gallery.entries(), []
    own_lines = metrics._own_lines
    monkeypatch.setattr(metrics, "_own_lines", lambda entry: names.append(entry.spec.name) or own_lines(entry))
    rendered(entries, page=page)
    assert len(names) == len(entries)
    names.clear()
    entries["wipe-db"] = replace(entries["wipe-db"])
    rendered(entries, page=page)
    assert names == ["wipe-db"]


@pytest.mark.parametrize(
    "gauge",
    [
        Gauge("tocsin_probe_alerting", "the engine's own"),
        Gauge("tocsin_scheduler_lag_seconds_bucket", "part of a histogram"),
        Gauge("tocsin_probe_runs", "a counter's family"),
        Gauge("no spaces", "no name"),
        Gauge("tocsin_x", "a label of ours", ("probe",)),
        Gauge("tocsin_x", "a bad label", ("a-b",)),
    ],
)
def test_a_gauge_that_would_break_the_scrape_is_left_out(gauge: Gauge) -> None:
    entry = gallery.entry(
        gallery.spec("x"), gallery.good(), measured=(Measurement(gauge, 4711.0, ("v",) * len(gauge.labels)),)
    )
    text = rendered({"x": entry})
    assert "4711" not in text
    samples(text)


def test_a_label_set_measured_twice_is_one_series_with_the_later_value() -> None:
    twice = tuple(Measurement(gallery.JOBS, value, ("q", "s")) for value in (1.0, 2.0))
    found = samples(rendered({"x": gallery.entry(gallery.spec("x"), gallery.good(), measured=twice)}))
    assert found["tocsin_queue_jobs"] == [({"probe": "x", "queue": "q", "status": "s"}, 2.0)]


def test_tocsin_says_how_it_is_itself(found: Samples) -> None:
    assert found["tocsin_config_last_reload_successful"] == [({}, 1.0)]
    assert found["tocsin_config_hash_info"] == [({"hash": "3f9a1c77de20aa41"}, 1.0)]
    assert found["tocsin_scheduler_heartbeat_timestamp_seconds"] == [({}, gallery.NOW - 0.4)]
    assert found["tocsin_scheduler_lag_seconds_bucket"] == [
        ({"le": "0.01"}, 90.0),
        ({"le": "0.1"}, 99.0),
        ({"le": "1.0"}, 100.0),
        ({"le": "+Inf"}, 100.0),
    ]
    assert found["tocsin_scheduler_lag_seconds_sum"] == [({}, 1.75)]
    assert found["tocsin_event_loop_lag_seconds_total"] == [({}, 0.5)]
    assert found["tocsin_state_writes_failed_total"] == [({}, 0.0)]
    assert found["tocsin_state_degraded"] == [({}, 0.0)]
    assert found["tocsin_state_replaced"] == [({}, 0.0)]
    assert found["tocsin_build_info"][0][0]["version"] == "0.1.0"
    assert found["process_resident_memory_bytes"][0][1] > 1e6


def test_trouble_of_our_own_is_in_the_metrics() -> None:
    facts = SelfFacts(
        0.0,
        config_error="bad",
        state_failing="disk is full",
        state_replaced=True,
        state_writes_failed=3,
        lag=Histogram(),
    )
    found = samples(MetricsPage().render({}, facts, web_config_ok=False))
    assert found["tocsin_config_last_reload_successful"] == [({}, 0.0)]
    assert found["tocsin_state_writes_failed_total"] == [({}, 3.0)]
    assert found["tocsin_state_degraded"] == [({}, 1.0)]
    assert found["tocsin_state_replaced"] == [({}, 1.0)]
    assert found["tocsin_web_config_last_reload_successful"] == [({}, 0.0)]
    assert "tocsin_scheduler_heartbeat_timestamp_seconds" not in found


def test_no_detail_and_no_error_text_is_in_the_metrics() -> None:
    text = rendered(gallery.entries())
    assert "login.example" not in text
    assert "disk is full" not in MetricsPage().render(
        {}, SelfFacts(0.0, config_error="x", state_failing="disk is full")
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-0.0, "0"), (3.0, "3"), (0.25, "0.25"), (1795478400.5, "1795478400.5"), (1e18, "1e+18"),
        (float("nan"), "NaN"), (float("inf"), "+Inf"), (float("-inf"), "-Inf"), (-7.0, "-7"),
    ],
)  # fmt: skip
def test_numbers_are_written_as_the_formats_want_them(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(("value", "text"), [("plain", "plain"), ('a"b\\c\nd', r"a\"b\\c\nd"), ("ü \udc80", "ü ?")])
def test_label_values_are_escaped(value: str, text: str) -> None:
    assert escape(value) == text


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", True),
        ("application/openmetrics-text;version=1.0.0;q=0.2,text/plain;q=0.9", False),
        ("application/openmetrics-text;q=0,text/plain", False),
        ("application/openmetrics-text;version=9.0.0", False),
        ("application/openmetrics-text;q=high", False),
    ],
)
def test_openmetrics_is_sent_to_those_who_prefer_it(accept: str, wanted: bool) -> None:
    assert accepts_openmetrics(accept) is wanted


def test_the_engines_metrics_are_the_documented_ones() -> None:
    lines = [
        f"{entry.family.name} {entry.family.type} {{{','.join(entry.family.labels)}}} {entry.family.help}\n"
        for entry in catalogue({})
    ]
    assert "".join(lines) == ENGINE_METRICS.read_text()


class _Settings(ProbeSettings):
    pass


class _Reason(ReasonEnum):
    pass


def kind(*gauges: Gauge) -> type[Probe]:
    declared = gauges

    class Kind(Probe):
        kind = "made-up"
        Settings = _Settings
        Reason = _Reason
        gauges = declared

        async def run(self, ctx: ProbeContext) -> Outcome:
            return Outcome.ok()

    return Kind


def test_the_catalogue_lists_the_gauges_of_kinds_with_their_users() -> None:
    entries = catalogue({"b": kind(gallery.EXPIRY), "a": kind(gallery.JOBS, gallery.EXPIRY)})
    assert [(entry.family, entry.kinds) for entry in entries if entry.kinds] == [
        (Family(gallery.EXPIRY.name, "gauge", gallery.EXPIRY.help, ("probe",)), ("a", "b")),
        (Family(gallery.JOBS.name, "gauge", "Jobs waiting.", ("probe", "queue", "status")), ("a",)),
    ]


def test_the_catalogue_refuses_a_name_that_means_two_things_or_is_the_engines() -> None:
    with pytest.raises(ValueError, match="kind b: tocsin_queue_jobs has another help or other labels in kind a"):
        catalogue({"a": kind(gallery.JOBS), "b": kind(replace(gallery.JOBS, labels=("queue",)))})
    with pytest.raises(ValueError, match="kind a: tocsin_probe_status is one of the engine's own metrics"):
        catalogue({"a": kind(Gauge("tocsin_probe_status", "x"))})
    assert "tocsin_probe_runs" in RESERVED


def test_severity_is_the_worst_while_alerting_and_the_ceiling_otherwise() -> None:
    state = ProbeState(status=Status.FAILED, alerting=True, severity=Severity.TICKET, last_run_at=1.0)
    found = samples(rendered({"x": Entry(gallery.spec("x"), state)}))
    assert of(found, "tocsin_probe_alerting", "x") == [({"severity": "ticket"}, 1.0)]
    found = samples(rendered({"x": Entry(gallery.spec("x"), replace(state, alerting=False))}))
    assert of(found, "tocsin_probe_alerting", "x") == [({"severity": "page"}, 0.0)]


async def test_a_scrape_of_a_thousand_probes_that_have_all_just_run_hardly_delays_a_loop() -> None:
    like = gallery.entries()["wipe-queues"]
    entries = {f"p{number}": replace(like, spec=replace(like.spec, name=f"p{number}")) for number in range(1000)}
    loop = asyncio.get_running_loop()
    rendering = loop.run_in_executor(None, lambda: [rendered(entries) for _ in range(3)])
    lags = []
    while not rendering.done():
        asked = loop.time()
        await asyncio.sleep(0.001)
        lags.append(loop.time() - asked - 0.001)
    assert len(lags) > 10
    assert sorted(lags)[len(lags) * 9 // 10] < 0.1

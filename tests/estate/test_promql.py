"""``promql`` and ``alert_state`` against a real Prometheus and a real Alertmanager."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from estate.servers.alertmanager import Alertmanager
from estate.servers.prometheus import Prometheus, ScrapeJob
from tests.probing import Probed, RealClock, probe_once
from tests.tampering import tampering
from tocsin_probes.alert_state import AlertState
from tocsin_probes.promql import Promql

pytestmark = pytest.mark.estate

RULES = {
    "groups": [
        {
            "name": "platform",
            "rules": [
                {"alert": "Quiet", "expr": "vector(0) > 1"},
                {"alert": "Waiting", "expr": "vector(1)", "for": "1h"},
                {
                    "alert": "WipeSignerFailures",
                    "expr": 'label_replace(vector(1), "operation", "hmac", "", "") '
                    'or label_replace(vector(1), "operation", "decrypt", "", "")',
                },
                {"alert": "Broken", "expr": "prometheus_http_requests_total * on() prometheus_http_requests_total"},
            ],
        }
    ]
}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    rules = tmp_path_factory.mktemp("rules") / "platform.yaml"
    rules.write_text(json.dumps(RULES))
    with Prometheus(rules=[rules]) as made:
        made.jobs = [ScrapeJob("prometheus", (f"127.0.0.1:{made.port}",))]
        made.reload()
        _until(lambda: made.value('up{job="prometheus"}') == 1)
        _until(lambda: {rule["health"] for group in made.rules() for rule in group["rules"]} == {"ok", "err"})
        _until(lambda: made.firing() == {"WipeSignerFailures"})
        yield made


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, "Prometheus did not get there"
        time.sleep(0.1)


async def ask(prometheus: Prometheus | str, query: str, **settings: Any) -> Probed:
    url = prometheus if isinstance(prometheus, str) else prometheus.url
    made = {"url": url, "query": query, **({} if "below" in settings else {"above": 10}), **settings}
    return await probe_once(Promql(Promql.Settings.model_validate(made)))


async def state(url: str, *alerts: str, ahead: float = 0.0, **settings: Any) -> Probed:
    made = {"url": url, "alerts": list(alerts), **settings}
    return await probe_once(AlertState(AlertState.Settings.model_validate(made)), clock=RealClock(ahead))


def found(probed: Probed) -> set[tuple[str, str]]:
    return {(finding.component, finding.reason) for finding in probed.outcome.findings}


async def test_a_value_within_its_limits_is_ok_and_measured(prometheus: Prometheus) -> None:
    probed = await ask(prometheus, "vector(10)")
    assert probed.verdict == ("ok", None), probed.detail
    assert probed.measured("tocsin_query_value") == 10
    assert (await ask(prometheus, "scalar(vector(7))", below=7)).verdict == ("ok", None)


async def test_a_value_beyond_a_limit_exceeds_it_on_either_side(prometheus: Prometheus) -> None:
    above = await ask(prometheus, "vector(10.5)")
    assert above.verdict == ("failed", "threshold_exceeded")
    assert above.detail == "10.5, the limit is 10"
    assert (await ask(prometheus, "vector(1)", below=2)).verdict == ("failed", "threshold_exceeded")
    assert (await ask(prometheus, "vector(+Inf)")).verdict == ("failed", "threshold_exceeded")


async def test_each_series_beyond_the_limit_is_a_component(prometheus: Prometheus) -> None:
    query = " or ".join(
        f'label_replace(vector({value}), "queue", "{queue}", "", "")' for queue, value in (("a", 5), ("b", 50))
    )
    probed = await ask(prometheus, query, component_label="queue")
    assert found(probed) == {("b", "threshold_exceeded")}
    assert probed.measured("tocsin_query_value", component="a") == 5


async def test_a_metric_that_is_not_there_is_no_data(prometheus: Prometheus) -> None:
    assert (await ask(prometheus, "no_such_metric")).verdict == ("unknown", "no_data")
    assert (await ask(prometheus, "vector(0) / vector(0)")).verdict == ("unknown", "no_data")


async def test_nothing_counted_where_there_is_something_to_count_is_zero(prometheus: Prometheus) -> None:
    counted = {"presence": 'count(up{job="prometheus"})'}
    zero = await ask(prometheus, "no_such_metric", **counted)
    assert zero.verdict == ("ok", None)
    assert zero.measured("tocsin_query_value") == 0
    assert (await ask(prometheus, "no_such_metric", **counted, below=1)).verdict == ("failed", "threshold_exceeded")
    absent = {"presence": 'count(up{job="none"})'}
    assert (await ask(prometheus, "no_such_metric", **absent)).verdict == ("unknown", "no_data")


@pytest.mark.parametrize("query", ["sum(", "up[5m]", "prometheus_http_requests_total * on() up * on() go_info",
                                   "{__name__=~'.+'}"])  # fmt: skip
async def test_a_query_that_gives_no_number_is_an_error_of_the_query(prometheus: Prometheus, query: str) -> None:
    assert (await ask(prometheus, query)).verdict == ("unknown", "query_error")


async def test_a_prometheus_that_cannot_be_asked_says_nothing_about_the_platform(
    prometheus_factory: Callable[..., Prometheus],
) -> None:
    own = prometheus_factory()
    assert (await ask(own, "vector(1)")).verdict == ("ok", None)
    own.kill()
    dead = await ask(own, "vector(1)")
    assert dead.verdict == ("unknown", "dependency_unknown")
    assert dead.detail.startswith("connection_refused: ")
    assert (await state(own.url, "Quiet")).verdict == ("unknown", "dependency_unknown")


async def test_a_page_in_place_of_the_api_says_nothing_either(prometheus: Prometheus) -> None:
    def rewrite(path: str, body: bytes) -> bytes:
        return b'{"status": "success"}'

    assert (await ask(f"{prometheus.url}/graph/elsewhere", "up")).verdict == ("unknown", "dependency_unknown")
    with tampering(prometheus.url, rewrite) as url:
        assert (await ask(url, "up")).verdict == ("unknown", "dependency_unknown")
        assert (await state(url, "Quiet")).verdict == ("unknown", "dependency_unknown")


# alert_state


async def test_an_alert_that_does_not_fire_or_only_waits_is_ok(prometheus: Prometheus) -> None:
    probed = await state(prometheus.url, "Quiet", "Waiting")
    assert probed.verdict == ("ok", None), probed.detail
    assert probed.measured("tocsin_platform_alerts_firing", alert="Waiting") == 0


async def test_a_firing_alert_is_a_ticket_told_by_its_component(prometheus: Prometheus) -> None:
    probed = await state(prometheus.url, "WipeSignerFailures", "Quiet", component_label="operation")
    assert found(probed) == {("WipeSignerFailures/decrypt", "firing"), ("WipeSignerFailures/hmac", "firing")}
    assert probed.outcome.severity == "ticket"
    assert probed.measured("tocsin_platform_alerts_firing", alert="WipeSignerFailures") == 2
    hmac = await state(prometheus.url, "WipeSignerFailures", match_labels={"operation": "hmac"})
    assert found(hmac) == {("WipeSignerFailures", "firing")}
    other = await state(prometheus.url, "WipeSignerFailures", match_labels={"operation": "pades_sign"})
    assert other.verdict == ("ok", None)


async def test_a_rule_that_is_not_loaded_is_absent(prometheus: Prometheus) -> None:
    assert (await state(prometheus.url, "WipeAnchorFailures")).verdict == ("failed", "absent")


async def test_a_rule_that_cannot_be_evaluated_or_was_not_lately_is_no_data(prometheus: Prometheus) -> None:
    broken = await state(prometheus.url, "Broken")
    assert broken.verdict == ("unknown", "no_data")
    assert "duplicate series" in broken.detail
    assert (await state(prometheus.url, "Quiet", ahead=3600)).verdict == ("unknown", "no_data")


async def test_an_alert_whose_metrics_are_gone_is_no_data(prometheus: Prometheus) -> None:
    gone = await state(prometheus.url, "Quiet", presence="count(no_such_metric)")
    assert found(gone) == {("presence", "no_data")}
    assert (await state(prometheus.url, "Quiet", presence="count(up)")).verdict == ("ok", None)


ROUTES = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"


async def test_alertmanager_is_believed_only_while_it_has_the_watchdog(
    alertmanager_factory: Callable[..., Alertmanager],
) -> None:
    alertmanager = alertmanager_factory(ROUTES)
    asked = {"source": "alertmanager", "watchdog": "Watchdog", "component_label": "operation"}
    silent = await state(alertmanager.url, "WipeSignerFailures", **asked)
    assert silent.verdict == ("unknown", "no_data")
    alertmanager.post_alerts([{"labels": {"alertname": "Watchdog"}}])
    assert (await state(alertmanager.url, "WipeSignerFailures", **asked)).verdict == ("ok", None)
    alertmanager.post_alerts([{"labels": {"alertname": "WipeSignerFailures", "operation": "hmac"}}])
    probed = await state(alertmanager.url, "WipeSignerFailures", **asked)
    assert found(probed) == {("WipeSignerFailures/hmac", "firing")}
    ended = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    alertmanager.post_alerts([{"labels": {"alertname": "WipeSignerFailures", "operation": "hmac"}, "endsAt": ended}])
    assert (await state(alertmanager.url, "WipeSignerFailures", **asked)).verdict == ("ok", None)


def test_rules_file_is_what_prometheus_reads(prometheus: Prometheus) -> None:
    """The names above are those that are loaded; a typing error would make `absent` look right."""
    assert {rule["name"] for group in prometheus.rules() for rule in group["rules"]} == {
        "Quiet", "Waiting", "WipeSignerFailures", "Broken",
    }  # fmt: skip
    assert all(isinstance(path, Path) for path in prometheus.rule_files)

"""``logql`` and the forms of answers that Loki gives (Grafana Loki documentation, "Loki HTTP API", "Query logs at a
single point in time"); no Loki can be had here."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import ValidationError

from tests.probing import Probed, probe_once
from tests.unit.probes.lying_servers import answering, serving
from tocsin_probes.alert_state import AlertState
from tocsin_probes.logql import Logql

QUERY = 'sum by (level) (count_over_time({app="api"} |= "JWKS" [5m]))'


def vector(*series: tuple[dict[str, str], str], **beside: Any) -> str:
    result = [{"metric": labels, "value": [1588889221, value]} for labels, value in series]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result, "stats": {}}, **beside})


async def ask(*answers: Any, **settings: Any) -> tuple[Probed, list[tuple[str, str]]]:
    """The outcome, and path and query of each request; the answers come in order."""
    asked: list[tuple[str, str]] = []
    waiting = list(answers)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        target = urlsplit(head.split(b" ", 2)[1].decode())
        asked.append((target.path, parse_qs(target.query)["query"][0]))
        reader.feed_data(head)
        answer = waiting.pop(0)
        await (answering(answer) if isinstance(answer, str) else answer)(reader, writer)

    async with serving(handler) as port:
        made = {"url": f"http://127.0.0.1:{port}/", "query": QUERY, "above": 10, **settings}
        probed = await probe_once(Logql(Logql.Settings.model_validate(made)))
    return probed, asked


async def test_each_series_of_a_metric_query_is_compared() -> None:
    answer = vector(({"level": "error"}, "25"), ({"level": "warn"}, "2"))
    probed, asked = await ask(answer, component_label="level")
    assert probed.verdict == ("failed", "threshold_exceeded")
    assert [finding.component for finding in probed.outcome.findings] == ["error"]
    assert asked == [("/loki/api/v1/query", QUERY)]


@pytest.mark.parametrize(
    ("numbers", "said", "measured"),
    [
        (("50", "0"), "0, at least 1 is well", 0),
        (("0", "50"), "0, at least 1 is well", 0),
        (("50", "150"), "150, the limit is 100", 150),
        (("150", "0"), "150, the limit is 100; 0, at least 1 is well", 150),
    ],
)
async def test_of_several_series_of_one_component_each_is_within_both_limits(
    numbers: tuple[str, str], said: str, measured: float
) -> None:
    series = [({"level": str(number)}, value) for number, value in enumerate(numbers)]
    probed, _ = await ask(vector(*series), above=100, below=1)
    assert (probed.verdict, probed.detail) == (("failed", "threshold_exceeded"), said)
    assert probed.measured("tocsin_query_value") == measured
    assert (await ask(vector(*series), above=200, below=-1))[0].verdict == ("ok", None)


STORE_GONE = "receive series from Addr: 10.0.0.7:10901: rpc error: code = Unavailable"


@pytest.mark.parametrize(
    ("beside", "reason"),
    [
        ({"warnings": [STORE_GONE]}, "dependency_unknown"),
        ({"warnings": ["PromQL info: metric might not be a counter (1:6)", STORE_GONE]}, "dependency_unknown"),
        ({"warnings": STORE_GONE}, "dependency_unknown"),
        ({"isPartial": True}, "dependency_unknown"),
        ({"warnings": ["PromQL warning: encountered a mix of histograms and floats (1:1)"]}, "query_error"),
        ({"warnings": ["PromQL info: metric might not be a counter (1:6)"]}, None),
        ({"infos": ["PromQL info: metric might not be a counter (1:6)"]}, None),
        ({"warnings": [], "isPartial": False}, None),
        ({"warnings": None}, None),
    ],
)
async def test_an_answer_that_lacks_something_is_not_well(beside: dict[str, Any], reason: str | None) -> None:
    for answer in (vector(({}, "5"), **beside), vector(({}, "0"), **beside)):
        probed, _ = await ask(answer, below=1 if reason else 0)
        assert probed.verdict == (("unknown", reason) if reason else ("ok", None)), probed.detail
    beyond, _ = await ask(vector(({}, "11"), **beside))
    assert beyond.verdict == ("failed", "threshold_exceeded"), "what is missing cannot make it less"


async def test_nothing_in_an_answer_that_lacks_something_is_not_zero() -> None:
    probed, asked = await ask(vector(warnings=[STORE_GONE]), presence="up")
    assert probed.verdict == ("unknown", "dependency_unknown")
    assert STORE_GONE in probed.detail
    assert len(asked) == 1


async def test_an_alert_that_fires_nowhere_in_a_part_of_the_rules_may_fire_in_the_rest() -> None:
    def rules(*firing: str) -> str:
        alerts = [{"state": "firing", "labels": {"alertname": name}} for name in firing]
        now = datetime.now(UTC).isoformat()
        rule = {"type": "alerting", "name": "A", "health": "ok", "lastEvaluation": now, "alerts": alerts}
        return json.dumps({"data": {"groups": [{"rules": [rule]}]}, "warnings": [STORE_GONE]})

    async def look(answer: str, **settings: Any) -> Probed:
        async with serving(answering(answer)) as port:
            made = {"url": f"http://127.0.0.1:{port}/", "alerts": "A", **settings}
            return await probe_once(AlertState(AlertState.Settings.model_validate(made)))

    assert (await look(rules())).verdict == ("unknown", "dependency_unknown")
    assert (await look(rules(), alerts="B")).verdict == ("unknown", "dependency_unknown")
    assert (await look(rules("A"))).verdict == ("failed", "firing")


async def test_no_matching_lines_are_zero_only_while_there_are_lines() -> None:
    presence = {"presence": 'sum(count_over_time({app="api"}[1h]))'}
    quiet, asked = await ask(vector(), vector(({}, "120")), **presence)
    assert quiet.verdict == ("ok", None)
    assert [query for _, query in asked] == [QUERY, presence["presence"]]
    assert (await ask(vector(), vector(), **presence))[0].verdict == ("unknown", "no_data")
    assert (await ask(vector()))[0].verdict == ("unknown", "no_data")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (answering("parse error : unexpected IDENTIFIER", status="400 Bad Request", content_type="text/plain"),
         "query_error"),
        ('{"status":"success","data":{"resultType":"streams","result":[]}}', "query_error"),
        (vector(*(({"n": str(n)}, "1") for n in range(51))), "query_error"),
        (answering("too many outstanding requests", status="429 Too Many Requests"), "dependency_unknown"),
        (answering("no org id", status="401 Unauthorized", content_type="text/plain"), "credentials_rejected"),
        (answering("", status="503 Service Unavailable"), "dependency_unknown"),
        ("<html>", "dependency_unknown"),
        ("[]", "dependency_unknown"),
        (vector(({}, "many")), "dependency_unknown"),
        (vector(([], "1")), "dependency_unknown"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
async def test_an_answer_that_is_no_number_is_unknown_with_its_reason(answer: Any, reason: str) -> None:
    probed, _ = await ask(answer, component_label="n")
    assert probed.verdict == ("unknown", reason), probed.detail


def test_a_query_without_a_limit_and_an_alertmanager_without_a_watchdog_are_refused() -> None:
    with pytest.raises(ValidationError, match="set `above`, `below` or both"):
        Logql.Settings.model_validate({"url": "http://127.0.0.1:1", "query": "x"})
    with pytest.raises(ValidationError, match="needs `watchdog`"):
        AlertState.Settings.model_validate({"url": "http://127.0.0.1:1", "alerts": "A, B", "source": "alertmanager"})

"""The selectors and labels that lint reads out of PromQL."""

from __future__ import annotations

import pytest

from tocsin.paging.promql import Matcher, Selector, parse, template_queries


@pytest.mark.parametrize(
    ("expression", "metrics"),
    [
        ("up == 0", ["up"]),
        ("rate(x_total[5m]) > 0.1", ["x_total"]),
        ("max by (a, b) (m and on (probe) n == 1) or on (probe) k", ["m", "n", "k"]),
        ("time() - m < bool (3 * i + 2 * t)", ["m", "i", "t"]),
        ("sum without (x) (m offset 5m)", ["m"]),
        ("absent(m)", ["m"]),
        ("tocsin:probe_alerting == 1 # comment with a_metric", ["tocsin:probe_alerting"]),
        ("histogram_quantile(0.99, sum by (le) (rate(h_bucket[5m])))", ["h_bucket"]),
        ("vector(1)", []),
    ],
)
def test_the_metrics_of_an_expression_are_found(expression: str, metrics: list[str]) -> None:
    assert [selector.metric for selector in parse(expression).selectors] == metrics


def test_matchers_are_read_with_their_operators_and_escapes() -> None:
    (selector,) = parse(r"""m{a="1", b!~'x|y', c=~"\"q\"", d!=`raw\`}""").selectors
    assert selector == Selector(
        "m", (Matcher("a", "=", "1"), Matcher("b", "!~", "x|y"), Matcher("c", "=~", '"q"'), Matcher("d", "!=", "raw\\"))
    )


@pytest.mark.parametrize(
    ("matcher", "value", "accepted"),
    [
        (Matcher("a", "=", "x"), "x", True),
        (Matcher("a", "!=", "x"), "", True),
        (Matcher("a", "=~", "x|y"), "xy", False),
        (Matcher("a", "!~", "x|y"), "xy", True),
    ],
)
def test_a_matcher_accepts_as_prometheus_does(matcher: Matcher, value: str, accepted: bool) -> None:
    assert matcher.accepts(value) is accepted


def test_grouping_labels_are_collected_from_every_clause() -> None:
    assert parse("max by (a) (m) / on (b) group_left (c) n").grouping_labels == {"a", "b", "c"}


def test_queries_inside_annotations_are_found() -> None:
    text = '{{ with printf "m{probe=%q}" $labels.probe | query }}{{ (first .).Labels.reason }}{{ end }}'
    assert list(template_queries(text)) == ['m{probe=""}']

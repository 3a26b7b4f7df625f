"""Expressions as Grafana keeps them, with variables of its own."""

from tocsin.paging.promql import parse


def test_a_time_that_grafana_fills_in_is_no_metric() -> None:
    read = parse('sum by (le) (rate(tocsin_scheduler_lag_seconds_bucket{job="a"}[$__rate_interval]))')
    assert [selector.metric for selector in read.selectors] == ["tocsin_scheduler_lag_seconds_bucket"]


def test_a_variable_inside_a_matcher_is_its_value() -> None:
    (selector,) = parse('tocsin_rows{probe=~"$probe"}').selectors
    assert [matcher.value for matcher in selector.matchers] == ["$probe"]

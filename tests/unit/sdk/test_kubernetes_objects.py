"""What is kept of pods and events."""

from __future__ import annotations

from typing import Any

import pytest

from tocsin.sdk.kubernetes_objects import MAX_WARNINGS, Warnings, bytes_of, pod_of, unix


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        ("512Mi", 512 * 2**20),
        ("1.5Gi", 1.5 * 2**30),
        ("1G", 1e9),
        ("100k", 1e5),
        ("128974848", 128974848),
        ("128974848000m", 128974848),
        ("129e6", 129e6),
        ("", None),
        ("lots", None),
        ("5X", None),
    ],
)
def test_a_memory_quantity_is_read_in_bytes(quantity: str, expected: float | None) -> None:
    assert bytes_of(quantity) == expected


def test_a_pod_of_which_nothing_is_known_yet_is_read_all_the_same() -> None:
    pod = pod_of({"metadata": {"name": "a", "uid": "u"}, "spec": {"containers": [{"name": "api"}]}})
    assert (pod.phase, pod.ready, pod.unschedulable, pod.leaving) == ("", False, "", False)
    assert [(each.name, each.running_since, each.waiting) for each in pod.containers] == [("api", None, "")]


def test_init_containers_come_first_and_are_told_from_the_others() -> None:
    spec = {"initContainers": [{"name": "migrate"}], "containers": [{"name": "api"}]}
    reported = {"initContainerStatuses": [{"name": "migrate", "state": {"terminated": {"exitCode": 1}}}]}
    pod = pod_of({"metadata": {"name": "a", "uid": "u"}, "spec": spec, "status": reported})
    assert [(each.name, each.init) for each in pod.containers] == [("migrate", True), ("api", False)]
    assert pod.containers[0].ended is not None
    assert pod.containers[0].ended.exit_code == 1


def test_times_are_read_with_and_without_fractions() -> None:
    assert unix("1970-01-01T00:00:10Z") == 10.0
    assert unix("1970-01-01T00:00:10.500000Z") == 10.5
    assert unix(None) == 0.0


def event(uid: str = "e", name: str = "p", count: int = 1, at: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"uid": uid, "creationTimestamp": "1970-01-01T00:00:00Z"},
        "involvedObject": {"kind": "Pod", "name": name},
        "reason": "BackOff",
        "message": f"at {at}",
        "count": count,
        "lastTimestamp": f"1970-01-01T00:{at // 60:02}:{at % 60:02}Z",
    } | more


def test_an_event_that_is_written_again_counts_by_its_growth() -> None:
    warnings = Warnings()
    for count, at in ((1, 10), (4, 20), (4, 20)):
        warnings.put(event(count=count, at=at))
    warnings.put(event("other", count=2, at=15))
    [warned] = warnings.since(0)
    assert (warned.count, warned.latest, warned.message) == (6, 20.0, "at 20")
    assert warnings.since(21) == []


def test_events_of_a_series_and_bare_ones_have_a_time() -> None:
    for more, latest in (
        ({"lastTimestamp": None, "series": {"count": 3, "lastObservedTime": "1970-01-01T00:00:30.000000Z"}}, 30.0),
        ({"lastTimestamp": None, "eventTime": "1970-01-01T00:00:40.000000Z"}, 40.0),
        ({"lastTimestamp": None}, 0.0),
    ):
        warnings = Warnings()
        warnings.put(event(**more))
        assert warnings.since(0)[0].latest == latest


def test_a_flood_displaces_the_oldest() -> None:
    warnings = Warnings()
    for number in range(MAX_WARNINGS + 10):
        warnings.put(event(f"e{number}", f"p{number}", at=number % 3600))
    assert len(warnings) == MAX_WARNINGS
    assert "p0" not in {warned.name for warned in warnings.since(0)}

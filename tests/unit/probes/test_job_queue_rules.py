"""What `job_queue` concludes from what it saw before, and which settings it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tocsin_probes.job_queue import JobQueue
from tocsin_probes.job_queue.kind import watch_head


@pytest.mark.parametrize(
    ("before", "due", "after"),
    [
        (None, (1.0, 2.0), (100.0, (1.0, 2.0))),
        ([50.0, [1.0, 2.0]], (1.0, 2.0), (50.0, (1.0, 2.0))),
        ([50.0, [1.0, 2.0]], (1.0, 2.0, 3.0), (50.0, (1.0, 2.0))),
        ([50.0, [1.0, 2.0]], (2.0, 3.0), (100.0, (2.0, 3.0))),
        ([50.0, [1.0, 1.0]], (1.0, 2.0), (100.0, (1.0, 2.0))),
        ([50.0, [1.0, 2.0]], (0.5, 1.0, 2.0), (50.0, (1.0, 2.0))),
    ],
)
def test_a_queue_moves_when_one_of_its_oldest_jobs_leaves_and_not_when_others_come(
    before: Any, due: tuple[float, ...], after: tuple[float, tuple[float, ...]]
) -> None:
    assert watch_head(before, due, 100.0) == after


def test_limits_of_a_queue_change_only_what_they_set() -> None:
    settings = JobQueue.Settings.model_validate(
        {
            "dsn": "postgresql://db/app",
            "limits": {"depth": 5, "age": "1h"},
            "queue_limits": {"slow": {"age": "1d"}},
        }
    )
    assert settings.limits_of("slow").model_dump() == settings.limits.model_dump() | {"age": 86400.0}
    assert settings.limits_of("any") == settings.limits


@pytest.mark.parametrize(
    "wrong",
    [
        {"table": "jobs; DROP TABLE jobs"},
        {"queue_column": "count(*)"},
        {"dead_letters": {"table": "dlq", "query": "SELECT 1"}},
        {"dead_letters": {"query": "DELETE FROM dlq"}},
        {"limits": {"depth": -1}},
        {"limits": {"age": 15}},
        {"table_name": "jobs"},
    ],
)
def test_settings_that_cannot_be_meant_are_refused_at_load(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JobQueue.Settings.model_validate({"dsn": "postgresql://db/app"} | wrong)


def test_lists_fit_into_one_variable() -> None:
    settings = JobQueue.Settings.model_validate(
        {"dsn": "postgresql://db/app", "waiting_statuses": "pending, retry", "queues": ["a", "b"]}
    )
    assert settings.waiting_statuses == ("pending", "retry")
    assert settings.queues == ("a", "b")

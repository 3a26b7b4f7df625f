"""Alert ↔ runbook section ↔ reason ↔ metric ↔ test, checked in both directions.

Each check is a plain function from a `Subject` to `Problem`s; `lint` runs them all. What a user overlays is linted as
ours is: the subject is what was loaded, wherever it came from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tocsin.config.errors import Problem
from tocsin.paging.lint import alerts, coverage, links, pages, sections, series
from tocsin.paging.lint.subject import Dashboard, Metric, Subject

__all__ = ["CHECKS", "Dashboard", "Metric", "Subject", "lint"]

CHECKS: tuple[Callable[[Subject], Iterable[Problem]], ...] = (
    *alerts.CHECKS,
    *links.CHECKS,
    *coverage.CHECKS,
    *pages.CHECKS,
    *sections.CHECKS,
    *series.CHECKS,
)


def lint(subject: Subject) -> list[Problem]:
    """Everything that does not fit, ordered by file and line; empty when all fits."""
    problems = {problem for check in CHECKS for problem in check(subject)}
    return sorted(problems, key=lambda problem: (problem.file, problem.line, problem.key, problem.message))

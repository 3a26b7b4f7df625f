"""How the drills went, for people (a table elsewhere), for programs (JSON) and for CI (JUnit)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from tocsin.paging.drills.judging import Verdict


def as_document(verdicts: Sequence[Verdict], heard_by: str) -> dict[str, Any]:
    """Stable JSON. ``heard_by``: what judged: ``alertmanager`` or ``metrics``."""
    return {
        "heard_by": heard_by,
        "passed": sum(verdict.passed for verdict in verdicts),
        "failed": sum(not verdict.passed for verdict in verdicts),
        "drills": [
            {
                "drill": verdict.drill.name,
                "title": verdict.drill.title,
                "system": verdict.drill.system,
                "incident": verdict.drill.incident,
                "passed": verdict.passed,
                "expected": [
                    {"alert": item.alert, "severity": str(item.severity), "section": item.section}
                    for item in verdict.drill.expected
                ],
                "within_seconds": verdict.drill.within,
                "page_seconds": _rounded(verdict.page_seconds),
                "resolve_seconds": _rounded(verdict.resolve_seconds),
                "problems": list(verdict.problems),
            }
            for verdict in verdicts
        ],
    }


def as_junit(verdicts: Sequence[Verdict]) -> str:
    """One test case a drill, as most CI systems read it: https://github.com/testmoapp/junitxml."""
    failures = sum(not verdict.passed for verdict in verdicts)
    suite = ElementTree.Element(
        "testsuite", name="tocsin drill", tests=str(len(verdicts)), failures=str(failures), errors="0", skipped="0"
    )
    for verdict in verdicts:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=f"{verdict.drill.system}.{verdict.drill.incident}",
            name=verdict.drill.name,
            time=f"{verdict.page_seconds or 0:.1f}",
        )
        if not verdict.passed:
            failure = ElementTree.SubElement(case, "failure", message=verdict.problems[0])
            failure.text = "\n".join(verdict.problems)
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)

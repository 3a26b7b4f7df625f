"""Known strings of logs: what is seen, for how long, and what is kept of a line."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from tocsin.model import CommonReason, ReasonEnum
from tocsin.sdk.patterns import MAX_LINES, Patterns, Sightings, masked, reasons_of


class Reason(ReasonEnum):
    OWN = "own", "One of the kind's own."


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("password=hunter2 next", "password=******** next"),
        ('{"db_password": "hunter2", "n": 1}', '{"db_password": "********", "n": 1}'),
        ("postgres://alex:hunter2@db/alexandria", "postgres://alex:********@db/alexandria"),
        ("Authorization: Bearer abcdefghij.k", "Authorization: Bearer ********"),
        ("got eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ4In0.c2ln from x", "got ******** from x"),
        ("-----BEGIN PRIVATE KEY-----MC4CAQ", "********"),
        ("nothing of that sort, tokens=no", "nothing of that sort, tokens=no"),
    ],
)
def test_what_looks_like_a_credential_is_masked(line: str, kept: str) -> None:
    assert masked(line) == kept


def test_a_long_line_is_cut() -> None:
    assert len(masked("x" * 100_000)) == 2000


def test_a_reason_is_held_for_its_window_after_it_was_read() -> None:
    memory: dict[str, Any] = {}
    patterns = {"broken": "chain broken", "refused": ("invalid", "failed")}
    infos = reasons_of(patterns, Reason)
    sightings = Sightings(patterns, memory)
    assert sightings.look("audit chain broken", written_at=900, read_at=1000, where="api")
    assert sightings.look("check failed: invalid", written_at=990, read_at=1000, where="api")
    assert not sightings.look("Chain Broken", written_at=990, read_at=1000, where="api")
    found = sightings.findings(infos, 1010, 60)
    assert [(each.reason, each.detail) for each in found] == [
        ("broken", "seen once in api, last 1m50s ago"),
        ("refused", "seen once in api, last 20s ago"),
    ]
    assert sightings.lines == {"broken": ["api: audit chain broken"], "refused": ["api: check failed: invalid"]}
    assert Sightings(patterns, memory).findings(infos, 1060, 60)
    assert not Sightings(patterns, memory).findings(infos, 1061, 60)
    assert memory == {"seen": {}}


def test_a_reason_that_is_no_longer_configured_is_forgotten() -> None:
    memory: dict[str, Any] = {}
    Sightings({"broken": "chain broken"}, memory).look("chain broken", 1000, 1000, "api")
    assert Sightings({}, memory).findings((), 1000, 60) == []


def test_a_flood_keeps_a_bounded_number_of_lines() -> None:
    sightings = Sightings({"broken": "chain broken"}, {})
    for _ in range(1000):
        sightings.look("chain broken", 0, 0, "api")
    assert len(sightings.lines["broken"]) == MAX_LINES


def test_named_reasons_join_the_kinds_own_without_repeats() -> None:
    patterns = {"own": "aaa", "timeout": "bbb", "broken": ("ccc", "ddd")}
    infos = reasons_of(patterns, Reason)
    assert [info.code for info in infos] == ["own", "broken"]
    assert infos[1].meaning == "The log holds `ccc` or `ddd`."
    assert "timeout" in {member.value for member in CommonReason}


@pytest.mark.parametrize("patterns", [{"Not a code": "text"}, {"code": ""}, {"code": "ab"}, {"code": [""]}])
def test_a_reason_that_is_no_code_and_a_text_that_matches_anything_are_refused(patterns: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Patterns).validate_python(patterns)

"""Nothing that a shipped section tells an engineer can be taken away unnoticed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from tocsin.cli.rules import shipped_subject
from tocsin.config.errors import Problem
from tocsin.paging.lint import Subject
from tocsin.paging.lint.sections import (
    every_section_says_how_to_confirm_and_recover,
    recovery_is_proven_by_a_probe,
    values_in_commands_can_be_filled,
)
from tocsin.runbooks import list_pages, read_page
from tocsin.runbooks.filling import PLACE

pytestmark = pytest.mark.thorough

RUNBOOKS = Path(__file__).parents[3] / "runbooks"


@pytest.fixture(scope="module")
def shipped() -> Subject:
    return shipped_subject()


def found(
    check: Callable[[Subject], Iterable[Problem]], shipped: Subject, name: tuple[str, str], text: str
) -> list[Problem]:
    """What the check says of this page alone, with another text."""
    return list(check(replace(shipped, pages={name: read_page(*name, text)}, shared=())))


@pytest.mark.parametrize("name", list_pages(RUNBOOKS), ids="/".join)
def test_what_to_confirm_and_to_recover_is_missed_in_every_section(shipped: Subject, name: tuple[str, str]) -> None:
    text = RUNBOOKS.joinpath(name[0], f"{name[1]}.md").read_text("utf-8")
    check = every_section_says_how_to_confirm_and_recover
    assert found(check, shipped, name, text) == []
    told = list(re.finditer(r"^(?:Confirm\b[^:\n]*|Recover):", text, re.MULTILINE))
    sections = len(re.findall(r"^### ", text, re.MULTILINE))
    assert len(told) == 2 * sections, "once each in every section"
    for match in told:
        without = text[: match.start()] + "Look:" + text[match.end() :]
        assert len(found(check, shipped, name, without)) == 1, match[0]


@pytest.mark.parametrize("name", list_pages(RUNBOOKS), ids="/".join)
def test_a_value_of_a_probe_that_is_gone_is_missed(shipped: Subject, name: tuple[str, str]) -> None:
    text = RUNBOOKS.joinpath(name[0], f"{name[1]}.md").read_text("utf-8")
    check = values_in_commands_can_be_filled
    assert found(check, shipped, name, text) == []
    for probe in {match[1] for match in PLACE.finditer(text)}:
        rest = {other: spec for other, spec in shipped.known.items() if other != probe}
        assert found(check, replace(shipped, known=rest), name, text), probe


def test_a_verification_without_its_probes_is_missed(shipped: Subject) -> None:
    names = [name for name in list_pages(RUNBOOKS) if name[0] != "tocsin"]
    for name in names:
        text = RUNBOOKS.joinpath(name[0], f"{name[1]}.md").read_text("utf-8")
        assert found(recovery_is_proven_by_a_probe, shipped, name, text) == []
        begin = text.index("## Verify recovery")
        without = text[:begin] + text[begin:].replace("tocsin probe", "tocsin plan")
        assert len(found(recovery_is_proven_by_a_probe, shipped, name, without)) == 1, name

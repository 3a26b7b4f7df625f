"""What each section of a page must tell an engineer, and whether the places in its commands can be filled.

A section about what may be wrong (a heading of the third level) says ``Confirm:`` with a command to paste and
``Recover:`` with what to do. Where there is nothing to run it says so instead: ``No command:`` and why.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from tocsin.config.errors import Problem, nearest
from tocsin.model import Secret
from tocsin.paging.lint.subject import Subject
from tocsin.runbooks import Page
from tocsin.runbooks.filling import places

SHARED = "runbooks/reasons.md"
MIN_WHY = 20
"""Characters; a shorter excuse for having no command is none."""

_FENCED = re.compile(r"^( *)```.*?^\1```[ \t]*$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`[^`\n]+`")
_CONFIRM = re.compile(r"\bConfirm\b[^:`\n]{0,80}:")
_NO_COMMAND = re.compile(r"\bNo command: *([^.\n]*)")
_PROBE = re.compile(r"tocsin probe ((?:[\w.-]+\s*)+)")
_RECOVER = re.compile(r"\bRecover:\s*\S")


@dataclass(frozen=True, slots=True)
class _Told:
    """A section: where it begins, the words of its heading, and its body."""

    file: str
    line: int
    title: str
    body: str


def every_section_says_how_to_confirm_and_recover(subject: Subject) -> Iterator[Problem]:
    for section in _sections(subject):
        confirm, excuse = _CONFIRM.search(section.body), _NO_COMMAND.search(section.body)
        if excuse is not None:
            if len(excuse[1]) < MIN_WHY:
                yield Problem(section.file, section.line, section.title, "`No command:` does not say why there is none")
        elif confirm is None:
            hint = "write `Confirm:` and a command to paste, or `No command:` and why there is none"
            yield Problem(section.file, section.line, section.title, "the section does not say how to confirm", hint)
        elif not _code(section.body[confirm.end() :].partition("Recover:")[0]):
            yield Problem(section.file, section.line, section.title, "nothing to paste follows `Confirm:`")
        if _RECOVER.search(section.body) is None:
            hint = "write `Recover:` and what to do"
            yield Problem(section.file, section.line, section.title, "the section does not say how to recover", hint)


def recovery_is_proven_by_a_probe(subject: Subject) -> Iterator[Problem]:
    """Where probes lead to a page, one of them proves the repair; for pages about tocsin itself there is none."""
    for (system, incident), page in subject.pages.items():
        own = {spec.name for spec in subject.known.values() if (spec.system, spec.incident) == (system, incident)}
        verify = next((section for section in _sections_of(page, 2) if section.title == "Verify recovery"), None)
        if own and verify is not None:
            asked = {name for command in _PROBE.findall(verify.body) for name in command.split()}
            if not asked & own:
                hint = "write `tocsin probe NAME`"
                yield Problem(
                    page.file, verify.line, verify.title, "no probe of this page is asked whether it is over", hint
                )


def values_in_commands_can_be_filled(subject: Subject) -> Iterator[Problem]:
    """Each ``{probe.setting}`` names a known probe and a setting of its kind that may be shown, and stands alone."""
    for file, first, text in _texts(subject):
        pieces = list(_code(text))
        for start, code in [(0, _blanked(text, pieces)), *pieces]:
            for place in places(code):
                line = first + text.count("\n", 0, start + place.start)
                key = f"{place.probe}.{place.setting}"
                if (start, code) not in pieces:
                    yield Problem(file, line, key, "only values in code are filled in", "put it between backticks")
                elif message := _complaint(subject, place.probe, place.setting):
                    yield Problem(file, line, key, *message)
                elif _quoted(code[: place.start]):
                    hint = "end the quotes before it: it is quoted when it is filled in"
                    yield Problem(file, line, key, "the value stands inside quotes", hint)


def _complaint(subject: Subject, probe: str, setting: str) -> tuple[str, str] | None:
    spec = subject.known.get(probe)
    if spec is None:
        return "there is no such probe", nearest(probe, subject.known) or ""
    model = subject.settings.get(spec.kind)
    declared = None if model is None else _declared(model, setting)
    if declared is None:
        return f"the kind `{spec.kind}` has no such setting", f"`tocsin kinds {spec.kind}` lists them"
    if Secret in declared:
        return "a secret is not shown", 'write "$NAME" of its variable'
    return None


def _declared(model: type[BaseModel], setting: str) -> frozenset[Any] | None:
    """The types that a setting may have, by its dotted name; None when there is no such setting."""
    found: frozenset[Any] = frozenset({model})
    for step in setting.split("."):
        inner = [kind for each in found for kind in _inside(each, step)]
        if not inner:
            return None
        found = frozenset(inner)
    return found


def _inside(kind: Any, step: str) -> Iterator[Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel) and step in kind.model_fields:
        yield from _plain(kind.model_fields[step].annotation)
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        yield from _plain(arguments[1])
    elif origin in (tuple, list) and step.isdigit():
        yield from _plain(arguments[0])


def _plain(annotation: Any) -> Iterator[Any]:
    """The alternatives of an annotation, without what is only said about them."""
    if hasattr(annotation, "__value__"):
        annotation = annotation.__value__
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        yield from _plain(arguments[0])
    elif origin in (typing.Union, types.UnionType):
        for each in arguments:
            yield from _plain(each)
    else:
        yield annotation


def _sections(subject: Subject) -> Iterator[_Told]:
    for page in subject.pages.values():
        yield from _sections_of(page, 3)
    for section in subject.shared:
        yield _Told(SHARED, section.line, " ".join(f"`{reason}`" for reason in section.reasons), section.body)


def _sections_of(page: Page, level: int) -> Iterator[_Told]:
    """The sections of this level, each up to the next heading of any."""
    lines, first = page.own.splitlines(), page.first_line
    for heading, following in zip(page.headings, [*page.headings[1:], None], strict=True):
        if heading.level == level:
            end = following.line - first if following else len(lines)
            yield _Told(page.file, heading.line, heading.text, "\n".join(lines[heading.line - first + 1 : end]))


def _texts(subject: Subject) -> Iterable[tuple[str, int, str]]:
    """(file, first line, text) of everything that is written."""
    for page in subject.pages.values():
        yield page.file, page.first_line, page.own
    for section in subject.shared:
        yield SHARED, section.line + 1, section.body


def _code(text: str) -> list[tuple[int, str]]:
    """(where, code) of each block and each span of code."""
    blocks = [(match.start(), match[0]) for match in _FENCED.finditer(text)]
    return blocks + [(match.start(), match[0]) for match in _INLINE.finditer(_blanked(text, blocks))]


def _blanked(text: str, pieces: Iterable[tuple[int, str]]) -> str:
    """The text with blanks in place of these pieces, so that what is left stands where it stood."""
    for start, piece in pieces:
        blank = "".join("\n" if character == "\n" else " " for character in piece)
        text = text[:start] + blank + text[start + len(piece) :]
    return text


def _quoted(before: str) -> bool:
    """Whether a shell is inside quotes after this much of a command."""
    inside = ""
    for character in before:
        if character in "'\"" and inside in ("", character):
            inside = "" if inside else character
    return bool(inside)


CHECKS = (
    every_section_says_how_to_confirm_and_recover,
    recovery_is_proven_by_a_probe,
    values_in_commands_can_be_filled,
)

"""Runbook pages against reasons and one another: each reason has one section, each section and page a way in."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from tocsin.config.errors import Problem, nearest
from tocsin.model import ProbeSpec
from tocsin.paging.lint.links import runbook_of, slugs
from tocsin.paging.lint.subject import Subject, place
from tocsin.runbooks import Page

WANTED = ("Meaning", "Impact", "Check first", "Reasons", "Verify recovery", "Never")
MIN_CHARACTERS = 40
"""A section with less says nothing that an engineer could do."""

_CONTAINERS = ("Reasons", "Reasons that every probe shares")
"""Headings that only hold other sections."""

_LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
_PROBE_COMMAND = re.compile(r"tocsin probe ((?:[a-z0-9][a-z0-9-]*[ \n]?)+)")


def every_reason_has_its_section(subject: Subject) -> Iterator[Problem]:
    for (system, incident), specs in _by_incident(subject.probes.values()).items():
        page = subject.pages.get((system, incident))
        if page is None:
            message = f"there is no page runbooks/{system}/{incident}.md for its incident"
            yield Problem(*place(specs[0]), specs[0].name, message)
            continue
        for kind in sorted({spec.kind for spec in specs} - set(page.kinds)):
            yield Problem(page.file, 1, "kinds", f"`{kind}` probes lead here and are not named")
        anchors = page.anchors
        for spec in specs:
            for info in subject.reasons.get(spec.name, ()):
                code = f"{spec.kind}.{info.code}"
                if code not in anchors and spec.kind in page.kinds:
                    yield Problem(page.file, 1, code, "no section for this reason", info.meaning)


def every_section_is_reachable(subject: Subject) -> Iterator[Problem]:
    by_incident = _by_incident(subject.known.values())
    for name, page in subject.pages.items():
        specs = by_incident.get(name, [])
        given = {f"{spec.kind}.{info.code}" for spec in specs for info in subject.reasons.get(spec.name, ())}
        for kind in page.kinds:
            if specs and kind not in {spec.kind for spec in specs}:
                yield Problem(page.file, 1, "kinds", f"no probe of kind `{kind}` leads here")
        for heading in page.headings:
            for code in heading.reasons:
                if code not in given:
                    yield Problem(page.file, heading.line, code, "no probe that leads here gives this reason")


def every_reason_has_one_section(subject: Subject) -> Iterator[Problem]:
    for page in subject.pages.values():
        lines: dict[str, int] = {}
        for heading in page.headings:
            for code in heading.reasons:
                if code in lines:
                    message = f"the reason has a section already, on line {lines[code]}"
                    yield Problem(page.file, heading.line, code, message)
                lines.setdefault(code, heading.line)


def every_page_is_led_to(subject: Subject) -> Iterator[Problem]:
    led_to = {(spec.system, spec.incident) for spec in subject.known.values()}
    led_to |= {found[:2] for rule in subject.alerts if (found := runbook_of(rule))}
    for name, page in subject.pages.items():
        if name not in led_to:
            yield Problem(page.file, 1, "", "no probe and no alert leads to this page")


def pages_are_complete(subject: Subject) -> Iterator[Problem]:
    for page in subject.pages.values():
        titles = {heading.text for heading in page.headings}
        for wanted in WANTED:
            if wanted not in titles:
                yield Problem(page.file, 1, "", f"no section `## {wanted}`")
        first, lines = page.first_line, page.own.splitlines()
        for heading, following in zip(page.headings, [*page.headings[1:], None], strict=True):
            end = following.line - first if following else len(lines)
            body = "".join(lines[heading.line - first + 1 : end]).strip()
            if len(body) < MIN_CHARACTERS and heading.level > 1 and heading.text not in _CONTAINERS:
                hint = "write what an engineer should do"
                yield Problem(page.file, heading.line, heading.text, "the section says too little", hint)


def links_between_pages_resolve(subject: Subject) -> Iterator[Problem]:
    """External addresses are not asked: lint works offline."""
    for page in subject.pages.values():
        for line, target in _links(page):
            if re.match(r"https?://[^/\s]+", target):
                continue
            path, _, anchor = target.partition("#")
            found = page if not path else _page_at(subject, page, path)
            if found is None:
                yield Problem(page.file, line, target, "the link leads nowhere", "write ../SYSTEM/INCIDENT.md#ANCHOR")
            elif anchor and anchor not in found.anchors | slugs(found):
                yield Problem(page.file, line, target, f"{found.file} has no section #{anchor}")


def commands_name_probes_that_exist(subject: Subject) -> Iterator[Problem]:
    for page in subject.pages.values():
        for match in _PROBE_COMMAND.finditer(page.own):
            for name in match[1].split():
                if "-" in name and not name.startswith("-") and name not in subject.known:
                    line = page.first_line + page.own.count("\n", 0, match.start())
                    yield Problem(page.file, line, name, "there is no such probe", nearest(name, subject.known))


def documented_sections_exist(subject: Subject) -> Iterator[Problem]:
    """A section that was written for one page is not silently replaced by the shared one."""
    for file, text in subject.docs.items():
        for number, line in enumerate(text.splitlines(), 1):
            for system, incident, code in re.findall(r"`([a-z0-9-]+)/([a-z0-9-]+)#([a-z0-9_]+\.[a-z0-9_]+)`", line):
                page = subject.pages.get((system, incident))
                own = {found for heading in page.headings for found in heading.reasons} if page else set()
                if code not in own:
                    hint = "write it again, or run `make docs` if it is gone for good"
                    yield Problem(file, number, code, f"runbooks/{system}/{incident}.md has no such section", hint)


def _by_incident(probes: Iterable[ProbeSpec]) -> dict[tuple[str, str], list[ProbeSpec]]:
    found: dict[tuple[str, str], list[ProbeSpec]] = {}
    for spec in probes:
        found.setdefault((spec.system, spec.incident), []).append(spec)
    return found


def _links(page: Page) -> Iterator[tuple[int, str]]:
    fenced = False
    for offset, line in enumerate(page.own.splitlines()):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        if not fenced:
            for match in _LINK.finditer(line):
                yield page.first_line + offset, match[1]


def _page_at(subject: Subject, page: Page, path: str) -> Page | None:
    """The page that a relative link means; with or without ``.md``."""
    resolved = posixpath.normpath(posixpath.join(page.system, path))
    parts = PurePosixPath(resolved.removesuffix(".md")).parts
    return subject.pages.get((parts[0], parts[1])) if len(parts) == 2 else None


CHECKS = (
    every_reason_has_its_section,
    every_section_is_reachable,
    every_reason_has_one_section,
    every_page_is_led_to,
    pages_are_complete,
    links_between_pages_resolve,
    commands_name_probes_that_exist,
    documented_sections_exist,
)

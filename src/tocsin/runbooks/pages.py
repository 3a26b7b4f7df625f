"""One runbook page: front matter, Markdown, and the headings that are reasons.

A page is ``runbooks/SYSTEM/INCIDENT.md``, or the same in a folder of the reader's own, which comes first. Its front
matter names the ``title``, the ``kinds`` of probes that lead to it and the platform's own page (``source``). A heading
of the form ``### `kind.reason` …`` is that reason's section; one section may serve several reasons that are handled
alike (``### `http.timeout` `http.connection_refused` ``).

What is to be done about a reason that all kinds share (a timeout, a missing contract) is written once, in
``runbooks/reasons.md`` with headings ``### `reason` ``; a page is completed with those sections for each of its kinds,
unless it has a section of its own for that reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources.abc import Traversable
from pathlib import Path

import yaml

from tocsin.data import data
from tocsin.model import CommonReason

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
"""What a system or incident may be called: it is a path segment."""

_HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*\s*$")
_CODE = re.compile(r"`([a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)?)`")
_SHARED_FILE = "reasons.md"


class PageError(Exception):
    """A page that cannot be read as one. The text says where (``file:line``), what, and what would be right."""


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading and where it stands. ``reasons``: the ``kind.reason`` codes it is about; empty for others."""

    level: int
    text: str
    line: int
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """One shared section: the reasons it serves (without a kind), its heading's words, and its Markdown body."""

    reasons: tuple[str, ...]
    body: str
    line: int


@dataclass(frozen=True, slots=True)
class Page:
    """A runbook page, completed. ``text`` is Markdown without front matter; ``headings`` are those of the file itself,
    with its line numbers."""

    system: str
    incident: str
    title: str
    source: str
    kinds: tuple[str, ...]
    file: str
    text: str
    headings: tuple[Heading, ...]
    shared: tuple[str, ...] = ()
    """The ``kind.reason`` codes whose sections came from the shared file."""
    own: str = ""
    """The Markdown that stands in the file itself, without front matter."""
    first_line: int = 1
    """The line of the file on which ``own`` begins."""

    @property
    def anchors(self) -> frozenset[str]:
        """Every ``kind.reason`` this page can be opened at."""
        return frozenset(code for heading in self.headings for code in heading.reasons) | frozenset(self.shared)

    def link(self, kind: str, reason: str | None) -> str:
        """``SYSTEM/INCIDENT#kind.reason``, or without the fragment when there is no reason."""
        return f"{self.system}/{self.incident}" + (f"#{kind}.{reason}" if reason else "")


def folders(own: Path | None) -> tuple[Traversable, ...]:
    """Where pages are looked for: in the reader's own folder, if there is one, then in the bundled one."""
    return (data("runbooks"),) if own is None else (own, data("runbooks"))


def list_pages(*roots: Traversable) -> list[tuple[str, str]]:
    """Every (system, incident) that has a page in these folders, sorted. Without any: the bundled pages.

    Raises `PageError` when a folder cannot be read.
    """
    found: set[tuple[str, str]] = set()
    for folder in roots or folders(None):
        try:
            found.update(_listed(folder))
        except OSError as error:
            raise PageError(f"{folder}: cannot be read: {error.strerror or error}") from error
    return sorted(found)


def _listed(folder: Traversable) -> Iterator[tuple[str, str]]:
    """What begins with a dot is no system: a mounted ConfigMap has such folders of its own beside them."""
    for system in folder.iterdir():
        if system.is_dir() and not system.name.startswith("."):
            for page in system.iterdir():
                if page.name.endswith(".md"):
                    yield system.name, page.name.removesuffix(".md")


def find_page(system: str, incident: str, *roots: Traversable) -> Page | None:
    """The completed page of the first of these folders that has it; without any folder, of the bundled one. None when
    there is none by these names. Raises `PageError` when it is malformed or cannot be read.

    The names are checked against `NAME` before they become a path, so that no request can leave the folders.
    """
    if not (NAME.fullmatch(system) and NAME.fullmatch(incident)):
        return None
    places = roots or folders(None)
    file = _first(places, system, f"{incident}.md")
    if file is None:
        return None
    return read_page(system, incident, _text(file), shared_source(*places), _shown(file))


def shared_source(*roots: Traversable) -> str:
    """The text of ``reasons.md`` of the first of these folders that has it; without any folder, of the bundled one.
    Raises `PageError` when it cannot be read."""
    file = _first(roots or folders(None), _SHARED_FILE)
    return "" if file is None else _text(file)


def _first(roots: Sequence[Traversable], *names: str) -> Traversable | None:
    for root in roots:
        file = root.joinpath(*names)
        try:
            if file.is_file():
                return file
        except OSError as error:  # of a folder that may not be entered, say
            raise PageError(f"{_shown(file)}: cannot be read: {error.strerror or error}") from error
    return None


def _text(file: Traversable) -> str:
    try:
        return file.read_text("utf-8")
    except OSError as error:
        raise PageError(f"{_shown(file)}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise PageError(f"{_shown(file)}: is not UTF-8") from error


def _shown(file: Traversable) -> str:
    """A bundled page by its name in a checkout, one of the reader's by its path."""
    bundled, path = Path(str(data("runbooks"))), Path(str(file))
    return f"runbooks/{path.relative_to(bundled).as_posix()}" if path.is_relative_to(bundled) else str(path)


def read_page(system: str, incident: str, source: str, shared_source: str = "", file: str | None = None) -> Page:
    """Parses a page and completes it. ``file``: its name in messages. Raises `PageError`."""
    name = file or f"runbooks/{system}/{incident}.md"
    meta, text, first_line = _front_matter(source, name)
    headings = tuple(_headings(text, first_line))
    kinds = meta.kinds
    own = {code for heading in headings for code in heading.reasons}
    written = text
    additions: list[str] = []
    codes: list[str] = []
    for kind in kinds:
        for section in shared_sections(shared_source):
            missing = [reason for reason in section.reasons if f"{kind}.{reason}" not in own]
            if missing:
                codes += [f"{kind}.{reason}" for reason in missing]
                additions.append(
                    f"### {' '.join(f'`{kind}.{reason}`' for reason in missing)}\n\n{section.body.strip()}\n"
                )
    if additions:
        text = f"{text.rstrip()}\n\n## Reasons that every probe shares\n\n" + "\n".join(additions)
    return Page(
        system, incident, meta.title, meta.source, kinds, name, text, headings, tuple(codes), written, first_line
    )


@lru_cache(maxsize=4)
def shared_sections(source: str) -> tuple[Section, ...]:
    """The sections of ``runbooks/reasons.md``. Raises `PageError` for a heading that is no common reason."""
    lines = source.splitlines()
    found = [heading for heading in _headings(source, 1, bare=True) if heading.reasons]
    sections = []
    for number, heading in enumerate(found):
        for reason in heading.reasons:
            if reason not in CommonReason._value2member_map_:
                raise PageError(f"runbooks/{_SHARED_FILE}:{heading.line}: `{reason}` is not a common reason")
        end = found[number + 1].line - 1 if number + 1 < len(found) else len(lines)
        sections.append(Section(heading.reasons, "\n".join(lines[heading.line : end]), heading.line))
    return tuple(sections)


@dataclass(frozen=True, slots=True)
class _FrontMatter:
    title: str
    source: str
    kinds: tuple[str, ...]


def _front_matter(source: str, name: str) -> tuple[_FrontMatter, str, int]:
    lines = source.splitlines(keepends=True)
    if not lines or lines[0].strip() != "---" or "---\n" not in lines[1:]:
        raise PageError(f"{name}:1: a page begins with front matter between two lines of ---")
    end = lines.index("---\n", 1)
    try:
        meta = yaml.safe_load("".join(lines[1:end]))
    except yaml.YAMLError as error:
        raise PageError(f"{name}:1: the front matter is not YAML: {error}") from error
    if not isinstance(meta, dict) or not isinstance(meta.get("title"), str):
        raise PageError(f"{name}:1: the front matter needs a title")
    kinds = meta.get("kinds", [])
    if not isinstance(kinds, Sequence) or isinstance(kinds, str) or not all(isinstance(kind, str) for kind in kinds):
        raise PageError(f"{name}:1: kinds is a list of probe kinds")
    front = _FrontMatter(meta["title"], str(meta.get("source", "")), tuple(kinds))
    return front, "".join(lines[end + 1 :]), end + 2


def _headings(text: str, first_line: int, *, bare: bool = False) -> Iterator[Heading]:
    """Headings outside fenced code. ``bare``: reasons stand without a kind."""
    fenced = False
    for offset, line in enumerate(text.splitlines()):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        match = None if fenced else _HEADING.match(line)
        if match:
            codes = tuple(code for code in _CODE.findall(match[2]) if ("." in code) is not bare)
            yield Heading(len(match[1]), match[2], first_line + offset, codes)

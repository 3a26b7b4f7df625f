"""Runbook pages as HTML in which every reason is an anchor, those that are current now stand out, and commands hold the
values of this configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tocsin.model import Entry, ProbeSpec, Status
from tocsin.runbooks import checks, filling

_REASON = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")
_PAGE_FILE = re.compile(r"((?:\.\./)*[a-z0-9_-]+(?:/[a-z0-9_-]+)*)\.md(#.*)?")
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of the page: where it is (``#anchor``), its words without markup, its level from 1 to 6."""

    anchor: str
    title: str
    level: int


@dataclass(frozen=True, slots=True)
class RenderedPage:
    """``body`` is HTML of our making: HTML in the Markdown has been escaped."""

    body: str
    headings: tuple[Heading, ...]
    anchors: frozenset[str]


def render(
    markdown: str,
    current: frozenset[str] = frozenset(),
    specs: Mapping[str, ProbeSpec] = MappingProxyType({}),
    first: str | None = None,
) -> RenderedPage:
    """Renders a page. Each ``kind.reason`` in a heading, as code or as its whole text, gets exactly that as its id; a
    heading without one gets its words. Headings about a reason in ``current`` get the class ``current``.

    ``specs``: whose values are filled into the code. ``first``: HTML of what to check first, in place of what the page
    lists itself; None leaves that.
    """
    tokens = _parsed(markdown, first)
    filling.fill_tokens(tokens, specs)
    headings: list[Heading] = []
    taken: set[str] = set()
    for position, token in enumerate(tokens):
        if token.type == "heading_open":
            headings.append(_anchor(token, tokens[position + 1], current, taken))
        elif token.type == "inline":
            _point_links_at_pages(token)
    body = _MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {})
    return RenderedPage(body, tuple(headings), frozenset(taken))


def _parsed(markdown: str, first: str | None) -> list[Token]:
    parted = checks.part(markdown)
    if parted is None or first is None:
        return _MARKDOWN.parse(checks.unmarked(markdown))
    html = Token("html_block", "", 0, content=first)
    return [*_MARKDOWN.parse(parted.before), html, *_MARKDOWN.parse(parted.after)]


def current_reasons(entries: Mapping[str, Entry], system: str, incident: str) -> dict[str, list[str]]:
    """``kind.reason`` of every current finding that this page is for, each with its probes."""
    found: dict[str, list[str]] = {}
    for name, entry in entries.items():
        spec, state = entry.spec, entry.state
        if (spec.system, spec.incident) != (system, incident) or state.status is Status.OK:
            continue
        for reason in dict.fromkeys(finding.reason for finding in state.findings):
            found.setdefault(f"{spec.kind}.{reason}", []).append(name)
    return found


def _anchor(opening: Token, inline: Token, current: frozenset[str], taken: set[str]) -> Heading:
    children = inline.children or []
    title = "".join(child.content for child in children).strip()
    codes = [child for child in children if child.type == "code_inline" and _REASON.fullmatch(child.content)]
    if codes:
        for code in codes:
            if code.content not in taken:
                code.attrSet("id", code.content)
                taken.add(code.content)
        anchor = codes[0].content
    else:
        anchor = title if _REASON.fullmatch(title) else _words(title)
        if anchor not in taken:
            opening.attrSet("id", anchor)
            taken.add(anchor)
    if current.intersection([title, *(code.content for code in codes)]):
        opening.attrSet("class", "current")
    return Heading(anchor, title, int(opening.tag[1]))


def _words(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"


def _point_links_at_pages(inline: Token) -> None:
    """Pages link to one another as files, which works in a checkout; here an address has no suffix."""
    for child in inline.children or ():
        if child.type == "link_open" and (match := _PAGE_FILE.fullmatch(str(child.attrGet("href") or ""))):
            child.attrSet("href", match[1] + (match[2] or ""))

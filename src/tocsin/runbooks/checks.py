"""*Check first*: the probes of a page's incident and all that may explain them, causes first.

The list stands under the heading ``## Check first``. In a shipped page it is between two marks, written there from the
bundled profiles by ``docs/generate.py``; whoever shows a page beside a configuration puts that one's own list in its
place. What is written by hand comes after it and stays.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tocsin.model import ProbeSpec

BEGIN, END = "<!-- from the dependency graph; docs/generate.py writes it -->\n", "<!-- by hand from here -->\n"

_HEADING = re.compile(r"^## Check first[ \t]*\n+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Parted:
    """A page's Markdown around the list: up to its heading, the list as written there, and the rest."""

    before: str
    listed: str
    after: str


def part(text: str) -> Parted | None:
    """The page around its list, without the marks; None for a page without the heading."""
    heading = _HEADING.search(text)
    if heading is None:
        return None
    before, rest = text[: heading.end()], text[heading.end() :]
    if not rest.startswith(BEGIN) or END not in rest:
        return Parted(before, "", rest)
    listed, _, after = rest.removeprefix(BEGIN).partition(END)
    return Parted(before, listed.strip(), after.lstrip("\n"))


def replaced(text: str, listed: str) -> str:
    """The page with this list between the marks. A page without the heading, or without probes, stays as it is."""
    parted = part(text)
    if parted is None or not listed:
        return text
    return f"{parted.before}{BEGIN}\n{listed.strip()}\n\n{END}\n{parted.after}"


def unmarked(text: str, listed: str | None = None) -> str:
    """The page as a reader sees it: without the marks, and with ``listed`` in place of what stands there, if given."""
    parted = part(text)
    if parted is None:
        return text
    shown = parted.listed if listed is None else listed.strip()
    return f"{parted.before}{shown}\n\n{parted.after}" if shown else parted.before + parted.after


def table(specs: Sequence[ProbeSpec], system: str, incident: str) -> str:
    """The list as Markdown, for probes in the order of `tocsin.running.graph.Graph.in_order`; empty without any."""
    if not specs:
        return ""
    rows = ["| | probe | kind | explained by |", "|---|---|---|---|"]
    names = {spec.name for spec in specs}
    for number, spec in enumerate(specs, 1):
        causes = ", ".join(f"`{name}`" for name in spec.depends_on if name in names)
        rows.append(f"| {number} | `{spec.name}`{_elsewhere(spec, system, incident)} | `{spec.kind}` | {causes} |")
    return "\n".join(rows) + "\n"


def _elsewhere(spec: ProbeSpec, system: str, incident: str) -> str:
    """A link to the page of a probe that belongs to another incident."""
    if (spec.system, spec.incident) == (system, incident):
        return ""
    folder = "" if spec.system == system else f"../{spec.system}/"
    return f" ([{spec.incident}]({folder}{spec.incident}.md))"

"""From folders to a `Subject`: what is shipped, and what a user lays over it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tocsin.config import Registry
from tocsin.model import ProbeSpec
from tocsin.paging.lint.subject import Dashboard, Metric, Subject
from tocsin.paging.rulefiles import read_cases, read_rules
from tocsin.runbooks import Page, list_pages, read_page, shared_sections

SHARED_FILE = "reasons.md"


@dataclass(frozen=True)
class Folders:
    """Where everything is. ``root``: what places are told relative to. Later pages win over earlier ones by name."""

    root: Path
    rules: Sequence[Path] = ()
    tests: Sequence[Path] = ()
    runbooks: Sequence[Path] = ()
    dashboards: Sequence[Path] = ()
    docs: Sequence[Path] = ()
    daemon_url: str = field(default="")


def read_subject(
    folders: Folders,
    registry: Registry,
    catalogue: Mapping[str, Iterable[str]],
    probes: Mapping[str, ProbeSpec],
    known: Mapping[str, ProbeSpec],
) -> Subject:
    """Everything to be linted. ``catalogue``: exported metrics with their labels.

    Raises `ConfigError`, `tocsin.runbooks.PageError` and `OSError` for files that cannot be read as what they are.
    """
    names = {name.removesuffix("_total"): frozenset(labels) for name, labels in catalogue.items()}
    everyone = {**known, **probes}
    return Subject(
        rules=read_rules(folders.rules, folders.root),
        cases=read_cases(folders.tests, folders.root),
        pages=_pages(folders.runbooks),
        probes=probes,
        known=everyone,
        reasons={
            spec.name: spec.reasons or registry[spec.kind].all_reasons(spec.settings) for spec in everyone.values()
        },
        catalogue={name: Metric(name, labels) for name, labels in names.items()},
        dashboards=[read_dashboard(file, folders.root) for file in folders.dashboards],
        docs={_shown(file, folders.root): file.read_text("utf-8") for file in folders.docs},
        daemon_url=folders.daemon_url,
        settings={kind: registry[kind].Settings for kind in {spec.kind for spec in everyone.values()}},
        shared=[section for text in _shared(folders.runbooks) for section in shared_sections(text)],
    )


def _pages(roots: Sequence[Path]) -> dict[tuple[str, str], Page]:
    """All pages. A folder without shared sections of its own has those of the first one."""
    pages: dict[tuple[str, str], Page] = {}
    shared = _shared(roots)
    for root in roots:
        own = root / SHARED_FILE
        text = own.read_text("utf-8") if own.is_file() else "".join(shared[:1])
        for system, incident in list_pages(root):
            source = (root / system / f"{incident}.md").read_text("utf-8")
            pages[system, incident] = read_page(system, incident, source, text)
    return pages


def _shared(roots: Sequence[Path]) -> list[str]:
    """The files of shared sections, where there are any."""
    return [(root / SHARED_FILE).read_text("utf-8") for root in roots if (root / SHARED_FILE).is_file()]


def read_dashboard(file: Path, root: Path) -> Dashboard:
    """A Grafana dashboard's uid, variables and queries, each with the line it stands on. Raises `ValueError`."""
    text = file.read_text("utf-8")
    content = json.loads(text)
    lines = text.splitlines()
    variables = frozenset(str(item["name"]) for item in content.get("templating", {}).get("list", []))
    queries = []
    for expr in _expressions(content):
        needle = json.dumps(expr, ensure_ascii=False)
        line = next((number for number, row in enumerate(lines, 1) if needle in row or json.dumps(expr) in row), 0)
        queries.append((line, expr))
    return Dashboard(_shown(file, root), str(content.get("uid", "")), variables, queries)


def _expressions(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("expr"), str):
            yield node["expr"]
        for value in node.values():
            yield from _expressions(value)
    elif isinstance(node, list):
        for value in node:
            yield from _expressions(value)


def _shown(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file)

"""Rule files with the place of each rule, and the rule tests beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tocsin.config.document import Located, Origin, parse

ALERTING = frozenset({"tocsin:probe_alerting", "tocsin_probe_alerting"})
"""Series that say whether a probe alerts: over all replicas, and as one of them says."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One recording or alerting rule. ``line`` is that of its first key; ``places`` those of its keys."""

    file: str
    line: int
    record: str = ""
    alert: str = ""
    expr: str = ""
    wait: str = ""
    """Its ``for``."""
    keep_firing_for: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, int] = field(default_factory=dict)

    def line_of(self, key: str) -> int:
        """The line of one of its keys (``expr``, ``annotations.summary``), or the rule's own."""
        return self.places.get(key, self.line)


def read_rules(files: Iterable[Path], root: Path) -> list[Rule]:
    """All rules of the files, in order. Raises `ConfigError` when one is not YAML, `OSError` when it is unreadable."""
    return [rule for file in files for rule in _rules(parse(file.read_bytes(), Origin(_shown(file, root))))]


@dataclass(frozen=True, slots=True)
class Case:
    """What a promtool test expects of an alert at one time: that it ``fires``, or that it is silent."""

    file: str
    line: int
    alert: str
    fires: bool


def read_cases(files: Iterable[Path], root: Path) -> list[Case]:
    """Every expectation in the rule tests. Raises `ConfigError` for a file that is not YAML."""
    found: list[Case] = []
    for file in files:
        name = _shown(file, root)
        for test in _items(parse(file.read_bytes(), Origin(name)).mapping.get("tests")):
            for case in _items(test.mapping.get("alert_rule_test")):
                alert = case.mapping.get("alertname")
                line = (alert or case).place.line
                found.append(Case(name, line, _text(alert), bool(_items(case.mapping.get("exp_alerts")))))
    return found


def with_limit(texts: Mapping[str, str], name: str, number: float) -> dict[str, str]:
    """Rule files by name, with another number in the rule that records ``tocsin:limit:NAME``. Raises `ValueError`."""
    rule = re.compile(rf"(- record: tocsin:limit:{re.escape(name)}\n +expr: vector)\([^)]*\).*")
    changed = {file: rule.sub(rf"\1({number:.15g})", text) for file, text in texts.items()}
    if changed == texts and not any(rule.search(text) for text in texts.values()):
        known = sorted(found for text in texts.values() for found in re.findall(r"record: tocsin:limit:(\w+)", text))
        raise ValueError(f"there is no limit {name!r}; there are {', '.join(known)}")
    return changed


def _rules(document: Located) -> Iterator[Rule]:
    for group in _items(document.mapping.get("groups")):
        for rule in _items(group.mapping.get("rules")):
            entries = rule.mapping
            places = {key: value.place.line for key, value in entries.items()}
            for part in ("labels", "annotations"):
                for key, value in (entries[part].mapping if part in entries else {}).items():
                    places[f"{part}.{key}"] = value.place.line
            yield Rule(
                file=rule.at.origin.name,
                line=min(places.values(), default=rule.at.line),
                record=_text(entries.get("record")),
                alert=_text(entries.get("alert")),
                expr=_text(entries.get("expr")),
                wait=_text(entries.get("for")),
                keep_firing_for=_text(entries.get("keep_firing_for")),
                labels=_texts(entries.get("labels")),
                annotations=_texts(entries.get("annotations")),
                places=places,
            )


def _items(located: Located | None) -> list[Located]:
    return located.value if located is not None and isinstance(located.value, list) else []


def _text(located: Located | None) -> str:
    return "" if located is None or isinstance(located.value, list | dict) else str(located.value)


def _texts(located: Located | None) -> dict[str, str]:
    return {key: _text(value) for key, value in located.mapping.items()} if located is not None else {}


def _shown(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file)

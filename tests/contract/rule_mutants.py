"""Small wrongs in a rule, one at a time: a threshold, a matcher, a time, a label, an operator, an annotation."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Rule = dict[str, Any]

_MATCHER = re.compile(r'(?P<label>[a-z_]+)(?P<operator>=~|!~|!=|=)"(?P<value>[^"]*)"(?P<comma>,\s*)?')
_NUMBER = re.compile(r'(?<![\w\["$.])\d+(?:\.\d+)?(?![\w\]".])')
_WINDOW = re.compile(r"\[(\d+)([smh])\]")
_GROUPING = re.compile(r"\b(?P<word>by|on) \((?P<labels>[^)]*)\)")
_COMPARISON = re.compile(r"(?<![=!<>~])(==|<=|>=|<|>)(?![=~])")
_OTHER_COMPARISON = {"==": "!=", "<": ">", ">": "<", "<=": ">", ">=": "<"}
_WORD = re.compile(r"\b(and|or|unless|max|min)\b")
_OTHER_WORD = {"and": "unless", "or": "and", "unless": "and", "max": "min", "min": "max"}
_OPPOSITE = {"=": "!=", "!=": "=", "=~": "!~", "!~": "=~"}
_DURATION = re.compile(r"(\d+)([smh])")


@dataclass(frozen=True)
class Mutant:
    """A changed rule, and in words what was changed."""

    name: str
    change: str
    rule: Rule


def mutants(rule: Rule) -> Iterator[Mutant]:
    """Every way in which this rule can be a little wrong."""
    name = rule.get("alert") or rule["record"]
    always = rule["expr"] == "vector(1)"
    # Of what always fires neither the value nor the end is to be seen.
    for change, expr in () if always else _expressions(rule["expr"]):
        yield Mutant(name, f"expr: {change}", {**rule, "expr": expr})
    if "alert" not in rule:
        return
    for key in ("for",) if always else ("for", "keep_firing_for"):
        for value in _durations(str(rule.get(key, "0s"))):
            yield Mutant(name, f"{key}: {rule.get(key, '0s')} → {value}", {**rule, key: value})
    for part in ("labels", "annotations"):
        for key, text in rule.get(part, {}).items():
            changed = copy.deepcopy(rule)
            changed[part][key] = f"{text}x"
            yield Mutant(name, f"{part}.{key}: changed", changed)
            del changed[part][key]
            yield Mutant(name, f"{part}.{key}: removed", changed)
            if "{{ else }}" in text:
                changed = copy.deepcopy(rule)
                changed[part][key] = text.replace("{{ else }}", "{{ else }}x")
                yield Mutant(name, f"{part}.{key}: another else", changed)


def _expressions(expr: str) -> Iterator[tuple[str, str]]:
    for match in _MATCHER.finditer(expr):
        label, operator, value = match["label"], match["operator"], match["value"]
        for text in (f'{label}{operator}"{value}-other"', f'{label}{_OPPOSITE[operator]}"{value}"'):
            yield f"{match[0]} → {text}", _put(expr, match, text + (match["comma"] or ""))
        yield f"{match[0]} removed", _put(expr, match, "")
    for match in _NUMBER.finditer(expr):
        number = float(match[0])
        for changed in (number * 1.5, number / 2) if number else (1.0,):
            yield f"{match[0]} → {changed:g}", _put(expr, match, f"{changed:g}")
    for match in _WINDOW.finditer(expr):
        for changed in {int(match[1]) * 2, max(1, int(match[1]) // 2)} - {int(match[1])}:
            yield f"{match[0]} → [{changed}{match[2]}]", _put(expr, match, f"[{changed}{match[2]}]")
    for match in _COMPARISON.finditer(expr):
        text = _OTHER_COMPARISON[match[0]]
        yield f"{match[0]} → {text} at {match.start()}", _put(expr, match, text)
    for match in _WORD.finditer(expr):
        text = _OTHER_WORD[match[0]]
        yield f"{match[0]} → {text} at {match.start()}", _put(expr, match, text)
    for match in _GROUPING.finditer(expr):
        labels = [label.strip() for label in match["labels"].split(",")]
        for label in labels:
            rest = ", ".join(other for other in labels if other != label)
            yield f"{match['word']} {label} removed at {match.start()}", _put(expr, match, f"{match['word']} ({rest})")


def _durations(text: str) -> Iterator[str]:
    match = _DURATION.fullmatch(text)
    assert match is not None, f"a duration of one unit: {text}"
    seconds = int(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]
    yield from (f"{seconds * 2}s", f"{seconds // 2}s") if seconds else ("2m",)


def _put(text: str, match: re.Match[str], by: str) -> str:
    return text[: match.start()] + by + text[match.end() :]

"""Strict YAML with the place of every key and value.

A deliberately small YAML: one document; no tags, no merge keys, no duplicate keys; keys are text. Plain scalars are
read by the rules below rather than those of YAML 1.1, where ``22:30`` is 1350, ``no`` is false and ``0x…`` a number:
an address, a time of day or a country stays the text that was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from yaml.reader import Reader

from tocsin.config.errors import ConfigError, Problem

MAX_VALUES = 200_000
"""How many values a document may hold after its aliases are expanded."""

MAX_DEPTH = 50
"""How deeply values may be nested."""

Scalar: TypeAlias = "str | int | float | bool | None"

_LOADER: type[yaml.CSafeLoader] | type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,99})")
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]{0,99})\.[0-9]{1,99}")
_PLAIN: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@dataclass(frozen=True, slots=True)
class Origin:
    """The file a value comes from. ``bundled``: it is shipped with tocsin, so its unset variables are contracts."""

    name: str
    bundled: bool = False


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file; line and column count from 1."""

    origin: Origin
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.origin.name}:{self.line}"


@dataclass(frozen=True, slots=True)
class Located:
    """A value and where it stands. ``key`` is the place of its key; None for list items and the document itself."""

    value: Scalar | list[Located] | dict[str, Located]
    at: Position
    key: Position | None = None
    size: int = 1
    """How many values it holds, itself included, aliases expanded."""

    @property
    def place(self) -> Position:
        """Where to point a reader: at the key when there is one."""
        return self.key or self.at

    @property
    def mapping(self) -> dict[str, Located]:
        """The entries of a mapping; empty for anything else."""
        return self.value if isinstance(self.value, dict) else {}


EXPECTED = "it needs at least `profiles: [NAME]` or `probes:`"


def parse(content: bytes, origin: Origin, expected: str = EXPECTED) -> Located:
    """The document as a mapping. Raises `ConfigError` with everything that is wrong with its form.

    ``expected``: what to tell somebody whose file is empty or no mapping.
    """
    text = _decode(content, origin)
    try:
        return _Builder(text, origin, expected).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError([_syntax_problem(error.problem or "", mark.line + 1 if mark else 0, text, origin)]) from None


def _decode(content: bytes, origin: Origin) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem(origin.name, line, "", "not UTF-8 text", "save the file as UTF-8")]) from None
    strange = Reader.NON_PRINTABLE.search(text)
    if strange is not None:
        line = text.count("\n", 0, strange.start()) + 1
        message = f"the character U+{ord(strange.group()):04X} is not allowed in YAML"
        raise ConfigError([Problem(origin.name, line, "", message)])
    return text


def _syntax_problem(problem: str, line: int, text: str, origin: Origin) -> Problem:
    """Says what the parser found, in words that quote nothing of the file: the value may be a secret."""
    lines = text.splitlines()
    for number in (line, line - 1):
        if 1 <= number <= len(lines):
            written = lines[number - 1]
            if "\t" in written[: len(written) - len(written.lstrip())]:
                return Problem(origin.name, number, "", "a tab in the indentation", "YAML takes only spaces there")
    if "tag" in problem:
        return Problem(origin.name, line, "", _TAG, _QUOTE)
    if "cannot start any token" in problem:
        return Problem(origin.name, line, "", "a value cannot start with this character", _QUOTE)
    return Problem(origin.name, line, "", f"not valid YAML: {problem}")


_TAG = "YAML tags (!name) are not supported"
_QUOTE = "put the value in quotes"


class _Builder:
    """Turns the parser's events into located values, under the caps."""

    def __init__(self, text: str, origin: Origin, expected: str) -> None:
        self.origin = origin
        self.expected = expected
        self.events = iter(yaml.parse(text, Loader=_LOADER))
        self.anchors: dict[str, Located | None] = {}
        self.problems: list[Problem] = []
        self.values = 0

    def document(self) -> Located:
        next(self.events)
        if isinstance(next(self.events), StreamEndEvent):
            raise ConfigError([Problem(self.origin.name, 0, "", "the file is empty", self.expected)])
        first = next(self.events)
        root = self._value(first, None, 0, "")
        next(self.events)
        if isinstance(more := next(self.events), DocumentStartEvent):
            self._complain(more, "", "a second document starts here", "one file holds one document")
        if not isinstance(root.value, dict):
            self._complain(first, "", "the file should be a mapping", self.expected)
        if self.problems:
            raise ConfigError(self.problems)
        return root

    def _value(self, event: Event, key: Position | None, depth: int, path: str) -> Located:
        at = self._position(event)
        if isinstance(event, AliasEvent):
            return self._alias(event, at, key, path)
        self._count(1, at)
        if depth > MAX_DEPTH:
            raise ConfigError([Problem(self.origin.name, at.line, "", f"nested more than {MAX_DEPTH} levels deep")])
        assert isinstance(event, ScalarEvent | SequenceStartEvent | MappingStartEvent)
        if event.tag is not None:
            self._complain(event, path, _TAG, _QUOTE)
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        if isinstance(event, ScalarEvent):
            plain = event.implicit[0] and not event.style
            located = Located(_plain(event.value) if plain else event.value, at, key)
        elif isinstance(event, SequenceStartEvent):
            items = list(self._items(depth, path))
            located = Located(items, at, key, 1 + sum(item.size for item in items))
        else:
            entries = self._entries(depth, path)
            located = Located(entries, at, key, 1 + sum(entry.size for entry in entries.values()))
        if event.anchor is not None:
            self.anchors[event.anchor] = located
        return located

    def _items(self, depth: int, path: str) -> Iterator[Located]:
        index = 0
        while not isinstance(event := next(self.events), SequenceEndEvent):
            yield self._value(event, None, depth + 1, f"{path}[{index}]")
            index += 1

    def _entries(self, depth: int, path: str) -> dict[str, Located]:
        entries: dict[str, Located] = {}
        while not isinstance(event := next(self.events), MappingEndEvent):
            if not isinstance(event, ScalarEvent):
                place = self._position(event).line
                raise ConfigError([Problem(self.origin.name, place, path, "a key should be plain text")])
            name, at = str(event.value), self._position(event)
            inner = f"{path}.{name}" if path else name
            if name == "<<" and not event.style:
                self._complain(event, path, "merge keys (<<) are not supported", "use `defaults` or a profile")
            value = self._value(next(self.events), at, depth + 1, inner)
            if name in entries:
                self._complain(event, inner, f"given twice, first on line {entries[name].place.line}")
            else:
                entries[name] = value
        return entries

    def _alias(self, event: AliasEvent, at: Position, key: Position | None, path: str) -> Located:
        # The name after the star may be the start of a password that somebody did not quote: it is not shown.
        if event.anchor not in self.anchors:
            self._complain(
                event, path, "an alias (*name) without an anchor", "put a value that starts with * in quotes"
            )
            return Located(None, at, key)
        target = self.anchors[event.anchor]
        if target is None:
            raise ConfigError([Problem(self.origin.name, at.line, path, "an alias inside the value it stands for")])
        self._count(target.size, at)
        return Located(target.value, target.at, key, target.size)

    def _count(self, values: int, at: Position) -> None:
        self.values += values
        if self.values > MAX_VALUES:
            message = f"more than {MAX_VALUES:,} values, aliases expanded"
            raise ConfigError([Problem(self.origin.name, at.line, "", message)])

    def _position(self, event: Event) -> Position:
        mark = event.start_mark
        assert mark is not None
        return Position(self.origin, mark.line + 1, mark.column + 1)

    def _complain(self, event: Event, key: str, message: str, hint: str = "") -> None:
        self.problems.append(Problem(self.origin.name, self._position(event).line, key, message, hint))


def _plain(text: str) -> Scalar:
    if text in _PLAIN:
        return _PLAIN[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text

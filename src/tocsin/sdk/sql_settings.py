"""Which settings a server means when it says that a table, a column or a value does not exist. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydantic import BaseModel

from tocsin.sdk.probe import ProbeSettings, plain_texts

NAMES_SOMETHING = frozenset({"42P01", "42703", "42704", "3F000", "22P02", "42883"})
"""Undefined table, column, object (a type), schema; a value that an enum does not have; an undefined function or
operator, which is a column of another type. PostgreSQL 17 documentation, appendix A "PostgreSQL Error Codes"."""

_MEANT = re.compile(r'"([^"]+)"|([\w$]+(?:\.[\w$]+)+)')
"""What a message names: in quotes, or with the alias of its table: ``column d.payload does not exist``."""


_STRING = re.compile(r"'(?:[^']|'')*'")


def to_change(message: str, settings: BaseModel) -> tuple[str, ...]:
    """The settings that contain what ``message`` names, as ``queue_column``, or as ``VARIABLE (query)`` where a
    variable brought it in; these first, then those that are nothing but the name. Empty when no setting has it."""
    named = {(quoted or dotted).rpartition(".")[2] for quoted, dotted in _MEANT.findall(message)}
    words = [re.compile(rf"(?<![\w$]){re.escape(word)}(?![\w$])", re.IGNORECASE) for word in named]
    # What is in a string of a query is a value; only where nothing else has the name, the server means that.
    return _with(words, settings, _STRING) or _with(words, settings, None)


def _with(words: Sequence[re.Pattern[str]], settings: BaseModel, ignored: re.Pattern[str] | None) -> tuple[str, ...]:
    def names(text: str) -> bool:
        return any(word.search(ignored.sub("''", text) if ignored else text) for word in words)

    references = settings.references if isinstance(settings, ProbeSettings) else {}
    found: list[tuple[bool, int, str]] = []
    for place, text in plain_texts(settings):
        if names(text):
            setting = place.partition("[")[0]
            reference = references.get(place) or references.get(setting)
            variables = [name for name, part in reference.parts if names(part)] if reference is not None else []
            shown = [f"{name} ({setting})" for name in variables] or [setting]
            found += [(not variables, len(text), each) for each in shown]
    return tuple(dict.fromkeys(each for *_, each in sorted(found, key=lambda ranked: ranked[:2])))

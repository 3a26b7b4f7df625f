"""What a setting is, in the words of its kind. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from tocsin.config.filling import Path


def meaning(settings: type[BaseModel], path: Path) -> str:
    """The first sentence of the docstring of the setting at ``path``, or of the one that it is a part of; empty when
    none of them has one."""
    annotation: Any = settings
    words = ""
    for step in path:
        annotation, found = _below(annotation, step)
        words = found or words
    return _first_sentence(words)


def _below(annotation: Any, step: str | int) -> tuple[Any, str]:
    for kind in _parts(annotation):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            for name, field in kind.model_fields.items():
                if step in (name, field.alias):
                    return field.annotation, field.description or ""
        elif isinstance(origin := get_origin(kind), type) and issubclass(origin, Mapping | list | tuple):
            inner = [part for part in get_args(kind) if part is not ...]
            if inner:
                return inner[-1], ""
    return None, ""


def _parts(annotation: Any) -> Iterator[Any]:
    """The annotation itself, and those that it is a union or an annotated form of."""
    yield annotation
    if not (isinstance(get_origin(annotation), type) and issubclass(get_origin(annotation), Mapping | list | tuple)):
        for part in get_args(annotation):
            yield from _parts(part)


def _first_sentence(words: str) -> str:
    text = " ".join(words.split())
    end = text.find(". ")
    return text if end < 0 else text[: end + 1]

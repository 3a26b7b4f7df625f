"""pydantic's findings in plain words, at the line where the value was written."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tocsin.config.document import Located
from tocsin.config.errors import Problem, nearest
from tocsin.config.filling import Path, dotted
from tocsin.model import Reference

_TYPES = {
    "string_type": "is not text; put it in quotes",
    "int_type": "is not a whole number",
    "int_parsing": "is not a whole number",
    "int_from_float": "is not a whole number",
    "float_type": "is not a number",
    "float_parsing": "is not a number",
    "bool_type": "is neither true nor false",
    "bool_parsing": "is neither true nor false",
}
_SHAPES = {
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def translate(
    error: ValidationError,
    located: Located,
    prefix: str,
    models: Iterable[type[BaseModel]],
    references: Iterable[Reference] = (),
) -> list[Problem]:
    """A problem for each finding. ``located`` is what was validated and ``prefix`` its key.

    ``models``: whose fields are the valid names at the top, for suggestions. No value of ``references`` is quoted:
    its source stands for it.
    """
    known = tuple(models)
    return [_problem(details, located, prefix, known, tuple(references)) for details in error.errors()]


def _problem(
    details: ErrorDetails,
    located: Located,
    prefix: str,
    models: tuple[type[BaseModel], ...],
    references: tuple[Reference, ...],
) -> Problem:
    loc = details["loc"]
    message, hint = _say(details, models)
    if details["type"] == "missing":
        # What is missing is told where it belongs, even where a value was written that could not be filled in.
        path, target = follow(loc[:-1], located)
        path = (*path, loc[-1])
    else:
        path, target = follow(loc, located)
    at = target.place
    return Problem(at.origin.name, at.line, dotted(prefix, path), _hide(message, references), hint)


def follow(loc: Path, located: Located) -> tuple[Path, Located]:
    """The steps of ``loc`` that exist in the document, and the value they lead to.

    pydantic's locations also hold names of union members and markers such as ``[key]``; those are passed over.
    """
    path: list[str | int] = []
    target = located
    for step in loc:
        below = target.value
        if isinstance(below, dict) and step in below:
            target = below[str(step)]
        elif isinstance(below, list) and isinstance(step, int) and step < len(below):
            target = below[step]
        else:
            continue
        path.append(step)
    return tuple(path), target


def _say(details: ErrorDetails, models: tuple[type[BaseModel], ...]) -> tuple[str, str]:
    kind, given, context = details["type"], details["input"], details.get("ctx", {})
    shown = given.source if isinstance(given, Reference) else "this" if isinstance(given, dict | list) else repr(given)
    if kind == "extra_forbidden":
        valid = _names(models, details["loc"][:-1])
        hint = nearest(str(details["loc"][-1]), valid) or f"known here: {', '.join(sorted(valid))}"
        return "unknown key", hint
    if kind == "missing":
        return "required, and not given", ""
    if kind in _TYPES:
        return f"{shown} {_TYPES[kind]}", ""
    if kind in _SHAPES:
        return f"should be {_SHAPES[kind]}", ""
    if kind in ("literal_error", "enum"):
        names = re.findall(r"'([^']*)'", context["expected"])
        return f"{shown} is not {context['expected']}", nearest(str(given), names) if names else ""
    if kind in ("value_error", "assertion_error"):
        return str(context["error"]), ""
    return re.sub("^Input should be", "should be", details["msg"]), ""


def _hide(message: str, references: tuple[Reference, ...]) -> str:
    """The message with the sources of interpolated values in place of the values."""
    for reference in sorted(filter(None, references), key=len, reverse=True):
        value = f"(?:{re.escape(repr(str(reference)))}|{re.escape(reference)})"
        # A short value is hidden only as a whole word: a 5 from a variable should not eat the 5 of "write 500ms".
        pattern = value if len(reference) > 3 else rf"(?<!\w){value}(?!\w)"
        message = re.sub(pattern, reference.source.replace("\\", r"\\"), message)
    return message


def _names(models: tuple[type[BaseModel], ...], loc: Path) -> set[str]:
    """The names that are valid at ``loc``: the fields of every model that may stand there."""
    for step in loc:
        below = [field for model in models for name, field in model.model_fields.items() if step in (name, field.alias)]
        if below:
            models = tuple(model for field in below for model in _models_in(field.annotation))
    return {field.alias or name for model in models for name, field in model.model_fields.items()}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]

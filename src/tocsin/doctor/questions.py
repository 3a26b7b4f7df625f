"""What a profile's unpublished variables mean, as data: ``profiles/questions/PROFILE.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources.abc import Traversable
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tocsin.data import data

Names = Annotated[tuple[str, ...], Field(min_length=1)]
"""Likely names, the likeliest first. Compared without regard to case."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class TableQuestion(_Part):
    """Which table? One with one of ``names``, or else one that has all of ``columns``."""

    ask: Literal["table"]
    names: Names
    columns: tuple[str, ...] = ()


class ColumnQuestion(_Part):
    """Which column of the table that the variable ``table`` names?"""

    ask: Literal["column"]
    table: str
    names: Names
    type: Literal["any", "time", "text", "number"] = "any"


class ValuesQuestion(_Part):
    """Which of the values in ``column`` are among ``names``? All that are, joined by commas."""

    ask: Literal["values"]
    table: str
    column: str
    names: Names


class AddressQuestion(_Part):
    """Which address answers 200? The origin of the variable ``near``, on its port and on ``ports``, with ``paths``."""

    ask: Literal["address"]
    near: str
    ports: tuple[int, ...] = ()
    paths: Names


Question = Annotated[TableQuestion | ColumnQuestion | ValuesQuestion | AddressQuestion, Field(discriminator="ask")]


class IndexQuestion(_Part):
    """Without an index that begins with ``columns``, in any order, the query of ``probe`` reads the whole table."""

    probe: str
    table: str
    columns: Names


class Questions(_Part):
    """``database``: the variable that holds the dsn. ``fallbacks``: what a table's variable is when it is unset."""

    database: str
    fallbacks: Mapping[str, str] = {}
    questions: Mapping[str, Question]
    indexes: tuple[IndexQuestion, ...] = ()


def questions_of(profile: str, folder: Traversable | None = None) -> Questions | None:
    """The questions of a bundled profile; None when it has none. Raises `ValueError` for a file that is wrong."""
    file = (folder or data("profiles")).joinpath("questions", f"{profile}.yaml")
    if not file.is_file():
        return None
    try:
        return Questions.model_validate(yaml.safe_load(file.read_text("utf-8")))
    except (yaml.YAMLError, ValidationError) as error:
        raise ValueError(f"profiles/questions/{profile}.yaml: {error}") from error

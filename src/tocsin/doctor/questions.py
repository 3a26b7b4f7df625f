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

    @property
    def sought(self) -> str:
        """What is looked for, in words."""
        having = f" with the columns {', '.join(self.columns)}" if self.columns else ""
        return f"A table such as {_some(self.names)}{having}."


class ColumnQuestion(_Part):
    """Which column of the table that the variable ``table`` names?"""

    ask: Literal["column"]
    table: str
    names: Names
    type: Literal["any", "time", "text", "number"] = "any"

    @property
    def sought(self) -> str:
        kind = "" if self.type == "any" else f" ({self.type})"
        return f"A column{kind} of the table of {self.table}, such as {_some(self.names)}."


class ValuesQuestion(_Part):
    """Which of the values in ``column`` are among ``names``? All that are, joined by commas."""

    ask: Literal["values"]
    table: str
    column: str
    names: Names

    @property
    def sought(self) -> str:
        return f"Those values of the column {self.column} that mean: {_some(self.names)}; with commas between them."


class LatestQuestion(_Part):
    """Which query gives the newest sign of life? The first column of ``columns`` of a table with one of ``names``."""

    ask: Literal["latest"]
    names: Names
    columns: Names

    @property
    def sought(self) -> str:
        return f"One SELECT of a time, such as SELECT {self.columns[0]} FROM {self.names[0]}."


class AddressQuestion(_Part):
    """Which address answers 200? The origin of the variable ``near``, on its port and on ``ports``, with ``paths``."""

    ask: Literal["address"]
    near: str
    ports: tuple[int, ...] = ()
    paths: Names

    @property
    def sought(self) -> str:
        return f"An address that answers 200, such as {_some(self.paths)} at the host of {self.near}."


Question = Annotated[
    TableQuestion | ColumnQuestion | ValuesQuestion | LatestQuestion | AddressQuestion, Field(discriminator="ask")
]


class IndexQuestion(_Part):
    """Without an index that begins with ``columns``, the last of them last, the query of ``probe`` reads more than it
    needs. An index on only those rows for which a single column has the value that is asked for will do too."""

    probe: str
    table: str
    columns: Names


class Questions(_Part):
    """``database``: the variable that holds the dsn. ``fallbacks``: what a table's variable is when it is unset."""

    database: str
    fallbacks: Mapping[str, str] = {}
    questions: Mapping[str, Question]
    indexes: tuple[IndexQuestion, ...] = ()


def _some(names: Names) -> str:
    return ", ".join(names[:4])


def questions_of(profile: str, folder: Traversable | None = None) -> Questions | None:
    """The questions of a bundled profile; None when it has none. Raises `ValueError` for a file that is wrong."""
    file = (folder or data("profiles")).joinpath("questions", f"{profile}.yaml")
    if not file.is_file():
        return None
    try:
        return Questions.model_validate(yaml.safe_load(file.read_text("utf-8")))
    except (yaml.YAMLError, ValidationError) as error:
        raise ValueError(f"profiles/questions/{profile}.yaml: {error}") from error

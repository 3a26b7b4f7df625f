"""SQL as text: quoting names from a configuration, and telling a single SELECT from anything else. Pure."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

_NAME = r'(?:[A-Za-z_][\w$]*|"(?:[^"\x00]|"")+")'
_NAMES = re.compile(rf"{_NAME}(?:\.{_NAME}){{0,2}}")

_TOKEN = re.compile(
    r"""
      '(?:[^'\\]|''|\\.)*'            # a string, also with backslash escapes: E'…'
    | "(?:[^"]|"")*"                  # a quoted name
    | \$(\w*)\$.*?\$\1\$              # a dollar-quoted string
    | --[^\n]*                        # a comment to the end of the line
    | /\*.*?\*/                       # a comment
    """,
    re.VERBOSE | re.DOTALL,
)
"""What can hide a semicolon or a parenthesis. PostgreSQL 17 documentation, 4.1 "Lexical Structure"."""


def quoted(name: str) -> str:
    """A table or column name, safe inside a statement: ``audit.jobs`` gives ``"audit"."jobs"``.

    Parts that are quoted already stay as they are. Names keep their case: PostgreSQL folds unquoted ones to lower case,
    so an unquoted part is folded here. Raises `ValueError` for anything that is not a name.
    """
    if not _NAMES.fullmatch(name):
        raise ValueError(f'{name!r} is not a name of a table or column; write jobs, audit.jobs or "Odd Name"')
    return ".".join(part if part.startswith('"') else f'"{part.lower()}"' for part in re.findall(_NAME, name))


def single_select(query: str) -> str:
    """The query without its final semicolon. Raises `ValueError` when it is not exactly one SELECT, WITH or VALUES.

    The server enforces the rest: queries run in a read-only transaction and inside parentheses, where PostgreSQL takes
    nothing that writes.
    """
    bare = _TOKEN.sub(lambda match: " " if match[0].startswith(("--", "/*")) else "x", query).strip()
    if bare.endswith(";"):
        query, bare = query.rstrip()[: query.rstrip().rindex(";")], bare[:-1].rstrip()
    if ";" in bare:
        raise ValueError("one statement only, without a semicolon inside")
    if not re.match(r"(?i)(select|with|values|table)\b", bare.lstrip("( \n\t")):
        raise ValueError("a query begins with SELECT or WITH: probes only read")
    if _unbalanced(bare):
        raise ValueError("its parentheses do not match")
    return query


def _unbalanced(bare: str) -> bool:
    depth = 0
    for character in bare:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            return True
    return depth != 0


def _checked_name(name: str) -> str:
    if name:
        quoted(name)
    return name


Name = Annotated[str, AfterValidator(_checked_name)]
"""A setting that names a table or column; empty when it is not configured."""

Select = Annotated[str, AfterValidator(single_select)]
"""A setting that is one query which only reads."""

"""Env files: the variables of a platform as it writes them for itself (``.env``).

``KEY=VALUE`` a line, with an optional ``export``; ``#`` comments; single quotes keep everything as written; double
quotes know ``\\n \\r \\t \\" \\\\ \\$``; quoted values may span lines (PEM keys). ``${NAME}`` and ``${NAME:-default}``
outside single quotes refer to the process environment or to lines above. Nothing is ever executed: ``$(…)`` and
backquotes are text. The last of two lines for one name wins, as in a shell.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Mapping, MutableMapping
from typing import cast

from tocsin.config.errors import ConfigError, Problem

_ASSIGNMENT = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.]*)[ \t]*=[ \t]*")
_SINGLE = re.compile(r"'([^']*)'")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BARE = re.compile(r"[^\n]*")
_REST = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_BLANK = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_TOKEN = re.compile(r"\\(.)|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}


def parse_env_file(content: bytes, name: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of the file called ``name``. Raises `ConfigError`; no message quotes a line, it may be a secret."""
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem(name, line, "", "not UTF-8 text", "save the file as UTF-8")]) from None
    variables: dict[str, str] = {}
    problems: list[Problem] = []
    known = ChainMap(cast("MutableMapping[str, str]", environ), variables)
    at, seen, line = 0, 0, 1
    while at < len(text):
        line, seen = line + text.count("\n", seen, at), at
        blank = _BLANK.match(text, at)
        if blank is not None and blank.end() > at:
            at = blank.end()
            continue
        assignment = _ASSIGNMENT.match(text, at)
        if assignment is None:
            problems.append(Problem(name, line, "", "not of the form KEY=VALUE"))
            at = _next_line(text, at)
            continue
        key = assignment[1]
        try:
            # The process environment wins, here as in the configuration.
            variables[key], at = _value(text, assignment.end(), known)
        except KeyError as error:
            problems.append(Problem(name, line, key, f"refers to ${{{error.args[0]}}}, which is not set above it"))
            at = _next_line(text, at)
        except ValueError as error:
            problems.append(Problem(name, line, key, str(error)))
            break  # what is inside and what is outside of quotes cannot be told from here on
    if problems:
        raise ConfigError(problems)
    return variables


def _value(text: str, at: int, known: Mapping[str, str]) -> tuple[str, int]:
    quote = text[at : at + 1]
    if quote not in ("'", '"'):
        bare = _BARE.match(text, at)
        assert bare is not None
        written = re.sub(r"(?:^|[ \t])#.*", "", bare[0]).strip()
        return _expanded(written, known, escapes=False), min(bare.end() + 1, len(text))
    quoted = (_SINGLE if quote == "'" else _DOUBLE).match(text, at)
    if quoted is None:
        raise ValueError("the quote is not closed")
    rest = _REST.match(text, quoted.end())
    if rest is None:
        raise ValueError("something follows the closing quote")
    value = quoted[1] if quote == "'" else _expanded(quoted[1], known, escapes=True)
    return value, rest.end()


def _expanded(written: str, known: Mapping[str, str], *, escapes: bool) -> str:
    def replacement(match: re.Match[str]) -> str:
        escaped, variable, default = match.groups()
        if escaped is not None:
            return _ESCAPES.get(escaped, match[0]) if escapes else match[0]
        if default is not None:
            return known.get(variable) or default
        return known[variable]

    return _TOKEN.sub(replacement, written)


def _next_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end + 1

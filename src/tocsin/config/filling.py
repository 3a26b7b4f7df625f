"""A located value with its references filled in: plain data for the validators, and what could not be filled."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tocsin.config.document import Located
from tocsin.config.errors import Problem, nearest
from tocsin.config.interpolation import UnreadableFile, UnsetVariable, Variables, interpolate
from tocsin.model import Reference

Path: TypeAlias = "tuple[str | int, ...]"


@dataclass(frozen=True, slots=True)
class Lack:
    """A value of a bundled profile that no variable gives, or only one that cannot be used: ``why``."""

    path: Path
    variable: str
    why: str = ""


@dataclass(slots=True)
class Filled:
    """``data``: plain mappings, lists and scalars; interpolated text is a `Reference`.

    ``missing``: what a bundled profile lacks. Those values are left out of ``data``, as are values that come out empty
    (``${NAME:-}`` is as if the key were not written). ``unchecked``: likewise, where the profile has a default that
    stands for nothing: an empty one, or SQL's ``''`` and ``NULL``.
    """

    data: Any = None
    missing: list[Lack] = field(default_factory=list)
    unchecked: list[Lack] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)


def fill(located: Located, variables: Variables, prefix: str = "", *, lenient: bool = True) -> Filled:
    """Fills in every reference below ``located``. ``prefix`` is its key, for messages.

    An unset variable is a problem, but in a value that stands in a bundled profile it is ``missing`` (unless not
    ``lenient``). A ``${file:…}`` that cannot be read is a problem, except that of a bundled profile that is written
    out: nothing of the user's points there.
    """
    filled = Filled()
    data = _fill(located, (), filled, variables, prefix, lenient)
    filled.data = None if data is _LEFT_OUT else data
    return filled


def dotted(prefix: str, path: Path) -> str:
    """``probes.x`` and ``("limits", 0)`` as ``probes.x.limits[0]``."""
    text = prefix
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


_LEFT_OUT = object()
_NOTHING = re.compile(r"(''|NULL(::\w+)?)?")


def _fill(located: Located, path: Path, filled: Filled, variables: Variables, prefix: str, lenient: bool) -> Any:
    value = located.value
    if isinstance(value, dict):
        entries = {
            name: _fill(entry, (*path, name), filled, variables, prefix, lenient) for name, entry in value.items()
        }
        return {name: entry for name, entry in entries.items() if entry is not _LEFT_OUT}
    if isinstance(value, list):
        items = [_fill(item, (*path, i), filled, variables, prefix, lenient) for i, item in enumerate(value)]
        return [item for item in items if item is not _LEFT_OUT]
    if not isinstance(value, str):
        return value
    bundled = located.at.origin.bundled and lenient
    message, hint = "", ""
    try:
        text = interpolate(value, variables)
    except UnsetVariable as unset:
        if bundled:
            filled.missing.append(Lack(path, unset.name))
            return _LEFT_OUT
        how = "set to nothing" if unset.name in variables.values else "not set"
        message = f"${{{unset.name}}} is {how}"
        # Variables of one platform start alike: only a slip of the fingers is taken for one.
        similar = nearest(unset.name, (name for name, text in variables.values.items() if text), likeness=0.9)
        hint = similar or f"set it in the environment or the env_file, or write ${{{unset.name}:-default}}"
    except UnreadableFile as unreadable:
        if bundled and unreadable.fixed:
            filled.missing.append(Lack(path, f"file:{unreadable.path}"))
            return _LEFT_OUT
        message = str(unreadable)
    except ValueError as malformed:
        message = str(malformed)
    if message:
        filled.problems.append(Problem(located.at.origin.name, located.place.line, dotted(prefix, path), message, hint))
        return _LEFT_OUT
    if isinstance(text, Reference):
        filled.references.append(text)
        if bundled:
            without = (name for name, brought in text.parts if _NOTHING.fullmatch(brought))
            filled.unchecked += [Lack(path, name) for name in without if not variables.values.get(name)]
        if text == "":
            return _LEFT_OUT
    return text

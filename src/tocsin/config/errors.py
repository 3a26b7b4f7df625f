"""What is wrong with a configuration: every problem at once, each with its place, its key and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

MAX_HINTS = 20
"""How many wrong names of probes get a suggestion: comparing thousands with thousands would take minutes."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to correct. Holds no secret: neither ``message`` nor ``hint`` ever quotes a variable's value.

    ``line`` counts from 1; 0 when the problem belongs to the file as a whole. ``key`` is dotted, from the top of the
    document (``probes.wipe-realm.timeout``), and empty when no key is concerned.
    """

    file: str
    line: int
    key: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        message = f"{self.message}; {self.hint}" if self.hint else self.message
        return ": ".join(part for part in (place, self.key, message) if part)


class ConfigError(Exception):
    """The configuration cannot be used. ``str`` gives one line a problem: ``file:line: key: message``.

    ``problems``: without repeats, file by file, by line.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        found = list(dict.fromkeys(problems))
        files = list(dict.fromkeys(problem.file for problem in found))
        self.problems = tuple(sorted(found, key=lambda problem: (files.index(problem.file), problem.line)))
        super().__init__("\n".join(map(str, self.problems)))


def nearest(name: str, valid: Iterable[str], likeness: float = 0.6) -> str:
    """The hint ``did you mean `X`?`` for the valid name most like ``name``; empty when none is alike.

    ``likeness``: between 0 and 1, as `difflib.SequenceMatcher.ratio` counts it.
    """
    matches = difflib.get_close_matches(name, sorted(valid), n=1, cutoff=likeness)
    return f"did you mean `{matches[0]}`?" if matches else ""

"""Known strings in logs and journals: each is a reason that the configuration names, remembered for a while.

A line itself is evidence: it is attached, with what looks like a credential masked, and never part of a detail.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field, StringConstraints

from tocsin.model import MASK, CommonReason, Finding, ReasonEnum, ReasonInfo
from tocsin.model.reason import CODE_PATTERN
from tocsin.sdk.quantities import format_duration

if TYPE_CHECKING:
    from tocsin.sdk.context import ProbeContext

MAX_LINE_CHARACTERS: Final = 2000
MAX_LINES: Final = 20
"""Lines that are kept of one reason in one run."""

ReasonCode = Annotated[str, Field(pattern=f"^{CODE_PATTERN.pattern}$")]
"""A setting that names a reason of its own."""

Pattern = Annotated[str, StringConstraints(min_length=3)]

Patterns = Annotated[Mapping[ReasonCode, tuple[Pattern, ...] | Pattern], Field(max_length=50)]
"""A setting: by reason, the text (or several) that a line contains. Capitals count; there are no wildcards."""

_CREDENTIALS: Final = (
    (re.compile(r"(://[^:/@\s]*:)[^@/\s]+(@)"), rf"\1{MASK}\2"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{4,}\.[\w-]*"), MASK),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), rf"\1 {MASK}"),
    (
        re.compile(r"""(?i)\b([\w-]*(?:password|passwd|secret|token|api_?key))(["']?\s*[=:]\s*["']?)[^\s"',;&]{3,}"""),
        rf"\1\2{MASK}",
    ),
    (re.compile(r"-----BEGIN [A-Z ]+-----.*"), MASK),
)


def reasons_of(patterns: Mapping[str, Any], kind: type[ReasonEnum]) -> tuple[ReasonInfo, ...]:
    """A kind's own reasons and those that ``patterns`` name."""
    own = tuple(member.info for member in kind)
    known = {info.code for info in own} | {member.value for member in CommonReason}
    named = (ReasonInfo(code, f"The log holds {_shown(texts)}.") for code, texts in patterns.items())
    return (*own, *(info for info in named if info.code not in known))


def masked(line: str) -> str:
    """A line of a log as it may be kept: what looks like a credential is masked, the rest cut to a sane length."""
    for pattern, replacement in _CREDENTIALS:
        line = pattern.sub(replacement, line[:MAX_LINE_CHARACTERS])
    return line


@dataclass(slots=True)
class Sightings:
    """What was seen of ``patterns``. ``memory["seen"]`` holds it: by reason how often, when read, when written, where.

    Without that a line that is written once would be bad for one run only, and never be confirmed.
    """

    patterns: Mapping[str, Any]
    memory: MutableMapping[str, Any]
    lines: dict[str, list[str]] = field(default_factory=dict)
    """By reason, the masked lines of this run."""

    def look(self, line: str, written_at: float, read_at: float, where: str) -> bool:
        """Whether a line holds a known string. One that is read late counts for as long as others."""
        found = False
        for code, texts in self.patterns.items():
            if any(text in line for text in _texts(texts)):
                found = True
                seen = self.memory.setdefault("seen", {})
                count, *_ = seen.get(code, (0,))
                seen[code] = [count + 1, read_at, written_at, where]
                kept = self.lines.setdefault(code, [])
                if len(kept) < MAX_LINES:
                    kept.append(f"{where}: {masked(line)}")
        return found

    def findings(self, infos: Iterable[ReasonInfo], now: float, window: float) -> list[Finding]:
        """One finding a reason that was seen within ``window`` seconds before ``now``; forgets the others."""
        by_code = {info.code: info for info in infos}
        seen = {
            code: entry
            for code, entry in self.memory.get("seen", {}).items()
            if code in self.patterns and entry[1] >= now - window
        }
        self.memory["seen"] = seen
        found = []
        for code, (count, _, written_at, where) in seen.items():
            ago = format_duration(max(0, round(now - written_at)))
            times = "once" if count == 1 else f"{count} times"
            found.append(Finding.of(by_code[code], f"seen {times} in {where}, last {ago} ago", where))
        return found

    def attach_to(self, ctx: ProbeContext) -> None:
        """Keeps the lines of this run for evidence."""
        for code, lines in self.lines.items():
            ctx.attach(f"{code}.txt", "\n".join(lines))


def _texts(texts: tuple[str, ...] | str) -> tuple[str, ...]:
    return (texts,) if isinstance(texts, str) else texts


def _shown(texts: tuple[str, ...] | str) -> str:
    return " or ".join(f"`{text}`" for text in _texts(texts))

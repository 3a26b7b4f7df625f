"""The catalogue: which fault, how to cause and undo it, and which page must come, as data in ``drills/*.yaml``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tocsin.config.document import Located, Origin, parse
from tocsin.config.errors import ConfigError, Problem, nearest
from tocsin.model import Severity, Status
from tocsin.sdk.quantities import parse_duration

WITHIN = 60.0
"""Seconds from fault to page when a drill says nothing else."""


@dataclass(frozen=True, slots=True)
class Expected:
    """An alert that must be in the one notification. ``section`` is ``SYSTEM/INCIDENT#kind.reason``."""

    alert: str
    section: str
    severity: Severity = Severity.PAGE


@dataclass(frozen=True, slots=True)
class Live:
    """What an operator does on a staging platform, and undoes, in words. Its presence says that the drill is safe."""

    do: str
    undo: str


@dataclass(frozen=True, slots=True)
class Shown:
    """What the board must say of the fault on real servers. ``also``: probes that see the same fault by themselves, and
    for which reason; what fails because of ``probe`` says so in ``caused_by`` and is not listed."""

    probe: str
    reason: str
    status: Status = Status.FAILED
    also: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Drill:
    """One drill. ``expected`` is empty when the fault must not ring at all (tocsin's own credential, for example).

    ``sandbox``: the sandbox's switch; ``estate``: the name of an action on real servers, known to the tests, which then
    judge what is ``shown``, and the page too: the page where it is ``long`` only in their long run, and otherwise in
    each. ``within``: seconds from the fault to the page. ``alone``: its effects reach other incidents of its system, so
    that no other drill of that may run beside it. ``place``: file and line.
    """

    name: str
    title: str
    system: str
    incident: str
    expected: tuple[Expected, ...]
    sandbox: str = ""
    estate: str = ""
    shown: Shown | None = None
    long: bool = False
    live: Live | None = None
    within: float = WITHIN
    alone: bool = False
    place: tuple[str, int] = ("", 0)

    @property
    def group(self) -> tuple[str, str]:
        """What the reference routing makes one notification of."""
        return (self.system, self.incident)


_KEYS = {
    "title": "text",
    "incident": "text",
    "expect": "a list",
    "sandbox": "text",
    "estate": "text",
    "shows": "a mapping",
    "long": "true or false",
    "live": "a mapping",
    "within": "a duration",
    "alone": "true or false",
}


def read_catalogue(files: Iterable[Path]) -> dict[str, Drill]:
    """All drills by name, in order. Raises `ConfigError` with every problem, each with its file and line."""
    problems: list[Problem] = []
    drills: dict[str, Drill] = {}
    for file in files:
        document = parse(file.read_bytes(), Origin(f"{file.parent.name}/{file.name}"))
        system = _text(document.mapping.get("system"))
        if not system:
            problems.append(_problem(document, "system", "the file says of which system its drills are"))
        entries = document.mapping.get("drills")
        for name, entry in (entries.mapping if entries else {}).items():
            drill = _drill(name, entry, system, problems)
            if drill is not None and name in drills:
                problems.append(_problem(entry, name, f"the name is taken by {drills[name].place[0]}"))
            elif drill is not None:
                drills[name] = drill
    if problems:
        raise ConfigError(problems)
    return drills


def _drill(name: str, entry: Located, system: str, problems: list[Problem]) -> Drill | None:
    before = len(problems)
    fields = entry.mapping
    for key, value in fields.items():
        if key not in _KEYS:
            problems.append(_problem(value, f"{name}.{key}", "there is no such key", nearest(key, _KEYS)))
    for key in ("title", "incident", "expect"):
        if key not in fields:
            problems.append(_problem(entry, f"{name}.{key}", "missing", f"it is {_KEYS[key]}"))
    incident = _text(fields.get("incident"))
    expect = fields.get("expect")
    items = expect.value if expect is not None and isinstance(expect.value, list) else []
    expected = [_expected(item, f"{system}/{incident}", f"{name}.expect", problems) for item in items]
    live = fields.get("live")
    if live is not None and {"do", "undo"} != live.mapping.keys():
        problems.append(_problem(live, f"{name}.live", "says what to `do` and how to `undo` it"))
    shown = _shown(fields["shows"], f"{name}.shows", problems) if "shows" in fields else None
    within = WITHIN
    if "within" in fields:
        try:
            within = parse_duration(_text(fields["within"]))
        except ValueError as error:
            problems.append(_problem(fields["within"], f"{name}.within", str(error)))
    if len(problems) > before:
        return None
    return Drill(
        name=name,
        title=_text(fields["title"]),
        system=system,
        incident=incident,
        expected=tuple(item for item in expected if item is not None),
        sandbox=_text(fields.get("sandbox")),
        estate=_text(fields.get("estate")),
        shown=shown,
        long="long" in fields and fields["long"].value is True,
        live=Live(_text(live.mapping["do"]), _text(live.mapping["undo"])) if live is not None else None,
        within=within,
        alone="alone" in fields and fields["alone"].value is True,
        place=(entry.place.origin.name, entry.place.line),
    )


def _expected(item: Located, page: str, key: str, problems: list[Problem]) -> Expected | None:
    fields = item.mapping
    severity = _text(fields.get("severity")) or Severity.PAGE
    if not {"alert", "section"} <= fields.keys() <= {"alert", "section", "severity"}:
        problems.append(_problem(item, key, "an expectation has an alert, a section and perhaps a severity"))
        return None
    if severity not in tuple(Severity):
        problems.append(_problem(item, key, f"there is no severity `{severity}`", "use page or ticket"))
        return None
    return Expected(_text(fields["alert"]), f"{page}#{_text(fields['section'])}", Severity(severity))


def _shown(item: Located, key: str, problems: list[Problem]) -> Shown | None:
    fields = item.mapping
    if not {"probe", "reason"} <= fields.keys() <= {"probe", "reason", "status", "also"}:
        problems.append(_problem(item, key, "it has a probe, a reason, and perhaps a status and `also`"))
        return None
    status = _text(fields.get("status")) or Status.FAILED
    if status not in (Status.FAILED, Status.UNKNOWN):
        problems.append(_problem(item, key, f"there is no such status as `{status}` here", "use failed or unknown"))
        return None
    also = {probe: _text(reason) for probe, reason in fields["also"].mapping.items()} if "also" in fields else {}
    return Shown(_text(fields["probe"]), _text(fields["reason"]), Status(status), also)


def _text(located: Located | None) -> str:
    return "" if located is None or isinstance(located.value, list | dict) else str(located.value)


def _problem(located: Located, key: str, message: str, hint: str = "") -> Problem:
    return Problem(located.place.origin.name, located.place.line, key, message, hint)

"""One merged probe, as written, becomes a `ProbeSpec`, or the list of what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, cast

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from tocsin.config.declaration import PROBE_NAME, Declaration, common_to
from tocsin.config.document import Located
from tocsin.config.errors import Problem, nearest
from tocsin.config.filling import Filled, Lack, dotted, fill
from tocsin.config.interpolation import Variables
from tocsin.config.meanings import meaning
from tocsin.config.registry import BrokenKind, UnknownKind
from tocsin.config.translation import follow, translate
from tocsin.model import MissingContract, ProbeSpec, ReasonInfo, Reference
from tocsin.sdk import Probe, ProbeSettings
from tocsin.sdk.probe import plain_texts
from tocsin.sdk.quantities import format_duration

_RETRY_EVERY = 5.0
_GIVEN = re.compile(r"\$\{((?:file:)?[^}:]+)\}(?! unset)")
"""What a `Reference` was made from: variables that are set, and files."""
_LIST_ERRORS = ("list_type", "tuple_type", "set_type", "frozen_set_type")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every probe of one configuration is read with. ``vantage`` is for probes that name none."""

    variables: Variables
    kinds: Mapping[str, type[Probe]]
    vantage: str = ""


@dataclass(slots=True)
class Specified:
    """The result for one probe: ``spec``, unless there are ``problems`` or it is not ``enabled``."""

    spec: ProbeSpec | None = None
    enabled: bool = True
    problems: list[Problem] = field(default_factory=list)


def specify(name: str, written: Located, declared: Located, around: Surroundings) -> Specified:
    """``written``: the probe with all its layers; ``declared``: its first declaration, which gives the source."""
    prefix = f"probes.{name}"
    result = Specified()
    if not PROBE_NAME.fullmatch(name):
        message = "not a probe name; use lower-case letters, digits, dots, dashes and underscores, at most 100"
        result.problems.append(problem(declared, prefix, message))
    if not isinstance(written.value, dict):
        result.problems.append(problem(written, prefix, "should be a mapping"))
        return result
    result.enabled = _enabled(written, prefix, around, result.problems)
    if not result.enabled:
        return result
    filled = fill(written, around.variables, prefix)
    result.problems += filled.problems
    kind = _kind(filled, written, prefix, around.kinds, result.problems)
    declaration = _declaration(kind, filled, written, prefix, result.problems)
    if kind is None:
        return result
    settings = _settings(kind, filled, written, prefix, result.problems)
    if declaration is None:
        return result
    given = _given(kind, filled) if settings is None else settings
    reasons = _reasons(kind, given)
    off_because = "" if declaration.policy is None or declaration.policy.applies else declaration.policy.because
    if off_because:
        # What is off needs no contract.
        settings, filled.missing, filled.unchecked = None, [], []
    result.problems += _times(declaration, written, prefix)
    if settings is not None:
        result.problems += _severities(declaration, kind, settings, written, prefix)
    if not result.problems:
        spec = _spec(name, declaration, kind, settings, filled, str(declared.place), around.vantage)
        result.spec = replace(spec, off_because=off_because, reasons=reasons, given=given)
    return result


def problem(located: Located, key: str, message: str, hint: str = "") -> Problem:
    """A problem at the place of a value."""
    return Problem(located.place.origin.name, located.place.line, key, message, hint)


def _enabled(written: Located, prefix: str, around: Surroundings, problems: list[Problem]) -> bool:
    switch = written.mapping.get("enabled")
    if switch is None:
        return True
    filled = fill(switch, around.variables, f"{prefix}.enabled", lenient=False)
    problems += filled.problems
    if filled.data is None:
        return True
    try:
        return TypeAdapter(bool).validate_python(filled.data)
    except ValidationError as error:
        problems += translate(error, switch, f"{prefix}.enabled", (), filled.references)
        return True


def _declaration(
    kind: type[Probe] | None, filled: Filled, written: Located, prefix: str, problems: list[Problem]
) -> Declaration | None:
    common = common_to(kind.Settings) if kind is not None else Declaration.model_fields
    given = {key: value for key, value in filled.data.items() if key in common}
    try:
        return Declaration.model_validate(given)
    except ValidationError as error:
        # A key whose value could not be filled in has its problem already.
        unfilled = {problem.key for problem in filled.problems}
        found = _not_the_platforms(
            error, translate(error, written, prefix, (Declaration,), filled.references), filled, written
        )
        if not found:
            return _declaration(kind, filled, written, prefix, problems)
        problems += [each for _, each in found if each.key not in unfilled]
        return None


def _kind(
    filled: Filled, written: Located, prefix: str, kinds: Mapping[str, type[Probe]], problems: list[Problem]
) -> type[Probe] | None:
    name = filled.data.get("kind")
    if not isinstance(name, str):
        return None
    at, key = written.mapping["kind"], f"{prefix}.kind"
    try:
        return kinds[str(name)]
    except UnknownKind as unknown:
        if isinstance(name, Reference):
            problems.append(
                problem(at, key, f"{name.source} is no kind that is installed", "`tocsin kinds` lists them")
            )
        else:
            problems.append(problem(at, key, unknown.message, unknown.hint))
    except BrokenKind as broken:
        problems.append(problem(at, key, str(broken)))
    return None


def _settings(
    kind: type[Probe], filled: Filled, written: Located, prefix: str, problems: list[Problem]
) -> BaseModel | None:
    """The validated settings; None when they are wrong, or when contracts are missing.

    While a contract is missing the rest is checked all the same, as far as it can be.
    """
    common = common_to(kind.Settings)
    given = {key: value for key, value in filled.data.items() if key not in common}
    try:
        settings = _validate(kind.Settings, given, written)
    except ValidationError as error:
        unfilled = {problem.key for problem in filled.problems}
        found = translate(error, written, prefix, (Declaration, kind.Settings), filled.references)
        wrong = _not_the_platforms(error, found, filled, written)
        absent = {lack.path[0] for lack in filled.missing}
        for details, each in wrong:
            explained = absent and (not details["loc"] or details["loc"][0] in absent)
            if each.key not in unfilled and (not explained or details["type"] == "extra_forbidden"):
                problems.append(each)
        return None
    except Exception as error:  # noqa: BLE001 - a kind's own checks are its author's code, which may raise anything
        what = f"the settings of the kind `{kind.kind}` cannot be checked: it raised {type(error).__name__}"
        problems.append(problem(written, prefix, what, "this is a bug in the kind"))
        return None
    if isinstance(settings, ProbeSettings):
        plain = {name for path, _ in plain_texts(settings) for name in (path, path.partition("[")[0])}
        settings._references = {name: found for name, found in _references(given, "") if name in plain}
    return None if filled.missing else settings


def _not_the_platforms(
    error: ValidationError, found: list[Problem], filled: Filled, written: Located
) -> list[tuple[ErrorDetails, Problem]]:
    """The findings that are the user's or the profile's to mend, with their details.

    A variable of the platform that reads otherwise than a bundled profile expects is neither's: its format is not
    published. Its value is taken out, as if it were unset, and what is wrong with it is told by the probe.
    """
    theirs: list[tuple[ErrorDetails, Problem]] = []
    lacking: dict[tuple[str | int, ...], Lack] = {}
    for details, each in zip(error.errors(), found, strict=True):
        path, target = follow(details["loc"], written)
        given = details["input"]
        names = _GIVEN.findall(given.source) if isinstance(given, Reference) and target.at.origin.bundled else []
        if names and path:
            lacking.setdefault(path, Lack(path, ", ".join(names), each.message))
        else:
            theirs.append((details, each))
    for path in sorted(lacking, key=len, reverse=True):
        _take_out(filled.data, path)
    filled.missing += lacking.values()
    return theirs


def _take_out(data: Any, path: tuple[str | int, ...]) -> None:
    for step in path[:-1]:
        data = data[step]
    if isinstance(data, dict):
        data.pop(path[-1], None)


def _references(given: Any, name: str) -> Iterator[tuple[str, Reference]]:
    if isinstance(given, Reference):
        yield name, given
    elif isinstance(given, Mapping):
        for key, value in given.items():
            yield from _references(value, f"{name}.{key}" if name else str(key))
    elif isinstance(given, list):
        for index, value in enumerate(given):
            yield from _references(value, f"{name}[{index}]")


def _given(kind: type[Probe], filled: Filled) -> BaseModel:
    """The settings as far as they are given and valid each for itself; the others are not there, or defaults."""
    known = {}
    for name, info in kind.Settings.model_fields.items():
        if (key := info.alias or name) in filled.data:
            with suppress(ValidationError):
                known[name] = TypeAdapter(info.rebuild_annotation()).validate_python(filled.data[key])
    return kind.Settings.model_construct(**known)


def _reasons(kind: type[Probe], settings: BaseModel) -> tuple[ReasonInfo, ...]:
    """Those that the settings name too, as far as these are known: a setting that is missing names none."""
    try:
        return kind.all_reasons(cast("ProbeSettings", settings))
    except Exception:  # noqa: BLE001 - the author's code, given settings that may lack what it looks at
        return kind.all_reasons()


def _validate(model: type[BaseModel], given: dict[str, Any], written: Located) -> BaseModel:
    """Validates; where a list is wanted and a variable was given, its text is split at commas."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        lists = [details for details in error.errors() if details["type"] in _LIST_ERRORS]
        split = False
        for details in lists:
            path, _ = follow(details["loc"], written)
            text = details["input"]
            if path == details["loc"] and isinstance(text, Reference):
                _replace(given, path, _parts(text))
                split = True
        if not split:
            raise
    return model.model_validate(given)


def _replace(data: Any, path: tuple[str | int, ...], value: object) -> None:
    for step in path[:-1]:
        data = data[step]
    data[path[-1]] = value


def _parts(text: Reference) -> list[Reference]:
    stripped = [part.strip() for part in text.split(",")]
    return [Reference(part, lambda part=part: part, text.source, None, text.parts) for part in stripped if part]  # type: ignore[misc]


def _times(declaration: Declaration, written: Located, prefix: str) -> list[Problem]:
    every, timeout, jitter = declaration.every, declaration.timeout, declaration.jitter
    shown = {
        key: format_duration(getattr(declaration, key) or 0) for key in ("every", "timeout", "jitter", "retry_every")
    }
    problems = []
    if timeout >= every:
        message = f"timeout ({shown['timeout']}) should be shorter than every ({shown['every']})"
        at, key = _first(written, "timeout", "every")
        problems.append(problem(at, dotted(prefix, key), message, "a run has to end before the next one is due"))
    elif timeout + jitter > every:
        message = (
            f"jitter ({shown['jitter']}) and timeout ({shown['timeout']}) do not fit into every ({shown['every']})"
        )
        at, key = _first(written, "jitter")
        problems.append(problem(at, dotted(prefix, key), message))
    if declaration.retry_every is not None and declaration.retry_every > every:
        message = f"retry_every ({shown['retry_every']}) should not be longer than every ({shown['every']})"
        at, key = _first(written, "retry_every")
        problems.append(problem(at, dotted(prefix, key), message))
    return problems


def _first(written: Located, *keys: str) -> tuple[Located, tuple[str, ...]]:
    for key in keys:
        if key in written.mapping:
            return written.mapping[key], (key,)
    return written, ()


def _severities(
    declaration: Declaration, kind: type[Probe], settings: Any, written: Located, prefix: str
) -> list[Problem]:
    try:
        reasons = {info.code for info in kind.all_reasons(settings)}
    except ValueError as error:
        return [problem(written, prefix, str(error))]
    return [
        problem(
            written.mapping["severities"].mapping.get(reason, written),
            f"{prefix}.severities.{reason}",
            f"not a reason of the kind `{kind.kind}`",
            nearest(reason, reasons) or f"`tocsin kinds {kind.kind}` lists them",
        )
        for reason in declaration.severities
        if reason not in reasons
    ]


def _spec(
    name: str,
    declaration: Declaration,
    kind: type[Probe],
    settings: BaseModel | None,
    filled: Filled,
    source: str,
    vantage: str,
) -> ProbeSpec:
    retry_every = declaration.retry_every
    return ProbeSpec(
        name=name,
        kind=kind.kind,
        system=declaration.system,
        incident=declaration.incident,
        settings=settings,
        every=declaration.every,
        timeout=declaration.timeout,
        retry_every=min(_RETRY_EVERY, declaration.every) if retry_every is None else retry_every,
        jitter=declaration.jitter,
        failures_to_fail=declaration.failures_to_fail,
        successes_to_recover=declaration.successes_to_recover,
        severity=declaration.severity,
        severities=dict(declaration.severities),
        depends_on=tuple(dict.fromkeys(declaration.depends_on)),
        maintenance=tuple(window.window() for window in declaration.maintenance),
        labels=dict(declaration.labels),
        vantage=declaration.vantage or vantage,
        writes=kind.writes if declaration.writes is None else declaration.writes,
        costly=kind.costly if declaration.costly is None else declaration.costly,
        missing=_contracts(kind, filled.missing),
        unchecked=_contracts(kind, filled.unchecked),
        source=source,
    )


def _contracts(kind: type[Probe], lacks: Iterable[Lack]) -> tuple[MissingContract, ...]:
    return tuple(
        MissingContract(lack.variable, dotted("", lack.path), meaning(kind.Settings, lack.path), lack.why)
        for lack in lacks
    )

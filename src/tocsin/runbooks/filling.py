"""``{probe.setting}`` in the code of a page: the reader's own values, quoted for a shell.

Such a place names a probe and one of its settings, with dots into what is nested: ``{wipe-db.limits.lag}``,
``{alexandria-license-secret.secret.0}``. What has no value here becomes a name in capitals: the variable that is not
set, or the setting. A secret is never shown: it becomes ``"$NAME"`` of the variable that holds it, or a command that
reads its file. Addresses come without user and query, as everywhere.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

from markdown_it.token import Token
from pydantic import BaseModel

from tocsin.model import ProbeSpec, Secret
from tocsin.model.redaction import Redactor, secrets_in
from tocsin.sdk.http import shown_url

PLACE = re.compile(r"\{([a-z0-9][a-z0-9_-]*)\.([a-z][a-z0-9_]*(?:\.[a-z0-9_]+)*)\}")
"""What comes before the first dot is the probe: one with a dot in its name cannot be named here."""

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_FILE = re.compile(r"\$\{file:([^}$]+)\}")


class Unknown(LookupError):
    """A place that names no probe, or no setting of its kind."""


@dataclass(frozen=True, slots=True)
class Place:
    """One place in a piece of code: where it begins there, and what it names."""

    start: int
    probe: str
    setting: str


def places(code: str) -> Iterator[Place]:
    """All places in a piece of code."""
    for match in PLACE.finditer(code):
        yield Place(match.start(), match[1], match[2])


def filled(code: str, specs: Mapping[str, ProbeSpec]) -> str:
    """The code with these probes' values. A place whose probe is not configured stays as it is written."""

    def value(match: re.Match[str]) -> str:
        spec = specs.get(match[1])
        return match[0] if spec is None else written(spec, match[2])

    return PLACE.sub(value, code)


def fill_tokens(tokens: Iterable[Token], specs: Mapping[str, ProbeSpec]) -> None:
    """Fills all code among parsed Markdown, in place, and nothing else."""
    for token in tokens:
        if token.type in ("code_inline", "fence", "code_block"):
            token.content = filled(token.content, specs)
        fill_tokens(token.children or (), specs)


def written(spec: ProbeSpec, setting: str) -> str:
    """What stands for a setting of this probe in a command."""
    for contract in spec.missing:
        if setting == contract.setting or setting.startswith((f"{contract.setting}.", f"{contract.setting}[")):
            return _capitals(contract.variable)
    settings = spec.given if spec.settings is None else spec.settings
    try:
        found = look_up(settings, setting)
    except Unknown:
        found = None
    match found:
        case Secret():
            return _secret(found, setting)
        case bool():
            return str(found).lower()
        case Enum():
            return shlex.quote(str(found.value))
        case int() | float():
            return f"{found:g}" if isinstance(found, float) else str(found)
        case str() if found:
            return shlex.quote(_shown(found, settings))
        case tuple() | list() if found and all(isinstance(item, str) for item in found):
            return shlex.quote(",".join(_shown(item, settings) for item in found))
    return _capitals(setting)


def look_up(settings: Any, setting: str) -> Any:
    """The value of a setting by its dotted name. Raises `Unknown` for one that the model does not have."""
    value = settings
    for step in setting.split("."):
        if isinstance(value, BaseModel) and step in type(value).model_fields:
            value = getattr(value, step, None)
        elif isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, tuple | list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            raise Unknown(setting)
    return value


def _shown(text: str, settings: Any) -> str:
    """A plain setting, into which somebody may have written a secret of the same probe."""
    secrets = []
    for secret in secrets_in(settings):
        with suppress(OSError):
            secrets.append(secret.reveal())
    return Redactor.of(secrets).text(shown_url(text) if "://" in text else text)


def _secret(secret: Secret, setting: str) -> str:
    """By where it comes from, so that whoever pastes the command needs the right to read it."""
    if variable := _VARIABLE.fullmatch(secret.source):
        return f'"${variable[1]}"'
    if file := _FILE.fullmatch(secret.source):
        return f'"$(cat {shlex.quote(file[1])})"'
    return f'"${_capitals(setting)}"'


def _capitals(name: str) -> str:
    return re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")

"""What a configuration would run, as plain rows for `tocsin plan`. Secrets are named by where they come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel

from tocsin.config.configuration import Configuration
from tocsin.model import MASK, MissingContract, ProbeSpec, Secret
from tocsin.sdk.quantities import format_duration


@dataclass(frozen=True, slots=True)
class ShownSecret:
    """A secret setting: its dotted name, and its source: ``${NAME}``, ``${file:/path}`` or ``literal``."""

    setting: str
    source: str

    def __str__(self) -> str:
        return f"{self.setting}: {MASK} ({self.source})"


@dataclass(frozen=True, slots=True)
class PlannedProbe:
    """One row. ``every`` and ``timeout`` as durations are written; ``targets`` is empty while contracts are missing,
    and for a probe that is off by choice, which says why in ``off_because``."""

    name: str
    kind: str
    system: str
    incident: str
    severity: str
    every: str
    timeout: str
    targets: tuple[str, ...]
    depends_on: tuple[str, ...]
    missing: tuple[MissingContract, ...]
    unchecked: tuple[MissingContract, ...]
    off_because: str
    secrets: tuple[ShownSecret, ...]
    writes: bool
    costly: bool
    vantage: str
    source: str


def planned_document(row: PlannedProbe) -> dict[str, Any]:
    """A row as JSON data; a secret is its setting and its source."""
    return {**asdict(row), "secrets": [str(secret) for secret in row.secrets]}


def describe(configuration: Configuration) -> tuple[PlannedProbe, ...]:
    """A row for each probe, by system, incident and name."""
    specs = configuration.probes.values()
    return tuple(map(_row, sorted(specs, key=lambda spec: (spec.system, spec.incident, spec.name))))


def _row(spec: ProbeSpec) -> PlannedProbe:
    return PlannedProbe(
        name=spec.name,
        kind=spec.kind,
        system=spec.system,
        incident=spec.incident,
        severity=spec.severity.value,
        every=format_duration(spec.every),
        timeout=format_duration(spec.timeout),
        targets=() if spec.settings is None else tuple(spec.settings.targets()),
        depends_on=spec.depends_on,
        missing=spec.missing,
        unchecked=spec.unchecked,
        off_because=spec.off_because,
        secrets=tuple(_secrets(spec.settings, "")),
        writes=spec.writes,
        costly=spec.costly,
        vantage=spec.vantage,
        source=spec.source,
    )


def _secrets(value: Any, name: str) -> Iterator[ShownSecret]:
    if isinstance(value, Secret):
        yield ShownSecret(name, value.source)
    elif isinstance(value, BaseModel):
        for field in type(value).model_fields:
            yield from _secrets(getattr(value, field), f"{name}.{field}" if name else field)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _secrets(item, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _secrets(item, f"{name}[{index}]")

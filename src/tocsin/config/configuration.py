"""A validated configuration: what the daemon runs until the next reload."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tocsin.config.caps import Caps
from tocsin.config.control_target import ControlTarget
from tocsin.model import MissingContract, ProbeSpec, Secret


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a configuration comes from.

    ``profiles``: names of bundled ones or paths, after those that the file names. ``env_file``: wins over the one
    that the file names; ``environ`` wins over both. ``vantage``: the process's own (``TOCSIN_VANTAGE``), wins over
    the document's, not over a probe's.
    """

    config_file: Path | None = None
    profiles: tuple[str, ...] = ()
    env_file: Path | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    vantage: str = ""


@dataclass(frozen=True)
class Configuration:
    """All that was configured. Nothing here changes; a reload makes another one.

    ``files``: every file that was read, with a digest of its content then (see `tocsin.config.watching`).
    """

    probes: Mapping[str, ProbeSpec]
    controls: tuple[ControlTarget, ...] = ()
    caps: Caps = field(default_factory=Caps)
    vantage: str = ""
    files: Mapping[Path, str | None] = field(default_factory=dict, repr=False, compare=False)

    @property
    def missing(self) -> tuple[tuple[str, MissingContract], ...]:
        """(probe, contract) for each contract that is not configured, by probe name."""
        return tuple((name, contract) for name in sorted(self.probes) for contract in self.probes[name].missing)

    @cached_property
    def content_hash(self) -> str:
        """Sixteen hex digits that are equal for equal configurations, also across processes and hosts.

        Secrets count by what is configured (a literal, a variable's value, a file's name), so rotating a file
        changes nothing. scrypt keeps the value from being of use for guessing one; it takes some 50 ms, once.
        """
        probes = [replace(self.probes[name], source="", given=None) for name in sorted(self.probes)]
        canonical = [_canonical(part) for part in (probes, self.controls, self.caps, self.vantage)]
        text = json.dumps(canonical, sort_keys=True, ensure_ascii=False)
        return hashlib.scrypt(text.encode(errors="surrogatepass"), salt=b"tocsin", n=2**14, r=8, p=1, dklen=8).hex()


def _canonical(value: Any) -> Any:
    """Plain JSON data that is equal for equal values."""
    match value:
        case Secret():
            return {"secret": [value.source, value.identity()]}
        case BaseModel():
            return {name: _canonical(getattr(value, name)) for name in type(value).model_fields}
        case Enum():
            return value.value
        case Mapping():
            return {str(key): _canonical(item) for key, item in value.items()}
        case list() | tuple():
            return [_canonical(item) for item in value]
        case set() | frozenset():
            return sorted((_canonical(item) for item in value), key=repr)
        case None | bool() | int() | float() | str():
            return value
    if is_dataclass(value):
        return {part.name: _canonical(getattr(value, part.name)) for part in fields(value)}
    return repr(value)

"""Settings of the process itself, from ``TOCSIN_*`` in its environment: where it listens, keeps state, how it logs,
where runbook pages of the user's own are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tocsin.config.document import Located, Origin, Position
from tocsin.config.errors import ConfigError, Problem
from tocsin.config.translation import translate
from tocsin.sdk import Seconds
from tocsin.sdk.state_files import default_state_folder

_PREFIX = "TOCSIN_"
_LISTEN = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:/\s]*)):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Listen:
    """An address to listen on. An empty host is every interface; port 0 is any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(value: object) -> Listen:
    """``127.0.0.1:9760``, ``[::1]:9760`` or ``:9760``. Raises `ValueError`."""
    if isinstance(value, Listen):
        return value
    match = _LISTEN.fullmatch(str(value))
    if match is None or int(match[3]) > 65535:
        raise ValueError(f"{str(value)!r} is not an address; write 127.0.0.1:9760, [::1]:9760 or :9760")
    return Listen(match[1] or match[2] or "", int(match[3]))


def _folder(path: Path | None) -> Path | None:
    try:
        found = path is None or path.is_dir()
    except OSError as error:
        raise ValueError(f"{str(path)!r} cannot be looked at: {error.strerror or error}") from None
    if not found:
        raise ValueError(f"{str(path)!r} is not a folder; name the one that holds SYSTEM/INCIDENT.md")
    return path


class ProcessSettings(BaseSettings):
    """Read with `process_settings`. An empty variable counts as unset. Other ``TOCSIN_*`` variables are contracts of
    profiles and mean nothing here."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_ignore_empty=True, frozen=True, extra="ignore")

    listen: Annotated[Listen, NoDecode, BeforeValidator(parse_listen)] = Listen("127.0.0.1", 9760)
    state_dir: Path = Field(default_factory=default_state_folder)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console", "auto"] = "auto"
    web_config_file: Path | None = None
    runbooks_dir: Annotated[Path | None, AfterValidator(_folder)] = None
    """Runbook pages of the user's own, looked in before the bundled ones."""
    vantage: str = ""
    reload_every: Seconds = 10.0
    """How often the files are looked at for a change; 0s for never."""


def process_settings() -> ProcessSettings:
    """The settings of this process. Raises `ConfigError`, naming the variables."""
    try:
        return ProcessSettings()
    except ValidationError as error:
        nowhere = Located({}, Position(Origin("environment"), 0, 0))
        found = translate(error, nowhere, "", (ProcessSettings,))
        named = zip(error.errors(), found, strict=True)
        raise ConfigError(
            Problem(each.file, 0, f"{_PREFIX}{str(details['loc'][0]).upper()}", each.message, each.hint)
            for details, each in named
        ) from None

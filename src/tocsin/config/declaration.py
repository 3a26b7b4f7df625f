"""What every probe is configured with, whatever its kind, and what a document holds besides its probes."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from tocsin.config.caps import CapsSettings
from tocsin.config.control_target import ControlTarget
from tocsin.config.maintenance import WindowSettings
from tocsin.model import Severity
from tocsin.sdk import Seconds

PROBE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,98}[a-z0-9])?")
"""A probe's name is a metric label and a part of URLs."""

RESERVED_LABELS = frozenset(
    ("probe", "system", "incident", "kind", "severity", "status", "reason", "component", "cause", "outcome", "job")
) | {"instance", "alertname", "le", "quantile"}
"""Label names that tocsin's own metrics and Prometheus use."""


def _label(name: str) -> str:
    if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) or name.startswith("__"):
        raise ValueError(f"{name!r} is not a label name; use letters, digits and underscores")
    if name in RESERVED_LABELS:
        raise ValueError(f"the label {name!r} is taken; use another name")
    return name


def _control(target: str) -> str:
    ControlTarget.parse(target)
    return target


def _path_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name):
        raise ValueError(f"{name!r} cannot be part of a web address; use lower-case letters, digits and dashes")
    return name


def _known_version(version: int) -> int:
    if version != 1:
        raise ValueError(f"version {version} is not known; this tocsin reads version 1")
    return version


PathName = Annotated[str, AfterValidator(_path_name)]
Duration = Annotated[Seconds, Field(gt=0, le=31 * 86400)]
LabelName = Annotated[str, AfterValidator(_label)]
Streak = Annotated[int, Field(ge=1, le=100)]


class DocumentSettings(BaseModel):
    """The top level of a configuration or profile. ``defaults`` and ``probes`` are validated on their own.

    ``profiles`` and ``env_file`` belong to the user's own file; a profile has neither.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Annotated[int, AfterValidator(_known_version)] = 1
    profiles: tuple[str, ...] = ()
    env_file: str | None = None
    vantage: str = ""
    controls: tuple[Annotated[str, AfterValidator(_control)], ...] = ()
    caps: CapsSettings = CapsSettings()
    defaults: dict[str, Any] = {}
    probes: dict[str, Any] = {}


class Defaults(BaseModel):
    """What ``defaults`` may give."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    every: Duration = 30.0
    timeout: Duration = 5.0
    retry_every: Duration | None = None
    jitter: Seconds = 0.0
    failures_to_fail: Streak = 2
    successes_to_recover: Streak = 2
    maintenance: tuple[WindowSettings, ...] = ()
    labels: dict[LabelName, str] = {}
    vantage: str = ""


class Policy(BaseModel):
    """Whether what a probe checks is in use at all: ``{applies: ${BLOCKCHAIN_ENABLED:-true}, because: …}``.

    A part of a platform that is off by choice is not bad: its probe answers ok, says ``because`` and does not run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    applies: bool = True
    because: Annotated[str, Field(min_length=1)]


class Declaration(Defaults):
    """The settings every probe has. Durations in seconds once validated; see `tocsin.model.ProbeSpec`.

    ``retry_every`` unset is 5 s, or ``every`` where that is shorter. ``writes`` and ``costly`` unset are as the kind
    says. A ``costly`` probe never runs more often than ``every``, whoever would like to know: it is not retried, not
    looked at for the sake of another, and not run anew after a restart. ``failures_to_fail`` then counts runs of its
    grid; where that takes too long, set it to 1.
    """

    kind: str
    system: PathName
    incident: PathName
    enabled: bool = True
    severity: Severity = Severity.PAGE
    severities: dict[str, Severity] = {}
    depends_on: tuple[str, ...] = ()
    writes: bool | None = None
    costly: bool | None = None
    policy: Policy | None = None


LENDABLE = frozenset({"policy"})
"""Names that a kind may have for a setting of its own, which every probe of that kind then has instead: RFC 3161 calls
the terms of a timestamp its policy."""


def common_to(settings: type[BaseModel]) -> frozenset[str]:
    """The names of the settings that a probe has whatever its kind, when its kind has these ``settings``."""
    return frozenset(Declaration.model_fields) - (LENDABLE & settings.model_fields.keys())

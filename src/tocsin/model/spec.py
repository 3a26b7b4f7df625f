"""A validated probe as configured: everything the engine needs to run it, and nothing mutable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tocsin.model.reason import ReasonInfo
from tocsin.model.status import Severity


@dataclass(frozen=True, slots=True)
class MissingContract:
    """A setting whose variable is unset in a bundled profile, or cannot be read as what the setting is, because of
    ``why``: the probe answers unknown/contract_missing, or, where the profile does without, checks less.
    ``meaning``: what the setting is, in words; may be empty."""

    variable: str
    setting: str
    meaning: str = field(default="", compare=False)
    why: str = ""

    def __str__(self) -> str:
        return f"{self.variable} ({self.setting})" + (f": {self.why}" if self.why else "")


@dataclass(frozen=True, slots=True)
class MaintenanceWindow:
    """A time in which the probe measures and no alert of it begins.

    Either one interval (``start`` and ``end``, Unix seconds) or a weekly one (``weekdays`` 0 = Monday,
    ``start`` and ``end`` as seconds after local midnight in ``timezone``; an end before the start is on the next day).
    """

    start: float
    end: float
    weekdays: frozenset[int] | None = None
    timezone: str = "UTC"
    comment: str = ""


@dataclass(frozen=True, slots=True)
class ProbeSpec:
    """One probe. All times in seconds.

    ``severity`` is a ceiling: ``ticket`` turns every page of this probe into a ticket; ``severities`` overrides it by
    reason. ``depends_on`` names probes whose failure explains a failure of this one. ``costly``: never run more often
    than ``every``.
    ``settings`` is the kind's own validated model, None only while ``missing`` is not empty
    or the probe is off by choice.
    """

    name: str
    kind: str
    system: str
    incident: str
    settings: Any
    every: float = 30.0
    timeout: float = 5.0
    retry_every: float = 5.0
    jitter: float = 0.0
    failures_to_fail: int = 2
    successes_to_recover: int = 2
    severity: Severity = Severity.PAGE
    severities: Mapping[str, Severity] = field(default_factory=dict)
    depends_on: tuple[str, ...] = ()
    maintenance: tuple[MaintenanceWindow, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    vantage: str = ""
    writes: bool = False
    costly: bool = False
    missing: tuple[MissingContract, ...] = ()
    unchecked: tuple[MissingContract, ...] = field(default=(), compare=False)
    """Unset variables of a bundled profile whose default is nothing: what they would add is not checked."""
    off_because: str = ""
    """Why what the probe checks is off by choice; it then answers ok with this text and does not run."""
    reasons: tuple[ReasonInfo, ...] = field(default=(), compare=False)
    """Every reason that it can give, common ones included; also while contracts are missing."""
    source: str = ""
    """Where it was declared, as ``file:line``."""
    given: Any = field(default=None, compare=False, repr=False)
    """The settings for whoever shows them. While ``settings`` is None: those alone that are given and valid, which
    is nothing to run with."""

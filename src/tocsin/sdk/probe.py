"""The base class of every probe kind and of its settings."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, PrivateAttr

from tocsin.model import CommonReason, Gauge, Outcome, ReasonEnum, ReasonInfo, Reference, Status

if TYPE_CHECKING:
    from tocsin.sdk.context import ProbeContext


class ProbeSettings(BaseModel):
    """Settings of one probe: strict, frozen, unknown keys rejected. Credentials are `tocsin.sdk.Secret` fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, use_attribute_docstrings=True)

    _references: Mapping[str, Reference] = PrivateAttr(default_factory=dict)

    @property
    def references(self) -> Mapping[str, Reference]:
        """By dotted name of a setting that is no secret what it was interpolated from, so that a message can name the
        variable to change. Empty for settings that no configuration file made."""
        return self._references

    def targets(self) -> tuple[str, ...]:
        """What this probe talks to, as ``scheme://host:port`` (or ``unix:///path``), without any credential.

        Caps on load, the plan and egress rules are keyed by it.
        """
        return ()


def plain_texts(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Every text among settings that is no secret, with its dotted name: ``dead_letters.table``, ``queues[0]``."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, BaseModel):
        for field in type(value).model_fields:
            yield from plain_texts(getattr(value, field), f"{name}.{field}" if name else field)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from plain_texts(item, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from plain_texts(item, f"{name}[{index}]")


class Probe(ABC):
    """One probe kind. The engine makes one instance for each configured probe and keeps it while the spec stays.

    Class attributes, all documented in ``tocsin kinds KIND``: ``kind`` (the name in the configuration), ``Settings``,
    ``Reason`` (bounded reasons beyond `CommonReason`), ``gauges``. ``unauthorized`` says what a 401 or 403 means for
    this kind: ``failed`` when the target should have answered anybody, ``unknown`` when the probe's own credentials
    are at fault. ``writes`` and ``costly`` are defaults for the settings of the same name; what is costly
    never runs more often than its interval.
    """

    kind: ClassVar[str]
    Settings: ClassVar[type[ProbeSettings]]
    Reason: ClassVar[type[ReasonEnum]]
    gauges: ClassVar[tuple[Gauge, ...]] = ()
    unauthorized: ClassVar[Status] = Status.UNKNOWN
    writes: ClassVar[bool] = False
    costly: ClassVar[bool] = False

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @abstractmethod
    async def run(self, ctx: ProbeContext) -> Outcome:
        """One run: ask, judge, return. May raise `ProbeFault` to end early; anything else raised is mapped by
        `tocsin.sdk.faults.explain`, and becomes unknown/probe_error when nothing maps it."""

    async def close(self) -> None:  # noqa: B027 - a hook: most kinds hold nothing
        """Release what the instance holds (watches, pools). Called once, when the probe is removed or the daemon
        stops; must not raise and must return within a second."""

    @classmethod
    def reasons(cls, settings: ProbeSettings | None = None) -> tuple[ReasonInfo, ...]:
        """Every reason this kind can give beyond the common ones. Kinds whose reasons are patterns in the
        configuration add those of ``settings``."""
        return tuple(member.info for member in cls.Reason)

    @classmethod
    def all_reasons(cls, settings: ProbeSettings | None = None) -> tuple[ReasonInfo, ...]:
        """The kind's own reasons and the common ones, own first, without repeats."""
        own = {info.code: info for info in cls.reasons(settings)}
        return (*own.values(), *(member.info for member in CommonReason if member.value not in own))

    @classmethod
    def summary(cls) -> str:
        """The first line of the class docstring."""
        return (inspect.getdoc(cls) or "").partition("\n")[0]

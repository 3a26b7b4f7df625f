"""What a fault is: something real that is broken on purpose, and which probe should say so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tocsin_sandbox.estate import Estate

Act = Callable[["Estate"], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One switch. ``name`` is lower-case words joined by hyphens.

    ``title``: what an engineer would say has happened. ``effect``: what is really done to the estate.
    ``incident``: the runbook page. ``expected_probe`` and ``expected_reason``: what must turn red, and why.
    ``cause`` breaks and ``undo`` heals; both may be called when there is nothing left to do.
    ``knob``: what is turned. Of the faults that turn the same knob only one can be active.
    ``develops``: seconds that it must have lasted before a probe can know. ``lingers``: seconds for which its effect
    lasts after it was undone.
    """

    name: str
    title: str
    effect: str
    system: str
    incident: str
    expected_probe: str
    expected_reason: str
    cause: Act
    undo: Act
    knob: str = ""
    develops: float = 0.0
    lingers: float = 0.0

    def facts(self) -> dict[str, str]:
        """What the API shows of it."""
        return {
            "name": self.name,
            "title": self.title,
            "effect": self.effect,
            "system": self.system,
            "incident": self.incident,
            "expected_probe": self.expected_probe,
            "expected_reason": self.expected_reason,
        }

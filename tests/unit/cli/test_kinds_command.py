"""``tocsin kinds``: what a kind says of itself, as it says it."""

from __future__ import annotations

from typing import ClassVar

import pytest
from rich.console import Console

from tocsin.cli.kinds import _show
from tocsin.model import Gauge, Outcome, ReasonEnum
from tocsin.sdk import Probe, ProbeContext, ProbeSettings


class Bracketed(Probe):
    """Asks [red]nothing[/red]."""

    kind = "bracketed"
    gauges: ClassVar = (Gauge("tocsin_bracketed", "In [b]."),)

    class Settings(ProbeSettings):
        names: tuple[str, ...] = ("[i]",)
        """As [bold]."""

    class Reason(ReasonEnum):
        OPEN = "open", "A [ is open, [u]."

    async def run(self, ctx: ProbeContext) -> Outcome:
        return Outcome.ok("")


def test_what_looks_like_markup_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    _show(Console(width=200), Bracketed)
    shown = capsys.readouterr().out
    for expected in ("Asks [red]nothing[/red].", "[i]", "As [bold].", "A [ is open, [u].", "In [b]."):
        assert expected in shown

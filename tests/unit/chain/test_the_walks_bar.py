"""``tocsin chain walk`` on a terminal: how far it is and how long it will take."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from tocsin.cli import chain_output
from tocsin_chain.walk import Progress

BEGUN = Progress(0.0, (1000,), estimate=1000)


def shown(monkeypatch: pytest.MonkeyPatch, *reports: Progress) -> str:
    out = io.StringIO()
    monkeypatch.setattr(chain_output, "Console", lambda **_: Console(file=out, force_terminal=True, width=100))
    with chain_output.walk_bar() as report:
        assert report is not None
        for each in reports:
            report(each)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())


def test_it_tells_rows_of_how_many_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    said = shown(monkeypatch, BEGUN, replace(BEGUN, rows=300), replace(BEGUN, rows=500))
    assert re.search(r"500/1000 +\d:\d\d:\d\d", said)


@pytest.mark.parametrize("estimate", [0, 200])
def test_without_a_usable_estimate_it_tells_no_end(monkeypatch: pytest.MonkeyPatch, estimate: int) -> None:
    begun = replace(BEGUN, estimate=estimate, rows=300)
    said = shown(monkeypatch, begun, replace(begun, rows=500))
    assert re.search(r"500/\? +\n", said)
    assert "500/500" in shown(monkeypatch, begun, replace(begun, rows=500, ended=True))


def test_there_is_none_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_output, "Console", lambda **_: Console(file=io.StringIO()))
    with chain_output.walk_bar() as report:
        assert report is None

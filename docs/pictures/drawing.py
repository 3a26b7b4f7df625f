"""A dashboard as one page: its panels where they are, in the look of tocsin's own pages."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from docs.pictures.asking import CHOSEN, Answers
from docs.pictures.panels import Drawing, body

WIDTH, CELL, GAP, HEAD, FOOT = 1440, 36, 8, 66, 40
ROWS = {"system": 38}
"""Grid rows of a dashboard that is too long for a picture; what is below is left out."""

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
CAPTION = "Drawn from the dashboard's own queries and real data of the practice estate, without Grafana."

STYLE = Path(__file__).with_name("style.css").read_text("utf-8")


def page(name: str, board: Mapping[str, Any], answers: Answers) -> tuple[str, int]:
    """The dashboard as HTML, and its height in pixels."""
    rows = ROWS.get(name, 10_000)
    parts = []
    bottom = 0
    for panel in board["panels"]:
        at = panel["gridPos"]
        if at["y"] + at["h"] > rows:
            continue
        width, height = at["w"] * WIDTH // 24 - GAP, at["h"] * CELL - GAP
        left, top = at["x"] * WIDTH // 24 + GAP // 2, HEAD + at["y"] * CELL
        bottom = max(bottom, top + height)
        place = f"left:{left}px;top:{top}px;width:{width}px;height:{height}px"
        title = escape(panel["title"])
        if panel["type"] == "row":
            parts.append(f'<div class="heading" style="{place}">{title}</div>')
        else:
            inner = body(Drawing(panel, answers, width, height))
            parts.append(f'<section class="panel" style="{place}"><h2>{title}</h2>{inner}</section>')
    chosen = "".join(
        f"<span>{key}<b>{escape('All' if value == '.*' else value)}</b></span>"
        for key, value in CHOSEN.get(name, {}).items()
    )
    clock = [time.strftime("%H:%M", time.gmtime(at)) for at in (answers.begin, answers.end)]
    shown = f"{chosen}<span>from<b>{clock[0]} to {clock[1]} UTC</b></span>"
    head = f"<header><h1>{escape(board['title'])}</h1>{shown}</header>"
    foot = f'<footer style="top:{bottom + 12}px">{escape(CAPTION)}</footer>'
    html = f'<!doctype html><meta charset="utf-8"><style>{STYLE}</style>{head}{"".join(parts)}{foot}'
    return html, bottom + FOOT


def photograph(html: str, height: int, target: Path) -> None:
    """The page as a PNG file. Raises `OSError` without Chromium, and `RuntimeError` when it makes no picture."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise OSError("chromium is not installed: apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="tocsin-picture-") as folder:
        source = Path(folder, "page.html")
        source.write_text(html, "utf-8")
        command = [chromium, *FLAGS, f"--user-data-dir={folder}/profile", f"--window-size={WIDTH},{height}"]
        command += [f"--screenshot={target}", source.as_uri()]
        target.unlink(missing_ok=True)
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if not target.is_file():
            raise RuntimeError(f"chromium made no picture of {target.name}: {ended.stderr[-2000:]}")

"""One panel of a dashboard as HTML or SVG: a number, a table, curves, lanes of states."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from docs.pictures.asking import STEP_SECONDS, Answers, Series
from docs.pictures.units import steps, written

COLOURS = {
    "green": "#2c7a4c",
    "yellow": "#b08a00",
    "orange": "#c76a00",
    "red": "#bf2419",
    "blue": "#1f5fa8",
    "text": "#1d1c1a",
}
CURVES = ("#1f5fa8", "#c76a00", "#2c7a4c", "#6448bd", "#bf2419", "#0f8a93", "#a3527b", "#7a6a1e", "#5b6b7d", "#8a4b45")
TITLE, AXIS, LEGEND = 30, 52, 20
_LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True)
class Drawing:
    """A panel and all that it is drawn from. ``width`` and ``height`` in pixels, the title included."""

    panel: Mapping[str, Any]
    answers: Answers
    width: int
    height: int

    @property
    def series(self) -> list[tuple[str, Series]]:
        """(legend, series) of every query, in their order."""
        found = self.answers.panels.get(str(self.panel["id"]), {})
        return [
            (legend(target.get("legendFormat", ""), each), each)
            for target in self.panel["targets"]
            for each in found.get(target["refId"], [])
        ]

    @property
    def defaults(self) -> Mapping[str, Any]:
        return dict(self.panel["fieldConfig"]["defaults"])

    @property
    def unit(self) -> str:
        return str(self.defaults.get("unit", ""))

    def text(self, value: float) -> tuple[str, str]:
        """A value as it is written, and its colour."""
        for mapping in self.defaults.get("mappings", []):
            if result := mapping["options"].get(f"{value:g}"):
                return result["text"], COLOURS[result["color"]]
        colour = "text"
        for step in self.defaults.get("thresholds", {}).get("steps", []):
            if step["value"] is None or value >= step["value"]:
                colour = step["color"]
        return written(value, self.unit, self.answers.end), COLOURS[colour]


def legend(template: str, series: Series) -> str:
    return _LABEL.sub(lambda match: series.labels.get(match[1], ""), template).strip()


def body(drawing: Drawing) -> str:
    """What stands below the panel's title. Raises `KeyError` for a type of panel that cannot be drawn."""
    return {"stat": _stat, "table": _table, "timeseries": _curves, "state-timeline": _lanes}[drawing.panel["type"]](
        drawing
    )


def _stat(drawing: Drawing) -> str:
    if not drawing.series:
        return f'<p class="number none">{escape(str(drawing.defaults.get("noValue", "no data")))}</p>'
    name, series = drawing.series[0]
    if drawing.panel["options"].get("textMode") == "name":
        return f'<p class="number name">{escape(name)}</p>'
    text, colour = drawing.text(series.points[-1][1])
    size = min(46, round(1.5 * (drawing.width - 30) / len(text)))
    return f'<p class="number" style="color:{colour};font-size:{size}px">{escape(text)}</p>'


def _table(drawing: Drawing) -> str:
    options = next(each["options"] for each in drawing.panel["transformations"] if each["id"] == "organize")
    order, hidden, names = options["indexByName"], options["excludeByName"], options["renameByName"]
    rows = [({**series.labels, "Value": ""}, series.points[-1][1]) for _, series in drawing.series]
    columns = {name: None for row, _ in rows for name in row if name != "__name__" and not hidden.get(name)}
    shown = sorted(columns, key=lambda name: (order.get(name, len(order)), name))
    if not rows:
        return f'<p class="nothing">{escape(str(drawing.defaults.get("noValue", "no data")))}</p>'
    for sort in drawing.panel["options"].get("sortBy", ()):
        column = next((name for name in shown if names.get(name, name) == sort["displayName"]), "Value")
        rows.sort(key=lambda each: (each[1], "") if column == "Value" else (0.0, each[0].get(column, "")))
    head = "".join(f"<th>{escape(names.get(name, name))}</th>" for name in shown)
    lines = "".join(f"<tr>{''.join(_cell(drawing, row, value, name) for name in shown)}</tr>" for row, value in rows)
    return f'<div class="cut"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'


def _cell(drawing: Drawing, row: Mapping[str, str], value: float, name: str) -> str:
    if name != "Value":
        linked = ' class="link"' if name == "probe" else ""
        return f"<td{linked}>{escape(row.get(name, ''))}</td>"
    text, colour = drawing.text(value)
    return f'<td style="color:{colour}">{escape(text)}</td>'


def _curves(drawing: Drawing) -> str:
    if not drawing.series:
        return '<p class="nothing">no data</p>'
    width, height = drawing.width - 20, drawing.height - TITLE - LEGEND - 14
    values = [value for _, series in drawing.series for _, value in series.points]
    low = min(0.0, *values) if drawing.defaults.get("min") == 0 else min(values)
    whole = drawing.unit == "short" and all(value == round(value) for value in values)
    ticks = steps(low, max(values), drawing.unit, whole=whole)
    plot = _Plot(drawing.answers.begin, drawing.answers.end, ticks[0], ticks[-1], width, height)
    parts = [_grid(drawing, plot, ticks), *_marks(drawing.answers, plot)]
    fill = drawing.defaults["custom"]["fillOpacity"] / 100
    names = []
    for number, (name, series) in enumerate(drawing.series):
        colour = CURVES[number % len(CURVES)]
        for run in _runs(series.points):
            line = " ".join(f"{plot.x(at):.1f},{plot.y(value):.1f}" for at, value in run)
            first, last = plot.x(run[0][0]), plot.x(run[-1][0])
            floor = plot.y(max(plot.low, 0.0))
            area = f"{first:.1f},{floor:.1f} {line} {last:.1f},{floor:.1f}"
            parts.append(f'<polygon points="{area}" fill="{colour}" opacity="{fill}"/>')
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        highest = max(value for _, value in series.points)
        names.append((-highest, f'<span><i style="background:{colour}"></i>{escape(name)}</span>'))
    picture = f'<svg width="{width}" height="{height}">{"".join(parts)}</svg>'
    # The highest first: where not all have room, those that stand out are named.
    return f'{picture}<p class="legend">{"".join(name for _, name in sorted(names))}</p>'


@dataclass(frozen=True)
class _Plot:
    """From time and value to pixels."""

    begin: float
    end: float
    low: float
    high: float
    width: int
    height: int
    left: int = AXIS

    def x(self, at: float) -> float:
        return self.left + (at - self.begin) / (self.end - self.begin) * (self.width - self.left)

    def y(self, value: float) -> float:
        return 6 + (self.high - value) / (self.high - self.low) * (self.height - 28)


def _grid(drawing: Drawing, plot: _Plot, ticks: Sequence[float]) -> str:
    lines = []
    for tick in ticks:
        y = plot.y(tick)
        text = written(tick, drawing.unit, drawing.answers.end)
        lines.append(f'<path class="grid" d="M{plot.left} {y:.1f}H{plot.width}"/>')
        lines.append(_text(plot.left - 8, y + 4, text, "end"))
    return "".join(lines) + _clock(plot)


def _clock(plot: _Plot) -> str:
    """The times below: as many as have room."""
    every = next(size for size in (60, 120, 300, 600) if (plot.end - plot.begin) / size * 56 < plot.width - plot.left)
    moments = range(int(plot.begin // every + 1) * every, int(plot.end), every)
    return "".join(
        _text(plot.x(at), plot.height - 6, time.strftime("%H:%M", time.gmtime(at)), "middle")
        for at in moments
        if plot.x(at) < plot.width - 18
    )


def _text(x: float, y: float, text: str, anchor: str, size: float = 11) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size:.0f}"'
    return f"<text {place}>{escape(text)}</text>"


def _marks(answers: Answers, plot: _Plot) -> Iterator[str]:
    """Annotations: where an alert began, and where a confirmed status changed."""
    for name, found in answers.annotations.items():
        colour = COLOURS["red" if name == "alerting" else "blue"]
        moments = {
            round(at)
            for series in found
            for run in _runs(series.points)
            for at in ([run[0][0]] if name == "alerting" else [value / 1000 for _, value in run])
            if answers.begin + STEP_SECONDS < at < answers.end
        }
        for at in sorted(moments):
            yield f'<path class="mark" stroke="{colour}" d="M{plot.x(at):.1f} 6V{plot.height - 22}"/>'


def _runs(points: Sequence[tuple[float, float]]) -> Iterator[list[tuple[float, float]]]:
    """The points in pieces without a gap."""
    run: list[tuple[float, float]] = []
    for at, value in points:
        if run and at - run[-1][0] > 2 * STEP_SECONDS:
            yield run
            run = []
        run.append((at, value))
    if run:
        yield run


def _lanes(drawing: Drawing) -> str:
    if not drawing.series:
        return '<p class="nothing">no data</p>'
    width, height = drawing.width - 20, drawing.height - TITLE - 14
    names = max(len(name) for name, _ in drawing.series)
    plot = _Plot(drawing.answers.begin, drawing.answers.end, 0, 1, width, height, left=min(320, 16 + 7 * names))
    lane = (height - 22) / len(drawing.series)
    parts = [_clock(plot)]
    for number, (name, series) in enumerate(drawing.series):
        top, thick = number * lane, max(2.0, lane * 0.8)
        if lane >= 9:
            size = min(12.0, lane)
            parts.append(_text(plot.left - 8, top + thick / 2 + size / 3, name, "end", size))
        for begin, end, value in _states(series.points):
            x, right = plot.x(begin), plot.x(min(end + STEP_SECONDS, drawing.answers.end))
            _, colour = drawing.text(value)
            box = f'x="{x:.1f}" y="{top:.1f}" width="{max(1.0, right - x):.1f}" height="{thick:.1f}"'
            parts.append(f'<rect {box} fill="{colour}" opacity=".8"/>')
    return f'<svg width="{width}" height="{height}">{"".join(parts)}</svg>'


def _states(points: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float, float]]:
    """(begin, end, value) of each stretch in which the value stays."""
    for run in _runs(points):
        begin, value = run[0]
        last = begin
        for at, following in run:
            if following != value:
                yield begin, last, value
                begin, value = at, following
            last = at
        yield begin, last, value

"""A dashboard's queries with its variables filled in, and what Prometheus answers: plain data that can be kept."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from estate.web import request

STEP_SECONDS = 5
CHOSEN = {
    "incident-scope": {"system": ".*"},
    "system": {"system": "wipe"},
    "probe": {"probe": "wipe-bucket-proofs"},
}
"""What is chosen on which dashboard, beside `EVERYWHERE`."""

EVERYWHERE = {"cluster": ".*", "environment": ".*", "__rate_interval": "20s"}


@dataclass(frozen=True)
class Series:
    """One series: its labels, and (Unix time, value) points; a single one for a query of now."""

    labels: dict[str, str]
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class Answers:
    """What a dashboard shows: the series of each query by panel and reference, those of each annotation by its name."""

    begin: float
    end: float
    panels: dict[str, dict[str, list[Series]]] = field(default_factory=dict)
    annotations: dict[str, list[Series]] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, document: dict[str, Any]) -> Answers:
        """From `document`, after JSON."""

        def series(found: list[Any]) -> list[Series]:
            return [Series(each["labels"], [(at, value) for at, value in each["points"]]) for each in found]

        panels = {
            panel: {ref: series(rows) for ref, rows in refs.items()} for panel, refs in document["panels"].items()
        }
        marks = {name: series(rows) for name, rows in document["annotations"].items()}
        return cls(document["begin"], document["end"], panels, marks)


def filled(expr: str, variables: dict[str, str]) -> str:
    for name in sorted(variables, key=len, reverse=True):
        expr = expr.replace(f"${name}", variables[name])
    return expr


def answers(file: Path, url: str, begin: float, end: float) -> Answers:
    """Asks the Prometheus at ``url`` everything that this dashboard asks."""
    board = json.loads(file.read_text("utf-8"))
    variables = EVERYWHERE | CHOSEN.get(file.stem, {})
    found = Answers(begin, end)
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            expr = filled(target["expr"], variables)
            series = _now(url, expr, end) if target.get("instant") else _over_time(url, expr, begin, end)
            found.panels.setdefault(str(panel["id"]), {})[target["refId"]] = series
    for annotation in board["annotations"].get("list", ()):
        found.annotations[annotation["name"]] = _over_time(url, filled(annotation["expr"], variables), begin, end)
    return found


def _now(url: str, expr: str, at: float) -> list[Series]:
    result = _asked(f"{url}/api/v1/query?{urlencode({'query': expr, 'time': at})}")
    return [Series(row["metric"], [(float(row["value"][0]), float(row["value"][1]))]) for row in result]


def _over_time(url: str, expr: str, begin: float, end: float) -> list[Series]:
    asked = {"query": expr, "start": begin, "end": end, "step": STEP_SECONDS}
    result = _asked(f"{url}/api/v1/query_range?{urlencode(asked)}")
    return [Series(row["metric"], [(float(at), float(value)) for at, value in row["values"]]) for row in result]


def _asked(address: str) -> list[Any]:
    return list(request("GET", address).expect(200).json()["data"]["result"])

"""What draws the pictures of the dashboards can draw every panel, and the pictures that the pages show are there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from docs.pictures.asking import CHOSEN, EVERYWHERE, Answers, Series, filled
from docs.pictures.collecting import TIMETABLE
from docs.pictures.drawing import CAPTION, ROWS, page
from docs.pictures.units import steps, written
from tocsin_sandbox.faults import FAULTS

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "dashboards").glob("*.json"))
MAX_KIB = 300
BEGIN, END = 1_795_478_400.0, 1_795_478_700.0


def invented(board: dict[str, Any]) -> Answers:
    """Two series for each query, with a label that has to be escaped."""
    points = [(BEGIN + second, float(second % 3)) for second in range(0, 300, 5)]
    found = Answers(BEGIN, END)
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            labels = [{"probe": name, "cause": "<b>", "reason": "timeout"} for name in ("one", "two & <three>")]
            found.panels.setdefault(str(panel["id"]), {})[target["refId"]] = [Series(each, points) for each in labels]
    for annotation in board["annotations"].get("list", ()):
        found.annotations[annotation["name"]] = [Series({"probe": "one"}, points[4:9])]
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
@pytest.mark.parametrize("empty", [False, True], ids=["data", "nothing"])
def test_every_panel_is_drawn_where_the_dashboard_has_it(file: Path, empty: bool) -> None:
    board = json.loads(file.read_text("utf-8"))
    answers = Answers(BEGIN, END) if empty else Answers.read(json.loads(json.dumps(invented(board).document())))
    html, height = page(file.stem, board, answers)
    shown = [
        each for each in board["panels"] if each["gridPos"]["y"] + each["gridPos"]["h"] <= ROWS.get(file.stem, 999)
    ]
    assert html.count('class="panel"') == sum(each["type"] != "row" for each in shown)
    assert all(f"top:{66 + each['gridPos']['y'] * 36}px" in html for each in shown)
    assert height > max(each["gridPos"]["y"] for each in shown) * 36
    assert "<b>" not in re.sub(r"<span>\w+<b>[^<]*</b></span>", "", html)
    assert CAPTION.replace("'", "&#x27;") in html


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_variable_is_chosen(file: Path) -> None:
    names = {each["name"] for each in json.loads(file.read_text("utf-8"))["templating"]["list"]} - {"datasource"}
    variables = EVERYWHERE | CHOSEN.get(file.stem, {})
    assert names <= set(variables)
    assert "$" not in filled(" ".join(f"${name}" for name in names), variables)


def test_the_timetable_names_faults_that_exist() -> None:
    assert {fault for _, _, fault in TIMETABLE} <= {fault.name for fault in FAULTS}


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "short", "0"), (1234, "short", "1.23k"), (0.05, "s", "50 ms"), (90, "s", "1.5 min"), (0, "s", "0 s"),
        (0.5, "percentunit", "50 %"), (3 << 20, "bytes", "3 MiB"), (1, "bool_yes_no", "yes"),
        ((END - 220) * 1000, "dateTimeFromNow", "4 min ago"),
    ],
)  # fmt: skip
def test_a_value_reads_as_in_its_unit(value: float, unit: str, text: str) -> None:
    assert written(value, unit, END) == text


def test_a_unit_that_nobody_has_drawn_yet_is_refused() -> None:
    with pytest.raises(ValueError, match="the unit 'lengthm' cannot be written yet"):
        written(1, "lengthm", END)


def test_an_axis_has_round_steps_that_cover_the_values() -> None:
    assert steps(0, 60, "short", whole=True) == [0, 20, 40, 60]
    assert steps(0, 1, "short", whole=True) == [0, 1]
    assert steps(0, 0, "short", whole=False)[-1] >= 1
    assert steps(-3, 7, "short", whole=False)[0] <= -3


def test_the_pages_show_pictures_that_are_there_and_not_heavy() -> None:
    named = {
        (page.parent / name).resolve()
        for page in (ROOT / "README.md", ROOT / "docs" / "dashboards.md")
        for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text("utf-8"))
    }
    assert len(named) == 5
    assert {
        picture.name: picture.stat().st_size // 1024 for picture in named if picture.stat().st_size > MAX_KIB << 10
    } == {}
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in named)

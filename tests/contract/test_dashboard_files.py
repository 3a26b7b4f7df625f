"""The dashboards as files: made by the generator, valid, bound to no data source, reachable from the alerts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.generate import BUILT, FOLDER, main
from dashboards.shapes import MARKS
from tocsin.paging.promql import parse

ROOT = Path(__file__).parents[2]
FILES = sorted(FOLDER.glob("*.json"))


def documents() -> Iterator[dict[str, Any]]:
    for file in FILES:
        yield json.loads(file.read_text("utf-8"))


def test_every_file_is_what_the_generator_makes() -> None:
    assert {file.stem for file in FILES} == set(BUILT)
    assert main(["--check"]) == 0


def test_the_check_tells_of_a_dashboard_that_was_edited_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in FILES:
        (tmp_path / file.name).write_text(file.read_text("utf-8").replace("Bad now", "Bad then"))
    monkeypatch.setattr("dashboards.generate.FOLDER", tmp_path)
    assert main(["--check"]) == 1


def test_the_generator_is_a_command() -> None:
    command = [sys.executable, "-m", "dashboards.generate", "--check"]
    assert subprocess.run(command, cwd=ROOT, check=False, timeout=60).returncode == 0


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_dashboard_has_the_schema_of_grafana(file: Path) -> None:
    """Read into the models that Grafana generates from its schema and written again, nothing is lost or changed."""
    document = json.loads(file.read_text("utf-8"))
    for annotation in document["annotations"].get("list", ()):
        for option in MARKS[annotation["name"]]:
            del annotation[option]
    assert json.loads(JSONEncoder().encode(Dashboard.from_json(document))) == document


def test_no_dashboard_names_a_data_source() -> None:
    def walk(node: object) -> Iterator[object]:
        if isinstance(node, dict):
            if "datasource" in node:
                yield node["datasource"]
            for value in node.values():
                yield from walk(value)
        elif isinstance(node, list):
            for value in node:
                yield from walk(value)

    for document in documents():
        named = list(walk(document))
        assert named
        assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in named)
        first = document["templating"]["list"][0]
        assert (first["type"], first["name"], first["query"]) == ("datasource", "datasource", "prometheus")


def test_panels_have_numbers_titles_and_a_place_of_their_own() -> None:
    for document in documents():
        panels = document["panels"]
        assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
        assert all(panel["title"] for panel in panels)
        assert all(panel["description"] for panel in panels if panel["type"] != "row")
        taken = [cell for panel in panels for cell in cells(panel["gridPos"])]
        assert len(taken) == len(set(taken)), document["title"]
        assert all(0 <= x < 24 for x, _ in taken)


def cells(place: dict[str, int]) -> Iterator[tuple[int, int]]:
    for x in range(place["x"], place["x"] + place["w"]):
        for y in range(place["y"], place["y"] + place["h"]):
            yield x, y


def test_every_dashboard_can_be_narrowed_to_a_cluster_and_an_environment() -> None:
    for document in documents():
        variables = {each["name"]: each for each in document["templating"]["list"]}
        for name in ("cluster", "environment"):
            assert variables[name]["allValue"] == ".*", "a series without the label has to match too"
            assert variables[name]["current"]["value"] == "$__all"
        asked = [target["expr"] for panel in document["panels"] for target in panel.get("targets", ())]
        asked += [annotation["expr"] for annotation in document["annotations"].get("list", ())]
        for expr in asked:
            selectors = [each for each in parse(expr).selectors if each.metric.startswith("tocsin")]
            labels = [{matcher.label for matcher in selector.matchers} for selector in selectors]
            assert all({"cluster", "environment"} <= found for found in labels), expr


def test_addresses_are_stable() -> None:
    uids = {document["uid"] for document in documents()}
    assert uids == {"tocsin-incidents", "tocsin-system", "tocsin-probe", "tocsin-itself"}


def test_alerts_link_to_a_dashboard_and_a_variable_that_exist() -> None:
    variables = {
        document["uid"]: {variable["name"] for variable in document["templating"]["list"]} for document in documents()
    }
    links = [
        (uid, names)
        for file in (ROOT / "alerts").glob("*.yaml")
        for uid, names in re.findall(r"/d/([\w-]+)(.*)", file.read_text("utf-8"))
    ]
    assert {uid for uid, _ in links} == {"tocsin-probe", "tocsin-itself"}
    for uid, names in links:
        assert set(re.findall(r"var-(\w+)=", names)) <= variables[uid]

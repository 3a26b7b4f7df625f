"""A rule that is a little wrong breaks a test: each threshold, matcher, time, label and annotation is held by one.

Each mutant is judged by promtool with the tests that name its alert, or with all tests of a file when the mutant is a
recording rule, which everything rests on.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract.rule_mutants import Mutant, Rule, mutants

pytestmark = [pytest.mark.estate, pytest.mark.timeout(1800)]

ALERTS = Path(__file__).parents[2] / "alerts"
FILES = sorted(path.name for path in ALERTS.glob("*.yaml"))
SAMPLE = 12
"""Mutants of each file in an ordinary run."""


def rules(document: dict[str, Any]) -> Iterator[Rule]:
    for group in document["groups"]:
        yield from group["rules"]


def judge(folder: Path, file: str, mutant: Mutant) -> bool:
    """Whether promtool's tests notice the mutant."""
    document = yaml.safe_load((ALERTS / file).read_text())
    for rule in rules(document):
        if (rule.get("alert") or rule.get("record")) == mutant.name:
            rule.clear()
            rule.update(mutant.rule)
    shutil.copytree(ALERTS, folder, dirs_exist_ok=True)
    (folder / file).write_text(yaml.safe_dump(document, sort_keys=False, width=1000))
    tests = [copy for path in sorted((folder / "tests").glob("*.yaml")) if keep(path, file, mutant) for copy in [path]]
    assert tests, f"no test names {mutant.name}"
    run = subprocess.run(["promtool", "test", "rules", *map(str, tests)], capture_output=True, timeout=120, check=False)
    return run.returncode != 0


def keep(path: Path, file: str, mutant: Mutant) -> bool:
    """Leaves in a test file only what concerns the mutant; False when nothing does."""
    document = yaml.safe_load(path.read_text())
    if f"../{file}" not in document["rule_files"]:
        return False
    if "alert" in mutant.rule:
        document["tests"] = [test for test in document["tests"] if mutant.name in alerts_of(test)]
        path.write_text(yaml.safe_dump(document, sort_keys=False, width=1000))
    elif path.name != file:
        # What a recording rule does is held by the tests of its own file.
        return False
    return bool(document["tests"])


def alerts_of(test: dict[str, Any]) -> set[str]:
    return {case["alertname"] for case in test.get("alert_rule_test", [])}


def survivors(folder: Path, file: str, chosen: Iterable[Mutant]) -> list[str]:
    return [f"{mutant.name}: {mutant.change}" for mutant in chosen if not judge(folder, file, mutant)]


def all_mutants(file: str) -> list[Mutant]:
    document = yaml.safe_load((ALERTS / file).read_text())
    return [mutant for rule in rules(document) for mutant in mutants(rule)]


@pytest.mark.parametrize("file", FILES)
def test_some_mutants_of_each_rule_file_break_a_test(tmp_path: Path, file: str) -> None:
    found = all_mutants(file)
    # The same ones in every run of the same rules, so that a failure can be repeated.
    chosen = random.Random(len(found)).sample(found, min(SAMPLE, len(found)))
    assert survivors(tmp_path, file, chosen) == []


@pytest.mark.long
@pytest.mark.parametrize("file", FILES)
def test_every_mutant_of_each_rule_file_breaks_a_test(tmp_path: Path, file: str) -> None:
    assert survivors(tmp_path, file, all_mutants(file)) == []

"""A rule that is a little wrong breaks a test: each threshold, matcher, time, label and annotation is held by one.

Each mutant is judged by promtool with the tests that name its alert, or with all tests of a file when the mutant is a
recording rule, which everything rests on.
"""

from __future__ import annotations

import hashlib
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
FILES = sorted(str(path.relative_to(ALERTS)) for path in [*ALERTS.glob("*.yaml"), *ALERTS.glob("optional/*.yaml")])
SAMPLE = 4
"""Mutants of each file in an ordinary run: others whenever its rules or their tests change."""


def read(path: Path) -> Any:
    return yaml.load(path.read_text(), yaml.CSafeLoader)


def write(path: Path, document: object) -> None:
    path.write_text(yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False, width=1000))


def rules(document: dict[str, Any]) -> Iterator[Rule]:
    for group in document["groups"]:
        yield from group["rules"]


def judge(folder: Path, file: str, mutant: Mutant) -> bool:
    """Whether promtool's tests notice the mutant."""
    shutil.copytree(ALERTS, folder, dirs_exist_ok=True)
    for path in (folder / name for name in FILES):
        document = read(path)
        for group in document["groups"]:
            group["rules"] = [with_mutant(rule, mutant) for rule in group["rules"] if concerned(rule, mutant)]
        write(path, document)
    tests = [path for path in sorted((folder / file).parent.glob("tests/*.yaml")) if keep(path, Path(file), mutant)]
    assert tests, f"no test names {mutant.name}"
    return any(
        subprocess.run(["promtool", "test", "rules", path], capture_output=True, timeout=120, check=False).returncode
        for path in tests
    )


def concerned(rule: Rule, mutant: Mutant) -> bool:
    """Whether the mutant can be seen by it: evaluating every other alert would only take its time."""
    looks_at_alerts = "ALERTS{" in mutant.rule["expr"]
    return "record" in rule or "record" in mutant.rule or rule["alert"] == mutant.name or looks_at_alerts


def with_mutant(rule: Rule, mutant: Mutant) -> Rule:
    return mutant.rule if (rule.get("alert") or rule["record"]) == mutant.name else rule


def keep(path: Path, file: Path, mutant: Mutant) -> bool:
    """Leaves in a test file only what concerns the mutant; False when nothing does."""
    document = read(path)
    if f"../{file.name}" not in document["rule_files"]:
        return False
    if "alert" in mutant.rule:
        document["tests"] = [test for test in document["tests"] if mutant.name in alerts_of(test)]
        write(path, document)
    elif not path.name.startswith(file.stem):
        # What a recording rule does is held by the tests of its own file.
        return False
    return bool(document["tests"])


def alerts_of(test: dict[str, Any]) -> set[str]:
    return {case["alertname"] for case in test.get("alert_rule_test", [])}


def survivors(folder: Path, file: str, chosen: Iterable[Mutant]) -> list[str]:
    return [f"{mutant.name}: {mutant.change}" for mutant in chosen if not judge(folder, file, mutant)]


def content(file: str) -> str:
    """A hash of the rules and of what tests them."""
    held = [ALERTS / file, *sorted((ALERTS / file).parent.glob("tests/*.yaml"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in held)).hexdigest()


def all_mutants(file: str) -> list[Mutant]:
    document = read(ALERTS / file)
    return [mutant for rule in rules(document) for mutant in mutants(rule)]


@pytest.mark.parametrize("file", FILES)
def test_some_mutants_of_each_rule_file_break_a_test(tmp_path: Path, file: str) -> None:
    found = all_mutants(file)
    # The same ones in every run of the same rules and tests, so that a failure can be repeated.
    chosen = random.Random(content(file)).sample(found, min(SAMPLE, len(found)))
    assert survivors(tmp_path, file, chosen) == []


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("file", FILES)
def test_every_mutant_of_each_rule_file_breaks_a_test(tmp_path: Path, file: str) -> None:
    assert survivors(tmp_path, file, all_mutants(file)) == []

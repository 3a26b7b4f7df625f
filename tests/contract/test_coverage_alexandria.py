"""Every line of Alexandria's incident page has a probe, reasons, an alert, a section and a fault, or says why not."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.estate.test_faults import OF_ALEXANDRIA
from tests.fault_batches import EFFECTS
from tocsin.cli.rules import shipped_subject
from tocsin.config import Registry, Sources, load
from tocsin.paging.lint import Subject
from tocsin_sandbox.faults import BY_NAME

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).parents[2]
TOOL: dict[str, Any] = runpy.run_path(str(ROOT / "docs/coverage.py"))
FAULTS = {drill.name: drill for drill in OF_ALEXANDRIA}
COVERAGE = TOOL["read"](ROOT / "docs/coverage/alexandria.yaml")


@pytest.fixture(scope="module")
def shipped() -> Subject:
    return shipped_subject()


def problems(coverage: Any, shipped: Subject) -> list[str]:
    return list(TOOL["problems"](coverage, shipped))


def test_every_line_leads_from_its_probe_to_an_alert_and_a_section(shipped: Subject) -> None:
    assert problems(COVERAGE, shipped) == []


def test_the_table_is_what_the_lines_say(shipped: Subject) -> None:
    written = (ROOT / "docs/coverage-alexandria.md").read_text()
    assert written == TOOL["text"](COVERAGE, shipped), "run `python docs/coverage.py`"


@pytest.mark.parametrize("line", [line for line in COVERAGE.lines if not line.exempt], ids=lambda line: line.asks)
def test_the_faults_of_a_line_exist_and_one_gives_a_reason_of_it(line: Any) -> None:
    shown = set()
    for name in line.faults:
        assert name in BY_NAME or name in FAULTS, name
        if name in BY_NAME:
            shown.add((BY_NAME[name].expected_probe, BY_NAME[name].expected_reason))
        if name in FAULTS:
            fault = FAULTS[name].shown
            assert fault is not None
            shown |= {(fault.probe, fault.reason), *fault.also.items(), *EFFECTS.get(name, {}).items()}
    answers = {(probe, reason) for probe, reasons in line.probes.items() for reason in reasons}
    assert answers & shown, shown


@pytest.mark.parametrize("number", [n for n, line in enumerate(COVERAGE.lines) if not line.exempt])
def test_a_line_that_loses_its_probe_is_missed(shipped: Subject, number: int) -> None:
    lines = list(COVERAGE.lines)
    lines[number] = replace(lines[number], probes={})
    assert problems(replace(COVERAGE, lines=lines), shipped) == [f"{lines[number].asks}: no probe checks it"]


def test_a_line_that_nothing_answers_on_a_host_is_missed(shipped: Subject) -> None:
    first, second, *rest = COVERAGE.lines
    lines = [replace(first, host=()), replace(second, host=["alexandria-pods"]), *rest]
    assert problems(replace(COVERAGE, lines=lines), shipped) == [
        f"{first.asks}: neither checked on a host nor said why not, or both",
        f"{second.asks}: alexandria-quadlet has no alexandria-pods",
    ]


def test_the_sidecar_of_the_example_runs_the_profile_of_the_pod_on_the_charts_volume() -> None:
    """``run`` is the chart's emptyDir at /var/run/alexandria; helm-kubernetes."""
    patch = yaml.safe_load((ROOT / "deploy/kubernetes/alexandria-sidecar.yaml").read_text())
    (sidecar,) = patch["spec"]["template"]["spec"]["containers"]
    profile = sidecar["args"][sidecar["args"].index("--profile") + 1]
    environ = {each["name"]: each["value"] for each in sidecar["env"]}
    probes = load(Sources(profiles=(profile,), environ=environ), Registry.discover()).probes
    mounts = {mount["name"]: mount["mountPath"] for mount in sidecar["volumeMounts"]}
    (socket,) = probes["alexandria-orchestrator-socket"].settings.paths
    assert Path(socket).parent == Path(mounts["run"])
    named = {volume["name"] for volume in patch["spec"]["template"]["spec"]["volumes"]}
    assert mounts.keys() - named == {"run"}, "the patch brings every other volume along"


def test_a_probe_that_is_taken_from_the_profile_is_missed(shipped: Subject) -> None:
    known = {name: spec for name, spec in shipped.known.items() if name != "alexandria-backup"}
    found = problems(COVERAGE, replace(shipped, known=known))
    assert found
    assert {problem.rpartition(": ")[2] for problem in found} == {"there is no probe alexandria-backup"}


def test_a_sixth_exemption_is_one_too_many(shipped: Subject) -> None:
    exempt = [line for line in COVERAGE.lines if line.exempt]
    lines = [*exempt, *exempt][:6]
    assert problems(replace(COVERAGE, lines=lines), shipped) == ["6 lines are exempt, 5 may be"]

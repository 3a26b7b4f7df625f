"""A small world that fits together, and each way of breaking it: found, at its file and line, by the check meant for it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
import yaml
from pydantic import Field

from tocsin.config import Registry, Sources, load
from tocsin.model import Gauge, Outcome, ReasonEnum, Secret, Severity
from tocsin.paging.lint import CHECKS, Subject, lint
from tocsin.paging.lint.folders import Folders, read_subject
from tocsin.sdk import Probe, ProbeContext, ProbeSettings

FIXTURES = Path(__file__).parent / "fixtures"
BROKEN = sorted((FIXTURES / "broken").glob("*.yaml"))

WHO = ("probe", "system", "incident", "kind")
CATALOGUE = {
    "tocsin_probe_alerting": (*WHO, "severity"),
    "tocsin_probe_reason": (*WHO, "reason", "severity"),
    "tocsin_probe_status": (*WHO, "status"),
    "tocsin_probe_duration_seconds": ("probe",),
    "tocsin_probe_last_run_timestamp_seconds": ("probe",),
    "tocsin_probe_skipped_total": ("probe", "cause"),
    "tocsin_config_last_reload_successful": (),
    "tocsin_scheduler_heartbeat_timestamp_seconds": (),
    "tocsin_disk_free_bytes": ("probe", "mount"),
}


class Login(ProbeSettings):
    user: str = ""
    password: Secret | None = None


class Limit(ProbeSettings):
    free: float = 0.0


class Disk(Probe):
    """How much is free on a disk."""

    kind: ClassVar[str] = "disk"

    class Settings(ProbeSettings):
        mount: str
        login: Mapping[str, Secret] | Login | None = None
        limits: Annotated[tuple[Limit, ...], Field(max_length=3)] = ()

    class Reason(ReasonEnum):
        FULL = "full", "Nothing is free."
        FILLING = "filling", "It will be full within a day.", Severity.TICKET

    gauges: ClassVar[tuple[Gauge, ...]] = (Gauge("tocsin_disk_free_bytes", "Bytes that are free.", ("mount",)),)

    async def run(self, ctx: ProbeContext) -> Outcome:
        return Outcome.ok()


def subject(root: Path) -> Subject:
    registry = Registry({"disk": Disk})
    probes = dict(load(Sources(root / "mine.yaml", environ={}), registry).probes)
    folders = Folders(
        root=root,
        rules=sorted((root / "alerts").glob("*.yaml")),
        tests=sorted((root / "alerts/tests").glob("*.yaml")),
        runbooks=[root / "runbooks"],
        dashboards=sorted((root / "dashboards").glob("*.json")),
        docs=sorted((root / "docs").glob("*.md")),
        daemon_url="http://localhost:9760",
    )
    return read_subject(folders, registry, CATALOGUE, probes, {})


def cases() -> list[Any]:
    """(check, edits, problems) of each broken fixture: a file is named by its check and lists ways to break it."""
    return [
        pytest.param(file.stem, case, id=f"{file.stem}-{number}")
        for file in BROKEN
        for number, case in enumerate(yaml.safe_load(file.read_text()), 1)
    ]


@pytest.fixture
def world(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / "whole", tmp_path / "world"))


def test_the_whole_world_fits_together(world: Path) -> None:
    assert lint(subject(world)) == []


def test_every_check_has_a_fixture_that_breaks_it() -> None:
    assert {file.stem for file in BROKEN} == {check.__name__ for check in CHECKS}


@pytest.mark.parametrize(("check", "case"), cases())
def test_what_is_broken_is_found_at_its_file_and_line(world: Path, check: str, case: dict[str, Any]) -> None:
    for edit in case["edits"]:
        file = world / edit["file"]
        if "add" in edit:
            file.parent.mkdir(exist_ok=True)
            file.write_text(edit["add"])
            continue
        text = file.read_text()
        assert text.count(edit["replace"]) == 1, f"{edit['replace']!r} stands {text.count(edit['replace'])} times"
        file.write_text(text.replace(edit["replace"], edit["by"]))
    broken = subject(world)
    responsible = next(function for function in CHECKS if function.__name__ == check)
    found = [str(problem).replace(f"{world}/", "") for problem in responsible(broken)]
    assert list(dict.fromkeys(found)) == case["problems"]
    assert set(responsible(broken)) <= set(lint(broken))

"""The printed inhibit_rules are what Alertmanager accepts, pasted into the reference configuration as it says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.alert_routes import ROUTES, routed
from tocsin.cli.application import app

ROOT = Path(__file__).parents[2]
PROFILES = sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml"))


def pasted(profiles: list[str]) -> str:
    """The reference configuration with the rules of these profiles below its own."""
    options = [option for name in profiles for option in ("--profile", name)]
    result = CliRunner().invoke(app, ["inhibitions", *options], env={"TOCSIN_CONFIG": ""})
    assert result.exit_code == 0, result.output
    reference = (ROOT / "deploy/alertmanager/alertmanager.yml").read_text()
    place = reference.index("\nreceivers:")
    return reference[:place].rstrip() + "\n" + result.output.partition("inhibit_rules:\n")[2] + reference[place:]


@pytest.mark.estate
@pytest.mark.parametrize("profiles", [*([name] for name in PROFILES), PROFILES], ids="+".join)
def test_the_reference_configuration_with_the_printed_rules_is_clean(tmp_path: Path, profiles: list[str]) -> None:
    config = tmp_path / "alertmanager.yml"
    config.write_text(pasted(profiles))
    run = subprocess.run(
        ["amtool", "check-config", str(config)], check=False, capture_output=True, text=True, timeout=30
    )
    assert run.returncode == 0, run.stdout + run.stderr
    rules = config.read_text().count("source_matchers")
    assert f"{rules} inhibit rules" in run.stdout
    assert rules > (ROOT / "deploy/alertmanager/alertmanager.yml").read_text().count("source_matchers")


@pytest.mark.estate
@pytest.mark.parametrize(("labels", "receiver"), ROUTES)
def test_the_reference_routes_each_alert_to_one_receiver(labels: tuple[str, ...], receiver: str) -> None:
    assert routed(ROOT / "deploy/alertmanager/alertmanager.yml", labels) == receiver


def test_nobody_needs_the_environment_of_the_platform() -> None:
    assert CliRunner().invoke(app, ["inhibitions", "--profile", "wipe"]).exit_code == 0

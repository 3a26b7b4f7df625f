"""``tocsin run --profile wipe --env-file FILE``, as an operator types it."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from tests.daemon import Daemon

BUNDLED = Path(__file__).parents[2] / "profiles" / "wipe.yaml"


def test_a_bundled_profile_runs_under_the_platforms_own_variables_and_says_what_it_lacks(tmp_path: Path) -> None:
    variables = tmp_path / "platform.env"
    variables.write_text("KEYCLOAK_EXAWIPE_ISSUER=http://127.0.0.1:1/realms/exawipe\n")
    with Daemon(tmp_path / "daemon", ["--profile", "wipe", "--env-file", str(variables)]) as daemon:
        plan = {row["name"]: row for row in json.loads(daemon.get("/api/v1/plan")[1])["probes"]}
        assert plan.keys() == yaml.safe_load(BUNDLED.read_text())["probes"].keys()
        lacking = {name for name, row in plan.items() if row["missing"]}
        assert "wipe-realm-exawipe" not in lacking
        assert len(lacking) > 10
        daemon.until(lambda: all(probe["started_at"] for probe in daemon.probes().values()), "to run each once", 40)
        probes = daemon.probes()
        assert {(probes[name]["status"], probes[name]["reason"]) for name in lacking} == {
            ("unknown", "contract_missing")
        }
        assert probes["wipe-realm-exawipe"]["reason"] == "connection_refused"

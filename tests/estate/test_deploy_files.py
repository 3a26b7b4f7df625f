"""What docs/deploying.md hands out fits together: every file it mounts is there, and every tool takes what is its own."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from estate.install import ensure
from tocsin import __version__
from tocsin.config import Registry, Sources, load
from tocsin.config.process import ProcessSettings

pytestmark = pytest.mark.estate

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "deploying.md").read_text("utf-8")
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
UNIT = ROOT / "deploy" / "systemd" / "tocsin.service"
QUADLET = ROOT / "deploy" / "quadlet" / "tocsin.container"


# Compose


def mounts(service: str) -> dict[str, Path]:
    """The files and folders of the checkout that a service sees, by where it sees them."""
    pairs = (volume.split(":") for volume in COMPOSE["services"][service]["volumes"])
    return {target: ROOT / source for source, target, *_ in pairs if source.startswith("./")}


def test_compose_mounts_what_is_there_and_names_its_volumes() -> None:
    for name, service in COMPOSE["services"].items():
        for target, source in mounts(name).items():
            assert source.exists(), f"{name}: {target}"
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source.startswith("./") or source in COMPOSE["volumes"], volume


def test_compose_opens_nothing_beyond_loopback_and_grants_nothing() -> None:
    for name, service in COMPOSE["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
    assert COMPOSE["services"]["tocsin"]["read_only"] is True


def test_the_daemon_of_compose_takes_its_configuration() -> None:
    found = load(Sources(mounts("tocsin")["/etc/tocsin/tocsin.yaml"], (), None, {}), Registry.discover())
    hosts = {re.match(r"http://([a-z]+):", str(spec.settings.url))[1] for spec in found.probes.values()}  # type: ignore[index]
    assert hosts < set(COMPOSE["services"])


@pytest.mark.parametrize("configuration", ["deploy/compose/prometheus.yml", "deploy/prometheus/prometheus.yml"])
def test_prometheus_takes_its_configuration_with_the_rules(configuration: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / configuration, tmp_path / "prometheus.yml")
    shutil.copytree(ROOT / "alerts", tmp_path / "alerts")
    told = run(str(ensure("prometheus") / "promtool"), "check", "config", str(tmp_path / "prometheus.yml"))
    assert told.count("rules found") == len(list((ROOT / "alerts").glob("*.yaml")))


def test_prometheus_of_compose_scrapes_and_notifies_the_services_of_compose() -> None:
    text = (ROOT / "deploy/compose/prometheus.yml").read_text()
    assert set(re.findall(r"'([a-z]+):\d+'", text)) == {"tocsin", "alertmanager"}


def test_grafana_of_compose_finds_the_dashboards_and_prometheus() -> None:
    (provider,) = yaml.safe_load((ROOT / "deploy/grafana/dashboards.yaml").read_text())["providers"]
    assert list(mounts("grafana")[provider["options"]["path"]].glob("*.json"))
    (source,) = yaml.safe_load((ROOT / "deploy/grafana/datasource.yaml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")


# Prometheus


@pytest.mark.parametrize("name", ["servicemonitor", "scrapeconfig"])
def test_the_operator_knows_every_field_of_the_examples(name: str) -> None:
    """By the schema of its own CRD: a field that it does not have would be dropped without a word."""
    (crd,) = ensure("crds").glob(f"*_{name}s.yaml")
    manifest = yaml.safe_load((ROOT / "deploy" / "kubernetes" / f"{name}.yaml").read_text())
    version = manifest["apiVersion"].rpartition("/")[2]
    known = {
        each["name"]: each["schema"]["openAPIV3Schema"] for each in yaml.safe_load(crd.read_text())["spec"]["versions"]
    }
    assert list(unknown(manifest["spec"], known[version]["properties"]["spec"], "spec")) == []
    assert list(unknown({"jobNam": "x"}, known[version]["properties"]["spec"], "spec")) == ["spec.jobNam"]


def unknown(value: object, schema: dict[str, Any], path: str) -> Iterator[str]:
    """Where a manifest has a field that the schema does not, or a value that it does not allow."""
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties")
        for key, inner in value.items():
            if key not in properties and not isinstance(others, dict):
                yield f"{path}.{key}"
            else:
                yield from unknown(inner, properties.get(key, others), f"{path}.{key}")
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from unknown(inner, schema["items"], f"{path}[{position}]")
    elif value not in schema.get("enum", [value]):
        yield f"{path}: {value}"


def test_all_scrape_examples_ask_at_the_same_pace_and_let_the_probes_labels_stand() -> None:
    page = next(
        yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "scrape_configs" in text
    )
    reference = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    monitor = yaml.safe_load((ROOT / "deploy/kubernetes/servicemonitor.yaml").read_text())["spec"]["endpoints"][0]
    outside = yaml.safe_load((ROOT / "deploy/kubernetes/scrapeconfig.yaml").read_text())["spec"]
    jobs = [page["scrape_configs"][0], *reference["scrape_configs"]]
    assert {reference["global"]["scrape_interval"], jobs[0]["scrape_interval"]} == {"5s"}
    assert {monitor["interval"], outside["scrapeInterval"]} == {"5s"}
    assert all(job["honor_labels"] for job in jobs)
    assert monitor["honorLabels"] is outside["honorLabels"] is True
    names = [job["job_name"] for job in jobs] + [outside["jobName"]]
    assert all("tocsin" in name for name in names), "an alert about absent replicas looks for it"


# Units


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """Verified as it is but for the program, which is not installed on this machine."""
    unit = tmp_path / "tocsin.service"
    unit.write_text(UNIT.read_text().replace("/opt/tocsin/bin/tocsin", "/bin/true"))
    assert run(analyze(), "verify", str(unit)) == ""
    unit.write_text(unit.read_text().replace("ProtectSystem=strict", "ProtectSystems=strict"))
    assert "Unknown key 'ProtectSystems'" in run(analyze(), "verify", str(unit))


def test_the_unit_exposes_little_of_the_host() -> None:
    """systemd's own measure, 0 to 10. Up to 2.0 is "OK"; a service without any sandboxing has 9.6."""
    run(analyze(), "security", "--offline=true", "--threshold=20", str(UNIT))


def test_both_units_run_the_command_that_the_image_runs() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["tocsin"]' in dockerfile
    assert 'CMD ["run", "--config", "/etc/tocsin/tocsin.yaml"]' in dockerfile
    assert "tocsin run --config /etc/tocsin/tocsin.yaml" in UNIT.read_text()
    text = QUADLET.read_text()
    assert f"tocsin:{__version__}" in text
    assert {"ReadOnly=true", "NoNewPrivileges=true", "DropCapability=ALL"} <= set(text.splitlines())
    assert (QUADLET.parent / re.search(r"Volume=([\w-]+\.volume):/var/lib/tocsin", text)[1]).is_file()  # type: ignore[index]


# The page


def test_every_file_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"(?:deploy|helm|dashboards|alerts|requirements)/[\w./-]*[\w]", PAGE))
    assert len(named) > 8
    for name in named:
        assert (ROOT / name).exists(), name


def test_every_example_on_the_page_is_yaml() -> None:
    examples = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) == 3
    for example in examples:
        assert isinstance(yaml.safe_load(example), dict)


def test_the_values_on_the_page_are_taken_by_the_chart(tmp_path: Path) -> None:
    examples = re.findall(r"```yaml\n(# values.*?)```", PAGE, re.DOTALL)
    assert len(examples) == 2
    for number, example in enumerate(examples):
        values = tmp_path / f"values{number}.yaml"
        values.write_text(example)
        run(str(ensure("helm") / "bin" / "helm"), "lint", "--strict", str(ROOT / "helm/tocsin"), "-f", str(values))


def test_the_scrape_job_on_the_page_is_taken_by_prometheus(tmp_path: Path) -> None:
    example: dict[str, Any] = yaml.safe_load(re.findall(r"```yaml\n(scrape_configs.*?)```", PAGE, re.DOTALL)[0])
    password = tmp_path / "password"
    password.write_text("x")
    example["scrape_configs"][0]["basic_auth"]["password_file"] = str(password)
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(example))
    run(str(ensure("prometheus") / "promtool"), "check", "config", str(tmp_path / "prometheus.yml"))


def test_the_page_names_every_setting_of_the_process() -> None:
    named = set(re.findall(r"TOCSIN_[A-Z_]+", PAGE))
    assert {f"TOCSIN_{name.upper()}" for name in ProcessSettings.model_fields} - {"TOCSIN_RELOAD_EVERY"} <= named


def analyze() -> str:
    return str(ensure("systemd") / "systemd-analyze")


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr

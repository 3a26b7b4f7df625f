"""What the chart renders, without a cluster: the rules are those of alerts/, and no value is passed over in silence."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tests.alert_routes import ROUTES, routed
from tests.chart.rendering import CHART, EVERYTHING, NAMESPACE, ROOT, helm, of_kind, only, rendered
from tocsin import __version__
from tocsin.cli import app
from tocsin.cli.rbac import permissions_of
from tocsin.config import Registry, Sources, load

pytestmark = pytest.mark.estate

ALL = ("-f", str(EVERYTHING))
WEBHOOK = "alertmanagerConfig.receivers.{name}.webhookConfigs[0].url=http://127.0.0.1:9099/{name}"
HEARD = (
    *("--set", "alertmanagerConfig.enabled=true"),
    *("--set", WEBHOOK.format(name="page")),
    *("--set", WEBHOOK.format(name="watchdog")),
)
"""Routes whose pages come to somebody."""


def test_helm_lint_has_nothing_to_say() -> None:
    for options in ((), ALL):
        answer = helm("lint", "--strict", str(CHART), *options)
        assert answer.status == 0, answer.out + answer.error
        assert "[WARNING]" not in answer.out


def test_the_version_is_that_of_the_package() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


# Rules and dashboards


def test_the_chart_holds_the_rules_and_dashboards_of_the_tree() -> None:
    assert sync().main(["--check"]) == 0, "run python helm/sync.py"


def test_a_copy_that_differs_is_told_and_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree, chart = tmp_path / "tree", tmp_path / "chart"
    for folder, name in (("alerts", "a.yaml"), ("dashboards", "b.json")):
        (tree / folder).mkdir(parents=True)
        (tree / folder / name).write_text("new")
    (chart / "alerts").mkdir(parents=True)
    (chart / "alerts" / "a.yaml").write_text("old")
    (chart / "alerts" / "gone.yaml").write_text("old")
    assert sync().main(["--check"], tree, chart) == 1
    told = capsys.readouterr().err
    assert all(name in told for name in ("alerts/a.yaml", "alerts/gone.yaml", "dashboards/b.json"))
    assert sync().main([], tree, chart) == 0
    assert sync().main(["--check"], tree, chart) == 0
    assert not (chart / "alerts" / "gone.yaml").exists()


SOURCES = [*sorted((ROOT / "alerts").glob("*.yaml")), *sorted((ROOT / "alerts").glob("optional/*.yaml"))]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_rules_are_those_of_alerts(source: Path) -> None:
    as_they_are = "prometheusRule.enabled=true,prometheusRule.slo=true,prometheusRule.namespaceLabel=false,prometheusRule.interval="
    objects = rendered("--set", as_they_are)
    (found,) = (
        rule for rule in of_kind(objects, "PrometheusRule") if rule["metadata"]["name"].endswith(f"-{source.stem}")
    )
    assert found["spec"] == yaml.safe_load(source.read_text())


def test_addresses_are_filled_in_and_alerts_carry_the_namespace_their_routes_ask_for() -> None:
    objects = rendered(*ALL)
    rules = [
        rule
        for each in of_kind(objects, "PrometheusRule")
        if not each["metadata"]["name"].endswith("-own")
        for group in each["spec"]["groups"]
        for rule in group["rules"]
    ]
    alerts = [rule for rule in rules if "alert" in rule]
    assert alerts
    assert all(rule["labels"]["namespace"] == NAMESPACE for rule in alerts)
    assert all("labels" not in rule for rule in rules if "record" in rule)
    text = json.dumps(rules)
    assert "https://tocsin.example.com/runbooks/" in text
    assert "https://grafana.example.com/d/tocsin-probe" in text
    assert "https://docs.example.com/tocsin/tocsin/" in text
    assert not re.search(r"localhost|runbooks\.example|example\.com//", text)
    assert "{{ $labels.probe }}" in text


def test_alerts_of_ones_own_carry_the_namespace_too_unless_they_have_one() -> None:
    rules = (
        *("--set", "prometheusRule.enabled=true"),
        *("--set", "prometheusRule.groups[0].name=mine"),
        *("--set", "prometheusRule.groups[0].rules[0].alert=Bare,prometheusRule.groups[0].rules[0].expr=up"),
        *("--set", "prometheusRule.groups[0].rules[1].alert=Named,prometheusRule.groups[0].rules[1].expr=up"),
        *("--set", "prometheusRule.groups[0].rules[1].labels.namespace=shop"),
        *("--set", "prometheusRule.groups[0].rules[1].labels.severity=page"),
        *("--set", "prometheusRule.groups[0].rules[2].record=a:b,prometheusRule.groups[0].rules[2].expr=up"),
    )
    assert [rule.get("labels") for rule in own_rules(*rules)] == [
        {"namespace": NAMESPACE},
        {"namespace": "shop", "severity": "page"},
        None,
    ]
    without = own_rules(*rules, "--set", "prometheusRule.namespaceLabel=false")
    assert [rule.get("labels") for rule in without] == [None, {"namespace": "shop", "severity": "page"}, None]


def own_rules(*options: str) -> list[dict[str, Any]]:
    (found,) = (
        rule for rule in of_kind(rendered(*options), "PrometheusRule") if rule["metadata"]["name"].endswith("-own")
    )
    return list(found["spec"]["groups"][0]["rules"])


def test_a_cluster_is_given_no_key_that_it_does_not_know() -> None:
    for version, known in (("1.25.0", False), ("1.26.0", True), ("1.31.2-gke.1", True)):
        budget = only(rendered("--kube-version", version), "PodDisruptionBudget")
        assert ("unhealthyPodEvictionPolicy" in budget["spec"]) is known


def test_rules_of_a_platform_that_is_not_run_can_be_left_out() -> None:
    on = ("--set", "prometheusRule.enabled=true")
    names = [
        each["metadata"]["name"]
        for each in of_kind(rendered(*on, "--set", "prometheusRule.files={tocsin}"), "PrometheusRule")
    ]
    assert names == ["watch-tocsin-tocsin"]
    refused = helm("template", str(CHART), *on, "--set", "prometheusRule.files={wipee}", "--kube-version", "1.34.4")
    assert 'the chart has no rules called "wipee"' in refused.error


def test_dashboards_are_those_of_the_tree() -> None:
    (found,) = (
        each for each in of_kind(rendered(*ALL), "ConfigMap") if "grafana_dashboard" in each["metadata"]["labels"]
    )
    for file in (ROOT / "dashboards").glob("*.json"):
        assert json.loads(found["data"][f"tocsin-{file.name}"]) == json.loads(file.read_text())


def test_routes_and_inhibition_are_those_of_the_reference() -> None:
    reference = yaml.safe_load((ROOT / "deploy/alertmanager/alertmanager.yml").read_text())
    spec = only(rendered(*HEARD), "AlertmanagerConfig")["spec"]
    assert as_reference(spec["route"]) == reference["route"]
    assert [
        {
            "source_matchers": matchers(rule["sourceMatch"]),
            "target_matchers": matchers(rule["targetMatch"]),
            "equal": rule["equal"],
        }
        for rule in spec["inhibitRules"]
    ] == reference["inhibit_rules"]
    assert {each["name"] for each in spec["receivers"]} == {each["name"] for each in reference["receivers"]}


@pytest.mark.parametrize(("labels", "receiver"), ROUTES)
def test_an_alert_is_routed_as_by_the_reference(tmp_path: Path, labels: tuple[str, ...], receiver: str) -> None:
    spec = only(rendered(*HEARD), "AlertmanagerConfig")["spec"]
    made = {"route": as_reference(spec["route"]), "receivers": [{"name": each["name"]} for each in spec["receivers"]]}
    file = tmp_path / "alertmanager.yml"
    file.write_text(yaml.safe_dump(made))
    assert routed(file, labels) == receiver


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("page=null", "receivers.page: nobody would hear of a page"),
        ("page.webhookConfigs=null", "receivers.page: nobody would hear of a page"),
        ("watchdog=null", "receivers.watchdog: nobody would hear of a monitor that is silent"),
    ],
)
def test_routes_that_drop_pages_are_refused(option: str, said: str) -> None:
    options = (*HEARD, "--set", f"alertmanagerConfig.receivers.{option}")
    assert said in helm("template", str(CHART), "--kube-version", "1.34.4", *options).error
    assert (
        "nobody would hear"
        in helm("template", str(CHART), "--kube-version", "1.34.4", "--set", "alertmanagerConfig.enabled=true").error
    )


def test_limits_are_replaced_by_name() -> None:
    on = ("--set", "prometheusRule.enabled=true,prometheusRule.files={tocsin}")
    (found,) = of_kind(rendered(*on, "--set", "prometheusRule.limits.stalled_seconds=120"), "PrometheusRule")
    limits = {
        rule["record"].removeprefix("tocsin:limit:"): rule["expr"]
        for group in found["spec"]["groups"]
        for rule in group["rules"]
        if rule.get("record", "").startswith("tocsin:limit:")
    }
    assert limits["stalled_seconds"] == "vector(120)"
    assert limits["loop_lag_ratio"] == "vector(0.1)"
    assert {group["interval"] for group in found["spec"]["groups"]} == {"5s"}
    (slo, _) = of_kind(
        rendered(*on, "--set", "prometheusRule.slo=true", "--set-json", "prometheusRule.limits.slo_objective=0.99"),
        "PrometheusRule",
    )
    (group,) = slo["spec"]["groups"]
    assert (slo["metadata"]["name"], group["interval"]) == ("watch-tocsin-slo", "1m")
    assert group["rules"][0]["expr"] == "vector(0.99)"
    wrong = helm("template", str(CHART), *on, "--set", "prometheusRule.limits.stalled=1", "--kube-version", "1.34.4")
    assert 'there is no limit called "stalled"' in wrong.error


def test_inhibitions_are_taken_as_tocsin_prints_them(tmp_path: Path) -> None:
    printed = CliRunner().invoke(app, ["inhibitions", "--profile", "wipe"], env={"TOCSIN_CONFIG": ""})
    assert printed.exit_code == 0, printed.output
    file = tmp_path / "inhibitions.yaml"
    file.write_text(printed.stdout)
    objects = rendered(*HEARD, "--set-file", f"alertmanagerConfig.inhibitions={file}")
    made = only(objects, "AlertmanagerConfig")["spec"]["inhibitRules"][1:]
    wanted = yaml.safe_load(printed.stdout)["inhibit_rules"]
    assert len(wanted) > 3
    assert [
        {
            "source_matchers": matchers(rule["sourceMatch"]),
            "target_matchers": matchers(rule["targetMatch"]),
            "equal": rule["equal"],
        }
        for rule in made
    ] == wanted


def test_an_inhibition_that_is_no_matcher_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "inhibitions.yaml"
    file.write_text("inhibit_rules: [{source_matchers: [severity], target_matchers: [], equal: []}]")
    options = (*HEARD, "--set-file", f"alertmanagerConfig.inhibitions={file}")
    assert '"severity" is no matcher' in helm("template", str(CHART), "--kube-version", "1.34.4", *options).error


def as_reference(route: dict[str, Any]) -> dict[str, Any]:
    names = {"groupBy": "group_by", "groupWait": "group_wait", "groupInterval": "group_interval"}
    names["repeatInterval"] = "repeat_interval"
    made = {names.get(key, key): value for key, value in route.items()}
    if "matchers" in made:
        made["matchers"] = matchers(made["matchers"])
    if "routes" in made:
        made["routes"] = [as_reference(each) for each in made["routes"]]
    return made


def matchers(found: list[dict[str, str]]) -> list[str]:
    return [f'{each["name"]}{each["matchType"]}"{each["value"]}"' for each in found]


# The daemon


def test_the_configuration_is_one_that_tocsin_takes(tmp_path: Path) -> None:
    for options, names in (((), {"wipe-db"}), (ALL, {"wipe-db", "own"})):
        (text,) = (
            each["data"]["tocsin.yaml"]
            for each in of_kind(rendered(*options), "ConfigMap")
            if "tocsin.yaml" in each["data"]
        )
        path = tmp_path / "tocsin.yaml"
        path.write_text(text)
        found = load(Sources(path, (), None, {"PATH_OF_OWN": "x"}), Registry.discover())
        assert names <= set(found.probes)


@pytest.mark.parametrize(
    ("options", "token", "roles"),
    [((), False, 0), (ALL, True, 1), (("--set", "rbac.create=false"), True, 0)],
    ids=["nothing to ask", "rights of the chart", "rights of one's own"],
)
def test_the_pod_has_a_token_only_when_a_probe_asks_the_api_server(
    options: tuple[str, ...], token: bool, roles: int
) -> None:
    objects = rendered(*options)
    assert only(objects, "Deployment")["spec"]["template"]["spec"]["automountServiceAccountToken"] is token
    assert len(list(of_kind(objects, "Role"))) == roles


PROBES = """
version: 1
probes:
  pods: {kind: kubernetes_workload, system: a, incident: a, namespace: alexandria, selector: app=a}
  text: {kind: kubernetes_logs, system: a, incident: a, namespace: alexandria, selector: app=a, patterns: {fault: "fault"}}
  key: {kind: kubernetes_secret, system: a, incident: a, namespace: alexandria, secret: licence, key: key}
"""


def test_the_least_rights_are_those_that_the_kinds_ask_for(tmp_path: Path) -> None:
    """What `rbac.namespaces` stands for, against what `tocsin rbac` finds in a configuration with a probe of each kind."""
    path = tmp_path / "tocsin.yaml"
    path.write_text(PROBES)
    registry = Registry.discover()
    needed, _ = permissions_of(load(Sources(path, (), None, {}), registry), registry)
    asked = {(each.verb, each.resource, each.group, each.names) for each in needed["alexandria"]}
    values = tmp_path / "values.yaml"
    values.write_text("rbac: {namespaces: {alexandria: {workloads: true, logs: true, secrets: [licence]}}}")
    role = only(rendered("-f", str(values)), "Role")
    assert role["metadata"]["namespace"] == "alexandria"
    given = {
        (verb, resource, group, tuple(rule.get("resourceNames", ())))
        for rule in role["rules"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
        for group in rule["apiGroups"]
    }
    assert given == asked


def test_probes_of_the_kubelet_ask_for_life_and_readiness() -> None:
    for options, scheme in (((), "HTTP"), (ALL, "HTTPS")):
        (container,) = only(rendered(*options), "Deployment")["spec"]["template"]["spec"]["containers"]
        assert container["livenessProbe"]["httpGet"] == {"path": "/-/healthy", "port": "http", "scheme": scheme}
        assert container["readinessProbe"]["httpGet"] == {"path": "/-/ready", "port": "http", "scheme": scheme}


def test_no_secret_is_rendered_into_the_chart() -> None:
    assert not list(of_kind(rendered(*ALL), "Secret"))


# Values


def test_every_value_is_in_the_schema_and_every_object_of_ours_is_closed() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for path, value, described in walk(values, schema, ""):
        assert described is not None, f"{path} is not in values.schema.json"
        if isinstance(value, dict) and "properties" in described:
            assert described["additionalProperties"] is False, path
            missing = set(described["properties"]) - set(value) - {"global"}
            assert not missing or path.startswith("config"), f"{path}: values.yaml does not show {missing}"


def walk(value: Any, schema: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    yield path, value, schema
    if isinstance(value, dict) and "properties" in schema:
        for key, inner in value.items():
            yield from walk(inner, schema["properties"].get(key), f"{path}.{key}".lstrip("."))


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("imagee.tag=1", "imagee"),
        ("image.tagg=1", "tagg"),
        ("state.persistant=true", "persistant"),
        ("rbac.namespaces.alexandria.secret=x", "secret"),
        ("alertmanagerConfig.receivers.pager.webhookConfigs=1", "pager"),
        ("serviceMonitor.interval=often", "interval"),
        ("addresses.tocsin=tocsin.example.com", "tocsin"),
        ("logLevel=loud", "logLevel"),
        ("replicas=2", "replicas"),
    ],
)
def test_a_value_that_nobody_reads_or_that_is_wrong_is_refused(option: str, said: str) -> None:
    answer = helm("template", str(CHART), "--kube-version", "1.34.4", "--set", option)
    assert answer.status != 0
    assert "values don't meet the specifications" in answer.error
    assert said in answer.error


def test_rules_hold_templates_that_helm_never_renders(tmp_path: Path) -> None:
    """A chart whose rules hold what would be an error, or an answer, in a template of Helm's."""
    chart = tmp_path / "tocsin"
    shutil.copytree(CHART, chart)
    rules = chart / "files" / "alerts" / "tocsin.yaml"
    text = "{{ .Release.Name }} {{ fail `no` }}"
    rules.write_text(
        f"groups: [{{name: a, rules: [{{alert: A, expr: 'vector(1)', annotations: {{summary: '{text}'}}}}]}}]\n"
    )
    objects = rendered("--set", "prometheusRule.enabled=true,prometheusRule.files={tocsin}", chart=chart)
    assert only(objects, "PrometheusRule")["spec"]["groups"][0]["rules"][0]["annotations"]["summary"] == text


def sync() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chart_sync", ROOT / "helm" / "sync.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Notes


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), True),
        (("--set", "webConfig.secret=web"), False),
        (("--set", "networkPolicy.from[0].podSelector.matchLabels.app=prometheus"), False),
        (
            (
                *("--set", "networkPolicy.from[0].podSelector.matchLabels.app=prometheus"),
                *("--set", "networkPolicy.enabled=false"),
            ),
            True,
        ),
    ],
)
def test_the_notes_say_when_anybody_in_the_cluster_reaches_the_port(
    tmp_path: Path, options: tuple[str, ...], told: bool
) -> None:
    assert ("Whoever reaches the port" in notes(tmp_path, *options)) is told


def test_the_notes_ask_for_contracts_with_what_the_daemon_is_given(tmp_path: Path) -> None:
    said = notes(tmp_path, "--set", "envFile.secret=wipe-env", "--set", "webConfig.secret=web,webConfig.tls=true")
    assert "tocsin plan --config /etc/tocsin/tocsin.yaml --env-file /etc/tocsin-env/.env\n" in said
    assert "open https://localhost:9760" in said


def test_tls_without_a_web_config_is_refused() -> None:
    answer = helm("template", str(CHART), "--kube-version", "1.34.0", "--set", "webConfig.tls=true")
    assert answer.status != 0
    assert "name the Secret with web.yml in webConfig.secret" in answer.error


def notes(folder: Path, *options: str) -> str:
    """What helm prints after an install, which `helm template` does not: rendered as a value of an object."""
    copy = folder / "chart"
    shutil.copytree(CHART, copy)
    text = (copy / "templates" / "NOTES.txt").read_text()
    (copy / "templates" / "_notes.tpl").write_text(f'{{{{ define "notes" }}}}{text}{{{{ end }}}}')
    (copy / "templates" / "notes.yaml").write_text('kind: Notes\ntext: {{ include "notes" . | quote }}\n')
    return str(only(rendered(*options, chart=copy), "Notes")["text"])

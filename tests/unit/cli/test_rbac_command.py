"""`tocsin rbac`: the fewest rules, out of what each probe says that it needs."""

from __future__ import annotations

from pathlib import Path

import yaml
from typer.testing import CliRunner

from tocsin.cli.application import app
from tocsin.cli.rbac import rules
from tocsin.sdk.kubernetes import Permission

PROBES = """
version: 1
probes:
  a:
    {kind: kubernetes_workload, system: s, incident: i, namespace: one, selector: app=a, deployment: d}
  b:
    {kind: kubernetes_secret, system: s, incident: i, namespace: one, secret: "x, y", key: k}
  c:
    {kind: kubernetes_secret, system: s, incident: i, namespace: two, secret: x, key: k}
  d:
    {kind: tcp, system: s, incident: i, address: "localhost:1"}
"""


def test_rules_are_merged_and_a_name_adds_nothing_to_all() -> None:
    needed = [
        Permission("list", "pods"),
        Permission("watch", "pods"),
        Permission("watch", "events"),
        Permission("list", "events"),
        Permission("get", "secrets", names=("b",)),
        Permission("get", "secrets", names=("a", "b")),
        Permission("get", "deployments", "apps", ("d",)),
    ]
    expected = [
        {"apiGroups": [""], "resources": ["events", "pods"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a", "b"], "verbs": ["get"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["d"], "verbs": ["get"]},
    ]
    assert rules(needed) == expected
    assert rules([*needed, Permission("get", "secrets")])[0] == {
        "apiGroups": [""],
        "resources": ["secrets"],
        "verbs": ["get"],
    }


def test_one_role_and_binding_a_namespace_are_printed(tmp_path: Path) -> None:
    (tmp_path / "tocsin.yaml").write_text(PROBES)
    result = CliRunner().invoke(app, ["rbac", "-c", str(tmp_path / "tocsin.yaml"), "--service-account", "mon:prober"])
    assert result.exit_code == 0
    documents = list(yaml.safe_load_all(result.stdout))
    assert [(each["kind"], each["metadata"]["namespace"]) for each in documents] == [
        ("Role", "one"),
        ("RoleBinding", "one"),
        ("Role", "two"),
        ("RoleBinding", "two"),
    ]
    assert documents[1]["subjects"] == [{"kind": "ServiceAccount", "name": "prober", "namespace": "mon"}]
    assert documents[2]["rules"] == [
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["x"], "verbs": ["get"]}
    ]


def test_what_cannot_be_told_yet_is_said_and_nothing_to_allow_is_an_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["rbac", "--profile", "alexandria"], env={"TOCSIN_ALEXANDRIA_URL": ""})
    assert result.exit_code == 0
    assert "what alexandria-license-blob needs is not known" in result.stderr
    (tmp_path / "tocsin.yaml").write_text(
        "version: 1\nprobes: {d: {kind: tcp, system: s, incident: i, address: 'h:1'}}"
    )
    result = CliRunner().invoke(app, ["rbac", "-c", str(tmp_path / "tocsin.yaml")])
    assert result.exit_code == 2
    assert result.stderr == "tocsin rbac: no probe asks a Kubernetes API server\n"

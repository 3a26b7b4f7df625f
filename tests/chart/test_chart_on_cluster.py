"""The chart on a real API server with the Prometheus Operator's CRDs: validated, admitted, and no more allowed than needed."""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from estate.servers.kubernetes import CommandError, Kubernetes
from tests.chart.rendering import CHART, EVERYTHING, ROOT, only, rendered

pytestmark = pytest.mark.estate

RELEASE = "watch"
ACCOUNT = "watch-tocsin"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def operated(kubernetes: Kubernetes) -> Kubernetes:
    """The API server with the CRDs installed."""
    kubernetes.install_crds()
    return kubernetes


@pytest.fixture
def restricted(operated: Kubernetes, namespace: str) -> str:
    """A namespace that admits pods of the Pod Security level ``restricted`` alone."""
    labels = {
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/enforce-version": "latest",
    }
    operated.call("PATCH", f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": labels}}).expect(200)
    return namespace


@pytest.fixture
def watched(operated: Kubernetes) -> str:
    """A namespace of a platform, apart from the one that tocsin runs in."""
    name = f"platform-{next(_numbers)}"
    operated.create_namespace(name)
    return name


def install(server: Kubernetes, namespace: str, *options: str, verb: str = "install") -> dict[str, Any]:
    told = server.helm(verb, RELEASE, str(CHART), "--namespace", namespace, "--output", "json", *options)
    answer: dict[str, Any] = json.loads(told)
    return answer


def everything(namespace: str, watched: str) -> tuple[str, ...]:
    """All switched on; the rights, which stand for the namespace ``default`` in the file, for the one watched."""
    rights = {
        "namespaces": {"default": None, watched: {"workloads": True, "logs": True, "secrets": ["licence"]}},
        "rules": {"default": None, watched: [rule("get", "deployments", "apps", "api")]},
    }
    return ("-f", str(EVERYTHING), "--set-json", f"rbac={json.dumps(rights)}")


def rule(verb: str, resource: str, group: str, name: str) -> dict[str, list[str]]:
    return {"apiGroups": [group], "resources": [resource], "resourceNames": [name], "verbs": [verb]}


def test_the_defaults_are_installed_and_everything_is_an_upgrade(
    operated: Kubernetes, restricted: str, watched: str
) -> None:
    assert install(operated, restricted)["info"]["status"] == "deployed"
    upgraded = install(operated, restricted, *everything(restricted, watched), verb="upgrade")
    assert (upgraded["info"]["status"], upgraded["version"]) == ("deployed", 2)
    kinds = "deployment,service,configmap,persistentvolumeclaim,networkpolicy,poddisruptionbudget,serviceaccount"
    monitored = "servicemonitor,prometheusrule,alertmanagerconfig"
    found = operated.kubectl("-n", restricted, "get", f"{kinds},{monitored}", "-o", "name").split()
    for kind in (*kinds.split(","), *monitored.split(",")):
        assert any(name.startswith((f"{kind}.", f"{kind}/")) for name in found), kind
    back = install(operated, restricted, "--reset-values", verb="upgrade")
    assert back["version"] == 3
    assert "servicemonitor" not in operated.kubectl("-n", restricted, "get", monitored, "-o", "name")


@pytest.mark.parametrize("all_on", [False, True], ids=["defaults", "everything"])
def test_the_server_knows_every_field(operated: Kubernetes, restricted: str, watched: str, all_on: bool) -> None:
    """Strict server-side validation: a field that no schema has is an error, where Helm would let it pass."""
    options = everything(restricted, watched) if all_on else ()
    manifest = operated.helm(
        "template", RELEASE, str(CHART), "--namespace", restricted, "--kube-version", "1.34.4", *options
    )
    told = apply_strictly(operated, manifest)
    assert told.count("serverside-applied") == manifest.count("\nkind: ")
    with pytest.raises(CommandError, match="field not declared in schema"):
        apply_strictly(operated, manifest.replace("replicas: 1", "replicaz: 1"))


def apply_strictly(server: Kubernetes, manifest: str) -> str:
    return server.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", text=manifest)


def test_a_field_of_a_rule_that_the_operator_does_not_know_is_refused(operated: Kubernetes, restricted: str) -> None:
    group = {"name": "a", "rules": [{"alert": "A", "expr": "up", "keep_fireing_for": "2m"}]}
    manifest = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "a", "namespace": restricted},
        "spec": {"groups": [group]},
    }
    with pytest.raises(CommandError, match="keep_fireing_for"):
        apply_strictly(operated, json.dumps(manifest))


EXAMPLES = [path for path in sorted((ROOT / "deploy/kubernetes").glob("*.yaml")) if "\nkind: " in path.read_text()]
"""Whole objects; the sidecar is a patch of somebody else's."""


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_for_the_operator_are_valid(operated: Kubernetes, example: Path) -> None:
    assert "serverside-applied" in apply_strictly(operated, example.read_text())


def test_there_are_examples_for_both_ways_to_be_scraped() -> None:
    assert {path.stem for path in EXAMPLES} == {"scrapeconfig", "servicemonitor"}


# Pod Security


@pytest.mark.parametrize("all_on", [False, True], ids=["defaults", "everything"])
def test_the_pod_is_admitted_as_restricted(operated: Kubernetes, restricted: str, all_on: bool) -> None:
    template = pod_template(all_on)
    created = create(operated, restricted, template)
    assert created.status == 201, created.text
    assert "Warning" not in created.headers


def test_the_admission_is_at_work(operated: Kubernetes, restricted: str) -> None:
    """For the test above: without any one of its promises the same pod is refused."""
    for spoil in spoilers():
        template = pod_template(False)
        spoil(template["spec"])
        answer = create(operated, restricted, template)
        assert answer.status == 403, answer.text
        assert "restricted" in answer.text


def spoilers() -> Iterator[Any]:
    yield lambda spec: spec["securityContext"].pop("runAsNonRoot")
    yield lambda spec: spec["securityContext"].pop("seccompProfile")
    yield lambda spec: spec["containers"][0]["securityContext"].pop("allowPrivilegeEscalation")
    yield lambda spec: spec["containers"][0]["securityContext"].pop("capabilities")
    yield lambda spec: spec["volumes"].append({"name": "host", "hostPath": {"path": "/"}})


def test_the_root_filesystem_is_read_only_and_what_is_written_has_a_volume() -> None:
    for all_on in (False, True):
        (container,) = pod_template(all_on)["spec"]["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        assert writable == {"/var/lib/tocsin", "/tmp"}


def pod_template(all_on: bool) -> dict[str, Any]:
    template = only(rendered(*(("-f", str(EVERYTHING)) if all_on else ())), "Deployment")["spec"]["template"]
    return copy.deepcopy(template)


def create(server: Kubernetes, namespace: str, template: dict[str, Any]) -> Any:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": f"tocsin-{next(_numbers)}"},
        "spec": template["spec"],
    }
    return server.call("POST", f"/api/v1/namespaces/{namespace}/pods", pod)


# Rights


def test_the_service_account_may_do_what_the_probes_need_and_nothing_else(
    operated: Kubernetes, restricted: str, watched: str
) -> None:
    install(operated, restricted, *everything(restricted, watched))
    anybody = allowed(operated, restricted, "nobody", watched)
    assert allowed(operated, restricted, ACCOUNT, watched) - anybody == {
        ("pods", "", "list watch"),
        ("events", "", "list watch"),
        ("pods/log", "", "get"),
        ("secrets", "licence", "get"),
        ("deployments.apps", "api", "get"),
    }
    for elsewhere in (restricted, "default", "kube-system"):
        assert allowed(operated, restricted, ACCOUNT, elsewhere) == anybody, elsewhere


def test_without_kubernetes_probes_it_may_do_nothing(operated: Kubernetes, restricted: str) -> None:
    install(operated, restricted)
    for namespace in (restricted, "default"):
        assert allowed(operated, restricted, ACCOUNT, namespace) == allowed(operated, restricted, "nobody", namespace)
    assert "rolebinding" not in operated.kubectl("-n", restricted, "get", "rolebindings", "-o", "name")


def allowed(server: Kubernetes, home: str, account: str, namespace: str) -> set[tuple[str, str, str]]:
    """What ``kubectl auth can-i --list`` says by impersonation: (resource or URL, names, verbs)."""
    told = server.kubectl("auth", "can-i", "--list", f"--as=system:serviceaccount:{home}:{account}", "-n", namespace)
    found = set()
    for line in told.splitlines()[1:]:
        urls = re.search(r"\[(/[^\]]*)\]", line)
        names, verbs = re.findall(r"\[([^\]]*)\]", line)[-2:]
        found.add((urls[1] if urls else line.split()[0], names, " ".join(sorted(verbs.split()))))
    return found

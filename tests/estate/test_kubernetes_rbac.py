"""The Role that `tocsin rbac` prints for Alexandria's profile, on a real API server: enough, and nothing too much."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from estate.servers.kubelet import Kubelet
from estate.servers.kubernetes import Kubernetes
from tests.estate.test_kubernetes_secret import put
from tests.kubernetes_pods import create_alexandria
from tests.probing import Probed, probe_once
from tests.unit.probes.test_license_blob_probe import TRUSTED, claims, jwt
from tocsin.cli.rbac import permissions_of, role
from tocsin.config import Registry, Sources, load
from tocsin.sdk.kubernetes import KubernetesProbe

pytestmark = pytest.mark.estate


def configured(environ: Mapping[str, str]) -> Any:
    """Alexandria's profile and its Kubernetes probes, all opt-ins on."""
    registry = Registry.discover()
    given = {
        "TOCSIN_ALEXANDRIA_ROLLOUT_ENABLED": "true",
        "TOCSIN_ALEXANDRIA_RELEASE_ENABLED": "true",
        "TOCSIN_ALEXANDRIA_LICENSE_ENCODING": "jwt",
        "ALEXANDRIA_PROD_TRUSTED_KID": "k1",
        "ALEXANDRIA_PROD_TRUSTED_KEY_PEM": TRUSTED["k1"],
        "TOCSIN_ALEXANDRIA_URL": "http://127.0.0.1:1",
        "TOCSIN_ALEXANDRIA_ADMIN_TOKEN": "token",
    }
    return load(Sources(profiles=("alexandria",), environ={**given, **environ}), registry), registry


async def run_all(environ: Mapping[str, str]) -> dict[str, Probed]:
    configuration, registry = configured(environ)
    found = {}
    for spec in configuration.probes.values():
        if issubclass(registry[spec.kind], KubernetesProbe):
            probe = registry[spec.kind](spec.settings)
            try:
                found[spec.name] = await probe_once(probe)
            finally:
                await probe.close()
    return found


def platform(kubernetes: Kubernetes, namespace: str, node: str) -> None:
    """Everything of the platform that the profile looks at, well."""
    create_alexandria(kubernetes, namespace, nodeName=node)
    put(kubernetes, namespace, jwt(claims()), "alexandria-ee-license")
    body = {"metadata": {"name": "alexandria-ee"}, "stringData": {"database-dsn": "postgresql://db/alexandria"}}
    kubernetes.call("POST", f"/api/v1/namespaces/{namespace}/secrets", body).expect(201)
    labels = {"owner": "helm", "name": "alexandria-ee", "status": "deployed", "version": "1"}
    put(kubernetes, namespace, "x", "sh.helm.release.v1.alexandria-ee.v1", **labels)
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "api", "image": "none"}]}}
    deployment = {
        "metadata": {"name": "alexandria-ee"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template},
    }
    kubernetes.call("POST", f"/apis/apps/v1/namespaces/{namespace}/deployments", deployment).expect(201)


async def test_the_generated_role_is_enough_and_without_any_verb_a_probe_says_which_is_missing(
    kubernetes: Kubernetes, namespace: str
) -> None:
    with Kubelet(kubernetes, f"node-{namespace}") as kubelet:
        platform(kubernetes, namespace, kubelet.name)
        token = kubernetes.service_account_token(namespace, "tocsin")
        environ = {
            "TOCSIN_ALEXANDRIA_NAMESPACE": namespace,
            "TOCSIN_ALEXANDRIA_KUBECONFIG": str(kubernetes.kubeconfig(token)),
        }
        needed, unclear = permissions_of(*configured(environ))
        assert (list(needed), unclear) == ([namespace], [])
        granted, binding = role("tocsin", namespace, needed[namespace], "tocsin")
        kubernetes.apply(yaml.safe_dump_all([granted, binding]))
        kubernetes.wait_for_rights(namespace, "tocsin", granted["rules"])
        for name, probed in (await run_all(environ)).items():
            # Nothing runs that the licence could be compared with; that the licence was read shows in what is said.
            expected = "dependency_unknown" if name.startswith("alexandria-license-blob") else None
            assert probed.outcome.reason == expected, (name, probed.detail)
        for number, rule in enumerate(granted["rules"]):
            for verb in rule["verbs"]:
                for resource in rule["resources"]:
                    for only in rule.get("resourceNames", [None]):
                        lesser = without(granted, number, verb, resource, only)
                        kubernetes.apply(yaml.safe_dump(lesser))
                        # The authoriser hears of a change a moment later.
                        async with asyncio.timeout(10):
                            while not as_missing(refused := await refusals(environ), verb, resource, only):
                                pass
                        assert refused or only == "alexandria-license", (verb, resource, only)


async def refusals(environ: Mapping[str, str]) -> list[str]:
    return [
        probed.detail
        for probed in (await run_all(environ)).values()
        if probed.verdict == ("unknown", "credentials_rejected")
    ]


def as_missing(refused: list[str], verb: str, resource: str, only: str | None) -> bool:
    """Whether this right, and no other, is what the probes miss."""
    if only == "alexandria-license":
        # The second of two names: asked for only where the first does not exist.
        return not refused
    wanted = f"we may not {verb} {resource}{f' {only}' if only else ''} "
    return bool(refused) and all(wanted in detail for detail in refused)


def without(role: Any, number: int, verb: str, resource: str, only: str | None) -> Any:
    """The Role less one verb on one resource (or one name of it)."""
    lesser = copy.deepcopy(role)
    rule = lesser["rules"].pop(number)
    for each in rule["resources"]:
        for name in rule.get("resourceNames", [None]):
            verbs = [v for v in rule["verbs"] if (v, each, name) != (verb, resource, only)]
            if verbs:
                kept = {"apiGroups": rule["apiGroups"], "resources": [each], "verbs": verbs}
                lesser["rules"].append(kept | ({"resourceNames": [name]} if name else {}))
    return lesser

"""Who asks the API server, what it may, and what is said when it may not or cannot: for all kinds that ask it."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from estate.servers.kubelet import Kubelet
from estate.servers.kubernetes import Kubernetes
from tests.estate.test_kubernetes_secret import put
from tests.kubernetes_pods import create_alexandria
from tests.probing import Probed, probe_once
from tocsin.sdk import kubernetes as client
from tocsin.sdk import kubernetes_access, kubernetes_watch
from tocsin.sdk.kubernetes import KubernetesProbe
from tocsin_probes.kubernetes_logs import KubernetesLogs
from tocsin_probes.kubernetes_secret import KubernetesSecret
from tocsin_probes.kubernetes_workload import KubernetesWorkload
from tocsin_sandbox.kubernetes_objects import SELECTOR

pytestmark = pytest.mark.estate


@asynccontextmanager
async def made(kind: type[KubernetesProbe], kubeconfig: Path | str, **settings: Any) -> AsyncIterator[KubernetesProbe]:
    probe = kind(kind.Settings.model_validate({"kubeconfig": str(kubeconfig), **settings}))
    try:
        yield probe
    finally:
        await probe.close()


@pytest.fixture
def own_kubernetes() -> Iterator[Kubernetes]:
    """A server that this test may break."""
    with Kubernetes() as started:
        yield started


async def settled(probe: KubernetesProbe, reason: str | None) -> Probed:
    """The first run with this reason. Nothing but ok and unknown comes before it."""
    async with asyncio.timeout(40):
        for pause in itertools.repeat(0.05):
            probed = await probe_once(probe, timeout=1)
            if probed.outcome.reason == reason:
                break
            assert probed.outcome.status != "failed", probed.detail
            await asyncio.sleep(pause)
    return probed


def rewrite_token(kubeconfig: Path, token_file: Path) -> None:
    """Lets the kubeconfig name a file with the token, as a projected one is mounted."""
    document = json.loads(kubeconfig.read_text())
    document["users"][0]["user"] = {"tokenFile": str(token_file)}
    kubeconfig.write_text(json.dumps(document))


async def test_a_token_that_rotates_on_disk_is_picked_up(
    kubernetes: Kubernetes, namespace: str, tmp_path: Path
) -> None:
    create_alexandria(kubernetes, namespace)
    token, kubeconfig = tmp_path / "token", kubernetes.kubeconfig()
    rewrite_token(kubeconfig, token)
    token.write_text("expired")
    async with made(KubernetesWorkload, kubeconfig, namespace=namespace, selector=SELECTOR) as probe:
        probed = await probe_once(probe)
        assert probed.verdict == ("unknown", "credentials_rejected")
        assert f"cannot list pods in namespace {namespace}" in probed.detail
        rules = [{"apiGroups": [""], "resources": ["pods", "events"], "verbs": ["list", "watch"]}]
        token.write_text(kubernetes.service_account_token(namespace, "prober", rules))
        assert await settled(probe, None)


async def test_the_account_of_the_pod_we_run_in_is_used_without_a_kubeconfig(
    kubernetes: Kubernetes, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_alexandria(kubernetes, namespace)
    monkeypatch.setattr(kubernetes_access, "MOUNT", tmp_path)
    async with made(KubernetesWorkload, "", selector=SELECTOR) as probe:
        probed = await probe_once(probe)
        assert probed.verdict == ("unknown", "credentials_missing")
        assert "this is no pod" in probed.detail
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(kubernetes.port))
    (tmp_path / "namespace").write_text(namespace)
    (tmp_path / "ca.crt").write_bytes(kubernetes.authority.read_bytes())
    (tmp_path / "token").write_text(kubernetes.admin_token)
    async with made(KubernetesWorkload, "", selector=SELECTOR) as probe:
        assert probe.settings.targets() == (kubernetes.url,)
        assert (await probe_once(probe)).verdict == ("ok", None)


async def test_a_projected_token_that_rotates_in_the_pods_mount_is_picked_up(
    kubernetes: Kubernetes, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubelet writes a folder for each content and turns ``..data`` to it: pkg/volume/util/atomic_writer.go."""
    create_alexandria(kubernetes, namespace)
    monkeypatch.setattr(kubernetes_access, "MOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(kubernetes.port))
    (tmp_path / "namespace").write_text(namespace)
    (tmp_path / "ca.crt").write_bytes(kubernetes.authority.read_bytes())
    (tmp_path / "token").symlink_to("..data/token")

    def project(token: str, folder: str) -> None:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "token").write_text(token)
        (tmp_path / "..data_tmp").symlink_to(folder)
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")

    rules = [{"apiGroups": [""], "resources": ["pods", "events"], "verbs": ["list", "watch"]}]
    project("expired", "..1")
    async with made(KubernetesWorkload, "", selector=SELECTOR) as probe:
        assert (await probe_once(probe)).verdict == ("unknown", "credentials_rejected")
        project(kubernetes.service_account_token(namespace, "prober", rules), "..2")
        await settled(probe, None)
        # What is renewed while the one before is still good is read after a while, not only when it is refused.
        used = [(await kubernetes_access.read_access("")).authorization]
        project(kubernetes.token_of(namespace, "prober"), "..3")
        monkeypatch.setattr(probe.cluster(), "_access_until", 0.0)
        used.append((await probe.cluster()._current_access()).authorization)
        assert len(set(used)) == 2
        assert (await probe_once(probe)).verdict == ("ok", None)


async def test_a_kubeconfig_that_is_missing_or_broken_is_our_own_trouble(tmp_path: Path) -> None:
    for name, content in (("none", None), ("broken", "{]"), ("empty", "{}"), ("list", "[]")):
        if content is not None:
            (tmp_path / name).write_text(content)
        async with made(KubernetesWorkload, tmp_path / name, namespace="x", selector=SELECTOR) as probe:
            assert (await probe_once(probe)).verdict == ("unknown", "credentials_missing"), name


async def test_an_api_server_that_is_frozen_gone_or_back_is_told(
    own_kubernetes: Kubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_watch, "WATCH_SECONDS", 2)
    monkeypatch.setattr(kubernetes_watch, "SLACK_SECONDS", 0.5)
    create_alexandria(own_kubernetes, "default")
    async with made(KubernetesWorkload, own_kubernetes.kubeconfig(), selector=SELECTOR) as probe:
        assert (await probe_once(probe)).verdict == ("ok", None)
        own_kubernetes.pause()
        assert "timeout" in (await settled(probe, "dependency_unknown")).detail
        secret = {"secret": "alexandria-license", "key": "license.key"}
        async with made(KubernetesSecret, own_kubernetes.kubeconfig(), **secret) as asking:
            probed = await probe_once(asking, timeout=1)
        assert probed.verdict == ("unknown", "dependency_unknown"), probed.detail
        own_kubernetes.resume()
        await settled(probe, None)
        own_kubernetes.kill()
        assert "connection_re" in (await settled(probe, "dependency_unknown")).detail
        await asyncio.to_thread(own_kubernetes.start)
        own_kubernetes.call("DELETE", "/api/v1/namespaces/default/pods/alexandria-0?gracePeriodSeconds=0").expect(200)
        await settled(probe, "no_pods")


async def test_probes_of_one_cluster_share_a_client_and_its_watches(kubernetes: Kubernetes, namespace: str) -> None:
    create_alexandria(kubernetes, namespace)
    kubeconfig = kubernetes.kubeconfig()
    settings = {"namespace": namespace, "selector": SELECTOR}
    async with (
        made(KubernetesWorkload, kubeconfig, **settings) as first,
        made(KubernetesWorkload, kubeconfig, **settings) as second,
    ):
        for probe in (first, second, first):
            assert (await probe_once(probe)).verdict == ("ok", None)
        assert first.cluster() is second.cluster()
        assert [watch.lists for watch in first.cluster()._watches.values()] == [1, 1]
        await first.close()
        assert (await probe_once(second)).verdict == ("ok", None)
    assert not client._shared[asyncio.get_running_loop()]


def as_rules(permissions: Sequence[client.Permission]) -> list[dict[str, Any]]:
    return [
        {"apiGroups": [each.group], "resources": [each.resource], "verbs": [each.verb], "resourceNames": [*each.names]}
        for each in permissions
    ]


async def test_what_a_kind_says_it_needs_is_enough_and_nothing_of_it_is_too_much(
    kubernetes: Kubernetes, namespace: str
) -> None:
    with Kubelet(kubernetes, f"node-{namespace}") as kubelet:
        create_alexandria(kubernetes, namespace, nodeName=kubelet.name)
        put(kubernetes, namespace, "a licence")
        put(
            kubernetes,
            namespace,
            "x",
            "sh.helm.release.v1.demo.v1",
            owner="helm",
            name="demo",
            status="deployed",
            version="1",
        )
        template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "api", "image": "none"}]}}
        spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
        kubernetes.call("POST", path, {"metadata": {"name": "demo"}, "spec": spec}).expect(201)
        kinds: list[tuple[type[KubernetesProbe], dict[str, Any]]] = [
            (KubernetesWorkload, {"selector": SELECTOR, "deployment": "demo", "helm_release": "demo"}),
            (KubernetesLogs, {"selector": SELECTOR, "patterns": {"chain_broken": "audit chain broken"}}),
            (
                KubernetesSecret,
                {"selector": SELECTOR, "secret": "alexandria-license, alexandria-ee-license", "key": "license.key"},
            ),
        ]
        number = 0
        for kind, settings in kinds:
            given = {"namespace": namespace, **settings}
            needed = kind.Settings.model_validate(given).permissions()  # type: ignore[attr-defined]
            for missing in (None, *needed):
                number += 1
                rules = as_rules([each for each in needed if each != missing])
                token = kubernetes.service_account_token(namespace, f"prober-{number}", rules)
                async with made(kind, kubernetes.kubeconfig(token), **given) as probe:
                    probed = await probe_once(probe)
                    if missing is None:
                        assert probed.verdict == ("ok", None), probed.detail
                        continue
                    assert probed.verdict == ("unknown", "credentials_rejected"), (missing, probed.detail)
                    assert f"we may not {missing.verb} {missing.resource}" in probed.detail
                    assert f"in namespace {namespace}" in probed.detail

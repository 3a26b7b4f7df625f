"""`kubernetes_secret` on a real API server."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from estate.servers.kubernetes import Kubernetes
from tests.kubernetes_pods import create_alexandria
from tests.probing import Probed, probe_once
from tocsin_probes.kubernetes_secret import KubernetesSecret
from tocsin_sandbox.kubernetes_objects import SELECTOR, healthy, running, status

pytestmark = pytest.mark.estate

NAMES = ["alexandria-ee-license", "alexandria-license"]


def put(kubernetes: Kubernetes, namespace: str, value: str | None, secret: str = NAMES[0], **labels: str) -> None:
    """Creates or changes the Secret; without a value it has no such key."""
    data = {} if value is None else {"license.key": base64.b64encode(value.encode()).decode()}
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret, "namespace": namespace, "labels": labels},
        "data": data | {"other": ""},
    }
    kubernetes.apply(json.dumps(body))


@asynccontextmanager
async def looking(
    kubernetes: Kubernetes, namespace: str, memory: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[Callable[[], Awaitable[Probed]]]:
    given = {"kubeconfig": str(kubernetes.kubeconfig()), "namespace": namespace, "secret": NAMES, "key": "license.key"}
    probe = KubernetesSecret(KubernetesSecret.Settings.model_validate(given | settings))
    remembered = {} if memory is None else memory
    try:
        yield lambda: probe_once(probe, memory=remembered)
    finally:
        await probe.close()


async def test_a_secret_is_found_under_either_name_and_judged_by_its_key(
    kubernetes: Kubernetes, namespace: str
) -> None:
    async with looking(kubernetes, namespace) as look:
        probed = await look()
        assert probed.verdict == ("failed", "secret_missing")
        assert probed.detail == f"no Secret alexandria-ee-license or alexandria-license in {namespace}"
        put(kubernetes, namespace, "a licence", NAMES[1])
        assert (await look()).verdict == ("ok", None)
        put(kubernetes, namespace, None, NAMES[0])
        probed = await look()
        assert probed.verdict == ("failed", "key_missing")
        assert probed.detail == "alexandria-ee-license has no key license.key; its keys are other"
        put(kubernetes, namespace, " \n", NAMES[0])
        assert (await look()).verdict == ("failed", "empty")


async def test_a_value_that_changed_is_loaded_only_by_what_starts_after_it(
    kubernetes: Kubernetes, namespace: str
) -> None:
    create_alexandria(kubernetes, namespace)
    put(kubernetes, namespace, "the first licence")
    memory: dict[str, Any] = {}
    async with looking(kubernetes, namespace, memory, selector=SELECTOR, containers=["api"]) as look:
        assert (await look()).verdict == ("ok", None)
        put(kubernetes, namespace, "the first licence", touched="yes")
        assert (await look()).verdict == ("ok", None), "another version of the object, and the same value"
        put(kubernetes, namespace, "the second licence")
        probed = await look()
        assert probed.verdict == ("failed", "changed_not_loaded")
        assert "api of alexandria-0 started before: restart to load it" in probed.detail
    # A restart of the daemon forgets nothing, and neither the value nor a plain hash of it is remembered.
    async with looking(kubernetes, namespace, memory, selector=SELECTOR, containers=["api"]) as look:
        assert (await look()).verdict == ("failed", "changed_not_loaded")
        assert "licence" not in json.dumps(memory)
        only_api = status(*healthy(api=running("api", seconds=-2)))
        kubernetes.set_pod_status(namespace, "alexandria-0", only_api)
        deadline = time.monotonic() + 10
        while (probed := await look()).outcome.findings and time.monotonic() < deadline:
            pass
        assert probed.verdict == ("ok", None)
        assert "every container started after its last change" in probed.detail
        assert "no change of it waits to be loaded" in (await look()).detail

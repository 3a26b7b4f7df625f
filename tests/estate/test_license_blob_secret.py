"""`license_blob` out of a Secret of a real API server."""

from __future__ import annotations

import pytest

from estate.servers.kubernetes import Kubernetes
from tests.estate.test_kubernetes_secret import put
from tests.probing import probe_once
from tests.unit.probes.test_license_blob_probe import TRUSTED, claims, jwt
from tocsin_probes.license_blob import LicenseBlob

pytestmark = pytest.mark.estate


async def test_a_licence_is_read_from_its_secret_with_no_more_than_get_on_it(
    kubernetes: Kubernetes, namespace: str
) -> None:
    settings = LicenseBlob.Settings.model_validate(
        {"namespace": namespace, "source": {"secret": "other, licence"}, "encoding": "jwt", "trusted_keys": TRUSTED}
    )
    rules = [
        {"apiGroups": [""], "resources": [each.resource], "verbs": [each.verb], "resourceNames": [*each.names]}
        for each in settings.permissions()
    ]
    token = kubernetes.service_account_token(namespace, "prober", rules)
    probe = LicenseBlob(settings.model_copy(update={"kubeconfig": str(kubernetes.kubeconfig(token))}))
    try:
        assert (await probe_once(probe)).verdict == ("failed", "missing")
        put(kubernetes, namespace, jwt(claims()), "licence")
        assert (await probe_once(probe)).verdict == ("ok", None)
        put(kubernetes, namespace, jwt(claims())[:-8] + "AAAAAAAA", "licence")
        assert (await probe_once(probe)).verdict == ("failed", "signature_invalid")
    finally:
        await probe.close()
    bare = kubernetes.service_account_token(namespace, "nobody")
    probe = LicenseBlob(settings.model_copy(update={"kubeconfig": str(kubernetes.kubeconfig(bare))}))
    try:
        probed = await probe_once(probe)
        assert probed.verdict == ("unknown", "credentials_rejected")
        assert f"we may not get secrets other in namespace {namespace}" in probed.detail
    finally:
        await probe.close()

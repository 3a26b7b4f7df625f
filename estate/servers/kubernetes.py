"""A Kubernetes API server 1.34.4 on etcd, without kubelets or controllers.

Objects are stored, validated and authorised as in a cluster; nothing acts on them. A pod's status is what a test
writes to it. Facts: kube-apiserver's command line reference, "Using RBAC Authorization", "TokenRequest" in the
Kubernetes 1.34 documentation; etcd 3.4 "Configuration flags".
"""

from __future__ import annotations

import json
import secrets
import ssl
import subprocess
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, Self

from estate.install import ensure
from estate.ports import LOOPBACK, reserve_port
from estate.process import Server
from estate.web import Answer, answers, request


class CommandError(Exception):
    """kubectl, helm or openssl failed; the text is what it said."""


class Etcd(Server):
    """One etcd member, without syncing to disk."""

    name: ClassVar[str] = "etcd"

    def __init__(self) -> None:
        self._binary = ensure("etcd") / "etcd"
        super().__init__()
        self.port = reserve_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self._peer_url = f"http://{LOOPBACK}:{reserve_port()}"

    def command(self) -> Sequence[str]:
        return [
            str(self._binary),
            f"--data-dir={self.folder / 'data'}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={self._peer_url}",
            f"--initial-advertise-peer-urls={self._peer_url}",
            f"--initial-cluster=default={self._peer_url}",
        ]

    def ready(self) -> bool:
        return answers(f"{self.url}/health")


class Kubernetes(Server):
    """The API server, with an etcd of its own in `etcd`. `admin_token` is in `system:masters`.

    `pause`, `kill` and a crash concern the API server alone; `stop` ends both.
    """

    name: ClassVar[str] = "kubernetes"

    def __init__(self, *, options: Sequence[str] = ()) -> None:
        self._binaries = ensure("kubernetes") / "bin"
        super().__init__()
        self.etcd = Etcd()
        self.port = reserve_port()
        self.url = f"https://{LOOPBACK}:{self.port}"
        self.admin_token = secrets.token_hex(16)
        self.authority = self.folder / "certificates" / "apiserver.crt"
        self._options = list(options)
        self._tls: ssl.SSLContext | None = None

    def prepare(self) -> None:
        if not self.etcd.running:
            self.etcd.start()
        key = self.folder / "service-account.key"
        if not key.exists():
            # Signs service account tokens. The older PEM form, because a PKCS#8 key is not taken as a public one too.
            _run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key)])
            (self.folder / "tokens.csv").write_text(f'{self.admin_token},admin,admin,"system:masters"\n')

    def command(self) -> Sequence[str]:
        key = self.folder / "service-account.key"
        return [
            str(self._binaries / "kube-apiserver"),
            f"--etcd-servers={self.etcd.url}",
            f"--bind-address={LOOPBACK}",
            f"--advertise-address={LOOPBACK}",
            f"--secure-port={self.port}",
            f"--cert-dir={self.folder / 'certificates'}",
            f"--service-account-issuer={self.url}",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.0.0.0/24",
            # Loopback cannot be the address of the `kubernetes` endpoint.
            "--endpoint-reconciler-type=none",
            # No controller makes the default service accounts that this plugin asks of every pod.
            "--disable-admission-plugins=ServiceAccount",
            *self._options,
        ]

    def ready(self) -> bool:
        if not self.authority.exists():
            return False
        return self.call("GET", "/readyz").status == 200

    def start(self) -> Self:
        try:
            return super().start()
        except BaseException:
            self.etcd.stop()
            raise

    def stop(self) -> None:
        super().stop()
        self.etcd.stop()

    def close(self) -> None:
        super().close()
        self.etcd.close()

    # The API

    def call(self, method: str, path: str, json: object = None, *, token: str | None = None) -> Answer:
        """One request to the API, as the administrator unless another token is given. PATCH merges."""
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=str(self.authority))
        headers = {"Authorization": f"Bearer {token or self.admin_token}"}
        if method == "PATCH":
            headers["Content-Type"] = "application/merge-patch+json"
        return request(method, f"{self.url}{path}", json=json, headers=headers, tls=self._tls, timeout=30)

    def kubeconfig(self, token: str | None = None, *, namespace: str = "default") -> Path:
        """A kubeconfig file for a token (the administrator's unless told otherwise)."""
        path = self.folder / f"kubeconfig-{secrets.token_hex(4)}"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "estate",
            "clusters": [
                {"name": "estate", "cluster": {"server": self.url, "certificate-authority": str(self.authority)}}
            ],
            "users": [{"name": "estate", "user": {"token": token or self.admin_token}}],
            "contexts": [
                {"name": "estate", "context": {"cluster": "estate", "user": "estate", "namespace": namespace}}
            ],
        }
        # JSON is YAML.
        path.write_text(json.dumps(content, indent=1))
        path.chmod(0o600)
        return path

    def kubectl(self, *arguments: str, text: str | None = None, token: str | None = None) -> str:
        """Run kubectl with `text` as its input and return its output. Raises CommandError."""
        config = self.kubeconfig(token)
        return _run([str(self._binaries / "kubectl"), f"--kubeconfig={config}", *arguments], text)

    def helm(self, *arguments: str) -> str:
        """Run helm 3 as the administrator and return its output. Raises CommandError."""
        return _run([str(ensure("helm") / "bin" / "helm"), f"--kubeconfig={self.kubeconfig()}", *arguments])

    def apply(self, manifest: str) -> str:
        """Apply YAML or JSON on the server side."""
        return self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", text=manifest)

    def install_crds(self) -> None:
        """Install the custom resource definitions of the Prometheus Operator, and wait until they are served."""
        self.kubectl("apply", "--server-side", "-f", str(ensure("crds")))
        self.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")

    def create_namespace(self, name: str) -> None:
        """Create a namespace."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        self.call("POST", "/api/v1/namespaces", body).expect(201)

    def service_account_token(
        self, namespace: str, name: str, rules: Sequence[Mapping[str, Any]] = (), *, seconds: int = 3600
    ) -> str:
        """Create a service account that may do what the `rules` of a Role say, in its namespace. Returns a token.

        Returns when the authoriser has heard of it all.
        """
        meta = {"name": name, "namespace": namespace}
        group = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
        self.call("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": meta}).expect(201)
        if rules:
            self.call("POST", f"{group}/roles", {"metadata": meta, "rules": list(rules)}).expect(201)
            binding = {
                "metadata": meta,
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
            }
            self.call("POST", f"{group}/rolebindings", binding).expect(201)
            self.wait_for_rights(namespace, name, rules)
        return self.token_of(namespace, name, seconds=seconds)

    def wait_for_rights(self, namespace: str, account: str, rules: Sequence[Mapping[str, Any]]) -> None:
        """Wait until a service account may do what the `rules` of its Role say.

        The authoriser watches roles and bindings, so it hears of a new one a moment after it was created. Raises
        TimeoutError after ten seconds.
        """
        deadline = time.monotonic() + 10
        for rule in rules:
            names = rule.get("resourceNames") or [""]
            for group, resource, verb, name in product(rule["apiGroups"], rule["resources"], rule["verbs"], names):
                of, _, part = resource.partition("/")
                right = {"namespace": namespace, "group": group, "resource": of, "verb": verb, "name": name}
                right["subresource"] = part
                while not self._may(namespace, account, right):
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"{account} may not {verb} {resource} {name} in {namespace} after 10 s")
                    time.sleep(0.02)

    def _may(self, namespace: str, account: str, right: Mapping[str, str]) -> bool:
        spec = {"user": f"system:serviceaccount:{namespace}:{account}", "resourceAttributes": dict(right)}
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        answer = self.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body).expect(201)
        return bool(answer.json()["status"]["allowed"])

    def token_of(self, namespace: str, name: str, *, seconds: int = 3600) -> str:
        """A fresh token of a service account. 600 seconds is the least."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        return str(self.call("POST", path, body).expect(201).json()["status"]["token"])

    def create_pod(
        self,
        namespace: str,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        containers: Sequence[str] = ("main",),
        spec: Mapping[str, Any] | None = None,
    ) -> None:
        """Create a pod whose containers never run."""
        body = {
            "metadata": {"name": name, "labels": dict(labels or {})},
            "spec": {
                "containers": [{"name": container, "image": "example.invalid/none:1"} for container in containers],
                **(spec or {}),
            },
        }
        self.call("POST", f"/api/v1/namespaces/{namespace}/pods", body).expect(201)

    def set_pod_status(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        """Write a pod's status (`phase`, `containerStatuses`, `conditions`, …) as a kubelet would."""
        path = f"/api/v1/namespaces/{namespace}/pods/{name}/status"
        self.call("PATCH", path, {"status": dict(status)}).expect(200)


def _run(command: Sequence[str], text: str | None = None) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=180)
    if done.returncode:
        raise CommandError(f"{Path(command[0]).name} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout

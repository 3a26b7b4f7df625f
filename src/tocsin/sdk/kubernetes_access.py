"""How to reach a Kubernetes API server, and as whom: a service account's mount, or a kubeconfig.

The mount is read here, and a kubeconfig that has a token; any other by kubernetes-asyncio, which knows every form of
credentials that kubectl takes. It is imported only then, because it brings some 40 MB of models that nothing here uses,
and takes seconds.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import yaml

from tocsin.model import CommonReason
from tocsin.sdk.faults import ProbeFault

MOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its token, CA and namespace. Kubernetes documentation, "Accessing the API from a Pod"."""


_UNUSABLE: Final = (OSError, yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError)
"""What reading may raise when the content is not what it should be."""


@dataclass(frozen=True, slots=True)
class Access:
    """``authorization``: the header's value as it is now; empty when a client certificate says who we are."""

    server: str
    authorization: str
    tls: ssl.SSLContext | None
    server_hostname: str | None = None


async def read_access(kubeconfig: str, context: str = "") -> Access:
    """Reads it anew, tokens included. Without a kubeconfig: that of the pod we run in.

    Raises `ProbeFault` (credentials_missing) when there is none, or it cannot be used.
    """
    try:
        return await _from_kubeconfig(kubeconfig, context) if kubeconfig else _from_mount()
    except _UNUSABLE as error:
        what = f"the kubeconfig {kubeconfig}" if kubeconfig else f"the service account under {MOUNT}"
        raise ProbeFault(CommonReason.CREDENTIALS_MISSING, f"cannot use {what}: {_why(error)}") from error


def server_of(kubeconfig: str, context: str = "") -> str | None:
    """``https://host:port`` of the API server; None while it cannot be told."""
    try:
        return _cluster_of(kubeconfig, context)["server"].rstrip("/") if kubeconfig else _mounted_server()
    except _UNUSABLE:
        return None


def default_namespace(kubeconfig: str, context: str = "") -> str:
    """The namespace of the kubeconfig's context, or of the pod we run in; ``default`` when neither says."""
    try:
        if kubeconfig:
            return str(_context_of(_document(kubeconfig), context).get("namespace") or "default")
        return (MOUNT / "namespace").read_text("utf-8").strip() or "default"
    except _UNUSABLE:
        return "default"


def _mounted_server() -> str:
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _from_mount() -> Access:
    try:
        server = _mounted_server()
    except KeyError:
        raise ValueError("this is no pod (KUBERNETES_SERVICE_HOST is not set); set `kubeconfig`") from None
    token = (MOUNT / "token").read_text("utf-8").strip()
    return Access(server, f"Bearer {token}", ssl.create_default_context(cafile=str(MOUNT / "ca.crt")))


def _from_token(path: str, context: str) -> Access | None:
    """A kubeconfig whose user is a token or a file with one; None for any other.

    Kubernetes documentation, "kubeconfig (v1)": the file wins, and paths are relative to the kubeconfig.
    """
    document = _document(path)
    chosen = _context_of(document, context)
    user, cluster = _entry(document, "user", chosen["user"]), _entry(document, "cluster", chosen["cluster"])
    if not user or not user.keys() <= _TOKEN_KEYS or not cluster.keys() <= _CLUSTER_KEYS:
        return None
    folder = Path(path).absolute().parent
    token = (folder / user["tokenFile"]).read_text("utf-8") if "tokenFile" in user else user["token"]
    tls = None
    if cluster["server"].startswith("https"):
        data, file = cluster.get("certificate-authority-data"), cluster.get("certificate-authority")
        tls = ssl.create_default_context(
            cafile=str(folder / file) if file and not data else None,
            cadata=base64.b64decode(data).decode("ascii") if data else None,
        )
        if cluster.get("insecure-skip-tls-verify"):
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    return Access(cluster["server"].rstrip("/"), f"Bearer {token.strip()}", tls, cluster.get("tls-server-name"))


_TOKEN_KEYS: Final = {"token", "tokenFile"}
_CLUSTER_KEYS: Final = {
    "server",
    "certificate-authority",
    "certificate-authority-data",
    "insecure-skip-tls-verify",
    "tls-server-name",
}


async def _from_kubeconfig(path: str, context: str) -> Access:
    plain = _from_token(path, context)
    if plain is not None:
        return plain
    # In a thread: it takes a second or more, in which every other probe would stand still.
    await asyncio.to_thread(import_module, "kubernetes_asyncio.config.kube_config")
    from kubernetes_asyncio.client import Configuration
    from kubernetes_asyncio.config import ConfigException
    from kubernetes_asyncio.config.kube_config import KubeConfigLoader

    found = Configuration()
    folder = str(Path(path).absolute().parent)
    try:
        loader = KubeConfigLoader(_document(path), active_context=context or None, config_base_path=folder)
        await loader.load_and_set(found)
    except (ConfigException, RuntimeError, AssertionError) as error:
        raise ValueError(str(error) or "it is incomplete") from error
    host, tls = str(found.host), None
    if host.startswith("https"):
        tls = ssl.create_default_context(cafile=found.ssl_ca_cert)
        if found.cert_file:
            tls.load_cert_chain(found.cert_file, found.key_file)
        if not found.verify_ssl:
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    return Access(host, str(found.api_key.get("BearerToken", "")).strip(), tls, found.tls_server_name)


def _document(path: str) -> Any:
    return yaml.safe_load(Path(path).read_text("utf-8"))


def _context_of(document: Any, context: str) -> Any:
    wanted = context or document["current-context"]
    return _entry(document, "context", wanted)


def _entry(document: Any, kind: str, name: str) -> Any:
    """The content of a named entry. Raises `LookupError`."""
    found = [entry[kind] for entry in document[f"{kind}s"] if entry["name"] == name]
    return found[0]


def _cluster_of(path: str, context: str) -> Any:
    document = _document(path)
    return _entry(document, "cluster", _context_of(document, context)["cluster"])


def _why(error: Exception) -> str:
    """A reason without the content of the file, which may be a credential."""
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'}: {error.strerror or error}"
    return " ".join(str(error).split())[:200] if isinstance(error, ValueError) else type(error).__name__

"""``tocsin rbac``: the Role that a configuration's Kubernetes probes need, and nothing beyond it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any

import typer
import yaml

from tocsin.cli.options import ConfigOption, EnvFileOption, ProfileOption, loaded
from tocsin.config import Configuration
from tocsin.sdk.kubernetes import KubernetesSettings, Permission


def rbac(
    config: ConfigOption = None,
    profile: ProfileOption = None,
    env_file: EnvFileOption = None,
    name: Annotated[str, typer.Option(help="Of the Roles and RoleBindings.")] = "tocsin",
    service_account: Annotated[
        str, typer.Option(metavar="[NAMESPACE:]NAME", help="Who runs tocsin; without a namespace: in the Role's own.")
    ] = "tocsin",
) -> None:
    """Print the Roles and RoleBindings that the Kubernetes probes need, one pair a namespace.

    Example: `tocsin rbac --profile alexandria --service-account monitoring:tocsin | kubectl apply -f -`
    """
    configuration, registry = loaded(config, profile, env_file)
    needed, unclear = permissions_of(configuration, registry)
    if not needed:
        typer.echo("tocsin rbac: no probe asks a Kubernetes API server", err=True)
        raise typer.Exit(2)
    documents = [
        document
        for namespace, permissions in sorted(needed.items())
        for document in role(name, namespace, permissions, service_account)
    ]
    typer.echo(yaml.safe_dump_all(documents, sort_keys=False, default_flow_style=False).rstrip())
    for probe in unclear:
        typer.echo(f"note: what {probe} needs is not known before its contracts are set (`tocsin plan`)", err=True)


def permissions_of(
    configuration: Configuration, registry: Mapping[str, Any]
) -> tuple[dict[str, set[Permission]], list[str]]:
    """By namespace what its probes need; and the probes of which that cannot be told yet."""
    needed: dict[str, set[Permission]] = {}
    unclear = []
    for spec in configuration.probes.values():
        if isinstance(spec.settings, KubernetesSettings):
            needed.setdefault(spec.settings.chosen_namespace(), set()).update(spec.settings.permissions())
        elif not spec.off_because and issubclass(registry[spec.kind].Settings, KubernetesSettings):
            unclear.append(spec.name)
    return {namespace: permissions for namespace, permissions in needed.items() if permissions}, unclear


def rules(permissions: Collection[Permission]) -> list[dict[str, Any]]:
    """The fewest rules of a Role that allow exactly these. Kubernetes documentation, "Using RBAC Authorization"."""
    everything = {(each.group, each.resource, each.verb) for each in permissions if not each.names}
    names: dict[tuple[str, str, str], set[str]] = {key: set() for key in everything}
    for each in permissions:
        key = (each.group, each.resource, each.verb)
        if key not in everything:
            names.setdefault(key, set()).update(each.names)
    verbs: dict[tuple[str, str, tuple[str, ...]], set[str]] = {}
    for (group, resource, verb), which in names.items():
        verbs.setdefault((group, resource, tuple(sorted(which))), set()).add(verb)
    resources: dict[tuple[str, tuple[str, ...], tuple[str, ...]], set[str]] = {}
    for (group, resource, only), allowed in verbs.items():
        resources.setdefault((group, only, tuple(sorted(allowed))), set()).add(resource)
    return [
        {"apiGroups": [group], "resources": sorted(which)}
        | ({"resourceNames": list(only)} if only else {})
        | {"verbs": list(allowed)}
        for (group, only, allowed), which in sorted(resources.items())
    ]


def role(name: str, namespace: str, permissions: Collection[Permission], service_account: str) -> list[dict[str, Any]]:
    """A Role and its RoleBinding."""
    home, _, account = service_account.rpartition(":")
    metadata = {"name": name, "namespace": namespace}
    group = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": rules(permissions)},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": dict(metadata),
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": home or namespace}],
        },
    ]

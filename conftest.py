"""What holds for every test. Plugins that lend servers and look for leftovers can only be named here, at the root."""

import asyncio
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

pytest_plugins = ["tests.fixtures_estate", "tests.leftovers"]

# looptime asks the policy for a loop before synchronous tests too; with "none" already said, none is made and leaked.
asyncio.set_event_loop(None)

SHARING = (
    "tests/estate/test_oidc_realm.py",
    "tests/estate/test_oidc_token.py",
    "tests/estate/test_servers.py",
    "tests/estate/test_http_probe.py",
    "tests/estate/test_kubernetes_access.py",
    "tests/estate/test_kubernetes_logs.py",
    "tests/estate/test_kubernetes_rbac.py",
    "tests/estate/test_kubernetes_secret.py",
    "tests/estate/test_kubernetes_workload.py",
    "tests/estate/test_license_blob_secret.py",
    "tests/estate/test_sandbox_cluster.py",
    "tests/estate/test_chain_manners.py",
    "tests/chart/test_chart_on_cluster.py",
)
"""What is lent Keycloak or a Kubernetes API server, which take long to start: one worker does it all, with one each."""

LONGEST = (
    "tests/drills/test_drills.py",
    "tests/estate/test_faults.py",
    "tests/process/test_daemon.py",
    *SHARING,
    "tests/process/",
    "tests/estate/test_sandbox",
    "tests/estate/test_chain",
    "tests/drills/",
    "tests/estate/",
)
"""What takes long is begun first, so that no worker is left with it in the end."""


class Sharing(LoadFileScheduling):
    """Hands out whole files to workers, and those of `SHARING` to the same one."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return SHARING[0] if file in SHARING else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    return Sharing(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        places = (number for number, start in enumerate(LONGEST) if item.nodeid.startswith(start))
        return next(places, len(LONGEST))

    items.sort(key=rank)

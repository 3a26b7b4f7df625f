"""What holds for every test. Plugins that lend servers and look for leftovers can only be named here, at the root."""

import asyncio

import pytest

pytest_plugins = ["tests.fixtures_estate", "tests.leftovers"]

# looptime asks the policy for a loop before synchronous tests too; with "none" already said, none is made and leaked.
asyncio.set_event_loop(None)

LONGEST = (
    "tests/drills/test_drills.py",
    "tests/estate/test_faults.py",
    "tests/process/",
    "tests/estate/test_sandbox",
    "tests/estate/test_oidc",
    "tests/estate/test_chain",
    "tests/drills/",
    "tests/estate/",
)
"""What takes long is begun first, so that no worker is left with it in the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        places = (number for number, start in enumerate(LONGEST) if item.nodeid.startswith(start))
        return next(places, len(LONGEST))

    items.sort(key=rank)

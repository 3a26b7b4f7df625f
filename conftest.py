"""What holds for every test. Plugins that lend servers and look for leftovers can only be named here, at the root."""

import asyncio

pytest_plugins = ["tests.fixtures_estate", "tests.leftovers"]

# looptime asks the policy for a loop before synchronous tests too; with "none" already said, none is made and leaked.
asyncio.set_event_loop(None)

"""What holds for every unit test."""

import asyncio

# looptime asks the policy for a loop before synchronous tests too; with "none" already said, none is made and leaked.
asyncio.set_event_loop(None)

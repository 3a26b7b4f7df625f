"""Kind ``tcp``: something accepts connections."""

from __future__ import annotations

import asyncio

from tocsin.model import Outcome, ReasonEnum
from tocsin.sdk import Probe, ProbeContext, ProbeSettings
from tocsin.sdk.dial import Address, dial, split_address


class Tcp(Probe):
    """A TCP connection to one address. It proves a listener and the way to it, and nothing about what it serves."""

    kind = "tcp"

    class Settings(ProbeSettings):
        address: Address
        """``host:port``."""

        def targets(self) -> tuple[str, ...]:
            return (f"tcp://{self.address}",)

    class Reason(ReasonEnum):
        """None of its own: what can go wrong with a connection is common to all kinds."""

    settings: Settings

    async def run(self, ctx: ProbeContext) -> Outcome:
        host, port = split_address(self.settings.address)
        async with ctx.permits.request(self.settings.targets()[0]):
            transport, _ = await dial(asyncio.Protocol, host, port)
            peer = transport.get_extra_info("peername")
            transport.abort()
        return Outcome.ok(f"connected to {peer[0]}" if peer else "connected")

"""How much a PostgreSQL server may send: asyncpg keeps a message until it is whole, however long it says that it is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Final

from asyncpg import connect_utils, protocol

MAX_GREETING_BYTES: Final = 1 << 20
"""Until the session stands; what a server sends then are a few hundred bytes."""


class BoundedProtocol(protocol.Protocol):  # type: ignore[misc]
    """Cuts the connection to a server that sends more than ``left`` bytes, from where it was set; None: any number."""

    left: int | None = MAX_GREETING_BYTES
    _wire: Any = None

    def connection_made(self, transport: Any) -> None:
        self._wire = transport
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self.left is not None:
            self.left -= len(data)
            if self.left < 0:
                self._wire.abort()
                return
        super().data_received(data)


# asyncpg makes its protocol by this name and takes no other; a test with a server that lies sees that it is used.
connect_utils.protocol = SimpleNamespace(Protocol=BoundedProtocol)


def bound(connection: Any, size: int | None) -> None:
    """From now on at most ``size`` bytes from this server; None for any number."""
    connection._protocol.left = size

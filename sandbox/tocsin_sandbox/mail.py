"""A mail server that takes nobody's mail: greeting, EHLO, NOOP, QUIT. RFC 5321."""

from __future__ import annotations

import asyncio
import logging


class MailServer:
    """On one loopback port; may be stopped and started again. ``access_log`` gets each command."""

    def __init__(self, port: int, access_log: logging.Logger | None = None) -> None:
        self.port = port
        self._log = access_log or logging.getLogger("tocsin.sandbox.mail")
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._converse, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            server.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(b"220 mail.practice.invalid ESMTP\r\n")
            while line := await asyncio.wait_for(reader.readline(), 30):
                command = line.split()[0].upper() if line.split() else b""
                self._log.debug("%s", command.decode("ascii", "replace"))
                if command == b"QUIT":
                    writer.write(b"221 Bye\r\n")
                    break
                known = command in (b"EHLO", b"HELO", b"NOOP", b"RSET")
                writer.write(b"250 mail.practice.invalid\r\n" if known else b"502 Command not implemented\r\n")
                await writer.drain()
        except (OSError, TimeoutError, ValueError):
            return
        finally:
            writer.close()

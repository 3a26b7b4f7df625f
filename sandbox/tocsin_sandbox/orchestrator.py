"""Alexandria's orchestrator: gRPC on a Unix socket. Published: the socket's path, and that a crash-looping
orchestrator leaves no socket. Whether it serves ``grpc.health.v1.Health`` is not published; this one does."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

SERVICE = ""
"""The whole server, as grpc.health.v1 names it; the orchestrator's own service names are not published."""


class Orchestrator:
    """The server. ``path`` has at most 107 bytes (unix(7))."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._server: grpc.aio.Server | None = None
        self._silent: socket.socket | None = None
        self._health = health.aio.HealthServicer()

    @property
    def running(self) -> bool:
        return self._server is not None

    async def start(self) -> None:
        if self._server is not None:
            return
        await self.stop()
        self._health = health.aio.HealthServicer()
        server = grpc.aio.server()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        server.add_insecure_port(f"unix:{self.path}")
        await server.start()
        await self.serve(True)
        self._server = server

    async def stop(self, *, leave_socket: bool = False) -> None:
        """Stop serving. ``leave_socket``: the file stays, with nobody behind it, as after a killed container."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop(None)
        if self._silent is not None:
            self._silent.close()
            self._silent = None
        self.remove()
        if leave_socket:
            _abandon(self.path)

    def hang(self) -> None:
        """Take connections from now on and answer nothing: the kernel does so for who listens and never accepts. The
        server must be stopped."""
        self._silent = socket.socket(socket.AF_UNIX)
        self._silent.bind(str(self.path))
        self._silent.listen(64)

    async def serve(self, serving: bool) -> None:
        """What the health service answers: SERVING or NOT_SERVING."""
        status = health_pb2.HealthCheckResponse
        await self._health.set(SERVICE, status.SERVING if serving else status.NOT_SERVING)

    def permit(self, allowed: bool) -> None:
        """Whether others than root may connect; on Linux that takes write permission on the socket (unix(7))."""
        os.chmod(self.path, 0o777 if allowed else 0o000)

    def remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()


def _abandon(path: Path) -> None:
    """A socket file that refuses connections: bound once, never listening again."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))

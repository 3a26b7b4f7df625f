"""A gRPC server on a Unix socket in a process of its own, as the orchestrator of Alexandria is one.

The platform publishes neither its services nor whether it serves health; `health=False` has none. Facts: "GRPC Health
Checking Protocol" in the gRPC documentation.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from concurrent import futures
from pathlib import Path
from typing import Any, ClassVar

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from estate.process import Server

SERVICE = "alexandria.Orchestrator"
"""A service that the health service knows beside the server as a whole. Its name is ours."""


class Orchestrator(Server):
    """Serves on `socket`. `answer_after`: seconds that each answer takes."""

    name: ClassVar[str] = "orchestrator"

    def __init__(self, *, health: bool = True, answer_after: float = 0.0) -> None:
        super().__init__()
        self.port = 0
        self.socket = self.folder / "orchestrator.sock"
        self.health = health
        self.answer_after = answer_after

    def command(self) -> Sequence[str]:
        what = "health" if self.health else "none"
        return [sys.executable, "-m", "estate.servers.orchestrator", str(self.socket), what, str(self.answer_after)]

    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(Path(__file__).parents[2])}

    def ready(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.socket))
        return True

    def serve(self, serving: bool) -> None:
        """Say SERVING or NOT_SERVING from now on. Returns when it does."""
        os.kill(self.pid, signal.SIGUSR1 if serving else signal.SIGUSR2)
        wanted = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        deadline = time.monotonic() + self.start_patience
        with grpc.insecure_channel(f"unix:{self.socket}") as channel:
            while health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest()).status != wanted:
                if time.monotonic() > deadline:
                    raise RuntimeError("the orchestrator does not switch")
                time.sleep(0.01)


class _SlowHealth(health.HealthServicer):  # type: ignore[misc]
    def __init__(self, answer_after: float) -> None:
        super().__init__()
        self._answer_after = answer_after

    def Check(self, request: Any, context: Any) -> Any:
        time.sleep(self._answer_after)
        return super().Check(request, context)


def main(path: str, what: str, answer_after: str) -> None:
    """Serve until SIGTERM."""
    Path(path).unlink(missing_ok=True)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    servicer = _SlowHealth(float(answer_after))
    servicer.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    if what == "health":
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port(f"unix:{path}")
    server.start()
    ended = threading.Event()

    def switch(number: int, _: object) -> None:
        serving = number == signal.SIGUSR1
        states = health_pb2.HealthCheckResponse
        servicer.set("", states.SERVING if serving else states.NOT_SERVING)

    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, switch)
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()
    server.stop(grace=0).wait()
    # An answer that is still being slept over would keep the process for as long.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])

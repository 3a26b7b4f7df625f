"""`grpc_socket`: a Unix socket is there, lets us in, and a gRPC server behind it serves."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from functools import partial
from typing import Annotated

from pydantic import Field

from tocsin.sdk import (
    CommonReason,
    Finding,
    Outcome,
    Probe,
    ProbeContext,
    ProbeSettings,
    ReasonEnum,
    Severity,
    Status,
    Words,
)
from tocsin.sdk.faults import quoted
from tocsin.sdk.files import look_at

MAX_PATH_BYTES = 107
"""``sun_path`` holds 108 bytes, the last of which is zero. unix(7)."""
MAX_ANSWER_BYTES = 64 << 10
FAREWELL_SECONDS = 0.2
"""What is kept of the run's time to close the channel."""


class GrpcSocket(Probe):
    """A Unix socket exists, is one, permits and accepts a connection; then gRPC health, where it is served.

    Runs where the socket is: on the host, or in the pod (`tocsin run` as a sidecar that shares the volume). A server
    without the health service is judged by whether it speaks gRPC at all, and the answer says so.
    """

    kind = "grpc_socket"

    class Settings(ProbeSettings):
        paths: Annotated[Words, Field(min_length=1, max_length=10)]
        """Where the socket may be; the first on which somebody listens counts."""
        service: str = ""
        """The name to ask the health service for; empty: the server as a whole."""

        def targets(self) -> tuple[str, ...]:
            return tuple(f"unix://{path}" for path in self.paths)

    class Reason(ReasonEnum):
        SOCKET_MISSING = (
            "socket_missing",
            "There is no socket: its server has not started, or has ended and removed it.",
        )
        NOT_A_SOCKET = "not_a_socket", "What is at the path is a file, a folder or a socket of another type."
        PERMISSION_DENIED = "permission_denied", "The socket or a folder above it does not let the probe in."
        NOBODY_LISTENING = "nobody_listening", "The socket is a leftover: no process listens on it."
        NOT_SERVING = "not_serving", "The server answers that it does not serve, or with an error."
        DEADLINE = "deadline", "Something listens, and does not answer within the timeout."
        NOT_GRPC = "not_grpc", "Something listens, and does not speak gRPC."
        SERVICE_UNKNOWN = (
            "service_unknown",
            "The health service does not know the configured `service`.",
            Severity.TICKET,
            Status.UNKNOWN,
        )
        PATH_TOO_LONG = (
            "path_too_long",
            "The path is longer than a socket's address can be (107 bytes).",
            Severity.TICKET,
            Status.UNKNOWN,
        )

    settings: Settings

    async def run(self, ctx: ProbeContext) -> Outcome:
        paths, wrong = self.settings.paths, []
        for number, path in enumerate(paths):
            async with ctx.permits.request(f"unix://{path}"):
                share = (ctx.remaining() - FAREWELL_SECONDS) / (len(paths) - number)
                found = await look_at(ctx, path, partial(self._look, path)) or await self._connect(path, share)
                if found is None:
                    return await self._ask(path, max(0.1, ctx.remaining() - FAREWELL_SECONDS))
            wrong.append(found)
        # A missing one says least: the other candidate may be the one that matters.
        telling = [finding for finding in wrong if finding.reason != self.Reason.SOCKET_MISSING] or wrong
        return Outcome.bad(self.Reason(telling[0].reason), "; ".join(finding.detail for finding in telling))

    def _look(self, path: str) -> Finding | None:
        reason = self.Reason
        if len(os.fsencode(path)) > MAX_PATH_BYTES:
            return Finding.of(reason.PATH_TOO_LONG, f"{path} has {len(os.fsencode(path))} bytes")
        try:
            mode = os.stat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return Finding.of(reason.SOCKET_MISSING, f"{path} does not exist")
        except PermissionError:
            return Finding.of(reason.PERMISSION_DENIED, f"a folder above {path} may not be entered")
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            return Finding.of(reason.NOT_A_SOCKET, f"{path} is a link that leads in a circle")
        if not stat.S_ISSOCK(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "a file" if stat.S_ISREG(mode) else "something else"
            return Finding.of(reason.NOT_A_SOCKET, f"{path} is {what}")
        return None

    async def _connect(self, path: str, seconds: float) -> Finding | None:
        """A plain connection first: its errors say more than those of a gRPC channel. None when somebody listens.

        A Unix socket connects at once or not at all, so that this never blocks; asyncio would take a full queue, which
        is EAGAIN here, for a connection that is under way, and then for one that is made. connect(2).
        """
        reason = self.Reason
        until = asyncio.get_running_loop().time() + seconds
        while True:
            with socket.socket(socket.AF_UNIX) as client:
                client.setblocking(False)
                code = client.connect_ex(path)
            match code:
                case 0:
                    return None
                case errno.ENOENT:
                    return Finding.of(reason.SOCKET_MISSING, f"{path} has just been removed")
                case errno.EACCES | errno.EPERM:
                    return Finding.of(reason.PERMISSION_DENIED, f"{path} may not be written to")
                case errno.EPROTOTYPE:
                    return Finding.of(
                        reason.NOT_A_SOCKET, f"{path} is a socket of another type: it takes no connections"
                    )
                case errno.ECONNREFUSED:
                    return Finding.of(reason.NOBODY_LISTENING, f"nobody listens on {path}")
                case errno.EAGAIN if asyncio.get_running_loop().time() < until:
                    await asyncio.sleep(0.05)
                case errno.EAGAIN:
                    return Finding.of(reason.DEADLINE, f"the queue of connections to {path} stays full")
                case _:
                    raise OSError(code, os.strerror(code))

    async def _ask(self, path: str, seconds: float) -> Outcome:
        import grpc  # 10 MB that only this kind needs
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        answers = health_pb2.HealthCheckResponse
        options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", MAX_ANSWER_BYTES)]
        async with grpc.aio.insecure_channel(f"unix:{path}", options=options) as channel:
            try:
                answer = await health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(service=self.settings.service), timeout=seconds
                )
            except grpc.aio.AioRpcError as error:
                return self._without_answer(path, error.code().name, error.details() or "")
        if answer is None:  # what grpc.aio gives for bytes that are no such message
            return Outcome.bad(self.Reason.NOT_GRPC, "the answer is no message of gRPC health")
        if answer.status == answers.SERVING:
            return Outcome.ok("gRPC health: SERVING")
        known = answers.ServingStatus.items()
        status = next((name for name, number in known if number == answer.status), f"status {answer.status}")
        said = f"gRPC health of {self.settings.service or 'the server'}: {status}"
        return Outcome.bad(self.Reason.NOT_SERVING, said)

    def _without_answer(self, path: str, code: str, said: str) -> Outcome:
        """gRPC documentation, "Status codes and their use in gRPC" and "GRPC Health Checking Protocol"."""
        reason = self.Reason
        if _is_no_grpc(code, said):
            return Outcome.bad(reason.NOT_GRPC, f"{code}: {quoted(said, 200)}")
        match code:
            case "UNIMPLEMENTED":
                return Outcome.ok("it speaks gRPC; health is not served, so this is a verdict on the connection alone")
            case "NOT_FOUND":
                return Outcome.bad(reason.SERVICE_UNKNOWN, f"gRPC health does not know {self.settings.service!r}")
            case "DEADLINE_EXCEEDED":
                return Outcome.bad(reason.DEADLINE, f"{path} accepts, and gives no answer")
            case "UNAUTHENTICATED" | "PERMISSION_DENIED":
                return Outcome.bad(CommonReason.CREDENTIALS_REJECTED, f"{code}: {quoted(said)}")
            case "UNAVAILABLE":
                return Outcome.bad(CommonReason.CONNECTION_RESET, f"the connection ended: {quoted(said, 200)}")
        return Outcome.bad(reason.NOT_SERVING, f"gRPC health answers {code}: {quoted(said, 200)}")


_NO_GRPC_STATUS = ("Received http2 header with status", "No status received", "Stream removed (Data frame")
"""What gRPC's own library says when HTTP/2 is spoken, and no gRPC status comes."""
_NO_HTTP2 = ("http/1", "http2 frame", "parse", "http response", "settings frame")


def _is_no_grpc(code: str, said: str) -> bool:
    """Whether the library broke on what it read; not on the end of the connection, nor on what a server said."""
    return said.startswith(_NO_GRPC_STATUS) or (
        code == "UNAVAILABLE" and any(sign in said.lower() for sign in _NO_HTTP2)
    )

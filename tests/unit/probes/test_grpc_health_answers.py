"""Answers of gRPC health that no server should give."""

from __future__ import annotations

import gc
import logging
from pathlib import Path

import grpc
import pytest

from tests.probing import probe_once
from tocsin_probes.grpc_socket import GrpcSocket


@pytest.mark.parametrize(
    ("answer", "reason", "said"),
    [
        (b"\x08\x01", None, "SERVING"),
        (b"\x08\x63", "not_serving", "status 99"),
        (b"\xff\xff\xff", "not_grpc", "no message of gRPC health"),
    ],
)
async def test_what_is_no_answer_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes, reason: str | None, said: str
) -> None:
    # It logs a traceback, which pytest would keep, and with it the channel.
    monkeypatch.setattr(logging.getLogger("grpc._common"), "disabled", True)

    async def check(request: bytes, context: object) -> bytes:
        return answer

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(check)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler})])
    socket = tmp_path / "s"
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        probed = await probe_once(GrpcSocket(GrpcSocket.Settings.model_validate({"paths": [str(socket)]})))
    finally:
        await server.stop(0)
    assert probed.outcome.reason == reason, probed.detail
    assert said in probed.detail
    del server
    gc.collect()

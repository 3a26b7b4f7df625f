"""``signer`` over gRPC: a real server whose service the probe knows only by reflection or by a descriptor file."""

from __future__ import annotations

import asyncio
import gc
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_reflection.v1alpha import reflection

from tests.probing import Probed, probe_once
from tests.unit.probes.lying_servers import nobody
from tocsin_probes.signer import Signer

KEY = b"the shared key"
SERVICE = "platform.signer.v1.Signer"

FIELD = descriptor_pb2.FieldDescriptorProto


def _message(name: str, **fields: int) -> descriptor_pb2.DescriptorProto:
    made = [
        FIELD(name=field, number=number, type=kind, label=FIELD.LABEL_OPTIONAL)  # type: ignore[arg-type]
        for number, (field, kind) in enumerate(fields.items(), 1)
    ]
    return descriptor_pb2.DescriptorProto(name=name, field=made)


TYPES = descriptor_pb2.FileDescriptorProto(
    name="types.proto",
    package="platform.signer.v1",
    syntax="proto3",
    message_type=[
        _message("MacRequest", key_id=FIELD.TYPE_STRING, message=FIELD.TYPE_BYTES),
        _message("MacReply", mac=FIELD.TYPE_BYTES, key_id=FIELD.TYPE_STRING),
        _message("VerifyRequest", message=FIELD.TYPE_BYTES, mac=FIELD.TYPE_BYTES),
        _message("VerifyReply", valid=FIELD.TYPE_BOOL),
    ],
)
METHODS = {"Mac": ("MacRequest", "MacReply"), "Verify": ("VerifyRequest", "VerifyReply")}
FILE = descriptor_pb2.FileDescriptorProto(
    name="signer.proto",
    package="platform.signer.v1",
    syntax="proto3",
    dependency=["types.proto"],
    service=[
        descriptor_pb2.ServiceDescriptorProto(
            name="Signer",
            method=[
                descriptor_pb2.MethodDescriptorProto(
                    name=name, input_type=f".platform.signer.v1.{given}", output_type=f".platform.signer.v1.{reply}"
                )
                for name, (given, reply) in METHODS.items()
            ],
        )
    ],
)
POOL = descriptor_pool.DescriptorPool()
POOL.Add(TYPES)  # type: ignore[no-untyped-call]
POOL.Add(FILE)  # type: ignore[no-untyped-call]


def _class(name: str) -> Any:
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"platform.signer.v1.{name}"))


class Service:
    """The server's side. ``refusal``: the status that it gives instead of an answer."""

    def __init__(self) -> None:
        self.refusal: grpc.StatusCode | None = None
        self.key = KEY
        self.accepts_everything = False
        self.metadata: dict[str, str] = {}
        self.given_up = asyncio.Event()

    async def mac(self, request: Any, context: Any) -> Any:
        self.metadata = dict(context.invocation_metadata())
        if self.refusal is not None:
            await context.abort(self.refusal, "no such key: the-key")
        mac = hmac.digest(self.key, request.message, "sha256")
        return _class("MacReply")(mac=mac, key_id=request.key_id)

    async def verify(self, request: Any, context: Any) -> Any:
        right = hmac.compare_digest(request.mac, hmac.digest(self.key, request.message, "sha256"))
        return _class("VerifyReply")(valid=right or self.accepts_everything)

    async def hang(self, request: Any, context: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            self.given_up.set()


@asynccontextmanager
async def serving(service: Service, *, reflected: bool = True, hangs: bool = False) -> AsyncIterator[int]:
    server = grpc.aio.server()
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            service.hang if hangs else getattr(service, name.lower()),
            request_deserializer=_class(given).FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
        for name, (given, _) in METHODS.items()
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    if reflected:
        reflection.enable_server_reflection([SERVICE, reflection.SERVICE_NAME], server, pool=POOL)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        if hangs:
            # Its client has given up. A call that a server is still ending when its loop closes stays for ever.
            await service.given_up.wait()
        await server.stop(0)
        # grpc's own thread ends with the last of its objects, and some hang in the cycles of tracebacks.
        gc.collect()


OPERATIONS = {
    "hmac": {
        "key_id": "the-key",
        "request": {"rpc": f"{SERVICE}/Mac", "body": {"key_id": "{key_id}", "message": "{message}"}},
        "response": {"extract": "mac", "key_id": "key_id"},
        "verify": {"key": KEY.decode()},
    },
    "hmac_verify": {
        "request": {"rpc": f"{SERVICE}/Verify", "body": {"message": "{message}", "mac": "{mac}"}},
        "response": {"extract": "valid"},
    },
}


async def ask(port: int, *, timeout: float = 5.0, **more: Any) -> Probed:
    made = {"endpoint": f"grpc://127.0.0.1:{port}", "operations": OPERATIONS, **more}
    return await probe_once(Signer(Signer.Settings.model_validate(made)), timeout)


async def test_a_service_is_found_by_reflection_and_its_results_verified() -> None:
    service = Service()
    async with serving(service) as port:
        probed = await ask(port, auth={"bearer": "the-token"}, headers={"X-Tenant": "probe"})
    assert probed.verdict == ("ok", None), probed.detail
    assert service.metadata["authorization"] == "Bearer the-token"
    assert service.metadata["x-tenant"] == "probe"
    assert service.metadata["x-request-id"] == "probe-0001"


async def test_a_server_without_reflection_is_spoken_to_by_a_descriptor_file(tmp_path: Path) -> None:
    file = tmp_path / "signer.pb"
    file.write_bytes(descriptor_pb2.FileDescriptorSet(file=[FILE, TYPES]).SerializeToString())
    async with serving(Service(), reflected=False) as port:
        assert (await ask(port, descriptor_file=str(file))).verdict == ("ok", None)
        assert (await ask(port)).outcome.status == "failed", "it does not serve reflection"
        (tmp_path / "broken.pb").write_bytes(b"\xff\xff\xff")
        assert (await ask(port, descriptor_file=str(tmp_path / "broken.pb"))).verdict == ("unknown", "contract_missing")
        missing = str(tmp_path / "missing.pb")
        assert (await ask(port, descriptor_file=missing)).verdict == ("unknown", "credentials_missing")


async def test_another_key_and_a_verifier_that_takes_everything_are_told_apart() -> None:
    service = Service()
    async with serving(service) as port:
        service.key = b"another"
        assert (await ask(port)).verdict == ("failed", "hmac_mismatch")
        service.key, service.accepts_everything = KEY, True
        probed = await ask(port)
    assert probed.verdict == ("failed", "tampered_accepted")
    assert probed.detail == "accepts a changed message and a changed HMAC"


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (grpc.StatusCode.NOT_FOUND, ("failed", "not_found")),
        (grpc.StatusCode.UNAUTHENTICATED, ("unknown", "credentials_rejected")),
        (grpc.StatusCode.PERMISSION_DENIED, ("unknown", "credentials_rejected")),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ("failed", "rate_limited")),
        (grpc.StatusCode.UNAVAILABLE, ("failed", "server_error")),
        (grpc.StatusCode.INTERNAL, ("failed", "server_error")),
        (grpc.StatusCode.INVALID_ARGUMENT, ("failed", "unexpected_status")),
    ],
)
async def test_a_status_is_what_the_same_http_status_is(status: grpc.StatusCode, verdict: tuple[str, str]) -> None:
    service = Service()
    service.refusal = status
    async with serving(service) as port:
        assert (await ask(port)).verdict == verdict


async def test_a_text_in_the_status_means_what_is_configured() -> None:
    service = Service()
    service.refusal = grpc.StatusCode.NOT_FOUND
    async with serving(service) as port:
        assert (await ask(port, errors={"key_unknown": ["no such key"]})).verdict == ("failed", "key_unknown")


async def test_a_method_and_a_field_that_the_service_does_not_have_are_told_apart() -> None:
    other_method = {**OPERATIONS["hmac"], "request": {"rpc": f"{SERVICE}/Sign", "body": {}}}
    other_field = {**OPERATIONS["hmac"], "request": {"rpc": f"{SERVICE}/Mac", "body": {"msg": "{message}"}}}
    other_service = {**OPERATIONS["hmac"], "request": {"rpc": "elsewhere.Signer/Mac", "body": {}}}
    async with serving(Service()) as port:
        assert (await ask(port, operations={"hmac": other_method})).verdict == ("failed", "not_found")
        assert (await ask(port, operations={"hmac": other_service})).verdict == ("failed", "not_found")
        assert (await ask(port, operations={"hmac": other_field})).verdict == ("unknown", "contract_missing")


async def test_nobody_there_and_nobody_answering_are_told_apart() -> None:
    with nobody() as port:
        assert (await ask(port)).verdict == ("failed", "connection_refused")
    async with serving(Service(), hangs=True) as port:
        assert (await ask(port, timeout=1.0)).verdict == ("failed", "timeout")

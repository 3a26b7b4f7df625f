"""Carries a signer's requests: over HTTP by the run's own client, over gRPC by reflection or a descriptor file.

A gRPC message is written and read by protobuf's JSON mapping, so that one form of contract serves both. Its status
becomes the HTTP status that says the same (gRPC documentation, "Status codes and their use in gRPC"; the pairs are
those of google.rpc.Code).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tocsin.sdk import ByteCount, CommonReason, ProbeContext, ProbeFault, TlsSettings
from tocsin_probes.signer.contract import Answer, Request, Values

MAX_DESCRIPTOR_FILES: Final = 100
"""How many files of a service's description are asked for by reflection."""

_HTTP_STATUS: Final = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
}


class Transport(Protocol):
    """One signer, spoken to in one run."""

    async def call(self, request: Request, values: Values) -> Answer:
        """Sends a request. Raises `OSError` and `ProbeFault` for what happens on the way."""

    async def close(self) -> None:
        """Ends what is open."""


class HttpTransport:
    """Over HTTP, one connection a request."""

    def __init__(
        self, ctx: ProbeContext, endpoint: str, headers: Mapping[str, str], tls: TlsSettings, max_bytes: ByteCount
    ) -> None:
        self._ctx, self._endpoint, self._headers = ctx, endpoint.rstrip("/"), headers
        self._tls, self._max_bytes = tls, max_bytes

    async def call(self, request: Request, values: Values) -> Answer:
        media_type = {} if request.body is None or isinstance(request.body, str) else {"content-type": _JSON}
        own = {name.lower(): value.reveal() for name, value in request.headers.items()}
        answer = await self._ctx.http.fetch(
            request.method,
            self._endpoint + request.path_with(values),
            headers={**media_type, **self._headers, **own},
            body=request.content_with(values),
            max_bytes=self._max_bytes,
            tls=self._tls,
        )
        return Answer(answer.status, answer.body, answer.truncated, answer.certificate_expires_at)

    async def close(self) -> None:
        return None


_JSON: Final = "application/json"


class GrpcTransport:
    """Over gRPC, one channel a run. Without ``descriptor_file`` the server is asked by reflection (v1alpha)."""

    def __init__(
        self,
        ctx: ProbeContext,
        endpoint: str,
        headers: Mapping[str, str],
        tls: TlsSettings,
        max_bytes: int,
        descriptor_file: str,
    ) -> None:
        self._ctx, self._endpoint, self._tls, self._max_bytes = ctx, endpoint, tls, max_bytes
        self._metadata = (("x-request-id", ctx.request_id), ("traceparent", ctx.traceparent), *headers.items())
        self._descriptor_file = descriptor_file
        self._channel: Any = None
        self._pools: dict[str, descriptor_pool.DescriptorPool] = {}
        self._opening = asyncio.Lock()

    async def call(self, request: Request, values: Values) -> Answer:
        service, _, name = request.rpc.partition("/")
        own = tuple((key.lower(), value.reveal()) for key, value in request.headers.items())
        async with self._ctx.permits.request(self._endpoint):
            try:
                channel = await self._open()
                method = self._method(await self._pool(channel, service), service, name)
                sent = json_format.ParseDict(request.message_with(values) or {}, _message(method.input_type))
                call = channel.unary_unary(
                    f"/{service}/{name}",
                    request_serializer=lambda message: message.SerializeToString(),
                    response_deserializer=type(_message(method.output_type)).FromString,
                )
                reply = await call(sent, metadata=(*self._metadata, *own), timeout=self._ctx.remaining())
            except grpc.aio.AioRpcError as error:
                return _refusal(error)
            except json_format.ParseError as error:
                raise ProbeFault(CommonReason.CONTRACT_MISSING, f"{request.rpc}: {error}") from error
        document = json_format.MessageToDict(
            reply, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        return Answer(200, json.dumps(document).encode())

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()

    async def _open(self) -> Any:
        async with self._opening:
            if self._channel is None:
                parts = urlsplit(self._endpoint)
                options = [("grpc.max_receive_message_length", self._max_bytes), ("grpc.enable_http_proxy", 0)]
                if parts.scheme == "grpcs":
                    credentials = await asyncio.to_thread(_credentials, self._tls)
                    self._channel = grpc.aio.secure_channel(parts.netloc, credentials, options)
                else:
                    self._channel = grpc.aio.insecure_channel(parts.netloc, options)
            return self._channel

    async def _pool(self, channel: Any, service: str) -> descriptor_pool.DescriptorPool:
        if service not in self._pools:
            if self._descriptor_file:
                files = await asyncio.to_thread(_described, self._descriptor_file)
            else:
                files = await self._reflected(channel, service)
            self._pools[service] = _pooled(files)
        return self._pools[service]

    async def _reflected(self, channel: Any, service: str) -> dict[str, descriptor_pb2.FileDescriptorProto]:
        """The file that describes a service and all that it imports. gRPC Server Reflection Protocol."""
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        found: dict[str, descriptor_pb2.FileDescriptorProto] = {}
        asking = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=service)]
        while asking and len(found) < MAX_DESCRIPTOR_FILES:
            stream = stub.ServerReflectionInfo(
                iter([asking.pop()]), metadata=self._metadata, timeout=self._ctx.remaining()
            )
            for answer in [answer async for answer in stream]:
                if answer.HasField("error_response"):
                    raise ProbeFault(CommonReason.NOT_FOUND, f"{service}: {answer.error_response.error_message}")
                for data in answer.file_descriptor_response.file_descriptor_proto:
                    file = descriptor_pb2.FileDescriptorProto.FromString(data)
                    found[file.name] = file
                    asking += [
                        reflection_pb2.ServerReflectionRequest(file_by_filename=name)
                        for name in file.dependency
                        if name not in found
                    ]
        return found

    @staticmethod
    def _method(pool: descriptor_pool.DescriptorPool, service: str, name: str) -> Any:
        try:
            return pool.FindMethodByName(f"{service}.{name}")
        except KeyError:
            raise ProbeFault(CommonReason.NOT_FOUND, f"the signer has no {service}/{name}") from None


def _message(descriptor: Any) -> Any:
    return message_factory.GetMessageClass(descriptor)()


def _credentials(tls: TlsSettings) -> grpc.ChannelCredentials:
    files = (tls.ca_file, tls.client_key_file or tls.client_cert_file, tls.client_cert_file)
    return grpc.ssl_channel_credentials(*(Path(file).read_bytes() if file else None for file in files))


def _described(file: str) -> dict[str, descriptor_pb2.FileDescriptorProto]:
    try:
        files = descriptor_pb2.FileDescriptorSet.FromString(Path(file).read_bytes()).file
    except DecodeError as error:
        detail = f"{file} is no descriptor set (protoc --include_imports --descriptor_set_out): {error}"
        raise ProbeFault(CommonReason.CONTRACT_MISSING, detail) from error
    return {each.name: each for each in files}


def _pooled(files: dict[str, descriptor_pb2.FileDescriptorProto]) -> descriptor_pool.DescriptorPool:
    """A pool of its own; files are added after those that they import."""
    pool = descriptor_pool.DescriptorPool()
    added: set[str] = set()

    def add(name: str) -> None:
        if name in added or name not in files:
            return
        added.add(name)
        for needed in files[name].dependency:
            add(needed)
        pool.Add(files[name])

    for name in files:
        add(name)
    return pool


def _refusal(error: Any) -> Answer:
    """A status as an answer. Raises `ProbeFault` and `OSError` where nothing answered."""
    status, details = error.code().name, str(error.details() or "")
    if status == "DEADLINE_EXCEEDED":
        raise TimeoutError
    if status == "UNAVAILABLE":
        for word, made in _BROKEN:
            if word in details:
                raise made(details)
    body = json.dumps({"code": status, "message": details}).encode()
    return Answer(_HTTP_STATUS.get(status, 500), body)


_BROKEN: Final[tuple[tuple[str, type[OSError]], ...]] = (
    ("Connection refused", ConnectionRefusedError),
    ("Connection reset", ConnectionResetError),
    ("Socket closed", ConnectionResetError),
)
"""What grpc's texts say about the connection below."""

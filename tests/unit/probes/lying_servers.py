"""Small servers on loopback that misbehave in one way each, for the tests of the kinds."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handler: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of a server whose connections are each given to ``handler``; all are gone at the end."""
    tasks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await handler(reader, writer)
        writer.transport.abort()
        tasks.discard(task)

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
        await asyncio.sleep(0)


@contextmanager
def nobody() -> Iterator[int]:
    """A port that refuses: bound, so that nobody else gets it, and not listened on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextmanager
def black_hole() -> Iterator[int]:
    """A port whose accept queue is full, so that the kernel drops further SYNs. listen(2)."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address = listening.getsockname()
        fillers = [socket.socket() for _ in range(3)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
            yield address[1]
        finally:
            for filler in fillers:
                filler.close()


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accepts and says nothing."""
    await reader.read()
    await asyncio.Event().wait()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Closes without a word."""
    await reader.readuntil(b"\r\n\r\n")


def saying(answer: bytes, *, then: Handler | None = None) -> Handler:
    """Reads a request's head, says ``answer``, and closes the connection (or goes on with ``then``)."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        if then is not None:
            await then(reader, writer)
        else:
            writer.write_eof() if writer.can_write_eof() else None
            await reader.read()

    return handler


def answering(
    body: bytes | str, *, status: str = "200 OK", content_type: str = "application/json", extra: str = ""
) -> Handler:
    """One well-formed answer. ``extra``: more header lines, each ended by CR LF."""
    content = body.encode() if isinstance(body, str) else body
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(content)}\r\n{extra}\r\n"
    return saying(head.encode() + content)


def by_path(routes: Mapping[str, Handler]) -> Handler:
    """Gives each request, by its path, to a handler that reads its head anew; what has none is 404."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        reader.feed_data(head)
        path = head.split(b" ", 2)[1].decode()
        await routes.get(path, answering('{"error": "not here"}', status="404 Not Found"))(reader, writer)

    return handler


def repeating(start: bytes, piece: bytes, *, pause: float = 0.0) -> Handler:
    """``start``, then ``piece`` for ever, ``pause`` seconds apart."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(start)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)

    return handler


async def reset_in_mid_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends half a body, then RST. socket(7), SO_LINGER."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n" + b"x" * 50)
    await writer.drain()
    writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, (1).to_bytes(4, "little") + bytes(4)
    )


def redirecting_to(location: str, status: str = "302 Found") -> Handler:
    return answering("", status=status, extra=f"Location: {location}\r\n")


GIGABYTE = repeating(
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1073741824\r\n\r\n", b"x" * 65536
)
ENDLESS_CHUNKS = repeating(
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"10000\r\n" + b"x" * 65536 + b"\r\n",
)
BYTE_BY_BYTE = repeating(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x", pause=1.0)
ENDLESS_HEADERS = repeating(b"HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n" * 100)
ONE_HUGE_HEADER = repeating(b"HTTP/1.1 200 OK\r\nX-Huge: ", b"x" * 65536)
ENDLESS_INTERIM = repeating(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
ENDLESS_GARBAGE = repeating(b"", b"<html>not found</html>\n")
NONSENSE_CHUNKS = saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n")
GZIP_BOMB = answering(gzip.compress(bytes(64 << 20)), extra="Content-Encoding: gzip\r\n")


@dataclass(frozen=True)
class Certified:
    """A certificate, its key, and the file with the CA that issued it (or with itself)."""

    certificate_file: Path
    key_file: Path
    ca_file: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate_file, self.key_file)
        return context


class Authority:
    """A CA of our own, made in ``folder``, with one intermediate below it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root_key = ec.generate_private_key(ec.SECP256R1())
        self.root = _certificate("tocsin test root", self.root_key, None, None, ca=True)
        self.intermediate_key = ec.generate_private_key(ec.SECP256R1())
        self.intermediate = _certificate(
            "tocsin test issuing", self.intermediate_key, self.root, self.root_key, ca=True
        )
        self.ca_file = folder / "root.pem"
        self.ca_file.write_bytes(_pem(self.root))

    def issue(
        self,
        name: str,
        *,
        days: float = 365,
        host: str = "127.0.0.1",
        self_signed: bool = False,
        with_intermediate: bool = True,
    ) -> Certified:
        """A server certificate ``name`` for ``host`` with ``days`` left (negative: expired)."""
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = (None, None) if self_signed else (self.intermediate, self.intermediate_key)
        leaf = _certificate(name, key, *issuer, days=days, host=host)
        certificate_file, key_file = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        chain = [leaf] if self_signed or not with_intermediate else [leaf, self.intermediate]
        certificate_file.write_bytes(b"".join(map(_pem, chain)))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return Certified(certificate_file, key_file, self.ca_file)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey | None,
    *,
    days: float = 3650,
    host: str | None = None,
    ca: bool = False,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=400))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if host is not None:
        try:
            alternative: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            alternative = x509.DNSName(host)
        builder = builder.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
    return builder.sign(issuer_key or key, hashes.SHA256())

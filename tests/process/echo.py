"""A target that is as indiscreet as can be: it repeats what it was told, credentials included, wherever it can."""

from __future__ import annotations

import base64
import json
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote_plus
from xml.sax.saxutils import escape


class Web(BaseHTTPRequestHandler):
    """Repeats a request in the body, in headers and in the status line of its refusal."""

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode("utf-8", "replace")
        said = " ".join([self.path, body, unquote_plus(body), *self.headers.values()]).replace("\n", " ")
        for word in said.split():
            with suppress(ValueError, UnicodeDecodeError):
                said += " " + base64.b64decode(word, validate=True).decode("ascii")
        origin = f"http://{self.headers['Host']}"
        status = 200 if self.path.startswith("/ok") else 400 if self.path.startswith("/token") else 500
        if self.path.endswith("openid-configuration"):
            status, answer = 200, json.dumps({"issuer": origin, "jwks_uri": f"{origin}/ok", "token_endpoint": origin})
        elif self.path.startswith("/bucket"):
            answer = f"<Error><Code>AccessDenied</Code><Message>{escape(said)}</Message></Error>"
        elif self.path.startswith("/plain"):
            answer = said
        else:
            answer = json.dumps({"error": "invalid_grant", "error_description": said, "message": said, "said": said})
        self.send_response(status, said[:200].encode("ascii", "replace").decode())
        self.send_header("Content-Type", "application/json")
        self.send_header("WWW-Authenticate", f'Basic realm="{said[:500]}"'.encode("ascii", "replace").decode())
        self.send_header("x-amz-request-id", said[:500].encode("ascii", "replace").decode())
        self.end_headers()
        self.wfile.write(answer.encode())

    do_POST = do_PUT = do_DELETE = do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        return


class PostgreSQL(socketserver.StreamRequestHandler):
    """Asks for the password in clear, and puts it into its error: at login, or for a user ``late`` at the first query.

    PostgreSQL 17 documentation, chapter 53 "Frontend/Backend Protocol".
    """

    def handle(self) -> None:
        with suppress(struct.error, ConnectionError):
            length, code = struct.unpack("!II", self.rfile.read(8))
            if code == 80877103:  # SSLRequest
                self.wfile.write(b"N")
                length, code = struct.unpack("!II", self.rfile.read(8))
            startup = self.rfile.read(length - 8)
            self.wfile.write(self._message(b"R", struct.pack("!I", 3)))
            _, length = struct.unpack("!cI", self.rfile.read(5))
            password = self.rfile.read(length - 4).rstrip(b"\0")
            if b"\0late\0" in startup:
                self.wfile.write(self._message(b"R", struct.pack("!I", 0)) + self._message(b"Z", b"I"))
                self.rfile.read(5)
                self._refuse(b"42703", b'column "%s" does not exist' % password)
            else:
                self._refuse(b"28P01", b'password "%s" is wrong' % password)

    def _refuse(self, code: bytes, text: bytes) -> None:
        fields = b"SERROR\0VERROR\0C" + code + b"\0M" + text + b"\0D" + text + b"\0H" + text + b"\0\0"
        self.wfile.write(self._message(b"E", fields) + self._message(b"Z", b"E"))

    @staticmethod
    def _message(kind: bytes, content: bytes) -> bytes:
        return kind + struct.pack("!I", len(content) + 4) + content


class Mail(socketserver.StreamRequestHandler):
    """Offers AUTH in clear, and repeats the credentials, as they came and decoded, in its refusal. RFC 4954."""

    def handle(self) -> None:
        with suppress(ConnectionError):
            self.wfile.write(b"220 echo\r\n")
            while line := self.rfile.readline():
                if line.upper().startswith(b"EHLO"):
                    self.wfile.write(b"250-echo\r\n250 AUTH PLAIN\r\n")
                elif line.upper().startswith(b"AUTH PLAIN "):
                    said = line.split()[2]
                    self.wfile.write(b"535 no: " + said + base64.b64decode(said).replace(b"\0", b" ") + b"\r\n")
                else:
                    self.wfile.write(b"250 ok\r\n")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@contextmanager
def echoing() -> Iterator[dict[str, int]]:
    """The ports of one server of each sort: ``web``, ``postgresql``, ``mail``."""
    servers: dict[str, socketserver.BaseServer] = {
        "web": ThreadingHTTPServer(("127.0.0.1", 0), Web),
        "postgresql": _Server(("127.0.0.1", 0), PostgreSQL),
        "mail": _Server(("127.0.0.1", 0), Mail),
    }
    threads = [
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}) for server in servers.values()
    ]
    for thread in threads:
        thread.start()
    try:
        yield {name: int(server.server_address[1]) for name, server in servers.items()}  # type: ignore[index]
    finally:
        for server in servers.values():
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()

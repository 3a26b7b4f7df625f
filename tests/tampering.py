"""A proxy in front of a real server that changes what comes back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from estate.ports import LOOPBACK
from estate.web import request

Rewrite = Callable[[str, bytes], bytes]
"""Of a path and the body of a request or an answer: the body that is passed on."""


def unchanged(path: str, body: bytes) -> bytes:
    return body


_HOP = ("host", "connection", "content-length")


@contextmanager
def tampering(upstream: str, rewrite: Rewrite = unchanged, *, asking: Rewrite = unchanged) -> Iterator[str]:
    """The address of a proxy to ``upstream``. ``rewrite`` changes answers, ``asking`` requests."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = asking(self.path, self.rfile.read(int(self.headers.get("Content-Length", "0"))))
            passed = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            answer = request(self.command, upstream + self.path, body=body or None, headers=passed)
            content = rewrite(self.path, answer.body)
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers.get("content-type", "application/octet-stream"))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            return None

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

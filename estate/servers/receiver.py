"""A webhook receiver for Alertmanager that remembers every notification and when it came.

Facts: Alertmanager 0.25 documentation, "webhook_config" (the JSON body, version 4).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from estate.ports import LOOPBACK, reserve_port

PATHS = ("/page", "/ticket", "/watchdog", "/drill")


@dataclass(frozen=True)
class Notification:
    """One POST from Alertmanager."""

    path: str
    received_at: float
    """Seconds since the epoch."""
    body: Mapping[str, Any]

    @property
    def status(self) -> str:
        """`firing` or `resolved`, for the group."""
        return str(self.body["status"])

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """The alerts, each with `status`, `labels`, `annotations`, `startsAt`, `endsAt`."""
        return list(self.body["alerts"])

    def names(self, status: str = "firing") -> set[str]:
        """The alert names in it that have this status."""
        return {alert["labels"]["alertname"] for alert in self.alerts if alert["status"] == status}


@dataclass
class _Box:
    notifications: list[Notification] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    answer: int = 200


class Receiver:
    """Listens on a thread of its own between entry and exit. `answer_with(status)` makes it refuse."""

    def __init__(self) -> None:
        self.port = reserve_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self._box = _Box()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> Self:
        """Listen. From now on notifications are recorded."""
        self._server = ThreadingHTTPServer((LOOPBACK, self.port), _handler(self._box))
        # Polls for the shutdown request; the default of half a second would be felt in every test.
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.daemon = True
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop listening. What was recorded stays readable."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def answer_with(self, status: int) -> None:
        """Answer every later notification with this status. It is recorded all the same."""
        self._box.answer = status

    def notifications(self, path: str | None = None) -> list[Notification]:
        """What came so far, in order, for one path or all."""
        with self._box.changed:
            return [item for item in self._box.notifications if path is None or item.path == path]

    def clear(self) -> None:
        """Forget what came so far."""
        with self._box.changed:
            self._box.notifications.clear()

    def wait_for(
        self, wanted: Callable[[Notification], bool], *, path: str | None = None, timeout: float = 60.0
    ) -> Notification:
        """The first notification, come already or to come, that is wanted. Raises TimeoutError."""
        deadline = time.monotonic() + timeout
        with self._box.changed:
            while True:
                for item in self._box.notifications:
                    if (path is None or item.path == path) and wanted(item):
                        return item
                left = deadline - time.monotonic()
                if left <= 0:
                    came = [(item.path, item.status, sorted(item.names())) for item in self._box.notifications]
                    raise TimeoutError(f"no such notification in {timeout:.0f} s. What came: {came}")
                self._box.changed.wait(left)


def _handler(box: _Box) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            if self.path not in PATHS:
                self.send_error(404)
                return
            with box.changed:
                box.notifications.append(Notification(self.path, time.time(), json.loads(body)))
                box.changed.notify_all()
            self.send_response(box.answer)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Stay silent: the record is what counts."""

    return Handler

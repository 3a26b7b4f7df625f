"""What a run is given: its deadline, clients from a capped supply, identifiers, a logger and a place to measure."""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol

from tocsin.model import Attachment, Gauge, Measurement

if TYPE_CHECKING:
    from tocsin.sdk.http import HttpClient

MAX_ATTACHMENT_BYTES = 1 << 20
"""What one run may attach for evidence, in bytes, all attachments together; the rest is cut."""


class Clock(Protocol):
    """Time, injected: ``wall`` in Unix seconds, ``monotonic`` in seconds since an arbitrary start."""

    def wall(self) -> float: ...
    def monotonic(self) -> float: ...


class Permits(Protocol):
    """The cap on what is done to one dependency at a time and per minute."""

    def request(self, dependency: str) -> AbstractAsyncContextManager[None]:
        """Holds one place at ``dependency`` (``scheme://host:port``) for the duration of a connection or request.

        Waits for a place; raises `ProbeFault` with ``throttled`` when none comes free in time.
        """


class ProbeContext:
    """One run's surroundings. Made anew for each run by the engine (`tocsin.running.runner`)."""

    def __init__(
        self,
        *,
        probe: str,
        system: str,
        incident: str,
        vantage: str,
        timeout: float,
        clock: Clock,
        http: HttpClient,
        permits: Permits,
        trace_id: str,
        span_id: str,
        request_id: str,
        memory: MutableMapping[str, Any],
        log: Any = None,
        conceal: Callable[[str], None] | None = None,
    ) -> None:
        self.probe = probe
        self.system = system
        self.incident = incident
        self.vantage = vantage
        """Where this daemon stands, for example ``api-network``; empty when not configured."""
        self.timeout = timeout
        self.clock = clock
        self.permits = permits
        self.trace_id = trace_id
        self.request_id = request_id
        self.traceparent = f"00-{trace_id}-{span_id}-01"
        """W3C Trace Context header value, https://www.w3.org/TR/trace-context/#traceparent-header."""
        self.memory = memory
        """A small mapping of JSON values that this probe finds again in its next run and after a restart."""
        self.log = log if log is not None else logging.getLogger("tocsin.probe")
        self.measurements: list[Measurement] = []
        self.attachments: list[Attachment] = []
        self._deadline = clock.monotonic() + timeout
        self._http = http
        self._conceal = conceal

    @property
    def http(self) -> HttpClient:
        """The shared, capped HTTP client, sending this run's ``traceparent`` and ``X-Request-ID``."""
        return self._http.bound(self)

    def now(self) -> float:
        """The wall clock, in Unix seconds."""
        return self.clock.wall()

    def remaining(self) -> float:
        """Seconds left until the engine ends this run; never negative."""
        return max(0.0, self._deadline - self.clock.monotonic())

    def measure(self, gauge: Gauge, value: float, **labels: object) -> None:
        """Records a sample of one of the kind's gauges. Label names are those that the gauge declares.

        Raises `ValueError` when the label names are not exactly the declared ones.
        """
        if set(labels) != set(gauge.labels):
            raise ValueError(f"{gauge.name} takes the labels {list(gauge.labels)}, not {sorted(labels)}")
        values = tuple(str(labels[name]) for name in gauge.labels)
        self.measurements.append(Measurement(gauge, float(value), values))

    def conceal(self, secret: str) -> None:
        """Masks a secret that this run came by, a token say, as those of the settings are: in all that leaves it."""
        if secret and self._conceal is not None:
            self._conceal(secret)

    def attach(self, name: str, content: bytes | str, media_type: str = "text/plain") -> None:
        """Keeps ``content`` with this run for evidence; cut at `MAX_ATTACHMENT_BYTES` for the whole run."""
        room = MAX_ATTACHMENT_BYTES - sum(len(attachment.content) for attachment in self.attachments)
        data = content.encode() if isinstance(content, str) else content
        self.attachments.append(Attachment(name, media_type, data[: max(0, room)]))

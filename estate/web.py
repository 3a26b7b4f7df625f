"""One HTTP request to a loopback server, without proxies, redirects or exceptions for a status."""

from __future__ import annotations

import http.client
import json as jsonlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit


class UnexpectedAnswer(Exception):
    """A server answered with a status that the caller did not expect."""


@dataclass(frozen=True)
class Answer:
    """An HTTP response, read to its end."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    request: str

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        return jsonlib.loads(self.body)

    def expect(self, *statuses: int) -> Answer:
        """This answer, or UnexpectedAnswer if its status is not one of these (none given: any 2xx)."""
        if self.status in statuses or (not statuses and 200 <= self.status < 300):
            return self
        raise UnexpectedAnswer(f"{self.request} answered {self.status}: {self.text[:500]}")


def request(
    method: str,
    url: str,
    *,
    json: object = None,
    form: Mapping[str, str] | None = None,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 10.0,
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """Send one request on a fresh connection. Raises OSError or http.client.HTTPException when there is no answer."""
    parts = urlsplit(url)
    sent = dict(headers or {})
    if json is not None:
        body = jsonlib.dumps(json).encode()
        sent.setdefault("Content-Type", "application/json")
    elif form is not None:
        body = urlencode(form).encode()
        sent.setdefault("Content-Type", "application/x-www-form-urlencoded")
    host = parts.hostname or ""
    connection = (
        http.client.HTTPSConnection(host, parts.port, timeout=timeout, context=tls)
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, parts.port, timeout=timeout)
    )
    try:
        path = parts.path or "/"
        connection.request(method, f"{path}?{parts.query}" if parts.query else path, body=body, headers=sent)
        with connection.getresponse() as response:
            return Answer(
                response.status,
                {name.lower(): value for name, value in response.getheaders()},
                response.read(),
                f"{method} {url}",
            )
    finally:
        connection.close()


def answers(url: str, *statuses: int, timeout: float = 2.0, tls: ssl.SSLContext | None = None) -> bool:
    """Whether a GET is answered with one of these statuses (none given: any 2xx)."""
    try:
        status = request("GET", url, timeout=timeout, tls=tls).status
    except (OSError, http.client.HTTPException):
        return False
    return status in statuses if statuses else 200 <= status < 300

"""Control targets as they are written: what must be reachable for a network failure to be the target's, not our own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443, "dns": 0}
_HINT = "write tcp://host:port, https://host/path or dns://name"


@dataclass(frozen=True, slots=True)
class ControlTarget:
    """One thing that answers while our own network works: ``tcp://HOST:PORT``, ``http(s)://…`` or ``dns://NAME``.

    Any HTTP answer counts; so does any address of a name.
    """

    scheme: str
    host: str
    port: int
    url: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises `ValueError` saying what is wrong, without quoting the text."""
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError(f"not an address; {_HINT}") from None
        if port is None:
            port = _DEFAULT_PORTS.get(parts.scheme)
        elif port == 0:
            raise ValueError(f"nothing listens on port 0; {_HINT}")
        if parts.scheme not in ("tcp", *_DEFAULT_PORTS) or not host or port is None:
            raise ValueError(f"not a control target; {_HINT}")
        if parts.username or parts.password:
            raise ValueError("a control target takes no user or password")
        return cls(parts.scheme, host, port, text)

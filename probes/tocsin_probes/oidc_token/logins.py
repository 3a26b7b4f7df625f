"""What the probes of one process tell each other about their logins, so that none tries what another was refused.

A provider locks an account after a few wrong passwords, and does not care which probe sent them. Probes on one loop
therefore log in one after the other with the same credentials, and rest together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from secrets import token_bytes
from typing import Any
from weakref import WeakKeyDictionary


@dataclass(slots=True)
class Login:
    """One login: ``turn`` is held while it is tried, ``refused`` is what is remembered of its refusal."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    refused: dict[str, Any] | None = None


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[bytes, Login]] = WeakKeyDictionary()
_KEY = token_bytes(32)


def login(url: str, form: Mapping[str, str]) -> Login:
    """The one of these credentials at this token endpoint, the same for every probe of the running loop. They are known
    by a digest."""
    what = repr((url, sorted(form.items()))).encode()
    known = _of_loops.setdefault(asyncio.get_running_loop(), {})
    return known.setdefault(blake2b(what, key=_KEY).digest(), Login())

"""What is kept of a login, for this process and the next ones: in a file that only its owner can read."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

from tocsin.sdk.state_files import read_if_there, state_folder, write_atomically

_LOCK_EVERY = 0.05
"""Seconds between two looks at a lock that another process holds."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Tokens, and how long to leave the platform alone. All times in Unix seconds.

    ``renew_at``: when most of the token's life is over. ``not_before``: until then nobody logs in or refreshes;
    with ``held`` nothing else is asked either. ``wait``: the last such time in seconds; the next one is longer.
    ``reason`` and ``said`` are why. ``refused``: digests of logins that were refused.
    """

    access: str = ""
    renew_at: float = 0.0
    expires_at: float = 0.0
    refresh: str = ""
    not_before: float = 0.0
    wait: float = 0.0
    held: bool = False
    reason: str = ""
    said: str = ""
    refused: tuple[str, ...] = ()


class LoginMemory:
    """The file of one login. Without a folder that can be written it forgets, and the process remembers alone."""

    def __init__(self, identity: Iterable[str]) -> None:
        name = hashlib.sha256("\0".join(identity).encode()).hexdigest()[:16]
        self.path = state_folder() / "logins" / f"{name}.json"

    def read(self) -> Kept | None:
        """What was kept; None when nothing is, or nothing that can be read."""
        try:
            content = json.loads(read_if_there(self.path) or b"")
            return Kept(**{**content, "refused": tuple(content["refused"])})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write(self, kept: Kept) -> None:
        """Raises `OSError`."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self.path, json.dumps(asdict(kept)).encode())

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Holds back other processes that share the file: two that used one refresh token would end the session."""
        with suppress(OSError):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            yield  # no folder to share
            return
        try:
            while not _locked(descriptor):  # noqa: ASYNC110 - another process cannot set an event of ours
                await asyncio.sleep(_LOCK_EVERY)
            yield
        finally:
            os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def digest(material: str) -> str:
    """A digest that does not give a password away. scrypt, RFC 7914, with a salt of its own."""
    salt = secrets.token_bytes(16)
    return f"{salt.hex()}.{_scrypt(material, salt).hex()}"


def is_digest_of(known: str, material: str) -> bool:
    salt, _, hashed = known.partition(".")
    try:
        return hmac.compare_digest(_scrypt(material, bytes.fromhex(salt)), bytes.fromhex(hashed))
    except ValueError:
        return False


def _scrypt(material: str, salt: bytes) -> bytes:
    options: dict[str, Any] = {"n": 1 << 14, "r": 8, "p": 1}
    return hashlib.scrypt(material.encode(), salt=salt, dklen=32, **options)

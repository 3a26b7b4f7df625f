"""One daemon to a state folder: a lock that ends with its process, however that ends."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK_FILE = "lock"


class InUse(Exception):
    """Another process has this folder. The text names the process when that is known."""


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Holds ``folder`` for this process. Raises `InUse`; gives False when the disk does not allow a lock at all.

    Two daemons that write one state file would each undo what the other remembers.
    """
    descriptor = _open(folder)
    try:
        yield descriptor is not None and _lock(descriptor)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _open(folder: Path) -> int | None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        # The store says why nothing can be kept there, and probing goes on without it.
        return None


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
        raise InUse(f"another tocsin uses it{f', process {holder}' if holder else ''}") from None
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return True

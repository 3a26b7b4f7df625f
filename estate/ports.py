"""Loopback ports that nobody else takes: not another server, not another test run, not an outgoing connection."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

LOOPBACK = "127.0.0.1"

# Below Linux's default range for outgoing connections (ip_local_port_range, from 32768), so that none of those can
# sit on a port between the stop of a server and its restart.
_RANGE = range(20000, 32000)
_ATTEMPTS = 500

# A locked file keeps a port ours until this process ends, across restarts of the server behind it.
_held: dict[int, int] = {}


def reserve_port() -> int:
    """A free TCP port of 127.0.0.1, reserved for the rest of this process's life. Raises OSError if none is found."""
    folder = Path(tempfile.gettempdir()) / f"tocsin-estate-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for _ in range(_ATTEMPTS):
        port = random.choice(_RANGE)
        if port in _held:
            continue
        # A plain descriptor, because it is meant to stay open until the very end.
        handle = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            continue
        if is_free(port):
            _held[port] = handle
            return port
        os.close(handle)
    raise OSError(f"no free port among {_ATTEMPTS} tried in {_RANGE.start}-{_RANGE.stop}")


def is_free(port: int) -> bool:
    """Whether a server could bind the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def accepts(port: int, timeout: float = 0.5) -> bool:
    """Whether something accepts TCP connections on the port."""
    try:
        socket.create_connection((LOOPBACK, port), timeout).close()
    except OSError:
        return False
    return True

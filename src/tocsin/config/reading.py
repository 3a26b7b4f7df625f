"""Bounded reading of files, and a digest of what was read so that a change can be seen later."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from pathlib import Path

MAX_DOCUMENT_BYTES = 1 << 20
"""The largest configuration, profile or env file that is read, in bytes."""

MAX_SECRET_BYTES = 1 << 16
"""The largest ``${file:…}`` that is read, in bytes."""

_DIGEST_KEY = secrets.token_bytes(32)


def read_file(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most ``limit`` bytes.

    Raises `OSError`, also for a larger file (``EFBIG``) and for a pipe or device, whose reading might never end.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit >> 10} KiB", str(path))
    return content


def read_secret(path: Path) -> str:
    """The text of a secret file without its last line end. Raises `OSError`, also when it is empty or not UTF-8."""
    try:
        text = read_file(path, MAX_SECRET_BYTES).decode()
    except UnicodeDecodeError:
        raise OSError(errno.EILSEQ, "not UTF-8 text", str(path)) from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise OSError(errno.ENODATA, "the file is empty", str(path))
    return text


def digest(path: Path) -> str | None:
    """A digest of what the file holds now (the first bytes, up to the document cap); None when it cannot be read.

    Keyed with a random key of this process: comparable only within it, and of no use for guessing a secret.
    """
    try:
        content = read_file(path, MAX_DOCUMENT_BYTES)
    except OSError as error:
        return f"errno {error.errno}" if error.errno == errno.EFBIG else None
    return digest_of(content)


def digest_of(content: bytes) -> str:
    """The digest of content that was read already; see `digest`."""
    return hashlib.blake2b(content, key=_DIGEST_KEY, digest_size=16).hexdigest()

"""Small files that outlive the process: where they are, and how they are replaced."""

from __future__ import annotations

import os
from pathlib import Path


def state_folder() -> Path:
    """The state folder of this process: ``TOCSIN_STATE_DIR``, or the same default as the daemon's."""
    named = os.environ.get("TOCSIN_STATE_DIR", "")
    return Path(named) if named else default_state_folder()


def default_state_folder() -> Path:
    """``$XDG_STATE_HOME/tocsin``, XDG Base Directory Specification."""
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base else Path.home() / ".local" / "state") / "tocsin"


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces a file so that, whenever power or process ends, either the old or the new content is there.

    The file can be read by its owner only. Raises `OSError`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_if_there(path: Path) -> bytes | None:
    """A file's content; None when there is no such file. Raises `OSError` for anything else."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None

"""Where a running sandbox keeps its files, and how its command line finds it again.

``${TMPDIR}/tocsin-sandbox-UID/RUN/``: a locked ``lock`` for as long as the sandbox lives, and ``sandbox.json``.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_FACTS = "sandbox.json"
_LOCK = "lock"


class FolderError(Exception):
    """The folder for running sandboxes cannot be used; the message says why and what to do."""


@dataclass(slots=True)
class RunFolder:
    """The folder of this sandbox. Others see that it lives by its lock, which the kernel drops when it dies."""

    path: Path
    lock: IO[bytes]

    def publish(self, facts: Mapping[str, str]) -> None:
        """Write what the command line needs to know (addresses), all of it or nothing."""
        draft = self.path / (_FACTS + ".new")
        draft.write_text(json.dumps(dict(facts)), encoding="utf-8")
        draft.chmod(0o600)
        draft.rename(self.path / _FACTS)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self.lock.close()


def home() -> Path:
    """The folder of all sandboxes of this user. Others may pass through it, as PostgreSQL's account must, but not
    list it. Raises `FolderError` when somebody else made it."""
    path = Path(tempfile.gettempdir()) / f"tocsin-sandbox-{os.geteuid()}"
    path.mkdir(mode=0o711, exist_ok=True)
    facts = path.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
        raise FolderError(f"{path} belongs to somebody else; set TMPDIR to another folder")
    path.chmod(0o711)
    return path


def create(base: Path) -> RunFolder:
    """A new, locked folder under ``base``. Folders whose sandbox was killed are removed on the way."""
    for path in base.iterdir():
        if path.is_dir() and not _alive(path):
            shutil.rmtree(path, ignore_errors=True)
    path = Path(tempfile.mkdtemp(prefix="run-", dir=base))
    path.chmod(0o711)
    lock = (path / _LOCK).open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return RunFolder(path, lock)


def running(base: Path) -> list[dict[str, str]]:
    """What the living sandboxes under ``base`` have published."""
    return [
        json.loads((path / _FACTS).read_text("utf-8"))
        for path in sorted(base.iterdir())
        if (path / _FACTS).is_file() and _alive(path)
    ]


def _alive(path: Path) -> bool:
    """Whether somebody holds the lock of this folder. One without a lock file is just being made, or half removed."""
    try:
        with (path / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False

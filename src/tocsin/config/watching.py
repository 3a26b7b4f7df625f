"""Sees when a file of the configuration holds something else than what was loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from tocsin.config.reading import digest


class FileWatch:
    """Compares content, by path: an editor's rename, a ``touch``, and the swap of ``..data`` with which Kubernetes
    updates a mounted ConfigMap are all told by what the path then holds.

    Made from ``Configuration.files``, so that a change during the load itself is not missed.
    """

    def __init__(self, files: Mapping[Path, str | None]) -> None:
        self._seen = dict(files)

    async def changed(self) -> tuple[Path, ...]:
        """The files that changed since the last call (the first time: since they were loaded). Reads in a thread.

        A file that cannot be read any more has changed, once.
        """
        if not self._seen:
            return ()
        now = await asyncio.to_thread(lambda: {path: digest(path) for path in self._seen})
        changed = tuple(sorted(path for path, content in now.items() if content != self._seen[path]))
        self._seen = now
        return changed

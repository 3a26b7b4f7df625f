"""Alexandria's database as one published page has it: a SQLite file on the api's volume."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

_PAGE_BYTES = 4096
"""SQLite documentation, "Database File Format", section 1.3.2: the default since 3.12."""


class SqliteFile:
    """The file at ``path``, whole when made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._whole = path.with_suffix(".whole")
        with closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE tenants (slug TEXT)")
        shutil.copy(path, self._whole)

    def damage(self) -> None:
        """The second page, the table's own, is overwritten."""
        with self.path.open("r+b") as raw:
            raw.seek(_PAGE_BYTES)
            raw.write(b"\xff" * _PAGE_BYTES)

    def mend(self) -> None:
        shutil.copy(self._whole, self.path)

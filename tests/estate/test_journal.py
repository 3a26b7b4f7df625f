"""`systemd_unit` on journals as systemd writes them, read by the real journalctl.

systemd-journal-remote makes them from the export format, https://systemd.io/JOURNAL_EXPORT_FORMATS. No systemd runs where
these tests do, so `systemctl` is a stand-in.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from estate.install import ensure
from tests.probing import Probed, probe_once
from tocsin_probes.systemd_unit import SystemdUnit

pytestmark = pytest.mark.estate

UNIT = "alexandria-api.service"
PATTERNS = {"audit_chain_broken": "audit chain broken", "license_expiring": "license.expiring"}


class Journal:
    """A folder of journals, and a unit that runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "journal"
        self.folder.mkdir()
        self._remote = ensure("journal-remote") / "systemd-journal-remote"
        self._real = ensure("systemd") / "journalctl"
        self._tools = folder
        self._entries = 0
        self.memory: dict[str, Any] = {}
        self._tool("journalctl", f'exec {self._real} --directory={self.folder} "$@"')
        self._tool("systemctl", "printf 'LoadState=loaded\\nActiveState=active\\nSubState=running\\nNRestarts=0\\n'")

    def _tool(self, name: str, line: str) -> None:
        path = self._tools / name
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)

    def write(self, *messages: bytes, unit: str = UNIT) -> Path:
        """Another file of the journal, with these messages as of now."""
        export = b""
        for message in messages:
            self._entries += 1
            now = int(time.time() * 1e6) + self._entries
            fields = (
                f"__REALTIME_TIMESTAMP={now}\n__MONOTONIC_TIMESTAMP={now}\n_BOOT_ID={1:032x}\n_SYSTEMD_UNIT={unit}\n"
            )
            export += fields.encode() + b"MESSAGE\n" + len(message).to_bytes(8, "little") + message + b"\n\n"
        file = self.folder / f"{self._entries:04}.journal"
        subprocess.run([self._remote, "-o", file, "-"], input=export, check=True, capture_output=True, timeout=30)
        return file

    async def look(self) -> Probed:
        given = {tool: str(self._tools / tool) for tool in ("systemctl", "journalctl")}
        settings = SystemdUnit.Settings.model_validate({"unit": UNIT, "patterns": PATTERNS, **given})
        return await probe_once(SystemdUnit(settings), 10, memory=self.memory)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


async def test_a_line_of_the_unit_is_found_and_read_once(journal: Journal) -> None:
    journal.write(b"started", b"listening")
    journal.write(b"audit chain broken", unit="another.service")
    assert (await journal.look()).verdict == ("ok", None)
    journal.write(b'{"event_type":"license.expiring"}')
    probed = await journal.look()
    assert probed.verdict == ("failed", "license_expiring")
    cursor = journal.memory["cursor"]
    assert (await journal.look()).verdict == ("failed", "license_expiring"), "for as long as its window"
    assert journal.memory["cursor"] == cursor


async def test_what_stands_at_the_end_of_a_long_line_is_seen(journal: Journal) -> None:
    """Without --all journalctl gives null for more than 4096 bytes. journalctl(1), ``--output=json``."""
    journal.write(b"x" * 20_000 + b" audit chain broken")
    assert (await journal.look()).verdict == ("failed", "audit_chain_broken")


async def test_bytes_that_are_no_text_hide_nothing(journal: Journal) -> None:
    journal.write(b"\xff\xfe audit chain broken")
    assert (await journal.look()).verdict == ("failed", "audit_chain_broken")


async def test_a_journal_that_was_rotated_away_is_read_on_by_time(journal: Journal) -> None:
    old = journal.write(b"started")
    assert (await journal.look()).verdict == ("ok", None)
    old.unlink()
    journal.write(b"audit chain broken")
    assert (await journal.look()).verdict == ("failed", "audit_chain_broken")

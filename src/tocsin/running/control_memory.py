"""Which control targets answered, and when: what a process that is started in an outage goes by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from pathlib import Path

from tocsin.sdk.state_files import read_if_there, write_atomically


class ControlMemory:
    """One file of a state folder: URLs and when each last answered, in Unix seconds."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, float]:
        """What was kept; nothing when there is no such file, or none that can be read."""
        try:
            content = json.loads(read_if_there(self.path) or b"{}")
            kept = {str(url): float(at) for url, at in content.items()}
        except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
            return {}
        return {url: at for url, at in kept.items() if isfinite(at)}

    def write(self, answered_at: Mapping[str, float]) -> None:
        """Raises `OSError`."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self.path, json.dumps(dict(answered_at)).encode())

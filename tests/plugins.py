"""Packages of probe kinds, installed as a user would install them, into a folder that only one daemon sees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent / "examples"


def install(target: Path, *names: str) -> dict[str, str]:
    """Installs example packages below ``target``; the environment in which a process finds their entry points."""
    subprocess.run(
        [
            sys.executable,
            *("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"),
            *("--no-index", "--target", str(target)),
            *(str(EXAMPLES / name) for name in names),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return {"PYTHONPATH": str(target)}

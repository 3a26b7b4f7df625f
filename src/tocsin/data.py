"""Where the shipped data is: profiles, alerts, runbooks, dashboards, drills. In a wheel, or beside a checkout's src."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path


def folder(name: str) -> Path:
    """The folder ``profiles``, ``alerts``, ``runbooks``, ``dashboards`` or ``drills``. Raises `FileNotFoundError`.

    A wheel is installed unpacked, so its data is plain files.
    """
    package = Path(str(files("tocsin")))
    for candidate in (package / "data" / name, package.parents[1] / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"tocsin was installed without its {name}; install it again from a wheel")


def data(name: str) -> Traversable:
    """`folder`, as importlib's resources have it."""
    return folder(name)

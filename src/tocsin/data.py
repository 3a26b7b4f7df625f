"""Where the shipped data is: profiles, alerts, runbooks, dashboards, drills. In a wheel, or beside a checkout's src."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path


def data(folder: str) -> Traversable:
    """The folder ``profiles``, ``alerts``, ``runbooks``, ``dashboards`` or ``drills``. Raises `FileNotFoundError`."""
    packed = files("tocsin").joinpath("data", folder)
    if packed.is_dir():
        return packed
    checkout = Path(__file__).resolve().parents[2] / folder
    if checkout.is_dir():
        return checkout
    raise FileNotFoundError(f"tocsin was installed without its {folder}; install it again from a wheel")

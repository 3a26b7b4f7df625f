"""A registry of two small kinds, and a way to load a configuration from its text."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.config.fake_kinds import Log, Web
from tocsin.config import Configuration, Registry, Sources, load


@pytest.fixture
def registry() -> Registry:
    return Registry({"web": Web, "log": Log})


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of bundled profiles; empty."""
    folder = tmp_path / "bundled"
    folder.mkdir()
    monkeypatch.setattr("tocsin.config.loading.data", lambda name: tmp_path / "bundled")
    return folder


@pytest.fixture
def load_text(tmp_path: Path, registry: Registry) -> Callable[..., Configuration]:
    """Loads ``text`` as the user's own file; keywords are variables of the process environment."""

    def load_it(text: str, **environ: str) -> Configuration:
        path = tmp_path / "tocsin.yaml"
        path.write_text(text)
        return load(Sources(path, environ=environ), registry)

    return load_it

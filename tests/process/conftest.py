"""A daemon as a process, and something for it to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon
from tests.targets import Target


@pytest.fixture
def target() -> Iterator[Target]:
    with Target() as found:
        yield found


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    daemons: list[Daemon] = []

    def started(config: Path, **options: Any) -> Daemon:
        daemon = Daemon(tmp_path, ["--config", str(config)], **options)
        daemons.append(daemon)
        return daemon.start()

    yield started
    for daemon in daemons:
        daemon.__exit__(None, None, None)

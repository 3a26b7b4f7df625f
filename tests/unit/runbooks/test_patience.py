"""A folder of pages that hangs, and one that may not be entered."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tocsin.runbooks import PageError, Patience


def test_what_is_found_is_given_and_what_is_raised_is_raised() -> None:
    patience = Patience(Path("own"))
    assert patience.look(lambda: "page") == "page"
    with pytest.raises(PageError, match="broken"):
        patience.look(_raising(PageError("broken")))
    assert patience.look(lambda: "page") == "page"


def test_a_look_that_hangs_is_waited_for_once_and_keeps_one_thread_until_it_is_back() -> None:
    patience, back, looks = Patience(Path("own"), seconds=0.2), threading.Event(), 0

    def hang() -> str:
        nonlocal looks
        looks += 1
        back.wait(10)
        return "page"

    began = time.monotonic()
    for _ in range(50):
        with pytest.raises(PageError, match=r"own: cannot be read: it has not answered within 0\.2 s"):
            patience.look(hang)
    assert looks == 1
    assert time.monotonic() - began < 2.0
    back.set()
    deadline = time.monotonic() + 5
    while True:
        try:
            assert patience.look(hang) == "page"
            break
        except PageError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_two_who_look_at_once_both_find() -> None:
    patience, found = Patience(Path("own"), seconds=5.0), []

    def slow() -> str:
        time.sleep(0.1)
        return "page"

    threads = [threading.Thread(target=lambda: found.append(patience.look(slow))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["page"] * 3


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that other accounts may enter, which pytest's may not be."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_folders_that_may_not_be_entered_are_told(folder: Path) -> None:
    """As another account, when we are root: root may enter everything."""
    (folder / "shop").mkdir()
    (folder / "shop" / "checkout.md").write_text("---\ntitle: No checkout\n---\n")
    (folder / "shop").chmod(0o644)
    code = """
import os, sys
from pathlib import Path
from tocsin.config.process import process_settings
from tocsin.runbooks import PageError, find_page, folders
find_page("wipe", "keycloak-outage", *folders(Path("/")))  # all that is imported lazily
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
own = Path(sys.argv[1])
for look in (lambda: find_page("shop", "checkout", *folders(own)), process_settings):
    try:
        print(look())
    except Exception as error:
        print(type(error).__name__, error)
"""
    environ = {**os.environ, "TOCSIN_RUNBOOKS_DIR": str(folder / "shop" / "below")}
    done = subprocess.run(
        [sys.executable, "-c", code, folder], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    page, settings = done.stdout.splitlines()[:2]
    assert page == f"PageError {folder}/shop/checkout.md: cannot be read: Permission denied", done
    assert settings.startswith("ConfigError"), done
    assert "cannot be looked at: Permission denied" in done.stdout
    (folder / "shop").chmod(0o755)


def _raising(error: Exception) -> Callable[[], str]:
    def look() -> str:
        raise error

    return look

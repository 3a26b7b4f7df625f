"""How a running sandbox is found, and how what a killed one left is removed."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tocsin_sandbox import folders


@pytest.fixture(autouse=True)
def temporary_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_a_running_sandbox_is_found_by_what_it_published() -> None:
    run = folders.create(folders.home())
    run.publish({"switches": "http://127.0.0.1:1"})
    assert folders.running(folders.home()) == [{"switches": "http://127.0.0.1:1"}]
    run.remove()
    assert folders.running(folders.home()) == []


def test_the_folder_of_a_killed_sandbox_is_not_running_and_is_removed_by_the_next() -> None:
    killed = folders.create(folders.home())
    killed.publish({"switches": "http://127.0.0.1:1"})
    killed.lock.close()
    assert folders.running(folders.home()) == []
    run = folders.create(folders.home())
    assert [path.name for path in folders.home().iterdir()] == [run.path.name]
    run.remove()


def test_the_folder_of_a_living_sandbox_is_left_alone() -> None:
    first, second = folders.create(folders.home()), folders.create(folders.home())
    assert first.path.is_dir()
    assert second.path.is_dir()
    first.remove()
    second.remove()


def test_others_may_pass_through_but_not_list_and_facts_are_the_owners() -> None:
    run = folders.create(folders.home())
    run.publish({})
    assert stat.S_IMODE(folders.home().stat().st_mode) == 0o711
    assert stat.S_IMODE((run.path / "sandbox.json").stat().st_mode) == 0o600
    run.remove()


def test_a_link_in_the_place_of_the_home_is_refused(tmp_path: Path) -> None:
    home = folders.home()
    home.rmdir()
    (tmp_path / "elsewhere").mkdir()
    home.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(folders.FolderError, match="belongs to somebody else; set TMPDIR to another folder"):
        folders.home()

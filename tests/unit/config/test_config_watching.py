"""A change is a change of content, however it comes about."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.config.fake_kinds import Web
from tocsin.config import Configuration, FileWatch, Registry, Sources, load

TEXT = "probes:\n  a: {kind: web, system: s, incident: i, url: u}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tocsin.yaml"
    path.write_text(TEXT)
    return path


def watch(path: Path) -> FileWatch:
    return FileWatch(load(Sources(path, environ={}), Registry({"web": Web})).files)


async def test_nothing_has_changed_at_first_and_touching_changes_nothing(path: Path):
    files = watch(path)
    os.utime(path, (0, 0))
    assert await files.changed() == ()


async def test_a_change_is_told_once(path: Path):
    files = watch(path)
    path.write_text(TEXT.replace("url: u", "url: v"))
    assert await files.changed() == (path,)
    assert await files.changed() == ()


async def test_a_change_of_the_same_length_and_time_is_seen(path: Path):
    files = watch(path)
    stat = path.stat()
    path.write_text(TEXT.replace("url: u", "url: v"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert await files.changed() == (path,)


async def test_a_file_that_is_gone_or_grown_beyond_reading_has_changed(path: Path):
    files = watch(path)
    path.unlink()
    assert await files.changed() == (path,)
    assert await files.changed() == ()
    path.write_bytes(b"#" * 2_000_000)
    assert await files.changed() == (path,)
    path.write_text(TEXT)
    assert await files.changed() == (path,)


async def test_the_swap_of_a_configmaps_data_link_is_seen(tmp_path: Path):
    for version, text in (("..2026_1", TEXT), ("..2026_2", TEXT.replace("url: u", "url: v"))):
        (tmp_path / version).mkdir()
        (tmp_path / version / "tocsin.yaml").write_text(text)
    (tmp_path / "..data").symlink_to("..2026_1")
    path = tmp_path / "tocsin.yaml"
    path.symlink_to("..data/tocsin.yaml")
    files = watch(path)
    (tmp_path / "..data_tmp").symlink_to("..2026_2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert await files.changed() == (path,)


async def test_env_files_profiles_and_files_in_references_are_watched(
    tmp_path: Path, load_text: Callable[..., Configuration]
):
    (tmp_path / "own.env").write_text("U=u\n")
    (tmp_path / "base.yaml").write_text(TEXT)
    (tmp_path / "token").write_text("one")
    text = f"env_file: own.env\nprofiles: [./base.yaml]\nprobes: {{a: {{password: '${{file:{tmp_path}/token}}'}}}}\n"
    files = FileWatch(load_text(text).files)
    for name in ("own.env", "base.yaml", "token"):
        (tmp_path / name).write_text((tmp_path / name).read_text() + "\n# more")
        assert await files.changed() == (tmp_path / name,)

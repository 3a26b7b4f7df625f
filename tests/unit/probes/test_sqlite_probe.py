"""`sqlite` on files as their writers leave them."""

from __future__ import annotations

import shutil
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.probing import Probed, probe_once
from tocsin_probes.sqlite import Sqlite


async def look(file: Path, timeout: float = 5.0, **own: Any) -> Probed:
    return await probe_once(Sqlite(Sqlite.Settings.model_validate({"file": str(file)} | own)), timeout=timeout)


@contextmanager
def opened(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        yield connection


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A database of some eighty pages, whose names need escaping in a URI."""
    folder = tmp_path / "data #1?%41"
    folder.mkdir()
    file = folder / "alexandria.db"
    with opened(file) as database:
        database.execute("CREATE TABLE tenants (id INTEGER PRIMARY KEY, slug TEXT)")
        database.execute("CREATE INDEX slugs ON tenants (slug)")
        rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9000)"
        database.execute(f"INSERT INTO tenants {rows} SELECT i, 'tenant-' || i * 7919 % 9000 FROM n")
    return file


async def test_a_database_that_is_whole_is_ok_and_nothing_is_written(file: Path) -> None:
    before = file.read_bytes(), sorted(file.parent.iterdir())
    assert (await look(file, tables="tenants")).verdict == ("ok", None)
    assert (file.read_bytes(), sorted(file.parent.iterdir())) == before


async def test_a_database_in_wal_mode_is_read_beside_its_writer(file: Path) -> None:
    with opened(file) as writer:
        writer.execute("PRAGMA journal_mode = wal")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO tenants VALUES (10000, 'new')")
        assert (await look(file)).verdict == ("ok", None)
        writer.execute("COMMIT")
    assert (await look(file)).verdict == ("ok", None)


async def test_what_is_not_there_is_told(file: Path) -> None:
    assert (await look(file.with_name("other.db"))).verdict == ("failed", "missing")
    seen = await look(file, tables="tenants, users")
    assert seen.verdict == ("failed", "table_missing")
    assert seen.detail == "there is no users"
    assert not file.with_name("other.db").exists()


async def test_something_else_in_its_place_is_told(file: Path) -> None:
    file.write_bytes(b"-- a dump, not a database\n" * 100)
    assert (await look(file)).verdict == ("failed", "not_a_database")


@pytest.mark.parametrize("check", ["1s", "0s"])
async def test_a_file_without_anything_in_it_is_not_whole(tmp_path: Path, check: str) -> None:
    """SQLite takes a file of no bytes for a database; a writer that found none has left one without tables."""
    file = tmp_path / "empty.db"
    file.touch()
    assert (await look(file, check=check)).verdict == ("failed", "not_a_database")
    with opened(file) as database:
        database.execute("PRAGMA journal_mode = wal")
        assert (await look(file, check=check)).verdict == ("failed", "not_a_database")
        database.execute("CREATE TABLE tenants (id INTEGER PRIMARY KEY)")
        assert (await look(file, check=check)).verdict == ("ok", None)


async def test_a_database_that_somebody_keeps_for_himself_is_told_before_the_run_ends(file: Path) -> None:
    with opened(file) as other:
        other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        assert (await look(file, timeout=0.4)).verdict == ("failed", "locked")
        assert time.monotonic() - began < 0.4
        other.execute("ROLLBACK")
    assert (await look(file)).verdict == ("ok", None)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
async def test_a_page_that_is_overwritten_is_found(file: Path, share: float) -> None:
    with file.open("r+b") as raw:
        raw.seek(round(share * (file.stat().st_size // 4096)) * 4096)
        raw.write(b"\xff" * 4096)
    assert (await look(file)).verdict == ("failed", "corrupt")
    assert (await look(file, check="0s")).verdict == ("ok", None)


async def test_a_name_in_the_schema_that_is_no_text_any_more_is_corruption(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content.replace(b"CREATE TABLE tenants", b"CREATE TABLO \xffenants", 1))
    probed = await look(file)
    assert probed.verdict == ("failed", "corrupt"), probed.detail


async def test_a_file_that_was_cut_is_found(file: Path) -> None:
    with file.open("r+b") as raw:
        raw.truncate(file.stat().st_size // 2)
    assert (await look(file)).verdict == ("failed", "corrupt")


async def test_a_write_that_was_cut_off_is_told(file: Path) -> None:
    """What a crash in the middle of a commit leaves: the file half written, and the journal that would undo it."""
    crashed = file.with_name("crashed.db")
    with opened(file) as writer:
        writer.execute("PRAGMA cache_size = 1")
        writer.execute("BEGIN")
        writer.execute("UPDATE tenants SET slug = 'x' || slug")
        shutil.copy(file, crashed)
        shutil.copy(file.with_name("alexandria.db-journal"), file.with_name("crashed.db-journal"))
        writer.execute("ROLLBACK")
    assert (await look(crashed)).verdict == ("failed", "unrecovered")
    with opened(crashed) as heir:
        heir.execute("SELECT count(*) FROM tenants").fetchone()
    assert (await look(crashed)).verdict == ("ok", None)


async def test_a_check_that_does_not_end_in_its_time_is_unknown(file: Path) -> None:
    with opened(file) as writer:
        rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
        writer.execute(f"CREATE TABLE log AS {rows} SELECT i, 'line ' || i FROM n")
    assert (await look(file, check="1ms")).verdict == ("unknown", "check_unfinished")
    assert (await look(file, check="0s")).detail == "readable; its structure is not checked"


async def test_what_cannot_be_opened_is_our_own_trouble(tmp_path: Path) -> None:
    file = tmp_path / "alexandria.db"
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(file))
        assert (await look(file)).verdict == ("unknown", "credentials_missing")

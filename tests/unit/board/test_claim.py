"""Whose a state folder is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tocsin.board import InUse, claimed


def test_a_folder_is_one_daemons_at_a_time_and_free_again_afterwards(tmp_path: Path) -> None:
    with claimed(tmp_path) as mine:
        assert mine
        with pytest.raises(InUse, match=rf"^another tocsin uses it, process {os.getpid()}$"), claimed(tmp_path):
            raise AssertionError("two daemons have one folder")
    with claimed(tmp_path) as mine:
        assert mine


def test_a_folder_that_cannot_be_written_is_no_reason_not_to_probe(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with claimed(tmp_path / "file" / "state") as mine:
        assert not mine

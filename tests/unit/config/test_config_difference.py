"""What counts as a change, for the difference and for the hash."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tocsin.config import Configuration, diff

Load = Callable[..., Configuration]
ROOT = Path(__file__).parents[3]

BASE = """
probes:
  a: {kind: web, system: s, incident: i, url: u, password: "x${P}", headers: {h: "${file:%s}"}}
  b: {kind: web, system: s, incident: i, url: u}
"""


@pytest.fixture
def base(tmp_path: Path) -> str:
    (tmp_path / "token").write_text("one")
    return BASE % (tmp_path / "token")


def test_added_removed_changed_and_unchanged_probes_are_told_apart(load_text: Load, base: str):
    old = load_text(base, P="1")
    new = load_text(base.replace("  b:", "  c:").replace("password", "checked"), P="1")
    difference = diff(old.probes, new.probes)
    assert difference.added == ("c",)
    assert difference.removed == ("b",)
    assert difference.changed == ("a",)
    assert difference.unchanged == ()
    assert difference


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("probes:", "# moved down\n\n\nprobes:"),
        ("  b: {kind: web, ", "  b: {every: 30s, follow: false, kind: web, "),
        ("probes:", "defaults: {every: 0.5m}\nprobes:"),
    ],
    ids=["lines", "defaults written out", "another spelling"],
)
def test_another_way_to_write_the_same_is_no_change(load_text: Load, base: str, before: str, after: str):
    old, new = load_text(base, P="1"), load_text(base.replace(before, after, 1), P="1")
    assert not diff(old.probes, new.probes)
    assert diff(old.probes, new.probes).unchanged == ("a", "b")
    assert old.content_hash == new.content_hash


@pytest.mark.parametrize(
    ("before", "after", "value"),
    [
        ("x${P}", "y${P}", "1"),
        ("x${P}", "x${P}", "2"),
        ("url: u", "url: v", "1"),
        ("headers: {h:", "headers: {k:", "1"),
    ],
    ids=["a literal in a secret", "a variable in a secret", "a setting", "a key"],
)
def test_another_value_is_a_change(load_text: Load, base: str, before: str, after: str, value: str):
    old, new = load_text(base, P="1"), load_text(base.replace(before, after, 1), P=value)
    assert diff(old.probes, new.probes).changed == ("a",)
    assert old.content_hash != new.content_hash


def test_a_rotated_secret_file_is_no_change(load_text: Load, base: str, tmp_path: Path):
    old = load_text(base, P="1")
    (tmp_path / "token").write_text("two")
    new = load_text(base, P="1")
    assert diff(old.probes, new.probes).unchanged == ("a", "b")
    assert old.content_hash == new.content_hash
    assert old.probes["a"].settings.headers["h"].reveal() == "two"


def test_controls_and_caps_count_for_the_hash(load_text: Load, base: str):
    old = load_text(base, P="1").content_hash
    assert load_text(base + "controls: [tcp://a:1]\n", P="1").content_hash != old
    assert load_text(base + "caps: {runs: 7}\n", P="1").content_hash != old


def test_the_hash_is_the_same_in_every_process(load_text: Load, tmp_path: Path):
    window = "maintenance: [{weekdays: [mon, tue, wed, thu, fri], start: 22:00, end: 23:00}]"
    text = f"probes:\n  a: {{kind: web, system: s, incident: i, url: u, password: p, {window}}}\n"
    here = load_text(text).content_hash
    program = (
        "import sys; from pathlib import Path; from tests.unit.config.fake_kinds import Web; "
        "from tocsin.config import Registry, Sources, load; "
        "print(load(Sources(Path(sys.argv[1]), environ={}), Registry({'web': Web})).content_hash)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "tocsin.yaml")]
    environ = {**os.environ, "PYTHONHASHSEED": "4711"}
    there = subprocess.run(command, env=environ, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert there.strip() == here

"""What docs/generate.py writes is written: the reference, and what to check first in each runbook page."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from tocsin.config import Registry
from tocsin.runbooks import checks

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    made = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert made is not None
    assert made.loader is not None
    module = importlib.util.module_from_spec(made)
    made.loader.exec_module(module)
    return module


def test_everything_generated_is_up_to_date(generate: ModuleType) -> None:
    registry = Registry.discover()
    written = [*generate.runbooks(registry), *generate.reference(registry)]
    assert [str(path) for path, text in written if path.read_text("utf-8") != text] == [], "run `make docs`"


def test_every_page_that_probes_lead_to_says_what_to_check_first(generate: ModuleType) -> None:
    pages = {path.parent.name + "/" + path.stem: text for path, text in generate.runbooks(Registry.discover())}
    without = {name for name, text in pages.items() if checks.BEGIN not in text}
    assert without == {name for name in pages if name.startswith("tocsin/")}, "no probe leads to those"
    listed = re.findall(r"^\| \d+ \| `([\w-]+)`", pages["wipe/keycloak-outage"], re.MULTILINE)
    assert listed.index("wipe-keycloak-db") < listed.index("wipe-realm-exawipe") < listed.index("wipe-token-exawipe")
    assert "wipe-db" in listed, "what explains a probe of the page is there too, whichever page it belongs to"


def test_a_page_that_is_out_of_date_is_noticed(generate: ModuleType, tmp_path: Path) -> None:
    page = (ROOT / "runbooks" / "wipe" / "keycloak-outage.md").read_text("utf-8")
    stale = page.replace("| 1 | `wipe-keycloak-db`", "| 1 | `wipe-keycloak-dbs`")
    parted = checks.part(page)
    assert stale != page
    assert parted is not None
    assert checks.replaced(stale, parted.listed) == page

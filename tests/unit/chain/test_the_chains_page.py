"""`docs/audit-chain.md` says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from docs.generate_chain_table import PAGE, generated
from tocsin_chain.forms import Encoding, Framing, LengthPrefix, PreviousPlace
from tocsin_chain.reasons import ChainReason
from tocsin_probes.hash_chain import HashChain

TEXT = PAGE.read_text()


def test_its_table_is_the_one_the_tests_are_driven_by() -> None:
    assert generated(TEXT) == TEXT, "run `python docs/generate_chain_table.py`"


@pytest.mark.parametrize("word", [*Encoding, *Framing, *LengthPrefix, *PreviousPlace])
def test_it_names_every_encoding_framing_and_place(word: str) -> None:
    assert f"`{word}`" in TEXT or f"{word}`" in TEXT


@pytest.mark.parametrize("reason", [reason for reason in ChainReason if reason.info.severity == "page"])
def test_it_names_every_reason_that_pages(reason: ChainReason) -> None:
    assert reason is ChainReason.TABLE_MISSING or f"`{reason}`" in TEXT


def test_its_example_is_a_valid_configuration(tmp_path: Path) -> None:
    example = TEXT.split("```yaml\n")[1].split("```")[0]
    probe = yaml.safe_load(example)["probes"]["alexandria-audit-chain"]
    common = {"kind", "system", "incident", "every", "timeout"}
    settings = {key: value for key, value in probe.items() if key not in common}
    assert HashChain.Settings.model_validate(settings).form() is not None

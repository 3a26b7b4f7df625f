"""The tests' PDF signer encodes a structure once, whatever length it has."""

from __future__ import annotations

from typing import Any

import pytest
from asn1crypto import core

from estate.pades_service import encode_once

DEPTH = 6


class Leaf(core.OctetString):
    encoded = 0

    def dump(self, force: bool = False) -> bytes:
        type(self).encoded += 1
        return bytes(super().dump(force))


def nested(depth: int) -> Any:
    """Sequences in one another; the length of each ends in 0x80, so that its header does. X.690 section 8.1.3."""
    if not depth:
        return Leaf(b"x")
    inner = nested(depth - 1)
    size = len(inner.dump())
    kind = type("Nest", (core.Sequence,), {"_fields": [("inner", type(inner)), ("pad", core.OctetString)]})
    for pad in range(128, 128 + 256):
        if (size + len(core.OctetString(b"x" * pad).dump())) % 256 == 0x80:
            return kind({"inner": inner, "pad": b"x" * pad})
    raise AssertionError("no padding fits")


def test_a_structure_is_encoded_once_whatever_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (core.Sequence, core.SequenceOf):
        monkeypatch.setattr(kind, "dump", kind.dump)  # so that what comes now is undone at the end
    plain = nested(DEPTH).dump()
    encode_once()
    made = nested(DEPTH)
    assert made.dump() == plain
    Leaf.encoded = 0
    assert made.dump() == plain
    assert Leaf.encoded == 1

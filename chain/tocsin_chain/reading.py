"""What a process needs to read and verify one chain: plain values that can be sent to a worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tocsin_chain.forms import Form
from tocsin_chain.macs import ChainKey, KeyRing, MacKey

MacEncoding = Literal["raw", "hex", "base64"]


@dataclass(frozen=True, slots=True)
class KeyMaterial:
    """One key of the platform with its validity (Unix seconds)."""

    id: str
    secret: bytes = field(repr=False)
    valid_from: float | None = None
    valid_to: float | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """``keys`` is None in mode linkage. ``genesis``: None when NULL, empty and 32 zero bytes count as genesis.
    ``snapshot``: seconds."""

    dsn: str = field(repr=False)
    application: str
    snapshot: float
    mac_encoding: MacEncoding
    form: Form | None
    genesis: bytes | None
    keys: tuple[KeyMaterial, ...] | None = field(repr=False)
    keys_by_id: bool = False

    def ring(self) -> KeyRing | None:
        if self.keys is None:
            return None
        return KeyRing(
            tuple(ChainKey(key.id, MacKey(key.secret), key.valid_from, key.valid_to) for key in self.keys),
            by_id=self.keys_by_id,
        )

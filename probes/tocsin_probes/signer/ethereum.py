"""What it takes to say who signed an EVM transaction: Keccak-256, RLP, recovery of a secp256k1 public key. Pure.

Only public data go through here, so nothing needs constant time. One recovery takes about ten milliseconds.
Sources: the Keccak reference, version 3.0 (padding 0x01, which SHA-3 changed); the Yellow Paper, appendices B and F;
EIP-155, EIP-2718, EIP-2930, EIP-1559; SEC 1 section 4.1.6 and SEC 2 section 2.4.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MAX_CHAIN_ID: Final = 2**63 - 37
"""The largest chain id that EIP-2294 permits. No chain has it."""
MAX_NONCE: Final = 2**64 - 2
"""The largest nonce that EIP-2681 permits. No account reaches it."""

MAX_DEPTH: Final = 32
"""Transactions nest three deep."""

Rlp = bytes | list["Rlp"]
Point = tuple[int, int] | None

_MASK: Final = (1 << 64) - 1
_P: Final = 2**256 - 2**32 - 977
_N: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_G: Final[Point] = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)


def _round_constants() -> tuple[int, ...]:
    """The 24 constants of the iota step, from their shift register (Keccak reference, section 1.2)."""
    constants, register = [], 1
    for _ in range(24):
        constant = 0
        for exponent in range(7):
            if register & 1:
                constant |= 1 << ((1 << exponent) - 1)
            register = (register << 1) ^ (0x171 if register & 0x80 else 0)
        constants.append(constant)
    return tuple(constants)


_ROUNDS: Final = _round_constants()


def _rotated(lane: int, by: int) -> int:
    by %= 64
    return ((lane << by) | (lane >> (64 - by))) & _MASK


def _permuted(a: list[int]) -> list[int]:
    """Keccak-f[1600] over 25 lanes, lane (x, y) at ``x + 5 * y``."""
    for constant in _ROUNDS:
        columns = [a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20] for x in range(5)]
        change = [columns[(x - 1) % 5] ^ _rotated(columns[(x + 1) % 5], 1) for x in range(5)]
        a = [lane ^ change[index % 5] for index, lane in enumerate(a)]
        x, y, current = 1, 0, a[1]
        for step in range(24):
            x, y = y, (2 * x + 3 * y) % 5
            at = x + 5 * y
            current, a[at] = a[at], _rotated(current, (step + 1) * (step + 2) // 2)
        a = [
            a[x + row] ^ (~a[(x + 1) % 5 + row] & _MASK & a[(x + 2) % 5 + row])
            for row in range(0, 25, 5)
            for x in range(5)
        ]
        a[0] ^= constant
    return a


def keccak256(data: bytes) -> bytes:
    """The hash that Ethereum calls ``keccak256`` (not SHA3-256)."""
    rate = 136
    padding = rate - len(data) % rate
    padded = bytearray(data + bytes(padding))
    padded[len(data)] |= 0x01
    padded[-1] |= 0x80
    lanes = [0] * 25
    for start in range(0, len(padded), rate):
        for index in range(rate // 8):
            lanes[index] ^= int.from_bytes(padded[start + 8 * index : start + 8 * index + 8], "little")
        lanes = _permuted(lanes)
    return b"".join(lane.to_bytes(8, "little") for lane in lanes[:4])


def number(value: int) -> bytes:
    """An integer as RLP has it: big-endian without leading zeros, 0 as nothing."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def rlp(item: Rlp) -> bytes:
    """Yellow Paper, appendix B."""
    if isinstance(item, bytes):
        return item if len(item) == 1 and item[0] < 0x80 else _headed(item, 0x80)
    return _headed(b"".join(map(rlp, item)), 0xC0)


def _headed(payload: bytes, offset: int) -> bytes:
    if len(payload) < 56:
        return bytes([offset + len(payload)]) + payload
    size = number(len(payload))
    return bytes([offset + 55 + len(size)]) + size + payload


def parse_rlp(data: bytes) -> Rlp:
    """One item that is all of ``data``. Raises `ValueError`."""
    item, end = _item(data, 0, 0)
    if end != len(data):
        raise ValueError("more behind the end of the RLP item")
    return item


def _item(data: bytes, at: int, depth: int) -> tuple[Rlp, int]:
    if at >= len(data) or depth > MAX_DEPTH:
        raise ValueError("the RLP is cut off or nested too deeply")
    head = data[at]
    if head < 0x80:
        return data[at : at + 1], at + 1
    kind = 0x80 if head < 0xC0 else 0xC0
    size, start = head - kind, at + 1
    if size > 55:
        start, size = start + size - 55, int.from_bytes(data[start : start + size - 55], "big")
    end = start + size
    if end > len(data):
        raise ValueError("the RLP is cut off")
    if kind == 0x80:
        return data[start:end], end
    items: list[Rlp] = []
    while start < end:
        item, start = _item(data, start, depth + 1)
        items.append(item)
    if start != end:
        raise ValueError("an RLP item reaches beyond its list")
    return items, end


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """What a signed transaction says. ``chain_id`` is None in one from before EIP-155, valid on every chain."""

    chain_id: int | None
    nonce: int
    to: bytes
    value: int
    data: bytes
    digest: bytes
    r: int
    s: int
    odd: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """An unsigned transaction of nothing: no value, no data, no price."""

    chain_id: int = MAX_CHAIN_ID
    nonce: int = MAX_NONCE
    to: bytes = bytes(20)
    gas: int = 21000

    def unsigned(self) -> bytes:
        """What is hashed and signed. EIP-155."""
        fields = [number(self.nonce), b"", number(self.gas), self.to, b"", b"", number(self.chain_id), b"", b""]
        return rlp([*fields])


def parse_transaction(raw: bytes) -> SignedTransaction:
    """A legacy, EIP-2930 or EIP-1559 transaction. Raises `ValueError`."""
    kind = raw[0] if raw and raw[0] < 0x80 else None
    if kind not in (None, 1, 2):
        raise ValueError(f"transactions of type {kind} are not known here")
    fields = parse_rlp(raw if kind is None else raw[1:])
    if not isinstance(fields, list) or len(fields) != {None: 9, 1: 11, 2: 12}[kind]:
        raise ValueError("not the fields of a transaction")
    if kind is None:
        nonce, _, _, to, value, data, v, r, s = map(_bytes_of, fields)
        parity = int.from_bytes(v, "big")
        chain_id = (parity - 35) // 2 if parity >= 35 else None
        odd = (parity - 35) % 2 if parity >= 35 else parity - 27
        covered: list[Rlp] = [*fields[:6], *([] if chain_id is None else [number(chain_id), b"", b""])]
        digest = keccak256(rlp(covered))
    else:
        first = 4 + kind  # gas limit is one further with two prices
        chain, nonce = _bytes_of(fields[0]), _bytes_of(fields[1])
        to, value, data = map(_bytes_of, fields[first - 1 : first + 2])
        v, r, s = map(_bytes_of, fields[-3:])
        chain_id, odd = int.from_bytes(chain, "big"), int.from_bytes(v, "big")
        digest = keccak256(bytes([kind]) + rlp(fields[:-3]))
    if odd not in (0, 1):
        raise ValueError("not the parity of a signature")
    return SignedTransaction(
        chain_id=chain_id,
        nonce=int.from_bytes(nonce, "big"),
        to=to,
        value=int.from_bytes(value, "big"),
        data=data,
        digest=digest,
        r=int.from_bytes(r, "big"),
        s=int.from_bytes(s, "big"),
        odd=odd,
    )


def _bytes_of(item: Rlp) -> bytes:
    if isinstance(item, list):
        raise ValueError("a list where a field should be")
    return item


def recover(digest: bytes, r: int, s: int, odd: int) -> str:
    """The address whose key made the signature, in lower case. Raises `ValueError` when there is none."""
    if not (0 < r < _N and 0 < s < _N):
        raise ValueError("r or s is out of range")
    square = (pow(r, 3, _P) + 7) % _P
    y = pow(square, (_P + 1) // 4, _P)
    if y * y % _P != square:
        raise ValueError("r is not on the curve")
    point = (r, y if y % 2 == odd else _P - y)
    inverse = pow(r, -1, _N)
    key = _weighted([(_G, -int.from_bytes(digest, "big") * inverse % _N), (point, s * inverse % _N)])
    if key is None:
        raise ValueError("no key made this signature")
    return "0x" + keccak256(key[0].to_bytes(32, "big") + key[1].to_bytes(32, "big"))[-20:].hex()


def _weighted(terms: Sequence[tuple[Point, int]]) -> Point:
    """The sum of points, each times its factor."""
    total: Point = None
    for bit in range(255, -1, -1):
        total = _sum(total, total)
        for point, factor in terms:
            if factor >> bit & 1:
                total = _sum(total, point)
    return total


def _sum(a: Point, b: Point) -> Point:
    if a is None or b is None:
        return a or b
    (x1, y1), (x2, y2) = a, b
    if x1 == x2 and (y1 + y2) % _P == 0:
        return None
    slope = 3 * x1 * x1 * pow(2 * y1, -1, _P) if a == b else (y2 - y1) * pow(x2 - x1, -1, _P)
    x = (slope * slope - x1 - x2) % _P
    return x, (slope * (x1 - x) - y1) % _P

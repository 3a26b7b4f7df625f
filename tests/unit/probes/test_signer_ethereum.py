"""Keccak-256, RLP and the recovery of a signer, against values that others have published or made."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from tocsin_probes.signer.ethereum import (
    MAX_CHAIN_ID,
    Transfer,
    keccak256,
    number,
    parse_rlp,
    parse_transaction,
    recover,
    rlp,
)

ANVIL_0 = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"
LEGACY = bytes.fromhex(
    "f86988fffffffffffffffe80825208940000000000000000000000000000000000000000808082f4f6a09c12fd7ba762b0c7a6e0d0bf833c52"
    "4149626b8e6ad46afa7740e86cf99c3900a011d91b6735c2adf8b206f7cf7bae508b4298e2dfe930e71da5fbee1856ad9b92"
)
"""What anvil 1.7.1 signed with its first account on chain 31337."""
DYNAMIC_FEE = bytes.fromhex(
    "02f864827a698080808252089400000000000000000000000000000000000000008080c080a0c7ff68e0087e74a0d36e5db4ee66d7b5eb0c2889"
    "fe3946e04e60135066aa8e95a0103e90e9ee56b2cd4eb225a9f8a83a36ddda8cebcd3335f909776e3576cf3dff"
)


@pytest.mark.parametrize(
    ("data", "digest"),
    [
        (b"", "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"),
        (b"abc", "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"),
        (b"Transfer(address,address,uint256)", "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"),
    ],
)
def test_keccak_gives_the_published_digests(data: bytes, digest: str) -> None:
    assert keccak256(data).hex() == digest


def test_keccak_pads_at_every_length_around_a_block() -> None:
    digests = {keccak256(bytes(length)) for length in range(130, 280)}
    assert len(digests) == 150


@pytest.mark.parametrize(
    ("item", "encoded"),
    [
        (b"dog", "83646f67"),
        ([b"cat", b"dog"], "c88363617483646f67"),
        (b"", "80"),
        ([], "c0"),
        (b"\x0f", "0f"),
        (number(1024), "820400"),
        ([[], [[]], [[], [[]]]], "c7c0c1c0c3c0c1c0"),
        (b"Lorem ipsum dolor sit amet, consectetur adipisicing elit",
         "b838" + b"Lorem ipsum dolor sit amet, consectetur adipisicing elit".hex()),
    ],
)  # fmt: skip
def test_rlp_gives_the_published_encodings_and_reads_them_back(item: object, encoded: str) -> None:
    """Ethereum documentation, "Recursive-length prefix serialization", examples."""
    assert rlp(item).hex() == encoded  # type: ignore[arg-type]
    assert parse_rlp(bytes.fromhex(encoded)) == item


@given(st.recursive(st.binary(max_size=80), lambda inner: st.lists(inner, max_size=4), max_leaves=12))
def test_what_is_written_is_read_back(item: object) -> None:
    assert parse_rlp(rlp(item)) == item  # type: ignore[arg-type]


def test_nesting_without_an_end_is_refused() -> None:
    item: object = []
    for _ in range(40):
        item = [item]
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_rlp(rlp(item))  # type: ignore[arg-type]


@given(st.binary(max_size=60))
def test_garbage_is_refused_or_read_and_nothing_else(data: bytes) -> None:
    for read in (parse_rlp, parse_transaction):
        try:
            read(data)
        except ValueError:
            continue


@pytest.mark.parametrize(("raw", "nonce"), [(LEGACY, 2**64 - 2), (DYNAMIC_FEE, 0)])
def test_the_signer_of_a_real_transaction_is_recovered(raw: bytes, nonce: int) -> None:
    made = parse_transaction(raw)
    assert (made.chain_id, made.nonce, made.value, made.data, made.to) == (31337, nonce, 0, b"", bytes(20))
    assert recover(made.digest, made.r, made.s, made.odd) == ANVIL_0


@pytest.mark.parametrize("raw", [LEGACY[:-1], LEGACY + b"\0", b"\x03" + DYNAMIC_FEE[1:], b"", b"\xc0", b"\x02\xc0"])
def test_what_is_no_transaction_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_transaction(raw)


def test_a_signature_by_another_implementation_gives_its_keys_address() -> None:
    key = ec.generate_private_key(ec.SECP256K1())
    point = key.public_key().public_numbers()
    address = "0x" + keccak256(point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big"))[-20:].hex()
    digest = keccak256(Transfer().unsigned())
    signature = key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    r, s = decode_dss_signature(signature)
    assert address in (recover(digest, r, s, 0), recover(digest, r, s, 1))


@pytest.mark.parametrize(("r", "s"), [(0, 1), (1, 0), (2**256 - 1, 1), (5, 1)])
def test_numbers_that_are_no_signature_are_refused(r: int, s: int) -> None:
    with pytest.raises(ValueError, match=r"out of range|not on the curve"):
        recover(bytes(32), r, s, 0)


def test_the_transaction_of_nothing_is_for_a_chain_that_cannot_be() -> None:
    fields = parse_rlp(Transfer().unsigned())
    assert fields == [number(2**64 - 2), b"", number(21000), bytes(20), b"", b"", number(MAX_CHAIN_ID), b"", b""]
    assert 2 * MAX_CHAIN_ID + 36 < 2**64

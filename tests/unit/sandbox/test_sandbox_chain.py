"""The simulated chain, request by request, against the Ethereum Execution API specification."""

from __future__ import annotations

from typing import Any

import pytest

from tocsin_sandbox.chain import CHAIN_ID, REGISTRY, SENDER, Chain


def ask(chain: Chain, method: str, *parameters: Any) -> Any:
    answer = chain.answer({"jsonrpc": "2.0", "id": 7, "method": method, "params": list(parameters)})
    assert (answer["jsonrpc"], answer["id"]) == ("2.0", 7)
    return answer["result"]


@pytest.fixture
def chain() -> Chain:
    return Chain()


def test_the_chain_tells_its_id_and_a_head_that_is_fresh(chain: Chain) -> None:
    assert int(ask(chain, "eth_chainId"), 16) == CHAIN_ID
    head = ask(chain, "eth_getBlockByNumber", "latest", False)
    assert head["number"] == ask(chain, "eth_blockNumber")
    assert int(ask(chain, "eth_getBlockByNumber", "0x1", False)["timestamp"], 16) < int(head["timestamp"], 16)
    assert ask(chain, "eth_getBlockByNumber", hex(10**9), False) is None


def test_a_block_names_its_parent(chain: Chain) -> None:
    first, second = (ask(chain, "eth_getBlockByNumber", number, False) for number in ("0x1", "0x2"))
    assert second["parentHash"] == first["hash"]


def test_an_anchor_is_found_with_its_payload_receipt_and_nonce(chain: Chain) -> None:
    number = chain.anchor(b"\x01" * 32)
    found = ask(chain, "eth_getTransactionByHash", number)
    assert (found["input"], found["from"], found["to"]) == ("0x" + "01" * 32, SENDER, REGISTRY)
    assert ask(chain, "eth_getTransactionReceipt", number)["blockNumber"] == found["blockNumber"]
    assert ask(chain, "eth_getTransactionCount", SENDER, "latest") == "0x1"


def test_two_anchors_of_one_digest_are_two_transactions(chain: Chain) -> None:
    assert chain.anchor(b"x") != chain.anchor(b"x")


@pytest.mark.parametrize(
    "broken",
    [{"authorized": False}, {"balance": 0}, {"stuck": 1}, {"provider_error": True}, {"frozen_at": 2e9}],
)
def test_a_chain_that_takes_no_transaction_gives_no_anchor(broken: dict[str, Any]) -> None:
    assert Chain(**broken).anchor(b"x") is None


def test_a_forgetful_provider_knows_no_transaction(chain: Chain) -> None:
    number = chain.anchor(b"x")
    chain.forgetful = True
    assert ask(chain, "eth_getTransactionByHash", number) is None
    assert ask(chain, "eth_getTransactionReceipt", number) is None


def test_stuck_transactions_part_the_pending_nonce_from_the_mined_one(chain: Chain) -> None:
    chain.stuck = 3
    counts = [int(ask(chain, "eth_getTransactionCount", SENDER, tag), 16) for tag in ("latest", "pending")]
    assert counts == [0, 3]


def test_permission_is_an_encoded_boolean(chain: Chain) -> None:
    call = {"to": REGISTRY, "data": "0x"}
    assert int(ask(chain, "eth_call", call, "latest"), 16) == 1
    chain.authorized = False
    assert int(ask(chain, "eth_call", call, "latest"), 16) == 0


def test_a_frozen_head_stays(chain: Chain) -> None:
    chain.frozen_at = chain.genesis + 100
    assert ask(chain, "eth_blockNumber") == hex(50)


def test_syncing_is_false_or_an_object(chain: Chain) -> None:
    assert ask(chain, "eth_syncing") is False
    chain.syncing = True
    assert set(ask(chain, "eth_syncing")) == {"startingBlock", "currentBlock", "highestBlock"}


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ([], -32600),
        ({"id": 1}, -32600),
        ({"id": 1, "method": "eth_nothing"}, -32601),
        ({"id": 1, "method": "eth_getBalance", "params": []}, -32602),
        ({"id": 1, "method": "eth_getBlockByNumber", "params": ["0xzz", False]}, -32602),
    ],
)
def test_a_bad_request_is_answered_with_its_error_code(chain: Chain, asked: Any, code: int) -> None:
    assert chain.answer(asked)["error"]["code"] == code

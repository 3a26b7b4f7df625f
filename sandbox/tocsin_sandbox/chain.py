"""An EVM chain's JSON-RPC provider: blocks by the clock, the platform's sender, its anchors.

That the platform's chain speaks EVM JSON-RPC is not published; its page names a default chain, an authorised sender,
funding, permission and a provider. Methods as in the Ethereum Execution API specification.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

CHAIN_ID = 31337
BLOCK_SECONDS = 2.0
SENDER = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8"
REGISTRY = "0x5fbdb2315678afecb367f032d93f642f64180aa3"
"""The contract that keeps anchors and knows who may write them."""

_FUNDED = 5 * 10**18
_KEPT = 1000
_TRUE, _FALSE = f"0x{1:064x}", f"0x{0:064x}"


@dataclass(frozen=True, slots=True)
class Anchor:
    """A mined transaction: the block that holds it and the digest it carries."""

    block: int
    digest: bytes
    nonce: int


@dataclass(slots=True)
class Chain:
    """The chain's state and what is wrong with it. ``frozen_at``: no block since then (Unix seconds). ``stuck``:
    transactions that are pending and never mined. ``provider_error``: every call is answered with an error."""

    chain_id: int = CHAIN_ID
    balance: int = _FUNDED
    authorized: bool = True
    syncing: bool = False
    stuck: int = 0
    forgetful: bool = False
    provider_error: bool = False
    frozen_at: float | None = None
    genesis: float = field(default_factory=lambda: time.time() - 1000 * BLOCK_SECONDS)
    anchors: OrderedDict[str, Anchor] = field(default_factory=OrderedDict)
    sent: int = 0

    @property
    def head(self) -> int:
        until = time.time() if self.frozen_at is None else self.frozen_at
        return int((until - self.genesis) / BLOCK_SECONDS)

    def anchor(self, digest: bytes) -> str | None:
        """Mine a transaction that carries ``digest``; its hash, or None when the chain would not take it."""
        if not self.authorized or self.balance == 0 or self.stuck or self.provider_error or self.frozen_at is not None:
            return None
        number = "0x" + hashlib.sha256(b"transaction" + digest + self.sent.to_bytes(8, "big")).hexdigest()
        self.anchors[number] = Anchor(self.head, digest, self.sent)
        self.sent += 1
        if len(self.anchors) > _KEPT:
            self.anchors.popitem(last=False)
        return number

    def build(self) -> web.Application:
        app = web.Application(client_max_size=1 << 16)
        app.router.add_post("/", self._serve)
        return app

    async def _serve(self, request: web.Request) -> web.Response:
        """JSON-RPC 2.0, single requests and batches."""
        try:
            asked = await request.json()
        except ValueError:
            return web.json_response(_error(None, -32700, "Parse error"))
        if isinstance(asked, list):
            return web.json_response([self.answer(entry) for entry in asked])
        return web.json_response(self.answer(asked))

    def answer(self, asked: Any) -> dict[str, Any]:
        """The response object for one request object."""
        if not isinstance(asked, dict) or not isinstance(asked.get("method"), str):
            return _error(None, -32600, "Invalid Request")
        identifier, parameters = asked.get("id"), asked.get("params", [])
        if self.provider_error:
            return _error(identifier, -32000, "upstream unavailable")
        method = _METHODS.get(asked["method"])
        if method is None:
            return _error(identifier, -32601, f"the method {asked['method']} does not exist/is not available")
        try:
            return {"jsonrpc": "2.0", "id": identifier, "result": method(self, parameters)}
        except (IndexError, KeyError, TypeError, ValueError) as error:
            return _error(identifier, -32602, f"Invalid params: {error}")

    def block(self, tag: str) -> dict[str, Any] | None:
        """A block without transactions. ``latest``, ``safe``, ``finalized``, ``pending``, ``earliest`` or a number."""
        number = 0 if tag == "earliest" else self.head if not tag.startswith("0x") else int(tag, 16)
        if number > self.head:
            return None
        return {
            "number": hex(number),
            "hash": _block_hash(number),
            "parentHash": _block_hash(number - 1),
            "timestamp": hex(int(self.genesis + number * BLOCK_SECONDS)),
            "baseFeePerGas": hex(10**9),
            "gasLimit": hex(30_000_000),
            "gasUsed": hex(21_000),
            "transactions": [],
        }

    def transaction(self, number: str) -> dict[str, Any] | None:
        found = None if self.forgetful else self.anchors.get(number)
        if found is None:
            return None
        return {
            "hash": number,
            "blockNumber": hex(found.block),
            "blockHash": _block_hash(found.block),
            "transactionIndex": "0x0",
            "from": SENDER,
            "to": REGISTRY,
            "nonce": hex(found.nonce),
            "value": "0x0",
            "input": "0x" + found.digest.hex(),
            "chainId": hex(self.chain_id),
        }

    def receipt(self, number: str) -> dict[str, Any] | None:
        found = None if self.forgetful else self.anchors.get(number)
        if found is None:
            return None
        return {
            "transactionHash": number,
            "blockNumber": hex(found.block),
            "blockHash": _block_hash(found.block),
            "status": "0x1",
            "from": SENDER,
            "to": REGISTRY,
            "logs": [],
        }

    def count(self, address: str, tag: str) -> str:
        if address.lower() != SENDER:
            return "0x0"
        return hex(self.sent + (self.stuck if tag == "pending" else 0))

    def sync_state(self) -> Any:
        if not self.syncing:
            return False
        return {"startingBlock": "0x0", "currentBlock": hex(self.head - 500), "highestBlock": hex(self.head)}

    def call(self, transaction: dict[str, Any]) -> str:
        """Any call of the registry asks whether the sender may write: an ABI-encoded boolean."""
        if str(transaction["to"]).lower() != REGISTRY:
            return "0x"
        return _TRUE if self.authorized else _FALSE


_METHODS: dict[str, Callable[[Chain, list[Any]], Any]] = {
    "eth_chainId": lambda chain, _: hex(chain.chain_id),
    "net_version": lambda chain, _: str(chain.chain_id),
    "web3_clientVersion": lambda chain, _: "tocsin-sandbox/1",
    "eth_blockNumber": lambda chain, _: hex(chain.head),
    "eth_getBlockByNumber": lambda chain, asked: chain.block(asked[0]),
    "eth_syncing": lambda chain, _: chain.sync_state(),
    "eth_gasPrice": lambda chain, _: hex(10**9),
    "eth_getBalance": lambda chain, asked: hex(chain.balance if asked[0].lower() == SENDER else 0),
    "eth_getTransactionCount": lambda chain, asked: chain.count(asked[0], asked[1]),
    "eth_getCode": lambda chain, asked: "0x6080" if asked[0].lower() == REGISTRY else "0x",
    "eth_call": lambda chain, asked: chain.call(asked[0]),
    "eth_getTransactionByHash": lambda chain, asked: chain.transaction(asked[0]),
    "eth_getTransactionReceipt": lambda chain, asked: chain.receipt(asked[0]),
}


def _block_hash(number: int) -> str:
    return "0x" + hashlib.sha256(f"block {number}".encode()).hexdigest()


def _error(identifier: Any, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identifier, "error": {"code": code, "message": message}}

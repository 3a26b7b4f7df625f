"""anvil 1.7.1: a real EVM node whose blocks and balances a test decides.

Facts: `anvil --help`, Foundry documentation "anvil", "Custom methods" (`anvil_*`, `evm_*`).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from typing import Any, ClassVar

from estate.install import ensure
from estate.ports import LOOPBACK, reserve_port
from estate.process import Server
from estate.web import request


class RpcError(Exception):
    """The node answered with a JSON-RPC error; the text is its code and message."""


class Anvil(Server):
    """A chain of its own. `block_seconds` mines at an interval; without, each transaction gets a block at once."""

    name: ClassVar[str] = "anvil"
    # It writes its state when interrupted.
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT

    def __init__(self, *, chain_id: int = 31337, block_seconds: float | None = None) -> None:
        self._binary = ensure("anvil") / "bin" / "anvil"
        super().__init__()
        self.port = reserve_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self._chain_id = chain_id
        self._block_seconds = block_seconds

    def command(self) -> Sequence[str]:
        return [
            str(self._binary),
            f"--host={LOOPBACK}",
            f"--port={self.port}",
            f"--chain-id={self._chain_id}",
            f"--state={self.folder / 'state.json'}",
            *([f"--block-time={self._block_seconds}"] if self._block_seconds is not None else []),
        ]

    def ready(self) -> bool:
        return self.chain_id() == self._chain_id

    def rpc(self, method: str, *parameters: object) -> Any:
        """One JSON-RPC call's result. Raises RpcError."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(parameters)}
        answer = request("POST", self.url, json=body).expect(200).json()
        if "error" in answer:
            raise RpcError(f"{answer['error']['code']}: {answer['error']['message']}")
        return answer["result"]

    def chain_id(self) -> int:
        """The chain id that the node tells."""
        return int(self.rpc("eth_chainId"), 16)

    def block_number(self) -> int:
        """The newest block."""
        return int(self.rpc("eth_blockNumber"), 16)

    def accounts(self) -> list[str]:
        """The accounts that the node signs for, each with 10000 ether at first."""
        return list(self.rpc("eth_accounts"))

    def balance(self, address: str) -> int:
        """An account's balance in wei."""
        return int(self.rpc("eth_getBalance", address, "latest"), 16)

    def set_balance(self, address: str, wei: int) -> None:
        """Give any account this balance."""
        self.rpc("anvil_setBalance", address, hex(wei))

    def mine(self, blocks: int = 1) -> None:
        """Mine blocks now."""
        self.rpc("anvil_mine", hex(blocks))

    def roll_back(self, blocks: int) -> None:
        """Lose the newest blocks. Those that come have the time of now: by itself the node goes on from the time of the
        last block that is left, and stays behind."""
        self.rpc("anvil_rollback", blocks)
        self.rpc("evm_setTime", int(time.time()))

    def set_mining(self, *, automatic: bool = False, every_seconds: int = 0) -> None:
        """How blocks come from now on: with each transaction, at an interval, or (neither) not at all."""
        self.rpc("evm_setIntervalMining", every_seconds)
        self.rpc("evm_setAutomine", automatic)

    def set_next_timestamp(self, seconds: int) -> None:
        """The next block's time, in seconds since the epoch; not before the newest block's."""
        self.rpc("evm_setNextBlockTimestamp", seconds)

    def impersonate(self, address: str) -> None:
        """Sign for any account from now on."""
        self.rpc("anvil_impersonateAccount", address)

    def send(self, sender: str, to: str, *, wei: int = 0, data: str = "0x") -> str:
        """Send a transaction from an account that the node signs for. Returns its hash; mining may still be to come."""
        return str(self.rpc("eth_sendTransaction", {"from": sender, "to": to, "value": hex(wei), "data": data}))

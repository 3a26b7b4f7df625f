"""Faults of the blockchain and its provider: the incident page's "Chain Or Anchor Outage"."""

from __future__ import annotations

import time

from tocsin_sandbox.chain import CHAIN_ID, Chain
from tocsin_sandbox.estate import Estate
from tocsin_sandbox.fault import Act, Fault
from tocsin_sandbox.wipe_environment import STALLED_SECONDS

_FUNDED = Chain.__dataclass_fields__["balance"].default
_STALE_SECONDS = 600.0


async def _stop(estate: Estate) -> None:
    await estate.provider.stop()


async def _start(estate: Estate) -> None:
    await estate.provider.start()


async def _freeze(estate: Estate) -> None:
    estate.chain.frozen_at = time.time() - _STALE_SECONDS


def _set(name: str, value: object) -> Act:
    async def act(estate: Estate) -> None:
        setattr(estate.chain, name, value)

    return act


def _fault(name: str, title: str, effect: str, reason: str, cause: Act, undo: Act, develops: float = 0.0) -> Fault:
    return Fault(
        name, title, effect, "wipe", "chain-or-anchor-outage", "wipe-chain", reason, cause, undo, develops=develops
    )


def _field(
    name: str, title: str, effect: str, reason: str, field: str, bad: object, good: object, develops: float = 0.0
) -> Fault:
    return _fault(name, title, effect, reason, _set(field, bad), _set(field, good), develops)


FAULTS = (
    _fault(
        "chain-stopped", "The chain's provider is down", "Its server is stopped: connections are refused.",
        "connection_refused", _stop, _start,
    ),
    _fault(
        "chain-frozen", "The chain makes no blocks", "The newest block is ten minutes old.",
        "head_stale", _freeze, _set("frozen_at", None),
    ),
    _field(
        "chain-wrong", "The provider serves another chain", "eth_chainId says 1.",
        "wrong_chain", "chain_id", 1, CHAIN_ID,
    ),
    _field(
        "chain-syncing", "The provider is still syncing", "eth_syncing says 500 blocks behind.",
        "syncing", "syncing", True, False,
    ),
    _field(
        "chain-sender-empty", "The sender has no funds", "Its balance is zero.", "balance_low", "balance", 0, _FUNDED,
    ),
    _field(
        "chain-sender-unauthorized", "The sender may no longer write anchors", "The permission call says no.",
        "sender_not_authorized", "authorized", False, True,
    ),
    _field(
        "chain-nonce-stuck", "Transactions are stuck", "Three transactions are pending and never mined.",
        "nonce_stuck", "stuck", 3, 0, STALLED_SECONDS + 1,
    ),
    _field(
        "chain-anchors-lost", "The provider does not know our anchors", "Lookups of transactions answer null.",
        "anchor_not_found", "forgetful", True, False,
    ),
    _field(
        "chain-provider-error", "The provider answers with errors", "Every call ends in a JSON-RPC error.",
        "provider_error", "provider_error", True, False,
    ),
)  # fmt: skip

"""A recorded anchor: the newest one out of the platform's database, looked up on the chain."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tocsin.sdk import CommonReason, Finding, ProbeContext, ProbeFault, Secret
from tocsin.sdk.faults import quoted
from tocsin.sdk.postgres import read_only
from tocsin.sdk.sql_text import Select
from tocsin_probes.chain_rpc.reasons import Reason
from tocsin_probes.chain_rpc.rpc import Call, quantity

_HASH = re.compile(r"0x[0-9a-f]{64}")


class AnchorSettings(BaseModel):
    """Where anchors are recorded."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, arbitrary_types_allowed=True)

    dsn: Secret
    """A role that may read what the query asks for, and needs no more."""
    query: Select
    """One SELECT whose first row is the anchor to look up: ``tx_hash`` and, if wanted, ``payload`` (text in hex, or
    bytea), which the transaction's input or events must hold, and ``chain_id`` (``137``, ``0x89`` or ``eip155:137``),
    which must be the configured one. Leave out anchors too young to have been mined."""
    confirmations: int = Field(default=1, ge=1)
    """With fewer it is ``anchor_unconfirmed``."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """One recorded anchor; both in lower-case hex, ``payload`` without 0x and empty when it is not given. ``chain_id``
    None: not recorded."""

    tx_hash: str
    payload: str = ""
    chain_id: int | None = None

    def calls(self) -> tuple[Call, Call]:
        """What to ask a provider about it."""
        return (
            Call("eth_getTransactionReceipt", (self.tx_hash,)),
            Call("eth_getTransactionByHash", (self.tx_hash,)),
        )


async def recorded(ctx: ProbeContext, settings: AnchorSettings) -> Anchor | None:
    """The anchor that the database gives; None when it has none. Raises `ProbeFault`."""
    reasons = {"42501": CommonReason.CREDENTIALS_REJECTED, "42": Reason.QUERY_ERROR, "22": Reason.QUERY_ERROR}
    async with read_only(ctx, settings.dsn, reasons, settings) as connection:
        row = await connection.fetchrow(f"SELECT * FROM (\n{settings.query}\n) AS q LIMIT 1")
    if row is None:
        return None
    if "tx_hash" not in row.keys():  # noqa: SIM118 - a record's `in` looks at its values
        raise ProbeFault(Reason.QUERY_ERROR, "the anchor query gives no column tx_hash")
    tx_hash, payload = _hex(row["tx_hash"]), _hex(row.get("payload") or "")
    if not _HASH.fullmatch("0x" + tx_hash):
        raise ProbeFault(Reason.ANCHOR_NOT_FOUND, f"{quoted(str(row['tx_hash']))} is no transaction hash")
    return Anchor("0x" + tx_hash, payload, chain_id_of(row.get("chain_id")))


def elsewhere(anchor: Anchor, chain_id: int) -> Iterator[Finding]:
    """What is wrong when an anchor is recorded as one of another chain: nobody will find it by that."""
    if anchor.chain_id not in (None, chain_id):
        detail = f"{anchor.tx_hash[:18]}… is recorded on the chain {anchor.chain_id}, not {chain_id}"
        yield Finding.of(Reason.WRONG_CHAIN, detail, "anchor")


def judge(anchor: Anchor, answers: Sequence[Any], head: int, confirmations: int) -> Iterator[Finding]:
    """What is wrong with an anchor, from the answers to its `calls`."""
    receipt, transaction = answers
    shown = anchor.tx_hash[:18] + "…"
    if not isinstance(transaction, dict):
        yield Finding.of(Reason.ANCHOR_NOT_FOUND, f"the chain has no transaction {shown}", "anchor")
        return
    if not isinstance(receipt, dict):
        yield Finding.of(Reason.ANCHOR_UNCONFIRMED, f"{shown} waits to be mined", "anchor")
        return
    if quantity(receipt.get("status")) != 1:
        yield Finding.of(
            Reason.ANCHOR_REVERTED, f"{shown} failed in block {quantity(receipt['blockNumber'])}", "anchor"
        )
    if anchor.payload and not any(anchor.payload in _hex(text) for text in _carried(receipt, transaction)):
        yield Finding.of(Reason.ANCHOR_DIFFERS, f"{shown} does not hold the recorded payload", "anchor")
    found = confirmations_of(receipt, head)
    if found < confirmations:
        yield Finding.of(Reason.ANCHOR_UNCONFIRMED, f"{shown} has {found} of {confirmations}", "anchor")


def chain_id_of(value: Any) -> int | None:
    """As recorded; None when it is not. A chain by name cannot be compared: raises `ProbeFault` (query_error)."""
    text = str(value or "").strip().lower().removeprefix("eip155:")
    if not text:
        return None
    try:
        return int(text, 16) if text.startswith("0x") else int(text)
    except ValueError:
        detail = f"chain_id is {quoted(text)}, no number; leave it out of the anchor query, or translate it there"
        raise ProbeFault(Reason.QUERY_ERROR, detail) from None


def confirmations_of(receipt: Any, head: int) -> int:
    """How many blocks hold it up, its own included."""
    return max(0, head - quantity(receipt.get("blockNumber")) + 1)


def _carried(receipt: dict[str, Any], transaction: dict[str, Any]) -> Iterator[str]:
    yield transaction.get("input") or ""
    for log in receipt.get("logs") or ():
        yield log.get("data") or ""
        yield from log.get("topics") or ()


def _hex(value: Any) -> str:
    text = value.hex() if isinstance(value, bytes | bytearray | memoryview) else str(value)
    return text.lower().removeprefix("0x")

"""What ``chain_rpc`` makes of answers that no node at hand gives."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.probing import Probed, RealClock, probe_once
from tests.unit.probes.lying_servers import Handler, answering, serving, silence
from tocsin.sdk import ProbeFault
from tocsin_probes.chain_rpc import ChainRpc, anchor

SENDER = "0x" + "ab" * 20


def node(asked: list[str], **results: Any) -> Handler:
    """A node at block 100 that answers these methods, too."""
    block = {"number": "0x64", "timestamp": hex(int(time.time())), "hash": "0x1"}
    known = {
        "eth_chainId": "0x89",
        "eth_getBlockByNumber": block,
        "eth_syncing": False,
        "eth_getBalance": "0x1",
        "eth_getTransactionCount": "0x5",
        **results,
    }

    def answer(call: dict[str, Any]) -> dict[str, Any]:
        asked.append(call["method"])
        if call["method"] in known:
            return {"jsonrpc": "2.0", "id": call["id"], "result": known[call["method"]]}
        return {"jsonrpc": "2.0", "id": call["id"], "error": {"code": -32601, "message": "Method not found"}}

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        calls = json.loads(await reader.readexactly(length))
        made = [answer(call) for call in calls] if isinstance(calls, list) else answer(calls)
        reader.feed_data(b"\r\n\r\n")
        await answering(json.dumps(made))(reader, writer)

    return handler


async def ask(port: int, memory: dict[str, Any], ahead: float = 0.0) -> Probed:
    made = {"providers": f"http://127.0.0.1:{port}", "chain_id": 137, "sender": SENDER, "max_head_age": "2d"}
    return await probe_once(ChainRpc(ChainRpc.Settings.model_validate(made)), memory=memory, clock=RealClock(ahead))


async def test_transactions_behind_a_gap_are_stuck_although_none_is_pending() -> None:
    pool = {"pending": {}, "queued": {"9": {"nonce": "0x9"}, "10": {"nonce": "0xa"}}}
    memory: dict[str, Any] = {}
    async with serving(node([], txpool_contentFrom=pool)) as port:
        first, later = await ask(port, memory), await ask(port, memory, ahead=700)
    assert first.verdict == ("ok", None)
    assert first.measured("tocsin_chain_sender_pending_transactions") == 2
    assert later.verdict == ("failed", "nonce_stuck")


async def test_a_node_that_does_not_tell_of_its_pool_is_not_asked_again_for_a_day() -> None:
    asked: list[str] = []
    memory: dict[str, Any] = {}
    async with serving(node(asked)) as port:
        for ahead in (0, 700, 80000, 90000):
            assert (await ask(port, memory, ahead)).verdict == ("ok", None)
    assert asked.count("txpool_contentFrom") == 2


def hanging_at(times: int) -> Handler:
    """A node that says nothing from its ``times``th connection on."""
    made = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal made
        made += 1
        await (silence if made >= times else node([]))(reader, writer)

    return handler


@pytest.mark.parametrize(("others", "reason"), [(1, "dependency_unknown"), (2, None)])
async def test_a_provider_that_hangs_when_they_are_compared_hides_nothing_of_the_others(
    others: int, reason: str | None
) -> None:
    async with AsyncExitStack() as open_ones:
        handlers = [hanging_at(2), *(node([]) for _ in range(others))]
        ports = [await open_ones.enter_async_context(serving(handler)) for handler in handlers]
        urls = ",".join(f"http://127.0.0.1:{port}" for port in ports)
        made = {"providers": urls, "chain_id": 137, "sender": SENDER, "max_head_age": "2d"}
        probed = await probe_once(ChainRpc(ChainRpc.Settings.model_validate(made)), 2.0)
    assert probed.outcome.reason == reason, probed.detail
    assert "tocsin_chain_sender_balance_wei" in {each.gauge.name for each in probed.measurements}
    assert probed.duration_seconds < 2.0


@pytest.mark.parametrize("recorded", ["137", "0x89", "eip155:137", " 137 ", "", None])
def test_an_anchor_of_the_chain_is_right_in_each_form(recorded: str | None) -> None:
    found = anchor.Anchor("0x1", chain_id=anchor.chain_id_of(recorded))
    assert list(anchor.elsewhere(found, 137)) == []


def test_an_anchor_that_is_recorded_on_another_chain_is_on_the_wrong_one() -> None:
    findings = list(anchor.elsewhere(anchor.Anchor("0x1", chain_id=1), 137))
    assert [(finding.component, finding.reason) for finding in findings] == [("anchor", "wrong_chain")]


def test_a_chain_by_name_cannot_be_compared() -> None:
    with pytest.raises(ProbeFault) as caught:
        anchor.chain_id_of("polygon")
    assert (caught.value.finding.reason, str(caught.value.finding.status)) == ("query_error", "unknown")

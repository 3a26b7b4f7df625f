"""A value of the chain that was anchored on an EVM chain, as a mark that nobody here can rewrite."""

from __future__ import annotations

import json
from dataclasses import replace

from tocsin.model import CommonReason
from tocsin.sdk import ProbeContext, ProbeFault
from tocsin.sdk.faults import explain
from tocsin_chain.against import judge
from tocsin_chain.breaks import Break
from tocsin_chain.judging import sight_of
from tocsin_chain.marks import ChainMark, Point
from tocsin_chain.settings import AnchorSettings
from tocsin_chain.source import Source

_WORD = 64
"""Hex digits of one ABI word, https://docs.soliditylang.org/en/latest/abi-spec.html#formal-specification-of-the-encoding."""


async def anchored(ctx: ProbeContext, settings: AnchorSettings) -> Point:
    """The anchored sequence and MAC. Raises `ProbeFault` when the provider does not give them."""
    call = {"to": settings.to, "data": settings.data}
    request = {"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [call, "latest"]}
    try:
        answer = await ctx.http.fetch(
            "POST", settings.provider, headers={"Content-Type": "application/json"}, body=json.dumps(request)
        )
        body = answer.expect(200).json()
    except Exception as error:
        raise ProbeFault(CommonReason.DEPENDENCY_UNKNOWN, explain(error).detail) from error
    result = body.get("result") if isinstance(body, dict) else None
    words = result[2:] if isinstance(result, str) and result.startswith("0x") else ""
    try:
        number = int(_word(words, settings.sequence_word), 16)
        mac = bytes.fromhex(_word(words, settings.mac_word))
    except ValueError:
        raise ProbeFault(CommonReason.DEPENDENCY_UNKNOWN, "eth_call did not answer the words of an anchor") from None
    return Point((number,), mac)


async def anchored_break(
    ctx: ProbeContext, settings: AnchorSettings, source: Source, *, retention: bool
) -> Break | None:
    """The break that the anchored value shows. ``retention``: the platform prunes, so that an anchored row before the
    first one left says nothing. Inside a snapshot. Raises `ProbeFault`."""
    point = await anchored(ctx, settings)
    mark = ChainMark(point, point)
    sight = await sight_of(source, settings.chain, mark)
    if retention and sight.first is not None and point.key < sight.first[0]:
        return None
    found = judge(mark, sight, restored=False, linkage_told=False)
    return found and replace(found, note="the anchored value says otherwise")


def _word(words: str, at: int) -> str:
    word = words[at * _WORD : (at + 1) * _WORD]
    if len(word) != _WORD:
        raise ValueError("too short")
    return word

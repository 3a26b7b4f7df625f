"""Kind ``chain_rpc``: an EVM chain as its user needs it: reachable, the right one, moving, paid for, and with its
anchors in it. Ethereum "Execution API" specification."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from tocsin.sdk import (
    CommonReason,
    Finding,
    Gauge,
    Outcome,
    Probe,
    ProbeContext,
    ProbeFault,
    ProbeSettings,
    Seconds,
    Secret,
    Status,
    TlsSettings,
)
from tocsin.sdk.faults import explain
from tocsin.sdk.http import origin
from tocsin.sdk.postgres import targets_of
from tocsin.sdk.quantities import format_duration, split_words
from tocsin_probes.chain_rpc import anchor as anchors
from tocsin_probes.chain_rpc import heads
from tocsin_probes.chain_rpc.reasons import Reason as ChainReason
from tocsin_probes.chain_rpc.rpc import Call, Provider, RpcError, providers_of, quantity
from tocsin_probes.chain_rpc.sender import days_left, stuck_for

_HEAD_BLOCK = Gauge("tocsin_chain_head_block", "Number of the newest block that a provider has.", ("provider",))
_HEAD_TIME = Gauge("tocsin_chain_head_timestamp_seconds", "Time of the newest block.", ("provider",))
_BALANCE = Gauge("tocsin_chain_sender_balance_wei", "The sender's balance.", ("provider",))
_WAITING = Gauge("tocsin_chain_sender_pending_transactions", "Transactions of the sender that are not mined yet.")
_DAYS_LEFT = Gauge("tocsin_chain_sender_left_seconds", "How long the balance lasts at the recent spend.")
_CONFIRMATIONS = Gauge(
    "tocsin_chain_anchor_confirmations", "Blocks that hold up the recorded anchor, its own included."
)

_SHARE = 0.5
"""Of what is left of a run, for the comparison: what comes after it has its time, too."""

_Address = Annotated[str, Field(pattern=r"^(0x[0-9a-fA-F]{40})?$")]
_Hex = Annotated[str, Field(pattern=r"^0x([0-9a-fA-F]|\{sender\})*$")]


def _number(value: object) -> object:
    if isinstance(value, str):
        return int(value, 16) if value.startswith("0x") else (value or None)
    return value


class Authorization(BaseModel):
    """A call whose answer says that the sender may act. It costs nothing and changes nothing (``eth_call``)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    to: _Address
    """The contract."""
    data: _Hex
    """Selector and arguments in hex; ``{sender}`` is the sender's address as a 32-byte word."""
    expect: _Hex = "0x" + "1".rjust(64, "0")
    """What the contract must answer; by default true."""


class ChainRpc(Probe):
    """EVM chain through its JSON-RPC providers: chain id, head, agreement, sender, permission and a known anchor."""

    kind = "chain_rpc"
    gauges = (_HEAD_BLOCK, _HEAD_TIME, _BALANCE, _WAITING, _DAYS_LEFT, _CONFIRMATIONS)
    Reason = ChainReason
    unauthorized = Status.FAILED

    class Settings(ProbeSettings):
        providers: Annotated[tuple[Secret, ...], BeforeValidator(split_words)] = ()
        """URLs, as a list or in one text with commas. They hold API keys and are never shown: a provider goes by
        ``host:port``."""
        chain_id: Annotated[int | None, BeforeValidator(_number)] = None
        """Unset, the contract is missing."""
        max_head_age: Seconds = 120.0
        max_lag: Annotated[int, Field(ge=0)] = 20
        """Blocks that one provider may be behind the highest."""
        settled: Annotated[int, Field(ge=0)] = 12
        """Providers are compared this many blocks below the lowest of their heads, where no fork is left."""
        sender: _Address = ""
        """The account that sends; empty: not looked at."""
        min_balance_wei: Annotated[int, BeforeValidator(_number), Field(ge=0)] = 0
        min_days: Annotated[float, Field(ge=0)] = 7
        """When the balance above ``min_balance_wei`` lasts for fewer days at the recent spend, it is
        ``balance_ending``."""
        nonce_patience: Seconds = 600.0
        """For how long transactions may wait without any being mined."""
        authorization: Authorization | None = None
        anchor: anchors.AnchorSettings | None = None
        batch: bool = True
        """Ask in one JSON-RPC batch; false for a provider that takes none."""
        tls: TlsSettings = TlsSettings()

        def targets(self) -> tuple[str, ...]:
            found = [target for url in self.providers for target in _origin_of(url)]
            if self.anchor is not None:
                found += targets_of(self.anchor.dsn)
            return tuple(dict.fromkeys(found))

    settings: Settings

    async def run(self, ctx: ProbeContext) -> Outcome:
        settings = self.settings
        if not settings.providers or settings.chain_id is None:
            missing = "providers" if not settings.providers else "chain_id"
            return Outcome.bad(CommonReason.CONTRACT_MISSING, f"`{missing}` is not set")
        providers = providers_of(settings.providers, settings.tls, batch=settings.batch)
        views = await asyncio.gather(*(self._view(ctx, provider) for provider in providers))
        found = [view for view in views if isinstance(view, heads.Head)]
        findings = [view for view in views if isinstance(view, Finding)]
        for head in found:
            ctx.measure(_HEAD_BLOCK, head.block, provider=head.provider)
            ctx.measure(_HEAD_TIME, head.timestamp, provider=head.provider)
        limits = heads.Limits(settings.chain_id, settings.max_head_age, settings.max_lag)
        findings += heads.judge(found, limits, ctx.now())
        labels = [provider.label for provider in providers]
        chosen = heads.best(found, findings)
        findings = heads.eased(findings, labels)
        if chosen is None:
            return Outcome.of(findings)
        on_chain = {head.provider: head for head in found if head.chain_id == settings.chain_id}
        usable = [provider for provider in providers if provider.label in on_chain]
        compared, silent = await self._agreement(ctx, usable, min(head.block for head in on_chain.values()))
        avoided = silent | {finding.component for finding in findings}
        chosen = heads.best([head for head in found if head.provider not in avoided], ()) or chosen
        findings += compared
        through = next(provider for provider in usable if provider.label == chosen.provider)
        for part in (
            self._sender(ctx, through),
            self._authorization(ctx, through),
            self._anchor(ctx, through, chosen.block),
        ):
            try:
                findings += await part
            except (ProbeFault, OSError) as error:
                findings.append(explain(error, Status.FAILED))
        shown = f"block {chosen.block}, {format_duration(max(0, round(ctx.now() - chosen.timestamp)))} old"
        return Outcome.of(findings, f"{shown}, through {len(usable)} of {len(providers)} providers")

    async def _view(self, ctx: ProbeContext, provider: Provider) -> heads.Head | Finding:
        """The provider's head, or why it has none. One that hangs does not hide the others."""
        calls = (Call("eth_chainId"), Call("eth_getBlockByNumber", ("latest", False)), Call("eth_syncing"))
        try:
            async with asyncio.timeout(ctx.remaining() * 0.6):
                chain_id, block, syncing = await provider.ask(ctx, calls)
            for answer in (chain_id, block):
                if isinstance(answer, RpcError):
                    raise answer
            if not isinstance(block, dict):
                raise ProbeFault(ChainReason.PROVIDER_ERROR, "it has no newest block")
            return heads.Head(
                provider.label,
                quantity(chain_id),
                quantity(block.get("number")),
                float(quantity(block.get("timestamp"))),
                # Hosted providers often do not serve the call; false is what a synced node says.
                isinstance(syncing, dict),
            )
        except (ProbeFault, OSError) as error:
            finding = explain(error, Status.FAILED)
            detail = finding.detail if provider.label in finding.detail else f"{provider.label}: {finding.detail}"
            return replace(finding, component=provider.label, detail=detail)

    async def _agreement(
        self, ctx: ProbeContext, usable: Sequence[Provider], lowest: int
    ) -> tuple[list[Finding], set[str]]:
        """Whether the providers have the same block where none can be in doubt, and which of them went silent."""
        if len(usable) < 2:
            return [], set()
        height = max(0, lowest - self.settings.settled)
        call = Call("eth_getBlockByNumber", (hex(height), False))
        patience = ctx.remaining() * _SHARE
        asking = (asyncio.wait_for(provider.ask(ctx, [call]), patience) for provider in usable)
        answers = await asyncio.gather(*asking, return_exceptions=True)
        hashes: dict[str, str] = {}
        silent = {provider.label for provider, said in zip(usable, answers, strict=True) if _is_late(said)}
        for provider, answer in zip(usable, answers, strict=True):
            if isinstance(answer, list) and isinstance(answer[0], dict):
                hashes[provider.label] = str(answer[0].get("hash"))
        if len(hashes) < 2:
            detail = f"fewer than two providers gave block {height}"
            return [Finding.of(CommonReason.DEPENDENCY_UNKNOWN, detail, "agreement")], silent
        return list(heads.disagreement(hashes, height)), silent

    async def _sender(self, ctx: ProbeContext, through: Provider) -> list[Finding]:
        """Balance and nonce, judged as the best provider sees them."""
        sender = self.settings.sender
        if not sender:
            return []
        calls = (
            Call("eth_getBalance", (sender, "latest")),
            Call("eth_getTransactionCount", (sender, "latest")),
            Call("eth_getTransactionCount", (sender, "pending")),
        )
        answers = await through.ask(ctx, calls)
        for answer in answers:
            if isinstance(answer, RpcError):
                raise answer
        balance, mined, pending = map(quantity, answers)
        ctx.measure(_BALANCE, balance, provider=through.label)
        waiting = pending - mined if pending > mined else await self._queued(ctx, through)
        ctx.measure(_WAITING, waiting)
        return [replace(found, component="sender") for found in self._judge_sender(ctx, balance, mined, waiting)]

    async def _queued(self, ctx: ProbeContext, through: Provider) -> int:
        """Transactions behind a gap in the nonces, which the pending count does not have. Only the node's pool knows
        (go-ethereum, "txpool namespace"); one that does not tell is asked again after a day."""
        if ctx.memory.get("no_txpool", 0.0) > ctx.now():
            return 0
        try:
            (answer,) = await through.ask(ctx, [Call("txpool_contentFrom", (self.settings.sender,))])
        except (ProbeFault, OSError):
            answer = None
        queued = answer.get("queued") if isinstance(answer, dict) else None
        if not isinstance(queued, dict):
            ctx.memory["no_txpool"] = ctx.now() + 86400.0
            return 0
        return len(queued)

    def _judge_sender(self, ctx: ProbeContext, balance: int, mined: int, waiting: int) -> Iterator[Finding]:
        floor = self.settings.min_balance_wei
        left = days_left(ctx.memory, ctx.now(), balance, floor)
        if left is not None:
            ctx.measure(_DAYS_LEFT, left * 86400)
        if balance < floor or balance == 0:
            yield Finding.of(ChainReason.BALANCE_LOW, f"{balance} wei, the limit is {floor}")
        elif left is not None and left < self.settings.min_days:
            yield Finding.of(ChainReason.BALANCE_ENDING, f"{balance} wei last for {left:.1f} days")
        stuck = stuck_for(ctx.memory, ctx.now(), mined, waiting)
        if stuck > self.settings.nonce_patience:
            detail = f"{waiting} waiting, none mined for {format_duration(round(stuck))}"
            yield Finding.of(ChainReason.NONCE_STUCK, detail)

    async def _authorization(self, ctx: ProbeContext, through: Provider) -> list[Finding]:
        asked = self.settings.authorization
        if asked is None:
            return []
        sender = self.settings.sender.removeprefix("0x").lower()
        call = {"to": asked.to, "data": asked.data.replace("{sender}", sender.rjust(64, "0"))}
        if sender:
            call["from"] = self.settings.sender
        (answer,) = await through.ask(ctx, [Call("eth_call", (call, "latest"))])
        if isinstance(answer, RpcError) and not answer.reverted:
            raise answer
        if isinstance(answer, str) and answer.lower() == asked.expect.lower():
            return []
        said = "the contract reverted" if isinstance(answer, RpcError) else f"the contract says {str(answer)[:80]}"
        if answer == "0x":
            said = "there is no contract at the address, or it does not know the call"
        return [Finding.of(ChainReason.SENDER_NOT_AUTHORIZED, said, "sender")]

    async def _anchor(self, ctx: ProbeContext, through: Provider, head: int) -> list[Finding]:
        settings = self.settings.anchor
        if settings is None:
            return []
        try:
            anchor = await anchors.recorded(ctx, settings)
        except (ProbeFault, OSError) as error:
            return [replace(explain(error), component="anchor")]
        if anchor is None:
            return []
        strange = list(anchors.elsewhere(anchor, self.settings.chain_id or 0))
        answers = await through.ask(ctx, anchor.calls())
        for answer in answers:
            if isinstance(answer, RpcError):
                raise answer
        if isinstance(answers[0], dict):
            ctx.measure(_CONFIRMATIONS, anchors.confirmations_of(answers[0], head))
        return [*strange, *anchors.judge(anchor, answers, head, settings.confirmations)]


def _is_late(answer: object) -> bool:
    return isinstance(answer, TimeoutError) and answer.errno is None


def _origin_of(url: Secret) -> tuple[str, ...]:
    try:
        return (origin(url.reveal().strip()),)
    except (OSError, ValueError):
        return ()

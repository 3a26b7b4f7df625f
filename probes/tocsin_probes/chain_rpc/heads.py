"""What several providers say about the head of one chain, judged. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tocsin.sdk import Finding, Severity
from tocsin.sdk.quantities import format_duration
from tocsin_probes.chain_rpc.reasons import Reason


@dataclass(frozen=True, slots=True)
class Head:
    """One provider's view. ``timestamp`` in Unix seconds; ``syncing`` as the provider says."""

    provider: str
    chain_id: int
    block: int
    timestamp: float
    syncing: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """``chain_id`` None: not looked at. ``head_age`` in seconds, ``lag`` in blocks."""

    chain_id: int | None
    head_age: float
    lag: int


def judge(heads: Sequence[Head], limits: Limits, now: float) -> Iterator[Finding]:
    """What is wrong with each head. A provider on another chain is not compared with the rest."""
    on_chain = [head for head in heads if limits.chain_id in (None, head.chain_id)]
    highest = max((head.block for head in on_chain), default=0)
    for head in heads:
        if head not in on_chain:
            yield _of(Reason.WRONG_CHAIN, head, f"chain id {head.chain_id}, not {limits.chain_id}")
            continue
        if head.syncing:
            yield _of(Reason.SYNCING, head, f"at block {head.block}")
        age = now - head.timestamp
        if highest - head.block > limits.lag:
            yield _of(Reason.PROVIDER_BEHIND, head, f"{highest - head.block} blocks behind, at {head.block}")
        elif age > limits.head_age:
            shown = f"block {head.block} is {format_duration(round(age))} old"
            yield _of(Reason.HEAD_STALE, head, f"{shown}, the limit is {format_duration(limits.head_age)}")


def best(heads: Sequence[Head], findings: Sequence[Finding]) -> Head | None:
    """The highest head of a provider with which nothing is wrong, or, without one, that is on the right chain."""
    wrong = {finding.component for finding in findings}
    strange = {finding.component for finding in findings if finding.reason == Reason.WRONG_CHAIN}
    right = [head for head in heads if head.provider not in wrong]
    usable = right or [head for head in heads if head.provider not in strange]
    return max(usable, key=lambda head: head.block, default=None)


def disagreement(hashes: Mapping[str, str], height: int) -> Iterator[Finding]:
    """One finding when providers have different blocks at a height. The majority is not told: two cannot say."""
    if len(set(hashes.values())) > 1:
        shown = ", ".join(f"{provider} has {found[:18]}…" for provider, found in sorted(hashes.items()))
        yield Finding.of(Reason.PROVIDERS_DISAGREE, f"at block {height}: {shown}")


def eased(findings: Sequence[Finding], providers: Sequence[str]) -> list[Finding]:
    """While one provider is well, what is wrong with another is a ticket; a wrong chain stays what it is."""
    bad = {finding.component for finding in findings}
    if not any(provider not in bad for provider in providers):
        return list(findings)
    return [
        finding
        if finding.reason == Reason.WRONG_CHAIN or finding.component not in providers
        else replace(finding, severity=Severity.TICKET)
        for finding in findings
    ]


def _of(reason: Reason, head: Head, detail: str) -> Finding:
    return Finding.of(reason, f"{head.provider}: {detail}", head.provider)

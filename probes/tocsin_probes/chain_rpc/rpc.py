"""JSON-RPC calls to one provider of an EVM chain. JSON-RPC 2.0; Ethereum "Execution API" specification.

A provider's URL carries its API key, so that neither it nor its path is in any text made here: a provider goes by
``host:port``.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yarl

from tocsin.sdk import CommonReason, ProbeContext, ProbeFault, Secret, Status, TlsSettings
from tocsin.sdk.faults import quoted, status_finding
from tocsin.sdk.http import HttpResponse, origin
from tocsin_probes.chain_rpc.reasons import Reason

MAX_ANSWER_BYTES = 4 << 20

_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}")


@dataclass(frozen=True, slots=True)
class Call:
    """One method and its parameters."""

    method: str
    parameters: tuple[Any, ...] = ()


class RpcError(ProbeFault):
    """The provider answered with a JSON-RPC error. ``code`` is its, ``reverted`` says that a contract refused."""

    def __init__(self, error: dict[str, Any], method: str) -> None:
        self.code, message = error.get("code"), str(error.get("message", ""))
        self.reverted = self.code == 3 or "revert" in message.lower()
        super().__init__(Reason.PROVIDER_ERROR, f"{method}: {self.code} {quoted(message, 200)}")


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider. ``label`` says which one, without anything secret."""

    label: str
    url: str
    tls: TlsSettings
    batch: bool

    async def ask(self, ctx: ProbeContext, calls: Sequence[Call]) -> list[Any]:
        """The result of each call, in order; an `RpcError` in place of one that the provider refused.

        Raises what `tocsin.sdk.HttpClient.fetch` raises, and `ProbeFault` for an answer that is none.
        """
        asked = [
            {"jsonrpc": "2.0", "id": number, "method": call.method, "params": list(call.parameters)}
            for number, call in enumerate(calls)
        ]
        if self.batch and len(asked) > 1:
            answers = await self._post(ctx, asked)
        else:
            answers = list(await asyncio.gather(*(self._post(ctx, each) for each in asked)))
        if isinstance(answers, dict) and isinstance(answers.get("error"), dict):
            raise RpcError(answers["error"], "batch")
        if not isinstance(answers, list):
            raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"a JSON {type(answers).__name__} in answer to a batch")
        by_id = {str(answer.get("id")): answer for answer in answers if isinstance(answer, dict)}
        return [_result(by_id.get(str(number)), call.method) for number, call in enumerate(calls)]

    async def _post(self, ctx: ProbeContext, asked: Any) -> Any:
        answer = await ctx.http.fetch(
            "POST",
            self.url,
            headers={"content-type": "application/json"},
            body=json.dumps(asked),
            max_bytes=MAX_ANSWER_BYTES,
            tls=self.tls,
        )
        if answer.status != 200 and not _is_rpc(answer):
            finding = status_finding(answer.status, f"HTTP {answer.status} from {self.label}", Status.FAILED)
            raise ProbeFault(CommonReason(finding.reason), finding.detail)
        return answer.json()


def providers_of(urls: Sequence[Secret], tls: TlsSettings, *, batch: bool) -> list[Provider]:
    """Raises `ProbeFault` (credentials_missing) for a URL that cannot be read or is none."""
    made: list[Provider] = []
    for number, secret in enumerate(urls, 1):
        try:
            url = secret.reveal().strip()
            label = yarl.URL(origin(url)).authority
        except (OSError, ValueError):
            detail = f"provider {number} cannot be read or is no http:// or https:// URL"
            raise ProbeFault(CommonReason.CREDENTIALS_MISSING, detail) from None
        if any(label == other.label for other in made):
            label = f"{label}#{number}"
        made.append(Provider(label, url, tls, batch))
    return made


def quantity(value: Any) -> int:
    """An integer as the Execution API writes it: ``0x1b4``. Raises `ProbeFault` (unexpected_body)."""
    if not isinstance(value, str) or not _QUANTITY.fullmatch(value):
        raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"{quoted(str(value))} is not a quantity")
    return int(value, 16)


def _is_rpc(answer: HttpResponse) -> bool:
    """Some providers give a JSON-RPC error with a status of its own; the error says more."""
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        return False
    entries = document if isinstance(document, list) else [document]
    return bool(entries) and all(isinstance(entry, dict) and "jsonrpc" in entry for entry in entries)


def _result(answer: Any, method: str) -> Any:
    if not isinstance(answer, dict):
        raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"no answer to {method}")
    error = answer.get("error")
    if isinstance(error, dict):
        return RpcError(error, method)
    if "result" not in answer:
        raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"the answer to {method} has no result")
    return answer["result"]

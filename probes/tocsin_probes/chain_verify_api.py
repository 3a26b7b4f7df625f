"""`chain_verify_api`: what the platform says of its own audit chain, and whether tocsin's walk agrees."""

from __future__ import annotations

from typing import Literal

import jmespath
from pydantic import field_validator

from tocsin.sdk import (
    CommonReason,
    Gauge,
    Outcome,
    Probe,
    ProbeContext,
    ProbeFault,
    ProbeSettings,
    ReasonEnum,
    Secret,
    Severity,
    TlsSettings,
)
from tocsin.sdk.http import origin
from tocsin.sdk.login import Login, fetch
from tocsin.sdk.state_files import state_folder
from tocsin_chain.verdict import last_verdict

_VERIFIED = Gauge("tocsin_audit_chain_platform_verified", "1 when the platform says that its chain is whole, else 0.")


class ChainVerifyApi(Probe):
    """The platform's own verify endpoint says that the chain is whole, and nobody contradicts it.

    The endpoint may scan the whole table and may write an audit row of its own: run it rarely.
    """

    kind = "chain_verify_api"
    gauges = (_VERIFIED,)
    costly = True

    class Settings(ProbeSettings):
        url: str
        method: Literal["GET", "POST"] = "POST"
        token: Secret | None = None
        """Sent as a bearer token."""
        login: Login | None = None
        """Whose token the request carries, in place of ``token``."""
        verified: str = "verified"
        """JMESPath into the JSON answer; true means whole, false broken."""
        compare_with: str = ""
        """The name of a `hash_chain` probe of this daemon whose last answer is compared."""
        tls: TlsSettings = TlsSettings()

        @field_validator("verified")
        @classmethod
        def _is_jmespath(cls, value: str) -> str:
            try:
                jmespath.compile(value)
            except jmespath.exceptions.JMESPathError as error:
                raise ValueError(f"not JMESPath: {error}") from error
            return value

        def targets(self) -> tuple[str, ...]:
            return tuple(dict.fromkeys((origin(self.url), *(self.login.targets() if self.login else ()))))

    class Reason(ReasonEnum):
        CHAIN_BROKEN = "chain_broken", "The platform itself says that its audit chain is broken."
        VERIFIER_DISAGREES = (
            "verifier_disagrees",
            "The platform and tocsin's walk say the opposite of the same chain.",
            Severity.PAGE,
        )

    async def run(self, ctx: ProbeContext) -> Outcome:
        verified = await self._ask(ctx)
        ctx.measure(_VERIFIED, verified)
        before = ctx.memory.get("verified")
        ctx.memory["verified"] = verified
        ours = (
            last_verdict(state_folder() / "chain", self.settings.compare_with) if self.settings.compare_with else None
        )
        if verified and ours is not None and ours.breaks:
            return Outcome.bad(self.Reason.VERIFIER_DISAGREES, f"the platform says verified; tocsin knows {ours}")
        if not verified:
            if ours is not None and ours.whole:
                detail = "the platform says broken; tocsin's full walk since then found the chain whole"
                return Outcome.bad(self.Reason.VERIFIER_DISAGREES, detail)
            changed = "; it said verified the last time" if before else ""
            return Outcome.bad(self.Reason.CHAIN_BROKEN, f"the platform says that the chain is broken{changed}")
        if self.settings.compare_with and ours is None:
            detail = f"verified, but {self.settings.compare_with} has no state here to compare with"
            return Outcome.bad(CommonReason.DEPENDENCY_UNKNOWN, detail)
        return Outcome.ok("verified" + (", and tocsin agrees" if ours is not None else ""))

    async def _ask(self, ctx: ProbeContext) -> bool:
        headers = {"Accept": "application/json"}
        if self.settings.token is not None:
            try:
                headers["Authorization"] = f"Bearer {self.settings.token.reveal().strip()}"
            except OSError as error:
                raise ProbeFault(CommonReason.CREDENTIALS_MISSING, f"cannot read the token: {error}") from error
        settings = self.settings
        answer = await fetch(ctx, settings.login, settings.method, settings.url, headers=headers, tls=settings.tls)
        body = answer.expect(200, unauthorized=self.unauthorized).json()
        verified = jmespath.search(self.settings.verified, body)
        if not isinstance(verified, bool):
            detail = f"`{self.settings.verified}` is not true or false in the answer"
            raise ProbeFault(CommonReason.UNEXPECTED_BODY, detail)
        return verified

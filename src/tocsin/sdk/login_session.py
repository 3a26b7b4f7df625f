"""One account's session, shared by all probes of a loop: one of them renews its token, and all leave alone whoever
refused it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, TypeGuard
from weakref import WeakKeyDictionary

from tocsin.model import CommonReason
from tocsin.sdk.faults import ProbeFault, explain, quoted
from tocsin.sdk.http import HttpResponse, shown_url
from tocsin.sdk.json_paths import find
from tocsin.sdk.login_memory import Kept, LoginMemory, digest, is_digest_of
from tocsin.sdk.quantities import format_duration

if TYPE_CHECKING:
    from tocsin.sdk.context import ProbeContext
    from tocsin.sdk.login import Login

USED_UP: Final = 0.8
"""Of a token's life; then it is renewed."""
PATIENCE: Final = 0.8
"""Of what is left of a run, for one answer: what a run's end cuts off would be asked again at once."""
LONGEST_ANSWER: Final = 10.0
"""Seconds for one answer, even where a run has more: other probes wait for the same token."""
REFUSED_WAIT: Final = (60.0, 3600.0)
"""Seconds to leave the platform alone after it refused us: the first time, and at most."""
BROKEN_WAIT: Final = (5.0, 300.0)
"""The same when it did not answer, or said that it cannot."""
LONGEST_WAIT: Final = 86_400.0
"""What a ``Retry-After`` may ask for; anything that lies further ahead is a clock that was set back."""
_REMEMBERED: Final = 4
"""Logins that were refused, kept: several probes may have a password each."""

_sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, ...], LoginSession]] = WeakKeyDictionary()


class LoginSession:
    """The tokens of one account, and when they may be renewed."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self._memory = LoginMemory((str(login.url), login.username))
        self._kept = self._memory.read() or Kept()
        self._alone = asyncio.Lock()
        self._bad = ""
        self._judged: dict[tuple[str, tuple[str, ...]], bool] = {}
        self._written = False

    @classmethod
    def shared(cls, login: Login) -> LoginSession:
        """The one of this event loop and account."""
        sessions = _sessions.setdefault(asyncio.get_running_loop(), {})
        identity = login.identity()
        if identity not in sessions:
            sessions[identity] = cls(login)
        return sessions[identity]

    async def token(self, ctx: ProbeContext) -> str:
        """A token that should be good. Raises `ProbeFault`, unknown, when there is none."""
        if not self._good(ctx.now()):
            async with self._queue(ctx):
                if not self._good(ctx.now()):
                    try:
                        await self._renew(ctx)
                    except ProbeFault:
                        if not self._lives(ctx.now()):
                            raise
        for secret in (self._kept.access, self._kept.refresh):
            ctx.conceal(secret)
        return self._kept.access

    def invalidate(self, token: str) -> None:
        """The target refused this token. One that another probe has got meanwhile stays."""
        if self._kept.access == token:
            self._bad = token
            self._kept = replace(self._kept, access="")

    async def refused_fresh(self, ctx: ProbeContext, answer: HttpResponse) -> ProbeFault:
        """The target refused a token that was just made: asking on would only make it worse."""
        said = f"{self.refusal(answer)} to a fresh token"
        return await self._rest(ctx, CommonReason.CREDENTIALS_REJECTED, said, REFUSED_WAIT, answer, held=True)

    async def limited(self, ctx: ProbeContext, answer: HttpResponse) -> ProbeFault:
        """The target is asked too much by us."""
        reason = CommonReason.DEPENDENCY_UNKNOWN
        return await self._rest(ctx, reason, self.refusal(answer), REFUSED_WAIT, answer, held=True)

    async def accepted(self, ctx: ProbeContext) -> None:
        """The target took the token: whatever was waited for is over."""
        if self._kept.wait and ctx.now() >= self._kept.not_before:
            await self._keep(ctx, replace(self._kept, not_before=0.0, wait=0.0, held=False, reason="", said=""))

    @staticmethod
    def refusal(answer: HttpResponse) -> str:
        """A refusal as it may be shown, with the target's own words."""
        return f"HTTP {answer.status} from {shown_url(answer.url)}: {quoted(answer.body)}"

    def _good(self, now: float) -> bool:
        """Whether the token at hand is the answer. Raises `ProbeFault` while the platform is to be left alone."""
        kept = self._kept
        if not now < kept.not_before <= now + LONGEST_WAIT:
            return bool(kept.access) and now < kept.renew_at
        if self._lives(now):
            return True
        left = format_duration(max(1, round(kept.not_before - now)))
        raise ProbeFault(CommonReason(kept.reason), f"{kept.said}; not asked again for {left}")

    def _lives(self, now: float) -> bool:
        """Whether the token at hand can be used, although it should be renewed by now."""
        return bool(self._kept.access) and now < self._kept.expires_at and not self._kept.held

    @asynccontextmanager
    async def _queue(self, ctx: ProbeContext) -> AsyncIterator[None]:
        """One at a time, of all probes and processes; what the one before found out is then known."""
        async with AsyncExitStack() as turn:
            try:
                async with asyncio.timeout(ctx.remaining() * PATIENCE):
                    await turn.enter_async_context(self._alone)
                    if not self._good(ctx.now()):
                        await turn.enter_async_context(self._memory.alone())
                        self._kept = self._remembered()
            except TimeoutError as error:
                raise ProbeFault(CommonReason.DEPENDENCY_UNKNOWN, "another probe is still logging in") from error
            yield

    def _remembered(self) -> Kept:
        """What another process may have made of the session meanwhile, or a person who removed the file."""
        kept = self._memory.read() or (Kept() if self._written else self._kept)
        return replace(kept, access="") if kept.access == self._bad else kept

    async def _renew(self, ctx: ProbeContext) -> None:
        login, refresh = self._login, self._kept.refresh
        if refresh and login.can_refresh() and login.refresh.url:
            ctx.conceal(refresh)
            answer = await self._post(ctx, login.refresh.url, login.refreshing(refresh))
            if answer.status in (400, 401, 403):
                await self._keep(ctx, replace(self._kept, refresh=""))
            else:
                await self._take(ctx, answer)
                return
        await self._log_in(ctx)

    async def _log_in(self, ctx: ProbeContext) -> None:
        login, material = self._login, self._login.material()
        assert login.url is not None, "asked for before"
        if await self._was_refused(material):
            said = f"{shown_url(login.url)} refused this password; it is not sent again until it is changed"
            raise ProbeFault(CommonReason.CREDENTIALS_REJECTED, f"{said}, or {self._memory.path} is removed")
        answer = await self._post(ctx, login.url, material)
        if answer.status == 401:
            refused = (await asyncio.to_thread(digest, material), *self._kept.refused)[:_REMEMBERED]
            await self._keep(ctx, replace(self._kept, refused=refused))
            raise ProbeFault(CommonReason.CREDENTIALS_REJECTED, self.refusal(answer))
        await self._take(ctx, answer)

    async def _was_refused(self, material: str) -> bool:
        known = self._kept.refused
        if (material, known) not in self._judged:
            refused = await asyncio.to_thread(lambda: any(is_digest_of(one, material) for one in known))
            self._judged = {(material, known): refused}
        return self._judged[material, known]

    async def _post(self, ctx: ProbeContext, url: str, body: str) -> HttpResponse:
        try:
            async with asyncio.timeout(min(ctx.remaining() * PATIENCE, LONGEST_ANSWER)):
                headers = {"Content-Type": "application/json", "Accept": "application/json"}
                return await ctx.http.fetch("POST", url, headers=headers, body=body, tls=self._login.tls)
        except (OSError, ProbeFault) as error:
            finding = explain(error)
            if finding.reason == CommonReason.THROTTLED:
                raise
            said = f"{shown_url(url)}: {finding.reason}: {finding.detail}"
            raise await self._rest(ctx, CommonReason.DEPENDENCY_UNKNOWN, said, BROKEN_WAIT) from error

    async def _take(self, ctx: ProbeContext, answer: HttpResponse) -> None:
        """Keeps what was granted, before it is used; raises `ProbeFault` when nothing was."""
        login = self._login
        if not 200 <= answer.status <= 299:
            wait = BROKEN_WAIT if answer.status >= 500 else REFUSED_WAIT
            raise await self._rest(ctx, CommonReason.DEPENDENCY_UNKNOWN, self.refusal(answer), wait, answer)
        try:
            document = answer.json()
            access, life = find(login.token, document), find(login.expires_in, document) if login.expires_in else None
            refresh = find(login.refresh.token, document) if login.refresh.token else None
        except ProbeFault as fault:
            access, why = None, fault.finding.detail
        else:
            why = f"`{login.token}` finds no token in it"
        if not isinstance(access, str) or not access:
            said = f"the answer of {shown_url(answer.url)}: {why}"
            raise await self._rest(ctx, CommonReason.CONTRACT_MISSING, said, REFUSED_WAIT)
        now, seconds = ctx.now(), float(life) if _is_seconds(life) else login.lifetime
        ctx.conceal(access)
        if isinstance(refresh, str):
            ctx.conceal(refresh)
        kept = replace(
            self._kept,
            access=access,
            renew_at=now + USED_UP * seconds,
            expires_at=now + seconds,
            # One that comes without another in its place has been used up.
            refresh=refresh if isinstance(refresh, str) else "",
            refused=(),
        )
        await self._keep(ctx, kept)

    async def _rest(
        self,
        ctx: ProbeContext,
        reason: CommonReason,
        said: str,
        waits: tuple[float, float],
        answer: HttpResponse | None = None,
        *,
        held: bool = False,
    ) -> ProbeFault:
        """Leaves the platform alone: for as long as it asks for, or for longer each time."""
        now, kept, (first, most) = ctx.now(), self._kept, waits
        if not (held and now < kept.not_before):  # else another probe was told the same just now
            wait = min(max(first, 2 * kept.wait), most)
            pause = min(_retry_after(answer, now) or wait, LONGEST_WAIT)
            rest = replace(kept, not_before=now + pause, wait=wait, held=held, reason=reason.value, said=said)
            await self._keep(ctx, rest)
        left = format_duration(max(1, round(self._kept.not_before - now)))
        return ProbeFault(reason, f"{said}; not asked again for {left}")

    async def _keep(self, ctx: ProbeContext, kept: Kept) -> None:
        self._kept = kept
        try:
            # To its end, whatever becomes of the run: a refresh token that is lost costs a login.
            await asyncio.shield(asyncio.to_thread(self._memory.write, kept))
            self._written = True
        except OSError as error:
            self._written = False
            ctx.log.warning("the session cannot be kept for the next start: %s", error.strerror)


def _is_seconds(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _retry_after(answer: HttpResponse | None, now: float) -> float:
    """Seconds that the answer asks us to wait; 0 when it does not. RFC 9110 section 10.2.3."""
    text = answer.headers.get("Retry-After", "").strip() if answer is not None else ""
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError):
        return 0.0

"""Kind ``oidc_token``: a token is granted, is what it must be, is accepted, and its session is closed again.

What Keycloak 26.4 answers, as found on a real one: a wrong password and a user locked by brute-force detection are the
same 401 ``invalid_grant``, so only its admin API tells them apart; a wrong client secret is 401
``unauthorized_client``, which a client that may not use the grant gets too, with another description; with its
database stopped it is 500.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal, Self
from urllib.parse import urlencode

from pydantic import model_validator

from tocsin.model import CommonReason, Finding, Outcome, ReasonEnum, Secret, Severity, Status
from tocsin.sdk import ByteCount, HttpResponse, Probe, ProbeContext, ProbeFault, ProbeSettings, Seconds, TlsSettings
from tocsin.sdk.documents import is_html, is_json, is_pdf
from tocsin.sdk.faults import explain, quoted, status_finding
from tocsin.sdk.http import FORM, HttpUrl, OptionalUrl, origin, shown_url
from tocsin.sdk.login_memory import digest, is_digest_of
from tocsin.sdk.oidc import (
    SignatureError,
    VerificationKey,
    is_about_credentials,
    metadata_url,
    oauth_error,
    reachable,
    read_claims,
    read_keys,
    read_object,
)
from tocsin.sdk.quantities import format_duration
from tocsin_probes.oidc_token.admin import Admin, why_refused
from tocsin_probes.oidc_token.logins import Login, login

MAX_BACK_OFF = 86400.0
_LAST = 1e12
"""No time of a token is as late, in Unix seconds; NaN is not before it either."""


class OidcToken(Probe):
    """A fresh token by password or client credentials: granted, signed, for us, valid now, and logged out again."""

    kind = "oidc_token"

    class Settings(ProbeSettings):
        issuer: HttpUrl
        """The issuer that clients are configured with; tokens must name it to the letter."""
        metadata_url: OptionalUrl = None
        """Where the metadata is read; by default the issuer's own well-known address."""
        token_url: OptionalUrl = None
        jwks_url: OptionalUrl = None
        """Where the keys are fetched instead of where the metadata says, as clients are configured."""
        logout_url: OptionalUrl = None
        """By default these three come from the metadata."""
        grant: Literal["password", "client_credentials"] = "client_credentials"
        client_id: str
        """A client of the realm that is allowed this grant."""
        client_secret: Secret | None = None
        """Of a confidential client; a public one has none."""
        username: str = ""
        """A user of the probe's own, for the password grant."""
        password: Secret | None = None
        """That user's."""
        scope: str = ""
        audience: str = ""
        """What ``aud`` must hold; empty: not looked at."""
        max_skew: Seconds = 30.0
        """How far the provider's clock may be from ours."""
        back_off: Seconds = 3600.0
        """After refused credentials the provider is left alone for this long, then twice as long, up to a day, so
        that the probe never locks an account. Other credentials are tried at once, those of a file without a reload."""
        admin: Admin | None = None
        accept_url: OptionalUrl = None
        """A harmless GET of the platform's API that must accept the token."""
        accept_type: Literal["any", "pdf", "json"] = "any"
        """What it must give: a whole PDF or JSON, with the status 200; or anything but a page of HTML."""
        accept_tls: TlsSettings | None = None
        """For ``accept_url``; by default ``tls``."""
        max_bytes: ByteCount = 10 << 20
        """A larger answer of ``accept_url`` is ``unexpected_body``."""
        tls: TlsSettings = TlsSettings()

        @model_validator(mode="after")
        def _complete(self) -> Self:
            if self.grant == "password" and (not self.username or self.password is None):
                raise ValueError("the password grant needs `username` and `password`")
            if self.grant == "client_credentials" and self.client_secret is None:
                raise ValueError("the client_credentials grant needs `client_secret`")
            return self

        @property
        def asked(self) -> str:
            return self.metadata_url or metadata_url(self.issuer)

        def targets(self) -> tuple[str, ...]:
            urls = (self.asked, self.token_url, self.jwks_url, self.accept_url, self.admin and self.admin.url)
            return tuple(dict.fromkeys(origin(url) for url in urls if url))

    class Reason(ReasonEnum):
        GRANT_REFUSED = "grant_refused", "The provider refuses the grant itself: realm, client or grant type is off."
        ISS_MISMATCH = "iss_mismatch", "The token's `iss` is not the issuer that its readers expect."
        AUD_MISMATCH = "aud_mismatch", "The token's `aud` lacks the audience that its readers expect."
        SIGNATURE_INVALID = "signature_invalid", "The token's signature does not hold against the published keys."
        CLOCK_SKEW = "clock_skew", "A fresh token is not valid now: the provider's clock and ours differ."
        TOKEN_NOT_ACCEPTED = "token_not_accepted", "The platform's API refuses a fresh and valid token."
        LOGOUT_FAILED = "logout_failed", "A session that the probe opened could not be closed.", Severity.TICKET
        ACCOUNT_LOCKED = (
            "account_locked",
            "The probe's own test user is locked or disabled.",
            Severity.TICKET,
            Status.UNKNOWN,
        )

    settings: Settings
    _compared: tuple[str, str, bool] = ("", "", False)
    """A digest, what it was compared with, and whether it is its digest: that takes a while."""

    async def run(self, ctx: ProbeContext) -> Outcome:
        form = self._grant()
        where = self.settings.token_url or self.settings.asked
        known, material = login(where, form), repr((where, sorted(form.items())))
        if await self._rests(ctx, known, material):
            return Outcome.of([await self._rest(ctx, known)])
        metadata = await self._metadata(ctx)
        async with known.turn:
            # Another probe may just have been refused.
            if await self._rests(ctx, known, material):
                return Outcome.of([await self._rest(ctx, known)])
            answer = await self._post(ctx, self._endpoint(metadata, "token_endpoint"), form)
            if answer.status != 200:
                return Outcome.of([await self._refusal(ctx, answer, known, material)])
            known.refused = None
        ctx.memory.pop("refused", None)
        granted = read_object(answer)
        # Whatever the token turns out to be worth, there is time left to close its session.
        reserved = min(1.0, ctx.timeout / 4)
        try:
            async with asyncio.timeout(max(0.0, ctx.remaining() - reserved)):
                found = await self._judge(ctx, metadata, granted)
        finally:
            unclosed = await self._close_session(ctx, metadata, granted)
        return Outcome.of([*found, *unclosed], f"token from {shown_url(answer.url)}")

    async def _metadata(self, ctx: ProbeContext) -> Mapping[str, Any]:
        settings = self.settings
        if settings.token_url and settings.jwks_url and settings.logout_url:
            return {}
        answer = await ctx.http.fetch("GET", settings.asked, tls=settings.tls)
        return read_object(answer.expect(200, unauthorized=Status.FAILED))

    def _endpoint(self, metadata: Mapping[str, Any], name: str) -> str:
        """An address from the settings, or from the metadata as this network reaches it."""
        configured = {"token_endpoint": self.settings.token_url, "jwks_uri": self.settings.jwks_url}.get(name)
        named = configured or metadata.get(name)
        if not isinstance(named, str):
            raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"the metadata names no {name}")
        return configured or reachable(named, str(metadata.get("issuer")), self.settings.asked)

    def _grant(self) -> dict[str, str]:
        settings = self.settings
        form = {"grant_type": settings.grant, **self._client()}
        if settings.grant == "password" and settings.password is not None:
            form |= {"username": settings.username, "password": settings.password.reveal()}
        return form | ({"scope": settings.scope} if settings.scope else {})

    def _client(self) -> dict[str, str]:
        """RFC 6749 section 2.3.1: the client's credentials in the form."""
        secret = self.settings.client_secret
        return {"client_id": self.settings.client_id} | ({"client_secret": secret.reveal()} if secret else {})

    async def _post(self, ctx: ProbeContext, url: str, form: Mapping[str, str]) -> HttpResponse:
        return await ctx.http.fetch("POST", url, headers=FORM, body=urlencode(form), tls=self.settings.tls)

    async def _rests(self, ctx: ProbeContext, known: Login, material: str) -> bool:
        """Whether the provider is left alone, because it refused these credentials of us or of another probe."""
        own = ctx.memory.get("refused")
        if own is not None and ctx.now() < own["until"] and await self._is_digest(own.get("digest", ""), material):
            known.refused = max(known.refused or own, own, key=lambda refused: refused["until"])
        return known.refused is not None and ctx.now() < known.refused["until"]

    async def _is_digest(self, known: str, material: str) -> bool:
        """Whether it was these credentials of which only a digest is remembered: others are tried at once."""
        if self._compared[:2] != (known, material):
            self._compared = (known, material, await asyncio.to_thread(is_digest_of, known, material))
        return self._compared[2]

    async def _rest(self, ctx: ProbeContext, known: Login) -> Finding:
        """What is said meanwhile. Whether the user is locked is asked by the first who may ask."""
        refused, admin = known.refused or {}, self.settings.admin
        ctx.memory["refused"] = refused
        if admin is not None and refused.get("unexplained"):
            url = admin.token_url or self._endpoint(await self._metadata(ctx), "token_endpoint")
            locked, told = await why_refused(ctx, admin, url, self.settings.username, self.settings.tls)
            refused = {**refused, "unexplained": False, "locked": locked, "said": f"{refused['said']}; {told}"}
        known.refused = ctx.memory["refused"] = refused
        reason = self.Reason.ACCOUNT_LOCKED if refused["locked"] else CommonReason.CREDENTIALS_REJECTED
        left = format_duration(max(1, round(refused["until"] - ctx.now())))
        return Finding.of(reason, f"{refused['said']}; not asked again for {left}")

    async def _refusal(self, ctx: ProbeContext, answer: HttpResponse, known: Login, material: str) -> Finding:
        """What it means, and when it may be tried again. ``material``: the credentials, and where they were sent."""
        error, description = oauth_error(answer)
        said = f"HTTP {answer.status}" + (f": {quoted(f'{error} {description}'.strip(), 200)}" if error else "")
        if not is_about_credentials(error, description):
            if answer.status in (400, 401, 403) and error:
                return Finding.of(self.Reason.GRANT_REFUSED, said)
            return status_finding(answer.status, said, Status.FAILED)
        before = ctx.memory.get("refused")
        wait = min(2 * before["wait"], MAX_BACK_OFF) if before else self.settings.back_off
        known.refused = {
            "until": ctx.now() + wait,
            "wait": wait,
            "locked": False,
            "unexplained": error == "invalid_grant",
            "said": said,
        }
        known.refused = {**known.refused, "digest": await asyncio.to_thread(digest, material)}
        return await self._rest(ctx, known)

    async def _judge(self, ctx: ProbeContext, metadata: Mapping[str, Any], granted: Mapping[str, Any]) -> list[Finding]:
        settings = self.settings
        token = granted.get("access_token")
        if not isinstance(token, str):
            raise ProbeFault(CommonReason.UNEXPECTED_BODY, "no access_token was granted")
        answer = await ctx.http.fetch("GET", self._endpoint(metadata, "jwks_uri"), tls=settings.tls)
        keys = read_keys(answer.expect(200, unauthorized=Status.FAILED))
        found = list(self._judge_token(token, keys, ctx.now()))
        if settings.accept_url and not found:
            found += await self._accepted(ctx, settings.accept_url, token)
        return found

    async def _accepted(self, ctx: ProbeContext, url: str, token: str) -> list[Finding]:
        """What is wrong with the API's answer to the token's bearer."""
        settings = self.settings
        bearer = {"Authorization": f"Bearer {token}"}
        tls = settings.tls if settings.accept_tls is None else settings.accept_tls
        answer = await ctx.http.fetch("GET", url, headers=bearer, max_bytes=settings.max_bytes, tls=tls)
        said = f"HTTP {answer.status} from {shown_url(url)}"
        if answer.status in (401, 403):
            return [Finding.of(self.Reason.TOKEN_NOT_ACCEPTED, said, "api")]
        if answer.status != 200 and (settings.accept_type != "any" or not 200 <= answer.status <= 299):
            return [replace(status_finding(answer.status, said, Status.FAILED), component="api")]
        if answer.truncated:
            detail = f"{said}: more than {settings.max_bytes} bytes"
            return [Finding.of(CommonReason.UNEXPECTED_BODY, detail, "api")]
        # Parsing megabytes would hold the loop.
        if await asyncio.to_thread(_is_of, settings.accept_type, answer):
            return []
        wanted = {"any": "HTML, where an API answers", "pdf": "no whole PDF", "json": "no JSON"}[settings.accept_type]
        detail = f"{said}: {wanted}; it begins {quoted(answer.body)}"
        return [Finding.of(CommonReason.UNEXPECTED_BODY, detail, "api")]

    def _judge_token(self, token: str, keys: tuple[VerificationKey, ...], now: float) -> Iterator[Finding]:
        """Signature first: claims that nobody signed are nobody's word. RFC 7519 section 4.1."""
        reason, settings = self.Reason, self.settings
        try:
            claims = read_claims(token, keys)
        except SignatureError as error:
            yield Finding.of(reason.SIGNATURE_INVALID, str(error))
            return
        if claims.get("iss") != settings.issuer:
            said = f"iss is {quoted(str(claims.get('iss')), 200)}, expected {quoted(settings.issuer, 200)}"
            yield Finding.of(reason.ISS_MISMATCH, said)
        audience = claims.get("aud", [])
        if settings.audience and settings.audience not in ([audience] if isinstance(audience, str) else audience):
            yield Finding.of(reason.AUD_MISMATCH, f"aud is {quoted(str(audience), 200)}, without {settings.audience!r}")
        yield from self._judge_times(claims, now)

    def _judge_times(self, claims: Mapping[str, Any], now: float) -> Iterator[Finding]:
        """A token made just now must be valid now, give or take ``max_skew``."""
        stated = {name: claims[name] for name in ("exp", "nbf", "iat") if claims.get(name) is not None}
        if "exp" not in stated or not all(type(at) in (int, float) and abs(at) < _LAST for at in stated.values()):
            raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"the token's times are {quoted(str(stated))}")
        issued = float(stated.get("iat", now))
        ahead = max(float(stated.get("nbf", now)), issued) - now
        behind = max(now - float(stated["exp"]) + self.settings.max_skew, now - issued)
        if ahead > self.settings.max_skew:
            said = f"a fresh token is valid only in {format_duration(round(ahead))}"
            yield Finding.of(self.Reason.CLOCK_SKEW, said)
        elif behind > self.settings.max_skew:
            said = f"a fresh token is {format_duration(round(now - issued))} old"
            yield Finding.of(self.Reason.CLOCK_SKEW, f"{said} and lives until {stated['exp']}")

    async def _close_session(
        self, ctx: ProbeContext, metadata: Mapping[str, Any], granted: Mapping[str, Any]
    ) -> list[Finding]:
        """Logs out by the refresh token: at the logout address as Keycloak takes it, or by RFC 7009."""
        refresh = granted.get("refresh_token")
        if not isinstance(refresh, str):
            return []
        try:
            # Less than what is left: the run's own end would hide all that was found.
            async with asyncio.timeout(ctx.remaining() * 0.8):
                answer = await self._log_out(ctx, metadata, refresh)
        except (OSError, ValueError, ProbeFault) as error:
            return [Finding.of(self.Reason.LOGOUT_FAILED, explain(error).detail, "session")]
        if answer.status in (200, 204):
            return []
        return [Finding.of(self.Reason.LOGOUT_FAILED, f"HTTP {answer.status} from {shown_url(answer.url)}", "session")]

    async def _log_out(self, ctx: ProbeContext, metadata: Mapping[str, Any], refresh: str) -> HttpResponse:
        url = self.settings.logout_url
        if url is None:
            name = "end_session_endpoint" if "end_session_endpoint" in metadata else "revocation_endpoint"
            url = self._endpoint(metadata, name)
        form = {"refresh_token": refresh, "token": refresh, "token_type_hint": "refresh_token", **self._client()}
        return await self._post(ctx, url, form)


def _is_of(wanted: str, answer: HttpResponse) -> bool:
    match wanted:
        case "pdf":
            return is_pdf(answer.body)
        case "json":
            return is_json(answer.body)
    return not is_html(answer.content_type, answer.body)

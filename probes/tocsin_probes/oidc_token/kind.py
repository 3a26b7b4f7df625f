"""Kind ``oidc_token``: a token is granted, is what it must be, is accepted, and its session is closed again.

What Keycloak 26.4 answers, as found on a real one: a wrong password and a user locked by brute-force detection are the
same 401 ``invalid_grant``, so only its admin API tells them apart; a wrong client secret is 401
``unauthorized_client``, which a client that may not use the grant gets too, with another description; with its
database stopped it is 500.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self
from urllib.parse import urlencode

from pydantic import model_validator

from tocsin.model import CommonReason, Finding, Outcome, ReasonEnum, Secret, Severity, Status
from tocsin.sdk import HttpResponse, Probe, ProbeContext, ProbeFault, ProbeSettings, Seconds, TlsSettings
from tocsin.sdk.faults import explain, quoted, status_finding
from tocsin.sdk.http import FORM, HttpUrl, OptionalUrl, origin, shown_url
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

MAX_BACK_OFF = 86400.0


class OidcToken(Probe):
    """A fresh token by password or client credentials: granted, signed, for us, valid now, and logged out again."""

    kind = "oidc_token"

    class Settings(ProbeSettings):
        issuer: HttpUrl
        metadata_url: OptionalUrl = None
        """Where the metadata is read; by default the issuer's own well-known address."""
        token_url: OptionalUrl = None
        jwks_url: OptionalUrl = None
        logout_url: OptionalUrl = None
        """By default these three come from the metadata."""
        grant: Literal["password", "client_credentials"] = "client_credentials"
        client_id: str
        client_secret: Secret | None = None
        username: str = ""
        password: Secret | None = None
        scope: str = ""
        audience: str = ""
        """What ``aud`` must hold; empty: not looked at."""
        max_skew: Seconds = 30.0
        """How far the provider's clock may be from ours."""
        back_off: Seconds = 3600.0
        """After refused credentials the provider is left alone for this long, then twice as long, up to a day, so
        that the probe never locks an account. Credentials that a file was given meanwhile are tried at once."""
        admin: Admin | None = None
        accept_url: OptionalUrl = None
        """A harmless GET of the platform's API that must accept the token."""
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
    _refused: tuple[str | None, ...] | None = None
    """The credentials that were refused last, by this instance."""

    async def run(self, ctx: ProbeContext) -> Outcome:
        resting = self._resting(ctx)
        if resting is not None:
            return Outcome.of([resting])
        metadata = await self._metadata(ctx)
        answer = await self._post(ctx, self._endpoint(metadata, "token_endpoint"), self._grant())
        if answer.status != 200:
            return Outcome.of([await self._refusal(ctx, answer, metadata)])
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

    def _resting(self, ctx: ProbeContext) -> Finding | None:
        """What is said without asking while the provider is left alone after it refused our credentials."""
        refused = ctx.memory.get("refused")
        if refused is None or ctx.now() >= refused["until"]:
            return None
        if self._refused is not None and self._refused != tuple(self._grant().values()):
            return None
        reason = self.Reason.ACCOUNT_LOCKED if refused["locked"] else CommonReason.CREDENTIALS_REJECTED
        left = format_duration(max(1, round(refused["until"] - ctx.now())))
        return Finding.of(reason, f"{refused['said']}; not asked again for {left}")

    async def _refusal(self, ctx: ProbeContext, answer: HttpResponse, metadata: Mapping[str, Any]) -> Finding:
        error, description = oauth_error(answer)
        said = f"HTTP {answer.status}" + (f": {quoted(f'{error} {description}'.strip(), 200)}" if error else "")
        if not is_about_credentials(error, description):
            if answer.status in (400, 401, 403) and error:
                return Finding.of(self.Reason.GRANT_REFUSED, said)
            return status_finding(answer.status, said, Status.FAILED)
        locked = False
        if self.settings.admin is not None and error == "invalid_grant":
            token_url = self.settings.admin.token_url or self._endpoint(metadata, "token_endpoint")
            locked, told = await why_refused(
                ctx, self.settings.admin, token_url, self.settings.username, self.settings.tls
            )
            said = f"{said}; {told}"
        before = ctx.memory.get("refused")
        wait = min(2 * before["wait"], MAX_BACK_OFF) if before else self.settings.back_off
        ctx.memory["refused"] = {"until": ctx.now() + wait, "wait": wait, "locked": locked, "said": said}
        self._refused = tuple(self._grant().values())
        return self._resting(ctx) or Finding.of(CommonReason.CREDENTIALS_REJECTED, said)

    async def _judge(self, ctx: ProbeContext, metadata: Mapping[str, Any], granted: Mapping[str, Any]) -> list[Finding]:
        settings = self.settings
        token = granted.get("access_token")
        if not isinstance(token, str):
            raise ProbeFault(CommonReason.UNEXPECTED_BODY, "no access_token was granted")
        answer = await ctx.http.fetch("GET", self._endpoint(metadata, "jwks_uri"), tls=settings.tls)
        keys = read_keys(answer.expect(200, unauthorized=Status.FAILED))
        found = list(self._judge_token(token, keys, ctx.now()))
        if settings.accept_url and not found:
            bearer = {"Authorization": f"Bearer {token}"}
            accepted = await ctx.http.fetch("GET", settings.accept_url, headers=bearer)
            said = f"HTTP {accepted.status} from {shown_url(settings.accept_url)}"
            if accepted.status in (401, 403):
                found.append(Finding.of(self.Reason.TOKEN_NOT_ACCEPTED, said, "api"))
            elif not 200 <= accepted.status <= 299:
                finding = status_finding(accepted.status, said, Status.FAILED)
                found.append(Finding(finding.reason, finding.status, finding.severity, "api", said))
        return found

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
        if "exp" not in stated or not all(type(at) in (int, float) for at in stated.values()):
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
        url = self.settings.logout_url
        if url is None:
            name = "end_session_endpoint" if "end_session_endpoint" in metadata else "revocation_endpoint"
            url = self._endpoint(metadata, name)
        form = {"refresh_token": refresh, "token": refresh, "token_type_hint": "refresh_token", **self._client()}
        try:
            answer = await self._post(ctx, url, form)
        except OSError as error:
            return [Finding.of(self.Reason.LOGOUT_FAILED, explain(error).detail, "session")]
        if answer.status in (200, 204):
            return []
        return [Finding.of(self.Reason.LOGOUT_FAILED, f"HTTP {answer.status} from {shown_url(url)}", "session")]

"""Kind ``oidc_realm``: an OpenID Provider's metadata and signing keys.

What Keycloak 26.4 answers, as found on a real one:

* A missing realm is 404 ``Realm does not exist`` everywhere.
* A disabled realm still serves its metadata and its keys. Only endpoints that act say 403 ``Realm not enabled``, so
  the token endpoint is asked too, with an empty form: an enabled realm refuses that with 400 ``invalid_request``
  before it looks for any client or user, and neither logs it nor counts it as a failed login.
* With its database stopped it goes on serving metadata, keys and that refusal from its caches. The kinds ``http`` (on
  ``/health/ready``) and ``oidc_token`` see that outage; this one cannot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Annotated, Any

from pydantic import Field

from tocsin.model import Finding, Gauge, Outcome, ReasonEnum, Severity, Status
from tocsin.sdk import HttpResponse, Probe, ProbeContext, ProbeFault, ProbeSettings, Seconds, TlsSettings
from tocsin.sdk.faults import explain, quoted, status_finding
from tocsin.sdk.http import CERTIFICATE_EXPIRY, FORM, HttpUrl, OptionalUrl, certificate_finding, origin
from tocsin.sdk.oidc import metadata_url, oauth_error, reachable, read_keys, read_object
from tocsin.sdk.quantities import format_duration
from tocsin_probes.oidc_realm.key_history import SeenKey, may_be_missed, memorable, recalled, remember

REQUIRED_METADATA = (
    "issuer",
    "authorization_endpoint",
    "token_endpoint",
    "jwks_uri",
    "response_types_supported",
    "subject_types_supported",
    "id_token_signing_alg_values_supported",
)
"""OpenID Connect Discovery 1.0 section 3. The token endpoint is required unless only the implicit flow is served."""

SIGNING_KEYS = Gauge("tocsin_oidc_signing_keys", "Public keys in the key set that may verify signatures.")


class OidcRealm(Probe):
    """OpenID Provider metadata and signing keys of one realm, as a relying party sees them."""

    kind = "oidc_realm"
    gauges = (SIGNING_KEYS, CERTIFICATE_EXPIRY)
    unauthorized = Status.FAILED

    class Settings(ProbeSettings):
        issuer: HttpUrl
        """The issuer that clients are configured with; compared to the letter."""
        metadata_url: OptionalUrl = None
        """Where the metadata is read; by default the issuer's own well-known address."""
        jwks_url: OptionalUrl = None
        """Where the keys are fetched instead of where the metadata says, as clients are configured."""
        """Where the keys are read; by default the metadata's ``jwks_uri``."""
        ask_token_endpoint: bool = True
        """Send the token endpoint an empty form, which is the only way to see that a realm is disabled."""
        clients_cache_ttl: Seconds = 300.0
        """How long clients keep the key set: a signing key younger than this is ``key_changed``."""
        token_lifetime: Seconds = 300.0
        """How long access tokens live: a key that went less than this ago may be missed (``key_removed``)."""
        max_age: Seconds = 300.0
        """An answer older than this by its Age or Date header is ``stale_answer``."""
        tls: TlsSettings = TlsSettings()
        certificate_days: Annotated[float, Field(ge=0)] = 14

        @property
        def asked(self) -> str:
            return self.metadata_url or metadata_url(self.issuer)

        def targets(self) -> tuple[str, ...]:
            return tuple(dict.fromkeys(origin(url) for url in (self.asked, self.jwks_url) if url))

    class Reason(ReasonEnum):
        ISSUER_MISMATCH = "issuer_mismatch", "The metadata names another issuer than clients are configured with."
        REALM_MISSING = "realm_missing", "The provider is up and has no such realm."
        REALM_DISABLED = "realm_disabled", "The realm exists and is switched off: nobody gets a token."
        JWKS_EMPTY = "jwks_empty", "The key set holds no key at all."
        JWKS_UNREADABLE = "jwks_unreadable", "The metadata can be read and the key set cannot."
        NO_SIGNING_KEY = "no_signing_key", "The key set holds keys, and none that may verify signatures."
        KEY_CHANGED = (
            "key_changed",
            "A signing key is newer than the clients' caches: some may refuse tokens signed with it.",
            Severity.TICKET,
        )
        KEY_REMOVED = (
            "key_removed",
            "A signing key went while tokens signed with it may still be alive.",
            Severity.TICKET,
        )
        METADATA_INCOMPLETE = "metadata_incomplete", "The metadata lacks what OpenID Connect Discovery requires."
        STALE_ANSWER = "stale_answer", "The answer is an old copy out of a cache in between.", Severity.TICKET

    settings: Settings

    async def run(self, ctx: ProbeContext) -> Outcome:
        settings = self.settings
        answer = await ctx.http.fetch("GET", settings.asked, tls=settings.tls)
        if answer.certificate_expires_at is not None:
            ctx.measure(CERTIFICATE_EXPIRY, answer.certificate_expires_at)
        if answer.status != 200:
            return Outcome.of([self._refusal(answer, "metadata")])
        metadata = read_object(answer)
        found = [
            *self._judge_metadata(metadata),
            *self._judge_age(answer, ctx.now(), "metadata"),
            *await self._ask_token_endpoint(ctx, metadata),
            *await self._ask_keys(ctx, metadata),
        ]
        expiring = certificate_finding(answer.certificate_expires_at, ctx.now(), settings.certificate_days)
        return Outcome.of([*found, *([expiring] if expiring else [])], f"issuer {settings.issuer}")

    def _refusal(self, answer: HttpResponse, component: str) -> Finding:
        error, description = oauth_error(answer)
        said = f"HTTP {answer.status}" + (f": {quoted(f'{error} {description}'.strip(), 200)}" if error else "")
        if answer.status == 404 and "realm" in error.lower():
            return Finding.of(self.Reason.REALM_MISSING, said, component)
        if answer.status == 403 and "not enabled" in description.lower():
            return Finding.of(self.Reason.REALM_DISABLED, said, component)
        finding = status_finding(answer.status, said, Status.FAILED)
        return Finding(finding.reason, finding.status, finding.severity, component, said)

    def _judge_metadata(self, metadata: Mapping[str, Any]) -> Iterator[Finding]:
        missing = [name for name in REQUIRED_METADATA if not metadata.get(name)]
        if missing:
            yield Finding.of(self.Reason.METADATA_INCOMPLETE, f"without {', '.join(missing)}", "metadata")
        issuer = metadata.get("issuer")
        if issuer and issuer != self.settings.issuer:
            said = f"the metadata says {quoted(str(issuer), 200)}, clients expect {quoted(self.settings.issuer, 200)}"
            yield Finding.of(self.Reason.ISSUER_MISMATCH, said, "metadata")

    def _judge_age(self, answer: HttpResponse, now: float, component: str) -> Iterator[Finding]:
        age = answer_age(answer.headers, now)
        if age > self.settings.max_age:
            yield Finding.of(self.Reason.STALE_ANSWER, f"{format_duration(round(age))} old", component)

    async def _ask_token_endpoint(self, ctx: ProbeContext, metadata: Mapping[str, Any]) -> Sequence[Finding]:
        endpoint = metadata.get("token_endpoint")
        if not self.settings.ask_token_endpoint or not isinstance(endpoint, str):
            return ()
        url = reachable(endpoint, str(metadata.get("issuer")), self.settings.asked)
        try:
            answer = await ctx.http.fetch("POST", url, headers=FORM, body=b"", tls=self.settings.tls)
        except ValueError:
            said = f"its token_endpoint is {quoted(endpoint)}"
            return (Finding.of(self.Reason.METADATA_INCOMPLETE, said, "token_endpoint"),)
        # RFC 6749 section 5.2: 400 for a request without a grant type, or 401 for one without a client.
        return () if answer.status in (400, 401) else (self._refusal(answer, "token_endpoint"),)

    async def _ask_keys(self, ctx: ProbeContext, metadata: Mapping[str, Any]) -> Sequence[Finding]:
        url = self.settings.jwks_url or metadata.get("jwks_uri")
        if not url:
            return ()
        try:
            answer = await ctx.http.fetch("GET", str(url), tls=self.settings.tls)
            keys = read_keys(answer.expect(200, unauthorized=Status.FAILED))
        except ValueError as error:
            return (Finding.of(self.Reason.JWKS_UNREADABLE, f"its address: {error}", "jwks"),)
        except (OSError, ProbeFault) as error:
            finding = explain(error, Status.FAILED)
            if finding.status is Status.UNKNOWN:
                raise
            return (Finding.of(self.Reason.JWKS_UNREADABLE, f"{finding.reason}: {finding.detail}", "jwks"),)
        signing = [key.kid for key in keys if key.signs]
        ctx.measure(SIGNING_KEYS, len(signing))
        if not signing:
            reason = self.Reason.NO_SIGNING_KEY if keys else self.Reason.JWKS_EMPTY
            return (Finding.of(reason, f"{len(keys)} keys, none for signatures", "jwks"),)
        seen = remember(recalled(ctx.memory, str(url)), signing, ctx.now())
        ctx.memory.update(memorable(seen, str(url)))
        return (*self._judge_age(answer, ctx.now(), "jwks"), *self._judge_keys(seen, ctx.now()))

    def _judge_keys(self, seen: Mapping[str, SeenKey], now: float) -> Iterator[Finding]:
        ttl, lifetime = self.settings.clients_cache_ttl, self.settings.token_lifetime
        young = {kid: now - key.first for kid, key in seen.items() if key.gone is None and now - key.first < ttl}
        if young:
            kid = min(young, key=lambda kid: young[kid])
            said = f"{quoted(kid)} appeared {format_duration(round(young[kid]))} ago"
            yield Finding.of(
                self.Reason.KEY_CHANGED, f"{said}; clients may not know it for {format_duration(ttl)}", "jwks"
            )
        missed = [kid for kid in seen if may_be_missed(kid, seen, now, lifetime)]
        if missed:
            said = f"{', '.join(map(quoted, missed[:3]))} went less than {format_duration(lifetime)} ago"
            yield Finding.of(self.Reason.KEY_REMOVED, f"{said}: tokens signed with it are refused", "jwks")


def answer_age(headers: Mapping[str, str], now: float) -> float:
    """How many seconds ago the origin made this answer, by the Age and Date headers; 0 without them.

    RFC 9111 section 5.1 and RFC 9110 section 6.6.1: a cache adds Age and keeps the origin's Date. A provider whose
    clock is slow looks the same, which is why the allowed age is minutes. nginx's proxy_cache keeps neither header;
    behind it only the token endpoint, whose answers are not cached, shows that the provider is gone.
    """
    age = headers.get("Age", "")
    stated = float(age) if age.isascii() and age.isdigit() and len(age) < 12 else 0.0
    try:
        made = parsedate_to_datetime(headers.get("Date", "")).timestamp()
    except (ValueError, OverflowError):
        return stated
    return max(stated, now - made)

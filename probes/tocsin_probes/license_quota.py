"""`license_quota`: the seats and tenants of the running licence, its end and its grace."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, TypeGuard, get_args

from pydantic import BaseModel, ConfigDict, Field

from tocsin.sdk import (
    CommonReason,
    Finding,
    Gauge,
    HttpResponse,
    Outcome,
    Probe,
    ProbeContext,
    ProbeFault,
    ProbeSettings,
    ReasonEnum,
    Secret,
    Severity,
    Words,
)
from tocsin.sdk.faults import quoted
from tocsin.sdk.http import HttpUrl, TlsSettings, origin, shown_url
from tocsin.sdk.json_paths import JsonPath, find
from tocsin.sdk.login import Login, fetch
from tocsin.sdk.postgres import unix_time

DAY = 86_400.0
KEPT_DAYS = 60
TREND_DAYS = 7
"""Days between the first and the last that are known, from which on they make a trend."""

_USED = Gauge("tocsin_license_used", "What is used of the licence.", ("resource",))
_LIMIT = Gauge("tocsin_license_limit", "What the licence allows; absent when it has no limit.", ("resource",))
_EXPIRY = Gauge("tocsin_license_expiry_timestamp_seconds", "When the licence ends.")
_FULL = Gauge(
    "tocsin_license_full_timestamp_seconds", "When the trend of the last weeks reaches the limit.", ("resource",)
)

Unlimited = Literal["null", "0", "-1"]

_NO_TIMES: dict[float, Unlimited] = {0.0: "0", -1.0: "-1", -62_135_596_800.0: "null"}
"""By Unix time what stands in place of an end that is not set; the last one is the first instant of the year 1, Go's
zero time: https://pkg.go.dev/time#Time.IsZero."""
_LAST_DAY = 253_402_214_400.0
"""The last one that has a date here, 9999-12-31, in Unix seconds."""


class Fields(BaseModel):
    """Where in the document each value is, as JMESPath. The defaults are those of ``GET /license``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seats_used: JsonPath = "current_seats"
    seats_limit: JsonPath = "max_seats"
    tenants_used: JsonPath = "current_tenants"
    tenants_limit: JsonPath = "max_tenants"
    expires_at: JsonPath = "expires_at"
    days_remaining: JsonPath = "days_remaining"
    tier: JsonPath = "tier"
    grace_seconds: JsonPath = "grace_remaining_seconds"
    entitlements: JsonPath = "entitlements"


class QuotaLimits(BaseModel):
    """What is still well."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    seats_percent: float = Field(default=90, gt=0, le=100)
    tenants_percent: float = Field(default=90, gt=0, le=100)
    days: float = Field(default=30, ge=0)
    """With fewer days left the licence is `expiring`."""
    urgent_days: float = Field(default=7, ge=0)
    """With fewer days left it is `expiring_soon`."""


class LicenseQuota(Probe):
    """Seats and tenants leave room, the licence is valid for a while, and it allows what is needed."""

    kind = "license_quota"
    gauges = (_USED, _LIMIT, _EXPIRY, _FULL)

    class Settings(ProbeSettings):
        url: HttpUrl
        headers: Mapping[str, Secret] = {}
        """Request headers, an Authorization say. The values are secrets."""
        login: Login | None = None
        """Whose token the request carries."""
        tls: TlsSettings = TlsSettings()
        resources: tuple[Literal["seats", "tenants"], ...] = ("seats", "tenants")
        """Which of seats and tenants are judged; none for a document that does not tell them."""
        fields: Fields = Fields()
        limits: QuotaLimits = QuotaLimits()
        unlimited: tuple[Unlimited, ...] | None = None
        """Which values of a limit, or of the end, mean that there is none: ``["null", "-1"]``. Unset: not known, and
        meeting such a value is `contract_missing`. An end in the year 1, Go's zero time, counts as ``null``."""
        tier: str = ""
        """The tier that the licence must be of; empty: any."""
        entitlements: Words = ()
        """What the licence must allow: ``audit_export, oidc``."""

        def targets(self) -> tuple[str, ...]:
            return tuple(dict.fromkeys((origin(self.url), *(self.login.targets() if self.login else ()))))

    class Reason(ReasonEnum):
        SEATS_EXHAUSTED = "seats_exhausted", "All seats are taken: new users are refused (HTTP 402)."
        TENANTS_EXHAUSTED = "tenants_exhausted", "All tenants are taken: new ones are refused (HTTP 402)."
        SEATS_LOW = "seats_low", "Few seats are left.", Severity.TICKET
        TENANTS_LOW = "tenants_low", "Few tenants are left.", Severity.TICKET
        EXPIRED = "expired", "The licence has ended, and no grace is left, or none is told of here."
        TIER_DIFFERS = "tier_differs", "The running licence is of another tier than the one that is needed."
        IN_GRACE = "in_grace", "The licence has ended; the platform runs on for its grace."
        EXPIRING_SOON = "expiring_soon", "The licence ends within days."
        EXPIRING = "expiring", "The licence ends within weeks.", Severity.TICKET
        ENTITLEMENT_MISSING = "entitlement_missing", "The running licence does not allow something that is needed."
        HTML_INSTEAD_OF_JSON = (
            "html_instead_of_json",
            "A page of HTML came where JSON was expected: the dashboard's nginx answered instead of the API.",
        )

    settings: Settings

    async def run(self, ctx: ProbeContext) -> Outcome:
        settings = self.settings
        headers = {name: value.reveal() for name, value in settings.headers.items()}
        answer = await fetch(ctx, settings.login, "GET", settings.url, headers=headers, tls=settings.tls)
        if answer.status == 402:
            return self._refused(answer)
        document = self._document(answer.expect(200, unauthorized=self.unauthorized))
        findings: list[Finding] = []
        said: list[str] = []
        for resource in settings.resources:
            quota = self._quota(document, resource)
            full_at = _trend(ctx.memory, resource, quota, ctx.now())
            self._measure(ctx, resource, quota, full_at)
            room = _room(quota, full_at)
            said.append(f"{resource}: {room}")
            findings += self._judge_quota(resource, quota, room)
        expires_at = self._expiry(document, ctx.now())
        if expires_at is not None:
            ctx.measure(_EXPIRY, expires_at)
            findings += self._judge_expiry(document, (expires_at - ctx.now()) / DAY)
            said.append(f"ends {_date(expires_at)}")
        findings += self._judge_tier(document)
        findings += self._judge_entitlements(document)
        return Outcome.of(findings, "; ".join(said))

    def _document(self, answer: HttpResponse) -> Any:
        start = answer.body[:64].lstrip().lower()
        if answer.content_type == "text/html" or start.startswith((b"<!doctype", b"<html")):
            detail = f"{shown_url(answer.url)} gave HTML: this may be the dashboard's port, not the API's"
            raise ProbeFault(self.Reason.HTML_INSTEAD_OF_JSON, detail)
        document = answer.json()
        if not isinstance(document, dict):
            raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"not a JSON object: {quoted(answer.body)}")
        return document

    def _refused(self, answer: HttpResponse) -> Outcome:
        """``{"error":"quota_exceeded","resource":"tenants","limit":10,"current":10}``: Alexandria's API, tenants."""
        try:
            said = json.loads(answer.body)
            resource, numbers = said["resource"], f"{said.get('current')} of {said.get('limit')}"
        except (ValueError, TypeError, KeyError, AttributeError):
            return Outcome.bad(CommonReason.UNEXPECTED_STATUS, f"HTTP 402: {quoted(answer.body)}")
        reason = {"seats": self.Reason.SEATS_EXHAUSTED, "tenants": self.Reason.TENANTS_EXHAUSTED}.get(resource)
        if reason is None:
            return Outcome.bad(CommonReason.UNEXPECTED_STATUS, f"HTTP 402 for {quoted(str(resource))}: {numbers}")
        return Outcome.bad(reason, f"HTTP 402: {numbers} {resource}", resource)

    def _quota(self, document: Any, resource: str) -> Quota:
        fields = self.settings.fields
        used = find(getattr(fields, f"{resource}_used"), document)
        limit = find(path := getattr(fields, f"{resource}_limit"), document)
        if not _is_count(used) or used < 0:
            what = f"{getattr(fields, f'{resource}_used')} is {quoted(json.dumps(used))}, not a count"
            raise ProbeFault(CommonReason.UNEXPECTED_BODY, what)
        if _is_count(limit) and limit > 0:
            return Quota(int(used), int(limit))
        self._check_unlimited(path, limit)
        return Quota(int(used), None)

    def _check_unlimited(self, path: str, value: Any, stands_for: Unlimited | None = None) -> None:
        """Returns when the value, or what it stands for, is known to mean that there is no limit."""
        shown = json.dumps(value)
        meant = stands_for or shown
        if meant in (self.settings.unlimited or ()):
            return
        if self.settings.unlimited is None and meant in get_args(Unlimited):
            detail = f"{path} is {shown}: set `unlimited` to say which values mean that there is no limit"
            raise ProbeFault(CommonReason.CONTRACT_MISSING, detail)
        raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"{path} is {quoted(shown)}, which is no limit")

    def _expiry(self, document: Any, now: float) -> float | None:
        """The end in Unix seconds, also when only the days until then are told; None when there is none."""
        path = self.settings.fields.expires_at
        if not path:
            return None
        value = find(path, document)
        if value is None:
            days = self._days(document)
            if days is not None:
                return now + days * DAY
            self._check_unlimited(path, value)
            return None
        try:
            end = unix_time(value)
        except ProbeFault:
            raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"{path} is {quoted(str(value))}, not a time") from None
        if end is None or end not in _NO_TIMES:
            return end
        self._check_unlimited(path, value, _NO_TIMES[end])
        return None

    def _days(self, document: Any) -> float | None:
        """The days that are left; None when they are not told. Where ``null`` is known to mean that there is no end,
        0 and -1 are what a platform writes beside it."""
        path = self.settings.fields.days_remaining
        days = find(path, document) if path else None
        if not isinstance(days, int | float) or isinstance(days, bool) or not math.isfinite(days):
            return None
        return None if days in (0, -1) and "null" in (self.settings.unlimited or ()) else days

    def _judge_quota(self, resource: str, quota: Quota, room: str) -> Iterator[Finding]:
        if quota.limit is None:
            return
        reason, percent = self.Reason, getattr(self.settings.limits, f"{resource}_percent")
        if quota.used >= quota.limit:
            yield Finding.of(reason(f"{resource}_exhausted"), room, resource)
        elif quota.used * 100 >= quota.limit * percent:
            yield Finding.of(reason(f"{resource}_low"), room, resource)

    def _judge_expiry(self, document: Any, days: float) -> Iterator[Finding]:
        reason, limits = self.Reason, self.settings.limits
        if days <= 0:
            grace = find(self.settings.fields.grace_seconds, document) if self.settings.fields.grace_seconds else None
            if _is_count(grace) and grace > 0:
                left = f"ended {-days:.1f} days ago; {grace / DAY:.1f} days of grace are left"
                yield Finding.of(reason.IN_GRACE, left, "expiry")
            else:
                left = "no grace is left" if _is_count(grace) else "whether grace is left is not told here"
                yield Finding.of(reason.EXPIRED, f"ended {-days:.1f} days ago; {left}", "expiry")
        elif days <= limits.urgent_days:
            yield Finding.of(reason.EXPIRING_SOON, f"{days:.1f} days left", "expiry")
        elif days <= limits.days:
            yield Finding.of(reason.EXPIRING, f"{days:.1f} days left", "expiry")

    def _judge_tier(self, document: Any) -> Iterator[Finding]:
        wanted, path = self.settings.tier, self.settings.fields.tier
        if not wanted:
            return
        held = find(path, document)
        if not isinstance(held, str):
            raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"{path} is {quoted(json.dumps(held))}, not a tier")
        if held != wanted:
            yield Finding.of(self.Reason.TIER_DIFFERS, f"it is {quoted(held)}, not {wanted}", "tier")

    def _judge_entitlements(self, document: Any) -> Iterator[Finding]:
        wanted, path = self.settings.entitlements, self.settings.fields.entitlements
        if not wanted:
            return
        held = find(path, document)
        if not isinstance(held, list):
            raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"{path} is {quoted(json.dumps(held))}, not a list")
        for name in wanted:
            if name not in held:
                yield Finding.of(self.Reason.ENTITLEMENT_MISSING, f"{name} is not among {quoted(str(held), 200)}", name)

    def _measure(self, ctx: ProbeContext, resource: str, quota: Quota, full_at: float | None) -> None:
        ctx.measure(_USED, quota.used, resource=resource)
        if quota.limit is not None:
            ctx.measure(_LIMIT, quota.limit, resource=resource)
        if full_at is not None:
            ctx.measure(_FULL, full_at, resource=resource)


class Quota(NamedTuple):
    """``limit`` is None when there is none."""

    used: int
    limit: int | None


def _is_count(value: Any) -> TypeGuard[float]:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return math.isfinite(value) and value == int(value)


def _room(quota: Quota, full_at: float | None) -> str:
    if quota.limit is None:
        return f"{quota.used} used, without limit"
    full = f", full by {_date(full_at)} at the present pace" if full_at is not None else ""
    return f"{quota.used} of {quota.limit} used, {max(0, quota.limit - quota.used)} left{full}"


def _trend(memory: MutableMapping[str, Any], resource: str, quota: Quota, now: float) -> float | None:
    """When the straight line through the days' highest use reaches the limit (Unix seconds); None when it does not,
    is past, or fewer than `TREND_DAYS` are known. ``memory["days"]``: by resource ``[day since 1970, used]``."""
    today = int(now // DAY)
    days: list[list[int]] = [
        entry for entry in memory.get("days", {}).get(resource, []) if entry[0] > today - KEPT_DAYS
    ]
    if days and days[-1][0] == today:
        days = [*days[:-1], [today, max(days[-1][1], quota.used)]]
    else:
        days = [*days, [today, quota.used]]
    memory["days"] = {**memory.get("days", {}), resource: days}
    if quota.limit is None or quota.used >= quota.limit or days[-1][0] - days[0][0] < TREND_DAYS:
        return None
    middle = sum(day for day, _ in days) / len(days)
    mean = sum(used for _, used in days) / len(days)
    slope = sum((day - middle) * (used - mean) for day, used in days) / sum((day - middle) ** 2 for day, _ in days)
    if slope <= 0:
        return None
    left = (quota.limit - quota.used) / slope
    return now + left * DAY if left < 3650 else None


def _date(at: float) -> str:
    return datetime.fromtimestamp(min(at, _LAST_DAY), UTC).date().isoformat()

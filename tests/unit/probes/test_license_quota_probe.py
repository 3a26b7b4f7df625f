"""`license_quota`: what each document of a licence means."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.probing import Probed, RealClock, probe_once
from tests.unit.probes.lying_servers import answering, serving
from tocsin_probes.license_quota import LicenseQuota


def ends(days: float) -> str:
    return (datetime.now(UTC) + timedelta(days=days, minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ")


def licence(**instead: Any) -> dict[str, Any]:
    """As ``GET /license`` and ``GET /admin/license`` document it."""
    document = {
        "tier": "enterprise",
        "expires_at": ends(200),
        "current_seats": 40,
        "max_seats": 100,
        "current_tenants": 3,
        "max_tenants": 10,
        "days_remaining": 200,
        "grace_remaining_seconds": 0,
        "entitlements": ["multi_tenant", "oidc", "audit_export"],
    }
    document.update(instead)
    return {name: value for name, value in document.items() if value is not ...}


async def ask(answer: Any, *, memory: dict[str, Any] | None = None, days_later: float = 0, **settings: Any) -> Probed:
    async with serving(answer) as port:
        given = {"url": f"http://127.0.0.1:{port}/license", **settings}
        probe = LicenseQuota(LicenseQuota.Settings.model_validate(given))
        return await probe_once(probe, memory=memory, clock=RealClock(days_later * 86_400))


async def judge(document: object, **settings: Any) -> Probed:
    return await ask(answering(json.dumps(document)), **settings)


async def test_a_licence_with_room_and_time_is_ok_and_measured() -> None:
    probed = await judge(licence(), entitlements="audit_export, oidc")
    assert probed.verdict == ("ok", None)
    assert probed.detail.startswith("seats: 40 of 100 used, 60 left; tenants: 3 of 10 used, 7 left; ends 20")
    for resource, used, limit in (("seats", 40, 100), ("tenants", 3, 10)):
        assert probed.measured("tocsin_license_used", resource=resource) == used
        assert probed.measured("tocsin_license_limit", resource=resource) == limit
    assert probed.measured("tocsin_license_expiry_timestamp_seconds") > datetime.now(UTC).timestamp()


@pytest.mark.parametrize(
    ("instead", "status", "reason", "severity"),
    [
        ({"current_seats": 100}, "failed", "seats_exhausted", "page"),
        ({"current_seats": 120}, "failed", "seats_exhausted", "page"),
        ({"current_seats": 90}, "failed", "seats_low", "ticket"),
        ({"current_seats": 89}, "ok", None, None),
        ({"current_tenants": 10}, "failed", "tenants_exhausted", "page"),
        ({"current_tenants": 9}, "failed", "tenants_low", "ticket"),
        ({"expires_at": ends(-1)}, "failed", "expired", "page"),
        ({"expires_at": ends(-1), "grace_remaining_seconds": 86_400}, "failed", "in_grace", "page"),
        ({"expires_at": ends(-1), "grace_remaining_seconds": ...}, "failed", "expired", "page"),
        ({"expires_at": ends(6.9)}, "failed", "expiring_soon", "page"),
        ({"expires_at": ends(7.1)}, "failed", "expiring", "ticket"),
        ({"expires_at": ends(29.9)}, "failed", "expiring", "ticket"),
        ({"expires_at": ends(30.1)}, "ok", None, None),
        ({"entitlements": ["oidc"]}, "failed", "entitlement_missing", "page"),
        ({"entitlements": ...}, "failed", "unexpected_body", "page"),
        ({"current_seats": ...}, "failed", "unexpected_body", "page"),
        ({"current_seats": "40"}, "failed", "unexpected_body", "page"),
        ({"current_seats": -1}, "failed", "unexpected_body", "page"),
        ({"current_seats": True}, "failed", "unexpected_body", "page"),
        ({"max_seats": -2}, "failed", "unexpected_body", "page"),
        ({"expires_at": "soon"}, "failed", "unexpected_body", "page"),
    ],
)
async def test_each_state_of_a_licence_has_its_reason(
    instead: dict[str, Any], status: str, reason: str | None, severity: str | None
) -> None:
    probed = await judge(licence(**instead), entitlements=["audit_export"])
    assert probed.verdict == (status, reason), probed.detail
    assert probed.outcome.severity == severity


async def test_seats_and_tenants_are_told_side_by_side_the_worse_first() -> None:
    probed = await judge(licence(current_seats=95, current_tenants=10))
    found = [(finding.reason, finding.component) for finding in probed.outcome.findings]
    assert found == [("tenants_exhausted", "tenants"), ("seats_low", "seats")]


@pytest.mark.parametrize("value", [None, 0, -1, ...])
async def test_a_limit_that_may_mean_none_is_not_guessed(value: Any) -> None:
    probed = await judge(licence(max_seats=value))
    assert probed.verdict == ("unknown", "contract_missing")
    assert "set `unlimited` to say" in probed.detail
    text = json.dumps(None if value is ... else value)
    probed = await judge(licence(max_seats=value), unlimited=[text])
    assert probed.verdict == ("ok", None)
    assert probed.detail.startswith("seats: 40 used, without limit; ")
    other = "-1" if text != "-1" else "0"
    assert (await judge(licence(max_seats=value), unlimited=[other])).verdict == ("failed", "unexpected_body")


async def test_a_licence_without_an_end_is_not_guessed_either() -> None:
    endless = licence(expires_at=None, days_remaining=...)
    assert (await judge(endless)).verdict == ("unknown", "contract_missing")
    assert (await judge(endless, unlimited=["null"])).verdict == ("ok", None)


@pytest.mark.parametrize(
    ("value", "listed"),
    [
        (0, "0"),
        (0.0, "0"),
        ("0", "0"),
        ("1970-01-01T00:00:00Z", "0"),
        (-1, "-1"),
        ("0001-01-01T00:00:00Z", "null"),
        (-62_135_596_800, "null"),
    ],
)
async def test_an_end_that_may_mean_none_is_not_guessed_and_not_a_time(value: Any, listed: str) -> None:
    endless = licence(expires_at=value, days_remaining=-739_949)
    probed = await judge(endless)
    assert probed.verdict == ("unknown", "contract_missing")
    assert "set `unlimited` to say" in probed.detail
    assert (await judge(endless, unlimited=[listed])).verdict == ("ok", None)
    other = "-1" if listed != "-1" else "0"
    assert (await judge(endless, unlimited=[other])).verdict == ("failed", "unexpected_body")


@pytest.mark.parametrize(
    ("days", "reason"), [(0, None), (-1, None), (..., None), (6, "expiring_soon"), (-3, "expired")]
)
async def test_days_of_no_end_are_none_where_null_means_that_there_is_none(days: Any, reason: str | None) -> None:
    probed = await judge(licence(expires_at=None, days_remaining=days), unlimited=["null"])
    assert probed.outcome.reason == reason


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-inf", True])
async def test_an_end_that_is_no_number_is_no_time(value: Any) -> None:
    assert (await judge(licence(expires_at=value))).verdict == ("failed", "unexpected_body")


@pytest.mark.parametrize("days", [9_999_999, 1e300])
async def test_an_end_beyond_the_calendar_is_far_away(days: float) -> None:
    probed = await judge(licence(expires_at=None, days_remaining=days))
    assert probed.verdict == ("ok", None), probed.detail
    assert probed.detail.endswith("ends 9999-12-31")


async def test_a_402_tells_which_quota_it_is() -> None:
    def body(resource: str) -> str:
        return json.dumps({"error": "quota_exceeded", "resource": resource, "limit": 10, "current": 10})

    for resource in ("tenants", "seats"):
        probed = await ask(answering(body(resource), status="402 Payment Required"))
        assert probed.verdict == ("failed", f"{resource}_exhausted")
        assert probed.detail == f"HTTP 402: 10 of 10 {resource}"
    for other in (body("moons"), "[]", "nothing"):
        assert (await ask(answering(other, status="402"))).verdict == ("failed", "unexpected_status")


async def test_a_page_of_the_dashboard_is_told_from_the_api() -> None:
    page = "<!doctype html><title>Alexandria</title>"
    probed = await ask(answering(page, content_type="text/html"))
    assert probed.verdict == ("failed", "html_instead_of_json")
    assert "the dashboard's port" in probed.detail
    assert (await ask(answering("[]"))).verdict == ("failed", "unexpected_body")


async def test_an_account_that_is_refused_is_our_own_trouble() -> None:
    for status in ("401", "403"):
        assert (await ask(answering("", status=status))).verdict == ("unknown", "credentials_rejected")


async def test_the_trend_of_weeks_gives_the_date_at_which_it_is_full() -> None:
    memory: dict[str, Any] = {}
    for day in range(15):
        probed = await judge(licence(current_seats=40 + 2 * day), memory=memory, days_later=day)
        assert ("at the present pace" in probed.detail) == (day >= 7)
    # 68 seats on day 14, two more each day: sixteen days to a hundred.
    at = probed.measured("tocsin_license_full_timestamp_seconds", resource="seats")
    assert at - datetime.now(UTC).timestamp() == pytest.approx((14 + 16) * 86_400, abs=600)
    assert f"full by {datetime.fromtimestamp(at, UTC).date()}" in probed.detail
    assert not [each for each in probed.measurements if each.labels == ("tenants",) and "full" in each.gauge.name]
    assert len(json.dumps(memory)) < 1000


async def test_a_document_of_another_shape_is_read_by_its_fields() -> None:
    document = {"usage": {"users": 5}, "caps": {"users": 5}, "until": 4_102_444_800}
    fields = {"seats_used": "usage.users", "seats_limit": "caps.users", "expires_at": "until"}
    probed = await judge(document, fields=fields, resources=["seats"])
    assert probed.verdict == ("failed", "seats_exhausted")
    assert probed.measured("tocsin_license_expiry_timestamp_seconds") == 4_102_444_800


@pytest.mark.parametrize(
    ("grace", "said"),
    [(0, "; no grace is left"), (..., "; whether grace is left is not told here"), (None, "; whether")],
)
async def test_an_ended_licence_says_what_is_known_of_its_grace(grace: Any, said: str) -> None:
    probed = await judge(licence(expires_at=ends(-1), grace_remaining_seconds=grace))
    assert probed.verdict == ("failed", "expired")
    assert said in probed.detail


async def test_the_days_that_are_left_stand_in_for_an_end_that_is_not_told() -> None:
    probed = await judge(licence(expires_at=..., days_remaining=6))
    assert probed.verdict == ("failed", "expiring_soon")
    assert probed.measured("tocsin_license_expiry_timestamp_seconds") > datetime.now(UTC).timestamp() + 5.9 * 86_400
    assert (await judge(licence(expires_at=..., days_remaining=0))).verdict == ("failed", "expired")


async def test_a_licence_of_another_tier_than_the_one_that_was_bought_is_told() -> None:
    assert (await judge(licence(), tier="enterprise")).verdict == ("ok", None)
    probed = await judge(licence(tier="starter"), tier="enterprise")
    assert (probed.verdict, probed.detail) == (("failed", "tier_differs"), "it is 'starter', not enterprise")
    assert (await judge(licence(tier=None), tier="enterprise")).verdict == ("failed", "unexpected_body")

"""A real Alertmanager with the printed rules: what waits for what."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest

from estate.servers.alertmanager import Alertmanager
from tests.contract.test_rules_inhibitions import pasted

pytestmark = pytest.mark.estate

SCOPE = {"cluster": "c", "environment": "e"}


def config() -> str:
    """The reference routing with Wipe's rules, every group looked at quickly."""
    text = pasted(["wipe"])
    return re.sub(r"group_wait: \w+", "group_wait: 300ms", text)


def alert(name: str, probe: str, severity: str, **labels: str) -> dict[str, dict[str, str]]:
    return {"labels": {"alertname": name, "probe": probe, "severity": severity, "system": "wipe", **SCOPE, **labels}}


@pytest.mark.parametrize(
    ("cause", "effect", "waits"),
    [
        pytest.param(("page", {}), ("page", {}), True, id="a-page-holds-back-the-page-of-its-effect"),
        pytest.param(("page", {}), ("ticket", {}), True, id="a-page-holds-back-the-ticket-of-its-effect"),
        pytest.param(("ticket", {}), ("ticket", {}), True, id="a-ticket-holds-back-a-ticket"),
        pytest.param(("ticket", {}), ("page", {}), False, id="a-ticket-never-holds-back-a-page"),
        pytest.param(("page", {}), ("page", {"cluster": "other"}), False, id="another-cluster-is-another-matter"),
        pytest.param(("page", {}), ("page", {"environment": "other"}), False, id="so-is-another-environment"),
        pytest.param(("page", {"drill": "true"}), ("page", {}), False, id="a-drill-holds-back-nothing-real"),
        pytest.param(("page", {"drill": "true"}), ("page", {"drill": "true"}), True, id="a-drill-holds-back-a-drill"),
    ],
)
def test_what_waits_for_what(
    alertmanager_factory: Callable[..., Alertmanager],
    cause: tuple[str, dict[str, str]],
    effect: tuple[str, dict[str, str]],
    waits: bool,
) -> None:
    running = alertmanager_factory(config())
    running.post_alerts(
        [
            alert("TocsinWipeKeycloakDatabase", "wipe-keycloak-db", cause[0], incident="keycloak-outage", **cause[1]),
            alert("TocsinWipeLogin", "wipe-realm-exawipe", effect[0], incident="login", **effect[1]),
            # As bad as the cause and in its place: held back as soon as the cause is known.
            alert("TocsinWipeRealm", "wipe-realm-master", cause[0], incident="keycloak-outage", **cause[1]),
        ]
    )
    assert state(running, "TocsinWipeRealm", "suppressed") == "suppressed"
    assert state(running, "TocsinWipeLogin", "suppressed" if waits else "") == ("suppressed" if waits else "active")
    assert state(running, "TocsinWipeKeycloakDatabase") == "active"


@pytest.mark.parametrize(
    ("scope", "waits"),
    [
        pytest.param({}, True, id="while-an-incident-pages-its-tickets-wait"),
        pytest.param({"drill": "true"}, False, id="a-drilled-page-holds-back-no-real-ticket"),
        pytest.param({"cluster": "other"}, False, id="a-page-elsewhere-holds-back-nothing"),
        pytest.param({"incident": "other"}, False, id="another-incident-is-another-matter"),
    ],
)
def test_what_the_reference_itself_lets_wait(
    alertmanager_factory: Callable[..., Alertmanager], scope: dict[str, str], waits: bool
) -> None:
    """Of probes that do not depend on each other."""
    running = alertmanager_factory(config())
    running.post_alerts(
        [
            alert("TocsinWipeMail", "wipe-mail", "page", **{"incident": "queues-and-workers", **scope}),
            alert("TocsinWipeQueue", "wipe-queues", "ticket", incident="queues-and-workers"),
        ]
    )
    assert state(running, "TocsinWipeMail") == "active"
    assert state(running, "TocsinWipeQueue", "suppressed" if waits else "") == ("suppressed" if waits else "active")


def test_a_probe_that_cannot_tell_or_is_overdue_explains_nothing(
    alertmanager_factory: Callable[..., Alertmanager],
) -> None:
    running = alertmanager_factory(config())
    running.post_alerts(
        [
            alert("TocsinProbeStale", "wipe-keycloak-db", "page", incident="tocsin-itself"),
            alert("TocsinProbeUnknown", "wipe-keycloak-db", "ticket", incident="keycloak-outage"),
            alert("TocsinWipeLogin", "wipe-realm-exawipe", "page", incident="login"),
            alert("TocsinProbeStale", "wipe-realm-exawipe", "page", incident="tocsin-itself"),
        ]
    )
    assert state(running, "TocsinWipeLogin") == "active"
    assert state(running, "TocsinProbeStale") == "active"


def state(running: Alertmanager, name: str, awaited: str = "") -> str:
    """The state of an alert, which is unprocessed until its group was looked at; ``awaited``: the one it comes to, at
    the latest after 20 s."""
    deadline = time.monotonic() + 20
    found = "unprocessed"
    while time.monotonic() < deadline:
        states = {a["status"]["state"] for a in running.alerts() if a["labels"]["alertname"] == name}
        if states and "unprocessed" not in states:
            assert len(states) == 1
            found = str(states.pop())
            if found == awaited or not awaited:
                break
        time.sleep(0.05)
    return found

"""The engine's metric families (stable names), and the catalogue of everything that can be exported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tocsin.exposing.exposition import LABEL_NAME, METRIC_NAME, Family
from tocsin.sdk import Probe

_WHO = ("probe", "system", "incident", "kind")

ALERTING = Family(
    "tocsin_probe_alerting",
    "gauge",
    "1 from a confirmed failure until a confirmed ok; 0 otherwise and while an effect waits for its cause. "
    "The severity is the worst since it began.",
    (*_WHO, "severity"),
)
STATUS = Family(
    "tocsin_probe_status",
    "gauge",
    "1 for the confirmed status of the probe (ok, failed or unknown), 0 for the other two.",
    (*_WHO, "status"),
)
REASON = Family(
    "tocsin_probe_reason",
    "gauge",
    "1 for the reason of the worst finding; absent when the probe is ok.",
    (*_WHO, "reason", "severity"),
)
FINDING = Family(
    "tocsin_probe_finding",
    "gauge",
    "1 for each current finding; the component is the part of the target that it is about.",
    ("probe", "reason", "component"),
)
CAUSED_BY = Family(
    "tocsin_probe_caused_by",
    "gauge",
    "1 while a failing dependency explains the failure of the probe.",
    ("probe", "cause"),
)
DEPENDS_ON = Family(
    "tocsin_probe_depends_on_info",
    "gauge",
    "1 for each probe that may explain a failure of this one, as its configuration names them.",
    ("probe", "cause"),
)
LAST_RUN = Family(
    "tocsin_probe_last_run_timestamp_seconds", "gauge", "Start of the latest run, in Unix time.", ("probe",)
)
LAST_OK = Family(
    "tocsin_probe_last_ok_timestamp_seconds", "gauge", "Start of the latest run that was ok, in Unix time.", ("probe",)
)
SINCE = Family(
    "tocsin_probe_status_since_timestamp_seconds",
    "gauge",
    "Since when the probe has its confirmed status, in Unix time.",
    ("probe",),
)
DURATION = Family("tocsin_probe_duration_seconds", "gauge", "How long the latest run took.", ("probe",))
TIMEOUT = Family("tocsin_probe_timeout_seconds", "gauge", "How long a run may take, as configured.", ("probe",))
INTERVAL = Family("tocsin_probe_interval_seconds", "gauge", "Time between two due runs, as configured.", ("probe",))
RUNS = Family(
    "tocsin_probe_runs_total", "counter", "Finished runs since the daemon started, by outcome.", ("probe", "outcome")
)
SKIPPED = Family(
    "tocsin_probe_skipped_total", "counter", "Due runs that did not take place, by cause.", ("probe", "cause")
)
MISSING_CONTRACT = Family(
    "tocsin_config_missing_contract_info",
    "gauge",
    "1 for each variable that a probe of a bundled profile needs and that is not set or cannot be read.",
    ("probe", "variable"),
)

PROBE_FAMILIES = (
    ALERTING,
    STATUS,
    REASON,
    FINDING,
    CAUSED_BY,
    DEPENDS_ON,
    LAST_RUN,
    LAST_OK,
    SINCE,
    DURATION,
    TIMEOUT,
    INTERVAL,
    RUNS,
    SKIPPED,
    MISSING_CONTRACT,
)

BUILD = Family(
    "tocsin_build_info", "gauge", "1; the version that runs, and where it stands.", ("version", "python", "vantage")
)
RELOAD_OK = Family(
    "tocsin_config_last_reload_successful", "gauge", "1 when the last reload of the configuration was taken, 0 if not."
)
CONFIG_HASH = Family("tocsin_config_hash_info", "gauge", "1; the digest of the running configuration.", ("hash",))
HEARTBEAT = Family(
    "tocsin_scheduler_heartbeat_timestamp_seconds", "gauge", "Latest sign of life of the scheduler, in Unix time."
)
LAG = Family(
    "tocsin_scheduler_lag_seconds",
    "histogram",
    "How late runs started after they were due, or were found too late to start.",
    (),
)
LOOP_LAG = Family(
    "tocsin_event_loop_lag_seconds_total", "counter", "Time by which the probing loop was late, added up."
)
WRITES_FAILED = Family(
    "tocsin_state_writes_failed_total", "counter", "Times that the state file could not be written or read."
)
STATE_DEGRADED = Family(
    "tocsin_state_degraded", "gauge", "1 while state is kept in memory only, so that a restart would forget it."
)
STATE_REPLACED = Family(
    "tocsin_state_replaced",
    "gauge",
    "1 when this process does not know what was remembered: its state file was unusable, and is kept beside the new "
    "one, or could not be opened at the start.",
)
WEB_CONFIG_OK = Family(
    "tocsin_web_config_last_reload_successful",
    "gauge",
    "1 when the web configuration and its certificates could be read at their last change, 0 if not.",
)
WEB_CERTIFICATE_EXPIRY = Family(
    "tocsin_web_certificate_expiry_timestamp_seconds",
    "gauge",
    "End of validity of the certificate that this server shows, in Unix time; absent without TLS.",
)

SELF_FAMILIES = (
    BUILD,
    RELOAD_OK,
    CONFIG_HASH,
    HEARTBEAT,
    LAG,
    LOOP_LAG,
    WRITES_FAILED,
    STATE_DEGRADED,
    STATE_REPLACED,
    WEB_CONFIG_OK,
    WEB_CERTIFICATE_EXPIRY,
)

_SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("", "_bucket", "_count", "_sum")}
RESERVED = frozenset(
    base + suffix
    for family in (*PROBE_FAMILIES, *SELF_FAMILIES)
    for base in (family.name, family.name.removesuffix("_total"))
    for suffix in _SUFFIXES[family.type]
)
"""Names that no gauge of a kind may take."""


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One family and the kinds that measure it; no kinds for the engine's own."""

    family: Family
    kinds: tuple[str, ...] = ()


def catalogue(kinds: Mapping[str, type[Probe]]) -> tuple[CatalogueEntry, ...]:
    """Every family that can be exported: the engine's in their order, then the gauges of ``kinds`` by name.

    Raises `ValueError` for a gauge that takes a name of the engine's or no valid one, and for two kinds that use one
    name with other labels or another meaning.
    """
    gauges: dict[str, tuple[Family, list[str]]] = {}
    for kind, probe in sorted(kinds.items()):
        for gauge in probe.gauges:
            family = Family(gauge.name, "gauge", gauge.help, ("probe", *gauge.labels))
            if complaint := invalid(family.name, family.labels):
                raise ValueError(f"kind {kind}: {complaint}")
            known, users = gauges.setdefault(gauge.name, (family, []))
            if known != family:
                raise ValueError(
                    f"kind {kind}: {gauge.name} has another help or other labels in kind {users[0]}; "
                    "one name means one thing"
                )
            users.append(kind)
    own = tuple(CatalogueEntry(family) for family in (*PROBE_FAMILIES, *SELF_FAMILIES))
    return own + tuple(CatalogueEntry(family, tuple(users)) for _, (family, users) in sorted(gauges.items()))


def invalid(name: str, labels: Iterable[str]) -> str | None:
    """Why a gauge cannot be exported under this name with these labels; None when it can."""
    if not METRIC_NAME.fullmatch(name):
        return f"{name!r} is no metric name"
    if name in RESERVED:
        return f"{name} is one of the engine's own metrics"
    names = list(labels)
    if len(set(names)) != len(names):
        return f"{name} has a label twice (probe is given to every gauge)"
    if wrong := [label for label in names if not LABEL_NAME.fullmatch(label)]:
        return f"{name}: {wrong[0]!r} is no label name"
    return None

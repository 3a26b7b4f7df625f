"""A board with one probe in each situation, for the tests of what is shown (and for looking at the pages)."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace

from tocsin.board import Evidence, RunRecord
from tocsin.exposing import Health, Histogram, ReloadResult, SelfFacts, Site
from tocsin.model import (
    Attachment,
    Counts,
    Entry,
    Finding,
    Gauge,
    Measurement,
    MissingContract,
    Outcome,
    ProbeSpec,
    ProbeState,
    Run,
    Severity,
    Status,
    Transition,
)

NOW = 1_795_478_400.0
JOBS = Gauge("tocsin_queue_jobs", "Jobs waiting.", ("queue", "status"))
EXPIRY = Gauge("tocsin_certificate_expiry_timestamp_seconds", "End of validity of the certificate.")


def spec(name: str, kind: str = "http", incident: str = "keycloak-outage", **changes: object) -> ProbeSpec:
    return replace(ProbeSpec(name, kind, "wipe", incident, settings=None), **changes)


def found(reason: str, detail: str, status: Status = Status.FAILED, **more: object) -> Finding:
    return replace(Finding(reason, status, Severity.PAGE, "", detail), **more)


def bad(findings: tuple[Finding, ...], since: float, **changes: object) -> ProbeState:
    state = ProbeState(
        status=findings[0].status,
        since=NOW - since,
        findings=findings,
        detail=findings[0].detail,
        failed_streak=7,
        alerting=True,
        alerting_since=NOW - since,
        severity=Severity.PAGE,
        last_run_at=NOW - 12,
        last_ok_at=NOW - since - 30,
        last_status=findings[0].status,
    )
    return replace(state, **changes)


def good(since: float = 86400.0 * 3 + 4000, detail: str = "", ran: float = 8.0) -> ProbeState:
    return ProbeState(
        Status.OK,
        NOW - since,
        (),
        detail,
        ok_streak=900,
        last_run_at=NOW - ran,
        last_ok_at=NOW - ran,
        last_status=Status.OK,
    )


def entry(
    probe: ProbeSpec, state: ProbeState, took: float = 0.084, measured: tuple[Measurement, ...] = (), **counts: int
) -> Entry:
    run = Run(
        probe.name,
        Outcome(state.findings, state.detail),
        state.last_run_at or NOW,
        took,
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "tocsin-7f3a91",
        measured,
    )
    return Entry(probe, state, run, Counts({state.status: 7, Status.OK: 900}, dict(counts)))


def entries() -> dict[str, Entry]:
    issuer = found(
        "issuer_mismatch",
        "the metadata names https://login.example/realms/exawipe, configured is https://auth.example/realms/exawipe",
    )
    stalled = found(
        "stalled", "the oldest job in proofs.validated waits for 41 min, limit 15 min", component="proofs.validated"
    )
    backlog = found("backlog", "1,204 jobs wait in proofs.retry, limit 500", component="proofs.retry")
    letters = found("dead_letters", "3 dead letters", component="reports.generate", severity=Severity.TICKET)
    expired = found(
        "credentials_rejected",
        "HTTP 403 from http://127.0.0.1:9000: InvalidAccessKeyId",
        Status.UNKNOWN,
        severity=Severity.TICKET,
    )
    missing = found(
        "contract_missing", "TOCSIN_WIPE_SIGNER_CONTRACT is not set", Status.UNKNOWN, severity=Severity.TICKET
    )
    expiring = found("certificate_expiring", "the certificate ends in 9 days", severity=Severity.TICKET)
    timeout = found("timeout", "no complete answer within the timeout")
    listed = [
        entry(spec("wipe-keycloak-db", "postgres"), good(detail="writable, 14 of 200 connections")),
        entry(spec("wipe-keycloak-health", timeout=5.0), good(), took=0.031),
        entry(
            spec("wipe-realm-exawipe", "oidc_realm", depends_on=("wipe-keycloak-db", "wipe-keycloak-health")),
            bad((issuer,), 754.0),
            took=0.212,
        ),
        entry(
            spec("wipe-realm-master", "oidc_realm", depends_on=("wipe-keycloak-db", "wipe-keycloak-health")),
            good(detail="3 signing keys"),
            took=0.187,
        ),
        entry(
            spec("wipe-queues", "job_queue", "queues-and-workers", depends_on=("wipe-db",)),
            bad((stalled, backlog, letters), 2520.0),
            took=0.044,
            measured=(
                Measurement(JOBS, 1204.0, ("proofs.retry", "waiting")),
                Measurement(JOBS, 88.0, ("proofs.validated", "waiting")),
                Measurement(JOBS, 0.0, ('odd "name"\\\n', "waiting")),
            ),
        ),
        entry(
            spec("wipe-unanchored-certificates", "sql_rows", "chain-or-anchor-outage", severity=Severity.TICKET),
            bad(
                (found("too_many", "52 certificates without an anchor, limit 20", severity=Severity.TICKET),),
                9000.0,
                severity=Severity.TICKET,
            ),
        ),
        entry(
            spec("wipe-db", "postgres", "database-outage"),
            replace(good(), last_status=Status.FAILED, ok_streak=0, failed_streak=1),
        ),
        entry(
            spec("wipe-bucket-proofs", "s3_bucket", "storage-outage"),
            bad((timeout,), 300.0, alerting=False, alerting_since=None, severity=None, caused_by="wipe-db"),
            took=4.9,
        ),
        entry(
            spec("wipe-bucket-drop", "s3_bucket", "storage-outage"),
            bad((expired,), 5400.0, status=Status.UNKNOWN, alerting=False, alerting_since=None, severity=None),
            overlap=4,
        ),
        entry(spec("wipe-bucket-reports", "s3_bucket", "storage-outage"), good(), took=0.4),
        entry(
            spec("wipe-bucket-certificates", "s3_bucket", "storage-outage"),
            bad((expired,), 7000.0, status=Status.UNKNOWN),
        ),
        Entry(spec("wipe-signer-decrypt", "signer", "signer-outage", every=300.0)),
        entry(
            spec(
                "wipe-signer",
                "signer",
                "signer-outage",
                missing=(MissingContract("TOCSIN_WIPE_SIGNER_CONTRACT", "operations"),),
            ),
            bad((missing,), 86400.0, alerting=False, alerting_since=None, severity=None),
        ),
        entry(
            replace(spec("alexandria-api", incident="api-down"), system="alexandria"),
            bad((expiring,), 4000.0, severity=Severity.TICKET),
            measured=(Measurement(EXPIRY, NOW + 777600.0),),
        ),
        entry(
            replace(spec("alexandria-orchestrator", "grpc_socket", "orchestrator-down"), system="alexandria"), good()
        ),
    ]
    return {one.spec.name: one for one in listed}


class History:
    """Thirty runs, the last of which look like the probe's state."""

    def __init__(self, shown: Mapping[str, Entry]) -> None:
        self._shown = shown

    def recent(self, probe: str) -> tuple[RunRecord, ...]:
        entry = self._shown.get(probe)
        if entry is None or entry.run is None:
            return ()
        bad_from = 30 if entry.state.status is Status.OK else 18
        return tuple(
            RunRecord(
                probe,
                NOW - 30.0 * (30 - number),
                entry.run.duration_seconds * (0.7 + (number * 7 % 5) / 10),
                entry.state.status if number >= bad_from else Status.OK,
                entry.state.reason if number >= bad_from else None,
                None,
                entry.state.detail if number >= bad_from else "",
                f"4bf92f3577b34da6a3ce929d0e0e{number:04x}",
                f"tocsin-{number:06x}",
            )
            for number in range(30)
        )

    def runs(self, probe: str, limit: int) -> list[RunRecord]:
        return list(reversed(self.recent(probe)))[:limit]

    def transitions(self, probe: str, limit: int) -> list[Transition]:
        state = self._shown[probe].state
        if state.since is None:
            return []
        return [
            Transition(
                probe, state.since, Status.OK, state.status, state.reason, state.alerting, state.detail, state.caused_by
            ),
            Transition(probe, state.since - 86000.0, Status.UNKNOWN, Status.OK, None, False),
        ]

    def evidence(self, probe: str) -> Evidence | None:
        if self._shown[probe].state.status is not Status.FAILED:
            return None
        attached = (
            Attachment("rows.csv", "text/csv", b"id,reason\n7,<b>no</b> receipt\n"),
            Attachment("signed.pdf", "application/pdf", b"%PDF-1.7"),
        )
        return Evidence(probe, NOW - 30.0, "4bf92f3577b34da6a3ce929d0e0e0029", "tocsin-000029", attached)


def facts() -> SelfFacts:
    return SelfFacts(
        started_at=NOW - 500000.0,
        version="0.1.0",
        vantage="api-network",
        config_hash="3f9a1c77de20aa41",
        heartbeat_at=NOW - 0.4,
        lag=Histogram((0.01, 0.1, 1.0), (90, 99, 100), 100, 1.75),
        loop_lag_seconds=0.5,
    )


def site(shown: Mapping[str, Entry] | None = None) -> Site:
    """A site over the gallery with time standing still; a reload is accepted."""
    board = entries() if shown is None else dict(shown)

    def reload() -> Future[ReloadResult]:
        done: Future[ReloadResult] = Future()
        done.set_result(ReloadResult(True, "2 probes changed"))
        return done

    return Site(
        entries=lambda: board,
        facts=facts,
        health=lambda: Health(True, "alive; heartbeat 0.4 s ago"),
        reload=reload,
        history=History(board),
        now=lambda: NOW,
    )


def ok_site() -> Site:
    """Everything is well."""
    return site({name: replace(one, state=good()) for name, one in entries().items() if one.run is not None})

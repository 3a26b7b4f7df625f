"""`postgres`: the server behind a dsn, as its clients depend on it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tocsin.sdk import (
    CommonReason,
    Finding,
    Gauge,
    Outcome,
    Probe,
    ProbeContext,
    ProbeSettings,
    ReasonEnum,
    Seconds,
    Secret,
    Severity,
    Status,
)
from tocsin.sdk.postgres import read_only, targets_of
from tocsin.sdk.quantities import format_duration

_CONNECTIONS = Gauge("tocsin_postgres_connections", "Client connections that are open on the server.")
_CONNECTIONS_LIMIT = Gauge("tocsin_postgres_connections_limit", "Connections that ordinary roles may open.")
_LAG = Gauge("tocsin_postgres_replication_lag_seconds", "How far a replica is behind.", ("replica",))
_UNARCHIVED = Gauge("tocsin_postgres_unarchived_bytes", "WAL that is written and not yet archived.")
_TRANSACTION = Gauge("tocsin_postgres_oldest_transaction_seconds", "Age of the oldest transaction that is open.")

_STATE = """
SELECT
  pg_is_in_recovery() AS in_recovery,
  (SELECT setting = 'on' AND source NOT IN ('user', 'database user', 'client', 'session')
     FROM pg_settings WHERE name = 'default_transaction_read_only') AS read_only_by_default,
  (SELECT sum(numbackends) FROM pg_stat_database) AS connections,
  (SELECT sum(CASE name WHEN 'max_connections' THEN 1 ELSE -1 END * setting::int) FROM pg_settings
    WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections')) AS connections_limit,
  extract(epoch FROM now() - pg_last_xact_replay_timestamp())::float AS replay_age,
  pg_last_wal_replay_lsn() = pg_last_wal_receive_lsn() AS replayed_all,
  EXISTS (SELECT FROM pg_stat_wal_receiver) AS receiving,
  current_setting('archive_mode') AS archive_mode,
  CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint END AS written,
  (SELECT last_archived_wal FROM pg_stat_archiver) AS last_archived_wal,
  pg_size_bytes(current_setting('wal_segment_size')) AS segment_size,
  activity.oldest, activity.hidden
FROM (
  SELECT extract(epoch FROM now() - min(xact_start))::float AS oldest,
         count(*) FILTER (WHERE query = '<insufficient privilege>') AS hidden
  FROM pg_stat_activity
  WHERE pid <> pg_backend_pid() AND (backend_type IS NULL OR backend_type = 'client backend')
) AS activity
"""
"""One row, in views that any role may read. PostgreSQL 17 documentation, 27.2 "The Cumulative Statistics System": a
role without pg_monitor sees other roles' rows with their columns empty, and numbackends in full."""

IDLE_WAL_BYTES = 64 << 10
"""What a server writes at the start of a segment without anybody's data: checkpoints and lists of transactions."""

MAX_WRITTEN = 64
"""Positions of written WAL that are remembered with their time. Beyond, every other one goes: what it stood for then
counts as written when the next one was seen, half a minute later at the outset and a 60th of the age in the end."""

THIS = "this"
"""What the server itself is called among replicas."""

_REPLICAS = """
SELECT application_name AS name, state, extract(epoch FROM replay_lag)::float AS lag
FROM pg_stat_replication WHERE state IS DISTINCT FROM 'backup' ORDER BY application_name LIMIT 50
"""


class PostgresLimits(BaseModel):
    """What is still well. ``lag`` and ``transaction_age`` need the role pg_monitor to be seen on a primary."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    connections_percent: float = Field(default=85.0, gt=0, le=100)
    lag: Seconds | None = None
    replicas: int = Field(default=0, ge=0)
    """How many replicas must be connected."""
    archive_age: Seconds | None = None
    """How old the oldest WAL may become that is written and not archived; a server that writes nothing is well."""
    transaction_age: Seconds | None = None


class Postgres(Probe):
    """A PostgreSQL server takes connections and writes; its replicas and transactions are in order."""

    kind = "postgres"
    gauges = (_CONNECTIONS, _CONNECTIONS_LIMIT, _LAG, _UNARCHIVED, _TRANSACTION)

    class Settings(ProbeSettings):
        dsn: Secret
        """Any role that may connect; with pg_monitor it also sees others' transactions and how far replicas are."""
        limits: PostgresLimits = PostgresLimits()
        expect_writable: bool = True
        """Whether this must be a primary that takes writes; false for a replica."""

        def targets(self) -> tuple[str, ...]:
            return targets_of(self.dsn)

    class Reason(ReasonEnum):
        READ_ONLY = "read_only", "The server takes no writes: it is a replica, or read-only by its configuration."
        SATURATED = "saturated", "More of the server's connections are in use than the limit."
        LAGGING = "lagging", "A replica is further behind than the limit.", Severity.TICKET
        REPLICA_MISSING = "replica_missing", "Fewer replicas are connected than there must be.", Severity.TICKET
        NOT_ARCHIVED = "not_archived", "WAL that was written longer ago than the limit is not archived yet."
        ARCHIVING_OFF = (
            "archiving_off",
            "There is a limit for archiving, and the server archives nothing.",
            Severity.TICKET,
            Status.UNKNOWN,
        )
        TOO_MANY_CONNECTIONS = "too_many_connections", "The server refuses new connections because none is left."
        STARTING_UP = (
            "starting_up",
            "The server is starting, recovering or shutting down, and takes no connections yet.",
        )
        DATABASE_MISSING = "database_missing", "The server has no database of that name, or lets nobody connect to it."
        TRANSACTION_TOO_OLD = (
            "transaction_too_old",
            "A transaction is open for longer than the limit; it holds locks and keeps VACUUM from cleaning.",
            Severity.TICKET,
        )
        PERMISSION_DENIED = (
            "permission_denied",
            "The probe's role may not see what a limit is about; GRANT pg_monitor to it.",
            Severity.TICKET,
            Status.UNKNOWN,
        )

    async def run(self, ctx: ProbeContext) -> Outcome:
        settings: Postgres.Settings = self.settings
        reasons = {
            "53300": self.Reason.TOO_MANY_CONNECTIONS,
            "57P03": self.Reason.STARTING_UP,
            "3D000": self.Reason.DATABASE_MISSING,
            "55000": self.Reason.DATABASE_MISSING,
        }
        async with read_only(ctx, settings.dsn, reasons) as connection:
            state = await connection.fetchrow(_STATE)
            replicas = await connection.fetch(_REPLICAS)
        ctx.measure(_CONNECTIONS, state["connections"])
        ctx.measure(_CONNECTIONS_LIMIT, state["connections_limit"])
        if state["oldest"] is not None:
            ctx.measure(_TRANSACTION, state["oldest"])
        lags = _lags(state, replicas)
        for replica, lag in lags.items():
            if lag is not None:
                ctx.measure(_LAG, lag, replica=replica)
        findings = [*self._judge(state, lags, len(replicas)), *self._archiving(ctx, state)]
        role = "replica" if state["in_recovery"] else "primary"
        return Outcome.of(
            findings,
            f"{role}, {state['connections']} of {state['connections_limit']} connections",
        )

    def _judge(self, state: Any, lags: Mapping[str, float | None], replicas: int) -> Iterator[Finding]:
        limits, reason = self.settings.limits, self.Reason
        if self.settings.expect_writable:
            if state["in_recovery"]:
                yield Finding.of(reason.READ_ONLY, "the server is a replica (pg_is_in_recovery)")
            elif state["read_only_by_default"]:
                yield Finding.of(reason.READ_ONLY, "default_transaction_read_only is on")
        used, limit = state["connections"], state["connections_limit"]
        if used * 100 > limit * limits.connections_percent:
            yield Finding.of(reason.SATURATED, f"{used} of {limit} connections, over {limits.connections_percent:g} %")
        if replicas < limits.replicas:
            yield Finding.of(reason.REPLICA_MISSING, f"{replicas} replicas, there must be {limits.replicas}")
        if limits.lag is not None:
            for replica, lag in lags.items():
                if lag is None and replica == THIS:
                    silent = "no transaction that this replica has replayed tells how far it is behind"
                    yield Finding.of(CommonReason.DEPENDENCY_UNKNOWN, silent, replica)
                elif lag is None:
                    yield Finding.of(reason.PERMISSION_DENIED, "this role cannot see how far replicas are", "lag")
                elif lag > limits.lag:
                    behind, most = format_duration(round(lag)), format_duration(limits.lag)
                    yield Finding.of(reason.LAGGING, f"{replica} is {behind} behind, the limit is {most}", replica)
        if limits.transaction_age is not None:
            oldest = state["oldest"] or 0.0
            if oldest > limits.transaction_age:
                age, most = format_duration(round(oldest)), format_duration(limits.transaction_age)
                yield Finding.of(reason.TRANSACTION_TOO_OLD, f"open for {age}, the limit is {most}", "transactions")
            elif state["hidden"]:
                yield Finding.of(
                    reason.PERMISSION_DENIED,
                    f"the transactions of {state['hidden']} sessions are hidden from this role",
                    "transactions",
                )

    def _archiving(self, ctx: ProbeContext, state: Any) -> Iterator[Finding]:
        """Whether the oldest WAL that is not archived was written longer ago than the limit."""
        limit = self.settings.limits.archive_age
        if state["archive_mode"] == "off" or state["written"] is None:
            if limit is not None:
                off = (
                    "archive_mode is off"
                    if state["archive_mode"] == "off"
                    else "a replica does not tell what it writes"
                )
                yield Finding.of(
                    self.Reason.ARCHIVING_OFF, f"{off}: unset limits.archive_age, or watch what archives", "archive"
                )
            return
        written = state["written"]
        # A name that is no segment's (a timeline's history, a base backup's end) says nothing new. A server that has
        # never archived, or was set back behind what it had archived, is judged by what it writes from now on.
        archived = archived_up_to(state["last_archived_wal"], state["segment_size"])
        if archived is None or archived > written:
            archived = min(ctx.memory.get("archived_to", written), written)
        ctx.memory["archived_to"] = archived
        ctx.measure(_UNARCHIVED, max(0, written - archived))
        waiting = still_waiting(ctx.memory.get("written", ()), archived, written, ctx.now())
        ctx.memory["written"] = [list(sample) for sample in waiting]
        age = ctx.now() - waiting[0][1] if waiting else 0.0
        if limit is not None and age > limit:
            yield Finding.of(
                self.Reason.NOT_ARCHIVED,
                f"WAL written {format_duration(round(age))} ago is not archived, {written - archived} bytes wait; "
                f"the limit is {format_duration(limit)}",
                "archive",
            )


def still_waiting(
    samples: Iterable[Sequence[float]], archived: int, written: int, now: float
) -> tuple[tuple[float, float], ...]:
    """Positions of WAL that are not archived, each with the time at which it was first seen written, in order.

    ``samples``: what this function gave for the run before. Empty while so little waits that it may be nobody's data.
    """
    kept = [(sample[0], sample[1]) for sample in samples if archived + IDLE_WAL_BYTES < sample[0] <= written]
    if written - archived > IDLE_WAL_BYTES and (not kept or kept[-1][0] < written):
        kept.append((written, now))
    # The first is the oldest, which is what is judged.
    return tuple(kept if len(kept) <= MAX_WRITTEN else kept[::2])


def archived_up_to(segment: str | None, size: int) -> int | None:
    """The WAL position after an archived segment; None when there is none, or its name is not a segment's.

    PostgreSQL 17 documentation, 28.6 "WAL Internals": timeline, high and low part of the segment's number, in hex.
    """
    match = re.fullmatch(r"[0-9A-F]{8}([0-9A-F]{8})([0-9A-F]{8})", segment or "")
    return (int(match[1], 16) << 32) + (int(match[2], 16) + 1) * size if match else None


def _lags(state: Any, replicas: list[Any]) -> dict[str, float | None]:
    """Seconds behind, by replica; None where the role may not see it. The server itself is `THIS` when a replica, with
    None when no transaction that it replayed tells.

    A replica that has replayed all it received, and still receives, is 0 behind however long ago that was (an idle
    primary sends nothing). Of replicas that share a name the worst counts.
    """
    lags: dict[str, float | None] = {}
    if state["in_recovery"]:
        caught_up = state["receiving"] and state["replayed_all"]
        lags[THIS] = 0.0 if caught_up else state["replay_age"]
    for replica in replicas:
        name, lag = replica["name"] or "unnamed", replica["lag"] or 0.0
        lags[name] = None if replica["state"] is None else max(lag, lags.get(name) or 0.0)
    return lags

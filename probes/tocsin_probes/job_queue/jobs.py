"""What is asked of the table of jobs: every query bounded, and served by an index on queue, status and time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from tocsin.sdk.postgres import unix_time
from tocsin.sdk.sql_text import quoted

HEAD = 20
"""How many of the oldest waiting jobs of a queue are remembered, to see whether any of them leaves."""

MAX_QUEUES = 50
"""Queues looked at when the configuration names none."""

MAX_STATUSES = 200
"""Statuses, or pairs of queue and status, that are looked at for those that nobody configured."""

SAMPLED = 10_000
"""Rows that are looked at instead where no index leads from one status to the next."""

UNTIMED = 1e12
"""Stands in a head for a job without a time, behind all others. It is due, and nobody knows since when."""

_DUE = {
    "timestamp with time zone": "{time} {than} to_timestamp({now})",
    "timestamp without time zone": "{time} {than} to_timestamp({now})",
    "date": "{time} {than} to_timestamp({now})",
    "bigint": "{time} {than} CASE WHEN {time} > 1e11 THEN 1000 ELSE 1 END * {now}",
    "integer": "{time} {than} {now}",
    "numeric": "{time} {than} CASE WHEN {time} > 1e11 THEN 1000 ELSE 1 END * {now}",
    "double precision": "{time} {than} CASE WHEN {time} > 1e11 THEN 1000 ELSE 1 END * {now}",
}
"""By type of the column how a time is compared; a number is read as `tocsin.sdk.postgres.unix_time` does."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The jobs of one queue in one status. ``jobs``: those that are due; ``scheduled``: those that will be; both up to
    the cap. ``still``: of the due ones those that were due at the time asked for; None where the type of the time
    cannot be compared. ``due``: times of the oldest due ones, in order (Unix seconds, or `UNTIMED`)."""

    queue: str
    status: str
    jobs: int
    scheduled: int
    still: int | None
    due: tuple[float, ...]


class Step(Enum):
    """What index there is to find the different statuses by."""

    PAIR = auto()
    STATUS = auto()
    PARTIAL = auto()
    NONE = auto()


class Jobs:
    """The table, by the names of the configuration. ``zone``: where times without a zone were written."""

    def __init__(self, connection: Any, *, table: str, queue: str, status: str, time: str, zone: str) -> None:
        self._connection = connection
        self._table, self._queue, self._status = quoted(table), quoted(queue), quoted(status)
        self._time, self._zone = quoted(time), zone

    async def waiting(
        self, queues: Sequence[str], statuses: Sequence[str], now: float, since: float, cap: int
    ) -> list[Waiting]:
        """Of each queue and status. ``since``: for ``still``, in Unix seconds."""
        pairs = [(queue, status) for queue in queues for status in statuses]
        if not pairs:
            return []
        # Times without a zone are compared in the session's.
        await self._connection.execute("SELECT set_config('TimeZone', $1, true)", self._zone)
        kind = await self._type_of_time()
        words = [*queues, *statuses]
        known = kind in _DUE
        due = self._compared(kind, "<=", now) if known else "true"
        still = self._compared(kind, "<=", since) if known else "false"
        branches = []
        for index, (queue, status) in enumerate(pairs):
            own = f"FROM {self._table} WHERE {self._queue} = ${words.index(queue) + 1} AND {self._status} = "
            own += f"${len(queues) + statuses.index(status) + 1}"
            scheduled = f"SELECT count(*) FROM (SELECT {own} AND {self._compared(kind, '>', now)} LIMIT {cap}) AS s"
            untimed = f" UNION ALL (SELECT {self._time} AS t, true {own} AND {self._time} IS NULL LIMIT {cap})"
            branches.append(
                f"SELECT {index} AS pair, count(*) AS jobs, count(*) FILTER (WHERE still) AS still, "
                f"({scheduled if known else 'SELECT 0::bigint'}) AS scheduled, "
                f"to_json((array_agg(t ORDER BY t))[1:{HEAD}])::text AS head FROM "
                f"((SELECT {self._time} AS t, {still} AS still {own} AND {due} LIMIT {cap})"
                f"{untimed if known else ''}) AS due"
            )
        rows = await self._connection.fetch(" UNION ALL ".join(branches), *words)
        return [
            Waiting(
                queue=pairs[row["pair"]][0],
                status=pairs[row["pair"]][1],
                jobs=row["jobs"],
                scheduled=row["scheduled"],
                still=row["still"] if known else None,
                due=self._head(row["head"], now),
            )
            for row in rows
        ]

    def _compared(self, kind: str, than: str, at: float) -> str:
        return _DUE.get(kind, "true").format(time=self._time, than=than, now=repr(float(at)))

    def _head(self, head: str | None, now: float) -> tuple[float, ...]:
        times = [unix_time(value, self._zone) for value in json.loads(head or "[]")]
        return tuple(UNTIMED if time is None else time for time in times if time is None or time <= now)

    async def _type_of_time(self) -> str:
        """As `format_type` writes it; empty for a column that is not there, which the next query complains about."""
        name = self._time.strip('"').replace('""', '"')
        found = await self._connection.fetchval(
            "SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = $1::text::regclass AND attname = $2",
            self._table,
            name,
        )
        return str(found or "")

    async def queues(self, statuses: Sequence[str]) -> tuple[str, ...]:
        """Those that have a job in one of the statuses."""
        matches = " OR ".join(f"{self._status} = ${index + 1}" for index in range(len(statuses)))
        rows = await self._connection.fetch(
            f"SELECT DISTINCT name::text FROM (SELECT {self._queue} AS name FROM {self._table} WHERE {matches} "
            f"LIMIT {SAMPLED}) AS s WHERE name IS NOT NULL ORDER BY 1 LIMIT {MAX_QUEUES}",
            *statuses,
        )
        return tuple(row["name"] for row in rows)

    async def ever(self, queue: str) -> bool:
        """Whether the queue has, or still shows that it had, a job."""
        asked = f"SELECT EXISTS (SELECT FROM {self._table} WHERE {self._queue} = $1)"
        return bool(await self._connection.fetchval(asked, queue))

    async def statuses(self, known: Sequence[str]) -> tuple[str, ...]:
        """The statuses that jobs have, `MAX_STATUSES` steps at most.

        With an index that begins with queue and status, or with status, from one value to the next (a loose index
        scan). With one on only some statuses, among `SAMPLED` rows without those that are ``known`` to be many. Without
        any, among the first `SAMPLED` rows as they are stored.
        """
        step = await self._step()
        if step is Step.PAIR:
            rows = await self._connection.fetch(self._walk((self._queue, self._status)))
        elif step is Step.STATUS:
            rows = await self._connection.fetch(self._walk((self._status,)))
        else:
            left_out = known if step is Step.PARTIAL else ()
            others = " AND ".join(f"{self._status} <> ${index + 1}" for index in range(len(left_out))) or "true"
            rows = await self._connection.fetch(
                f"SELECT DISTINCT status::text FROM (SELECT {self._status} AS status FROM {self._table} "
                f"WHERE {others} LIMIT {SAMPLED}) AS sampled",
                *left_out,
            )
        return tuple(row["status"] for row in rows if row["status"] is not None)

    def _walk(self, columns: Sequence[str]) -> str:
        """From one combination of the columns to the next; the last of them is the status."""
        listed = ", ".join(columns)
        named = ", ".join(f"{column} AS c{index}" for index, column in enumerate(columns))
        before = ", ".join(f"walked.c{index}" for index in range(len(columns)))
        # NULL is behind everything, and nothing is behind NULL.
        first = f"SELECT {named} FROM {self._table} ORDER BY {listed} LIMIT 1"
        following = f"SELECT {named} FROM {self._table} WHERE ({listed}) > ({before}) ORDER BY {listed} LIMIT 1"
        return (
            f"WITH RECURSIVE walked AS (({first}) UNION ALL "
            f"SELECT n.* FROM walked CROSS JOIN LATERAL ({following}) AS n) SELECT DISTINCT status::text "
            f"FROM (SELECT c{len(columns) - 1} AS status FROM walked LIMIT {MAX_STATUSES}) AS w"
        )

    async def _step(self) -> Step:
        queue, status = (name.strip('"').replace('""', '"') for name in (self._queue, self._status))
        rows = await self._connection.fetch(
            "SELECT ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int[]) WITH ORDINALITY AS k (number, place) "
            "JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number ORDER BY place) AS columns, "
            "pg_get_expr(i.indpred, i.indrelid) AS predicate "
            "FROM pg_index AS i WHERE i.indrelid = $1::text::regclass AND i.indisvalid",
            self._table,
        )
        whole = [row["columns"] for row in rows if row["predicate"] is None]
        if any(columns[:2] == [queue, status] for columns in whole):
            return Step.PAIR
        if any(columns[:1] == [status] for columns in whole):
            return Step.STATUS
        return Step.PARTIAL if any(status in (row["predicate"] or "") for row in rows) else Step.NONE

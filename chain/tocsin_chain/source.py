"""The audited table in PostgreSQL, read-only: what its columns are, rows and packs of it, and where a MAC stands.

Every read is a short REPEATABLE READ, READ ONLY transaction with ``statement_timeout`` and
``idle_in_transaction_session_timeout``, so that no snapshot is held longer than the configured time.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg

from tocsin.model import Secret
from tocsin.sdk.postgres import connect, fault_of
from tocsin_chain.forms import PreviousPlace, quote, render, with_previous
from tocsin_chain.fragments import Key, Row
from tocsin_chain.layout import SMALL_TABLE, Layout, describe
from tocsin_chain.macs import MAC_BYTES, verify
from tocsin_chain.marks import Identity
from tocsin_chain.packs import CopyRows, Pack, integer_pack
from tocsin_chain.reading import Reading
from tocsin_chain.settings import HashChainSettings, decoded

PACK_ROWS = 512
"""Rows in a pack: enough to make its cost small, few enough to stay in the server's small memory blocks."""

MAX_PLACES = 500
"""How many rows are looked up by MAC for one judgement."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One row as read, with what its MAC is computed from. ``payload`` is None in mode linkage."""

    chain: str
    key: Key
    previous: Any
    mac: Any
    payload: bytes | None
    key_id: str | None
    time: float | None
    transaction: int


class Source:
    """One session on the audited database."""

    def __init__(self, connection: Any, reading: Reading, layout: Layout) -> None:
        self.connection = connection
        self.reading = reading
        self.layout = layout
        self.ring = reading.ring()
        self.form = reading.form
        self.zero_is_genesis = reading.genesis is None
        self.genesis = reading.genesis or b""

    async def close(self) -> None:
        try:
            await self.connection.close(timeout=0.5)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
            self.connection.terminate()

    async def end_when_idle(self, seconds: float) -> None:
        """Lets the server end this session when it is not used for so long (PostgreSQL 14 and newer)."""
        await self.connection.execute(
            f"SELECT set_config('idle_session_timeout', '{round(1000 * seconds)}', false) "
            "WHERE current_setting('server_version_num')::int >= 140000"
        )

    @asynccontextmanager
    async def snapshot(self, seconds: float | None = None) -> AsyncIterator[Any]:
        """One transaction. Raises `ProbeFault` for what the server does wrong."""
        limit = max(50, round(1000 * min(seconds or self.reading.snapshot, self.reading.snapshot)))
        try:
            await self.connection.execute(
                f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = {limit};"
                f"SET LOCAL idle_in_transaction_session_timeout = {limit}; SET LOCAL lock_timeout = {limit};"
                "SET LOCAL TimeZone = 'UTC'; SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL jit = off;"
                "SET LOCAL standard_conforming_strings = on; SET LOCAL enable_seqscan = "
                + ("off" if self.layout.rows > SMALL_TABLE else "on")
            )
            try:
                yield self.connection
            finally:
                if not self.connection.is_closed():
                    await self.connection.execute("ROLLBACK")
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            raise fault_of(error) from error

    def row(self, stored: Stored) -> Row:
        """A stored row, judged by itself."""
        encoding = self.reading.mac_encoding
        previous, mac = decoded(stored.previous, encoding), decoded(stored.mac, encoding)
        linked = b"" if self.zero_is_genesis and previous == b"\0" * MAC_BYTES else previous
        if self.ring is None or self.form is None or stored.payload is None:
            # To linkage, rows without a MAC would follow one another for ever.
            return Row(stored.key, linked, mac, None if mac else False, True, stored.time)
        message = with_previous(self.form, stored.payload, previous, as_text(stored.previous, encoding))
        verdict = verify(self.ring, stored.key_id, stored.time, message, mac)
        return Row(stored.key, linked, mac, verdict.good, verdict.good is not None, stored.time, verdict.expected)

    async def stored(
        self,
        *,
        chain: str | None = None,
        above: Key | None = None,
        upto: Key | None = None,
        keys: Sequence[Key] | None = None,
        macs: Sequence[bytes] | None = None,
        descending: bool = False,
        limit: int | None = None,
        inclusive: bool = False,
        below: Key | None = None,
        since: float | None = None,
    ) -> list[Stored]:
        """Rows by order, key or MAC, inside a `snapshot`."""
        where, arguments = self._where(chain, above, upto, inclusive, below)
        if keys is not None:
            arguments.append([key[0] for key in keys])
            where.append(f"{self.layout.order[0]} = ANY(${len(arguments)}::{self.layout.order_types[0]}[])")
        if macs is not None:
            arguments.append([self._as_stored(mac) for mac in macs])
            where.append(f"{self.layout.mac} = ANY(${len(arguments)})")
        if since is not None:
            where.append(f"{self.layout.time} > to_timestamp({since!r})")
        direction = " DESC" if descending else ""
        order = ", ".join(name + direction for name in self.layout.order)
        query = (
            f"SELECT {self._columns()} FROM {self.layout.table} t"
            + (f" WHERE {' AND '.join(where)}" if where else "")
            + f" ORDER BY {order}"
            + (f" LIMIT {limit}" if limit else "")
        )
        found = [self._stored(record) for record in await self.connection.fetch(query, *arguments)]
        if keys is not None:
            wanted = set(keys)
            found = [row for row in found if row.key in wanted]
        return found

    async def packs(
        self, chain: str | None, above: Key | None, upto: Key, step: int | None, take: Callable[[Pack], None]
    ) -> None:
        """Hands on the rows of a stretch as packs, chain by chain, as they arrive. Only for forms that are rendered
        on the server. ``step``: integer keys that go into one pack; None for one pack of each chain."""
        if self.layout.integer and step is not None:
            rows = CopyRows()

            async def sink(data: bytes) -> None:
                for values in rows.feed(data):
                    take(integer_pack(values))

            low = number(above) if above is not None else await self._before_first()
            query = self._pack_query(chain, low, number(upto), step)
            await self.connection.copy_from_query(query, output=sink, format="binary")
            return
        where, arguments = self._where(chain, above, upto, False)
        order = [f"k{at}" for at in range(len(self.layout.order))]
        query = (
            f"SELECT part, count(*) AS rows, {', '.join(f'(array_agg({name}))[1] AS f_{name}' for name in order)}, "
            f"{', '.join(f'(array_agg({name}))[count(*)] AS l_{name}' for name in order)}, {_AGGREGATES} FROM ("
            f"{self._pack_rows(', '.join(f'{column} AS k{at}' for at, column in enumerate(self.layout.order)))}"
            + (f" WHERE {' AND '.join(where)}" if where else "")
            + f" ORDER BY part, {', '.join(self.layout.order)}) s GROUP BY part"
        )
        for record in await self.connection.fetch(query, *arguments):
            take(
                Pack(
                    record["part"],
                    record["rows"],
                    _key([record[f"f_{name}"] for name in order]),
                    _key([record[f"l_{name}"] for name in order]),
                    record["previous"] or b"",
                    record["macs"] or b"",
                    record["lengths"] or b"",
                    record["payloads"] or b"",
                    (record["low_id"], record["high_id"]),
                    (record["low_time"], record["high_time"]),
                )
            )

    async def boundary(self, chain: str | None, above: Key | None, upto: Key, rows: int) -> Key:
        """The key of about the ``rows``-th row behind ``above``; ``upto`` when there are fewer."""
        where, arguments = self._where(chain, above, upto, False)
        names = ", ".join(self.layout.order)
        record = await self.connection.fetchrow(
            f"SELECT {names} FROM {self.layout.table} t WHERE {' AND '.join(where)} ORDER BY {names} "
            f"OFFSET {rows - 1} LIMIT 1",
            *arguments,
        )
        return upto if record is None else _key(list(record.values()))

    async def end(self, chain: str | None, *, last: bool) -> Key | None:
        """The first or last key of a chain, or of the table."""
        where, arguments = self._where(chain, None, None, False)
        order = ", ".join(name + (" DESC" if last else "") for name in self.layout.order)
        record = await self.connection.fetchrow(
            f"SELECT {', '.join(self.layout.order)} FROM {self.layout.table} t"
            + (f" WHERE {' AND '.join(where)}" if where else "")
            + f" ORDER BY {order} LIMIT 1",
            *arguments,
        )
        return None if record is None else _key(list(record.values()))

    async def heads(self) -> dict[str, Key]:
        """All chains and their last keys, by a loose scan of the index that leads with the partition."""
        layout = self.layout
        column = layout.partition
        keys = ", ".join(f"{name} AS k{at}" for at, name in enumerate(layout.order))
        order = ", ".join(f"{name} DESC" for name in layout.order)
        records = await self.connection.fetch(
            f"WITH RECURSIVE c AS ((SELECT {column} AS p FROM {layout.table} t ORDER BY 1 LIMIT 1) UNION ALL "
            f"SELECT (SELECT {column} FROM {layout.table} t WHERE {column} > c.p ORDER BY 1 LIMIT 1) FROM c "
            f"WHERE c.p IS NOT NULL) SELECT c.p::text AS part, l.* FROM c CROSS JOIN LATERAL (SELECT {keys} "
            f"FROM {layout.table} t WHERE {column} = c.p ORDER BY {order} LIMIT 1) l"
        )
        return {record["part"]: _key([record[f"k{at}"] for at in range(len(layout.order))]) for record in records}

    async def count(self, chain: str | None, first: Key, last: Key) -> int:
        """How many rows there are from ``first`` to ``last``, both included."""
        where, arguments = self._where(chain, first, last, True)
        query = f"SELECT count(*) FROM {self.layout.table} t WHERE {' AND '.join(where)}"
        return int(await self.connection.fetchval(query, *arguments))

    async def places(self, chain: str | None, macs: Sequence[bytes]) -> Mapping[bytes, list[tuple[Key, Key | None]]]:
        """Where MACs stand: the key of the row and of the one behind it. Reads the whole chain where no index helps."""
        found: dict[bytes, list[tuple[Key, Key | None]]] = {}
        await self.connection.execute("SET LOCAL enable_seqscan = on")
        for row in await self.stored(chain=chain, macs=macs, limit=MAX_PLACES):
            after = await self.stored(chain=chain, above=row.key, limit=1)
            mac = decoded(row.mac, self.reading.mac_encoding)
            found.setdefault(mac, []).append((row.key, after[0].key if after else None))
        return found

    def rows_query(self, chain: str | None, first: Key, last: Key, limit: int) -> tuple[str, list[Any]]:
        """A query for whole rows from ``first`` to ``last``, both included, and its arguments."""
        where, arguments = self._where(chain, first, last, True)
        query = f"SELECT t.* FROM {self.layout.table} t WHERE {' AND '.join(where)}"
        return f"{query} ORDER BY {', '.join(self.layout.order)} LIMIT {limit}", arguments

    async def active_sessions(self) -> int:
        """How many other sessions are at work, as far as this role may see."""
        return int(
            await self.connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() "
                "AND backend_type = 'client backend' AND application_name NOT LIKE 'tocsin/%'"
            )
        )

    async def horizon(self) -> tuple[int, int]:
        """The oldest transaction that is still running, and the first one that has not begun (64 bits each)."""
        record = await self.connection.fetchrow(
            "SELECT pg_snapshot_xmin(s)::text::bigint AS low, pg_snapshot_xmax(s)::text::bigint AS high "
            "FROM pg_current_snapshot() s"
        )
        return int(record["low"]), int(record["high"])

    def _where(
        self, chain: str | None, above: Key | None, upto: Key | None, inclusive: bool, below: Key | None = None
    ) -> tuple[list[str], list[Any]]:
        layout = self.layout
        where: list[str] = []
        arguments: list[Any] = []
        if chain == "" and layout.partition:
            where.append(f"({layout.partition} IS NULL OR {layout.partition}::text = '')")
        elif chain is not None and layout.partition:
            arguments.append(chain)
            where.append(f"{layout.partition} = $1::text::{layout.partition_type}")
        for key, comparison in ((above, ">=" if inclusive else ">"), (upto, "<="), (below, "<")):
            if key is not None:
                slots = []
                for part, kind in zip(key, layout.order_types, strict=True):
                    arguments.append(part)
                    slots.append(f"${len(arguments)}::{kind}")
                where.append(f"({', '.join(layout.order)}) {comparison} ({', '.join(slots)})")
        return where, arguments

    def _columns(self) -> str:
        layout = self.layout
        names = [f"{name} AS k{at}" for at, name in enumerate(layout.order)]
        parts = [
            f"{layout.partition}::text AS part" if layout.partition else "''::text AS part",
            *names,
            f"{layout.previous} AS previous",
            f"{layout.mac} AS mac",
            "t.xmin::text::bigint AS xmin",
            f"{layout.key_id}::text AS key_id" if layout.key_id else "NULL::text AS key_id",
            f"extract(epoch FROM {layout.time})::float8 AS time" if layout.time else "NULL::float8 AS time",
        ]
        if layout.payload:
            parts.append(f"{layout.payload} AS payload")
        parts += [f'{quote(name)} AS "f:{name}"' for name in layout.fields]
        return ", ".join(parts)

    def _stored(self, record: Any) -> Stored:
        payload: bytes | None = None
        if self.layout.payload:
            payload = record["payload"]
            payload = b"" if payload is None else payload
        elif self.layout.fields and self.form is not None:
            payload = render(self.form, {name: record[f"f:{name}"] for name in self.layout.fields})
        return Stored(
            record["part"] if record["part"] is not None else "",
            _key([record[f"k{at}"] for at in range(len(self.layout.order))]),
            record["previous"],
            record["mac"],
            payload,
            record["key_id"],
            record["time"],
            record["xmin"],
        )

    def _as_stored(self, mac: bytes) -> Any:
        if self.layout.mac_is_bytes:
            return mac
        return as_text(mac, self.reading.mac_encoding).decode()

    def _pack_rows(self, keys: str) -> str:
        layout, encoding = self.layout, self.reading.mac_encoding
        previous = layout.previous if layout.previous_is_bytes else _decode_sql(layout.previous, encoding)
        mac = layout.mac if layout.mac_is_bytes else _decode_sql(layout.mac, encoding)
        payload = "NULL::bytea"
        if layout.payload:
            payload = layout.payload
            text = self._previous_text()
            if self.form is not None and self.form.previous is PreviousPlace.FIRST_TEXT:
                payload = f"{text} || {payload}"
            elif self.form is not None and self.form.previous is PreviousPlace.LAST_TEXT:
                payload = f"{payload} || {text}"
            elif self.form is not None and self.form.previous is PreviousPlace.LAST_RAW:
                payload = f"{payload} || coalesce({previous},''::bytea)"
        chain = f"{layout.partition}::text" if layout.partition else "''::text"
        return (
            f"SELECT {chain} AS part, {keys}, "
            f"{previous} AS p, {mac} AS m, {payload} AS b, "
            f"{layout.key_id + '::text' if layout.key_id else 'NULL::text'} AS i, "
            f"{layout.time or 'NULL::timestamptz'} AS e "
            f"FROM {layout.table} t"
        )

    def _previous_text(self) -> str:
        if not self.layout.previous_is_bytes:
            return f"convert_to(coalesce({self.layout.previous},''),'UTF8')"
        if self.reading.mac_encoding == "base64":
            return (
                f"convert_to(translate(encode(coalesce({self.layout.previous},''::bytea),'base64'),E'\\n',''),'UTF8')"
            )
        return f"convert_to(encode(coalesce({self.layout.previous},''::bytea),'hex'),'UTF8')"

    def _pack_query(self, chain: str | None, low: int, high: int, step: int) -> str:
        column = self.layout.order[0]
        only = (
            f" AND {self.layout.partition} = {_literal(chain)}" if chain is not None and self.layout.partition else ""
        )
        return (
            f"SELECT p.* FROM generate_series({low}::bigint, {high - 1}::bigint, {step}::bigint) g, LATERAL ("
            f"SELECT part, count(*)::int8, min(k)::int8, max(k)::int8, {_AGGREGATES} FROM ("
            f"{self._pack_rows(f'{column} AS k')} WHERE {column} > g AND {column} <= least(g + {step}, {high}){only} "
            f"ORDER BY part, {column}) s GROUP BY part) p"
        )

    async def _before_first(self) -> int:
        first = await self.end(None, last=False)
        return number(first) - 1 if first is not None else 0


_AGGREGATES = (
    "string_agg(p,''::bytea) AS previous, string_agg(m,''::bytea) AS macs, "
    "string_agg(int4send(octet_length(b)),''::bytea) AS lengths, string_agg(b,''::bytea) AS payloads, "
    "min(i) AS low_id, max(i) AS high_id, "
    "extract(epoch FROM min(e))::float8 AS low_time, extract(epoch FROM max(e))::float8 AS high_time"
)


async def open_source(
    reading: Reading, *, timeout: float, settings: HashChainSettings | None = None, layout: Layout | None = None
) -> Source:
    """A session that knows the table, from its ``layout``, or by asking with the ``settings``. Raises `ProbeFault`."""
    connection = await connect(Secret(reading.dsn), application=reading.application, timeout=timeout)
    try:
        if layout is None:
            assert settings is not None
            layout = await describe(connection, settings)
    except BaseException:
        connection.terminate()
        raise
    return Source(connection, reading, layout)


async def identity_of(connection: Any) -> Identity:
    """Which database this is. What the role may not read stays empty."""
    record = await connection.fetchrow(
        "SELECT (SELECT system_identifier::text FROM pg_control_system()) AS system, "
        "(SELECT timeline_id FROM pg_control_checkpoint()) AS timeline, "
        "(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END "
        "- '0/0'::pg_lsn)::bigint AS lsn, current_setting('server_version') AS version"
    )
    return Identity(record["system"] or "", record["timeline"] or 0, record["lsn"] or 0, record["version"])


def number(key: Key) -> int:
    """The key of a chain that is ordered by one integer column."""
    part = key[0]
    if not isinstance(part, int):
        raise TypeError(f"{part!r} is not an integer key")
    return part


def _key(values: Sequence[Any]) -> Key:
    return tuple(int(value) if isinstance(value, Decimal) else value for value in map(plain_value, values))


def plain_value(value: Any) -> Any:
    """asyncpg's UUID is its own class; a key has the standard one."""
    return UUID(int=value.int) if hasattr(value, "int") and not isinstance(value, int | datetime) else value


def _decode_sql(column: str, encoding: str) -> str:
    return f"decode({column},'{encoding}')"


def as_text(stored: object, encoding: str) -> bytes:
    """A previous MAC as the text that a MAC over text is computed from."""
    match stored:
        case None:
            return b""
        case bytes():
            return base64.b64encode(stored) if encoding == "base64" else stored.hex().encode()
    return str(stored).encode()


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

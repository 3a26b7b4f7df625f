"""What a database holds, as far as its role may see: tables, columns, indexes. One read-only session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tocsin.model import Secret
from tocsin.sdk.postgres import connect
from tocsin.sdk.sql_text import quoted

STATEMENT_SECONDS = 10
SAMPLED_ROWS = 100_000
MAX_VALUES = 100

_TIME = ("timestamp with time zone", "timestamp without time zone", "date")
_TEXT = ("text", "character varying", "character", "USER-DEFINED")
_NUMBER = ("bigint", "integer", "smallint", "numeric")

_COLUMNS = """
SELECT c.table_schema AS schema, c.table_name AS name, c.column_name AS column, c.data_type AS type
FROM information_schema.columns c
JOIN information_schema.tables t USING (table_schema, table_name)
WHERE t.table_type IN ('BASE TABLE', 'VIEW') AND c.table_schema NOT IN ('pg_catalog', 'information_schema')
ORDER BY 1, 2, c.ordinal_position
LIMIT 20000
"""
_INDEXES = """
SELECT n.nspname AS schema, t.relname AS name,
       ARRAY(SELECT a.attname FROM unnest(i.indkey::int[]) WITH ORDINALITY k (attnum, place)
             JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.attnum ORDER BY place) AS columns,
       pg_get_expr(i.indpred, i.indrelid) AS predicate
FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE i.indisvalid AND n.nspname NOT IN ('pg_catalog', 'pg_toast')
LIMIT 20000
"""


@dataclass(frozen=True, slots=True)
class Table:
    """``columns``: type by name. ``indexes``: the columns of each, in order. ``predicates``: of the partial ones."""

    schema: str
    name: str
    columns: dict[str, str]
    indexes: tuple[tuple[str, ...], ...] = ()
    predicates: tuple[str, ...] = ()

    @property
    def written(self) -> str:
        """As a setting names it: without the schema when that is ``public``."""
        return self.name if self.schema == "public" else f"{self.schema}.{self.name}"

    def of_type(self, column: str, kind: str) -> bool:
        known = {"time": _TIME, "text": _TEXT, "number": _NUMBER}
        return kind == "any" or self.columns[column] in known[kind]


class Database:
    """An open read-only session. Use `opened`."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def tables(self) -> list[Table]:
        """Every table and view that the role may see."""
        columns: dict[tuple[str, str], dict[str, str]] = {}
        for row in await self._connection.fetch(_COLUMNS):
            columns.setdefault((row["schema"], row["name"]), {})[row["column"]] = row["type"]
        indexes: dict[tuple[str, str], list[tuple[str, ...]]] = {}
        predicates: dict[tuple[str, str], list[str]] = {}
        for row in await self._connection.fetch(_INDEXES):
            indexes.setdefault((row["schema"], row["name"]), []).append(tuple(row["columns"]))
            if row["predicate"]:
                predicates.setdefault((row["schema"], row["name"]), []).append(row["predicate"])
        return [
            Table(*key, found, tuple(indexes.get(key, ())), tuple(predicates.get(key, ())))
            for key, found in columns.items()
        ]

    async def values(self, table: str, column: str) -> Sequence[str]:
        """The different values among `SAMPLED_ROWS` rows of a column, and those that the server's statistics know to be
        common in all of it, `MAX_VALUES` at most."""
        # A savepoint, so that a table that may not be read does not end the whole look.
        async with self._connection.transaction():
            rows = await self._connection.fetch(
                f"SELECT DISTINCT value FROM (SELECT {quoted(column)}::text AS value FROM {quoted(table)} "
                f"LIMIT {SAMPLED_ROWS}) AS sampled WHERE value IS NOT NULL UNION "
                "SELECT unnest(most_common_vals::text::text[]) FROM pg_stats JOIN pg_class ON relname = tablename "
                "WHERE pg_class.oid = $1::text::regclass AND relnamespace = to_regnamespace(quote_ident(schemaname)) "
                f"AND attname = $2 LIMIT {MAX_VALUES}",
                quoted(table),
                column,
            )
        return sorted(row["value"] for row in rows)


@asynccontextmanager
async def opened(dsn: str, timeout: float = 10.0) -> AsyncIterator[Database]:
    """One transaction that only reads. Raises `ProbeFault` when the database cannot be reached or refuses."""
    connection = await connect(Secret(dsn), application="tocsin/doctor", timeout=timeout)
    try:
        async with connection.transaction(readonly=True):
            await connection.execute(f"SET LOCAL statement_timeout = '{STATEMENT_SECONDS}s'")
            await connection.execute("SET LOCAL lock_timeout = '1s'")
            yield Database(connection)
    finally:
        await connection.close(timeout=2)

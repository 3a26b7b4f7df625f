"""What the audited table looks like, asked from the catalogue once a session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import asyncpg

from tocsin.sdk import ProbeFault
from tocsin_chain.forms import Form, quote, to_sql
from tocsin_chain.reasons import ChainReason
from tocsin_chain.settings import HashChainSettings

SMALL_TABLE = 100_000
"""Rows up to which a table without a fitting index is walked all the same."""

_INTEGERS = {"int2", "int4", "int8"}
_ORDERS = {*_INTEGERS, "timestamptz", "timestamp", "uuid", "text", "varchar", "bpchar"}
_BYTES = "bytea"
_TEXTS = {"text", "varchar", "bpchar"}


@dataclass(frozen=True, slots=True)
class Layout:
    """SQL fragments for the parts of a row, and how rows can be read. All names are quoted.

    ``integer``: ordered by one integer column. ``by_chain``: an index leads with the partition, so that chains are
    read one after the other; otherwise they are read interleaved and told apart. ``payload``: an expression of type
    bytea; empty in mode linkage and when the payload is rendered here, from ``fields``. ``rows``: the planner's
    estimate.
    """

    table: str
    order: tuple[str, ...]
    order_types: tuple[str, ...]
    integer: bool
    by_chain: bool
    partition: str
    partition_type: str
    previous: str
    previous_is_bytes: bool
    mac: str
    mac_is_bytes: bool
    payload: str
    fields: tuple[str, ...]
    key_id: str
    time: str
    rows: int


async def describe(connection: Any, settings: HashChainSettings) -> Layout:
    """The layout of the configured table. Raises `ProbeFault` when it is not there or not what is configured."""
    table = quote(settings.table)
    oid = await connection.fetchval("SELECT to_regclass($1)::oid::bigint", table)
    if oid is None:
        raise ProbeFault(ChainReason.TABLE_MISSING, f"there is no table {settings.table}")
    records = await connection.fetch(
        "SELECT a.attname AS name, y.typname AS type, a.attnum AS number, a.attnotnull AS filled FROM pg_attribute a "
        "JOIN pg_type y ON y.oid = a.atttypid "
        "WHERE a.attrelid = $1::bigint::oid AND a.attnum > 0 AND NOT a.attisdropped",
        oid,
    )
    types = {record["name"]: record["type"] for record in records}
    numbers = {record["name"]: record["number"] for record in records}
    form = settings.form()
    _check_columns(settings, form, types)
    order_types = tuple(types[name] for name in settings.order_by)
    indexes = [
        list(record["columns"])
        for record in await connection.fetch(
            "SELECT string_to_array(indkey::text, ' ')::int[] AS columns FROM pg_index "
            "WHERE indrelid = $1::bigint::oid AND indisvalid AND indpred IS NULL",
            oid,
        )
    ]
    rows = int(await connection.fetchval("SELECT reltuples::bigint FROM pg_class WHERE oid = $1::bigint::oid", oid))
    wanted = [numbers[name] for name in settings.order_by]
    filled = {record["name"] for record in records if record["filled"]}
    # Rows without a partition are a chain, too, which no index keeps apart.
    chained = [numbers[settings.partition_by], *wanted] if settings.partition_by in filled else None
    by_chain = chained is not None and any(columns[: len(chained)] == chained for columns in indexes)
    ordered = any(columns[: len(wanted)] == wanted for columns in indexes)
    if not by_chain and not ordered and rows > SMALL_TABLE:
        columns_text = ", ".join([*([settings.partition_by] if chained else []), *settings.order_by])
        raise ProbeFault(ChainReason.INDEX_MISSING, f"create an index on {settings.table} ({columns_text})")
    on_server = form is not None and form.on_server
    time = settings.time_column or (settings.order_by[0] if order_types[0] in ("timestamptz", "timestamp") else "")
    return Layout(
        table=table,
        order=tuple(map(quote, settings.order_by)),
        order_types=order_types,
        integer=len(order_types) == 1 and order_types[0] in _INTEGERS,
        by_chain=by_chain,
        partition=quote(settings.partition_by) if settings.partition_by else "",
        partition_type=types.get(settings.partition_by, ""),
        previous=quote(settings.previous_column),
        previous_is_bytes=types[settings.previous_column] == _BYTES,
        mac=quote(settings.mac_column),
        mac_is_bytes=types[settings.mac_column] == _BYTES,
        payload=await _payload(connection, table, form) if form is not None and on_server else "",
        fields=tuple(field.column for field in form.fields) if form is not None and not on_server else (),
        key_id=quote(settings.key_id_column) if settings.key_id_column else "",
        time=quote(time) if time else "",
        rows=rows,
    )


async def _payload(connection: Any, table: str, form: Form) -> str:
    """The payload as an expression of type bytea, checked by the server."""
    expression = to_sql(form)
    try:
        # A row of NULLs, because the table may be empty.
        kind = await connection.fetchval(
            f"SELECT pg_typeof(payload)::text FROM (SELECT {expression} AS payload "
            f"FROM (SELECT 1) one LEFT JOIN {table} t ON false) typed"
        )
    except asyncpg.PostgresError as error:
        raise ProbeFault(ChainReason.QUERY_ERROR, f"the payload cannot be computed: {error}") from error
    if kind == _BYTES:
        return f"coalesce({expression},''::bytea)"
    if kind in ("text", "character varying", "character"):
        return f"convert_to(coalesce({expression},''),'UTF8')"
    raise ProbeFault(
        ChainReason.QUERY_ERROR, f"the payload is of type {kind}; make it bytea or text, for example by convert_to"
    )


def _check_columns(settings: HashChainSettings, form: Form | None, types: dict[str, str]) -> None:
    named = [
        *settings.order_by,
        settings.mac_column,
        settings.previous_column,
        settings.partition_by,
        settings.key_id_column,
        settings.time_column,
        *(field.column for field in (form.fields if form else ())),
    ]
    missing = [name for name in named if name and name not in types]
    if missing:
        raise ProbeFault(ChainReason.COLUMN_MISSING, f"{settings.table} has no column {', '.join(missing)}")
    for name in settings.order_by:
        if types[name] not in _ORDERS:
            raise ProbeFault(
                ChainReason.COLUMN_MISSING, f"{settings.table} cannot be ordered by {name} ({types[name]})"
            )
    for name in (settings.mac_column, settings.previous_column):
        if types[name] != _BYTES and types[name] not in _TEXTS:
            raise ProbeFault(ChainReason.COLUMN_MISSING, f"{name} is {types[name]}; a MAC is bytea or text")
        if types[name] != _BYTES and settings.mac_encoding == "raw":
            raise ProbeFault(ChainReason.COLUMN_MISSING, f"{name} is text: set mac_encoding to hex or base64")

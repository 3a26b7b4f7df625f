"""The canonical form as Python renders it and as the server renders it are the same bytes."""

from __future__ import annotations

import asyncpg
import pytest

from estate.servers.postgresql import PostgreSQL
from tocsin_chain.forms import TRIMMED, Encoding, Field, Form, Framing, LengthPrefix, encode, field_sql, frame, to_sql

pytestmark = pytest.mark.estate

SCHEMA = """
    CREATE TABLE shown (id bigint, name text, flag boolean, amount numeric, raw bytea, at timestamptz, local timestamp,
                        stored json, binary_json jsonb, key uuid, nothing text);
    INSERT INTO shown VALUES
        (1, 'plain', true, 12.50, '\\x00ff10', '2026-01-02T03:04:05.678901Z', '2026-01-02 03:04:05.6', '{"b": 1,  "a": 2}',
         '{"b": 1, "a": 2}', '6f1c2b9e-0b57-4b52-9d3e-8d1c7c1d2f3a', NULL),
        (-9223372036854775808, 'äöü € 𝄞 ''quoted'' | \\', false, 0, '', '1999-12-31T23:59:59Z', '0987-01-01 00:00:00',
         '[]', 'null', '00000000-0000-0000-0000-000000000000', NULL),
        (9223372036854775807, '', NULL, 1e3, NULL, '2026-06-30T12:00:00.100000+02:00', '1969-12-31 23:59:59.000001',
         '"x"', '"\\u20ac"', NULL, 'x'),
        (0, repeat('x', 300), true, -0.001, decode(repeat('ab', 120), 'hex'), '1969-12-31T23:59:59.999999Z',
         '2000-02-29 00:00:00', '1', '1.50', NULL, '');
"""
TIMES = (Encoding.UNIX, Encoding.UNIX_MS, Encoding.UNIX_US, Encoding.UNIX_NS)
FIELDS = [
    *(Field(name) for name in ("id", "name", "flag", "amount", "key", "nothing")),
    Field("nothing", null="NULL"),
    Field("id", Encoding.INT64),
    *(Field("raw", encoding) for encoding in (Encoding.RAW, Encoding.HEX, Encoding.BASE64)),
    *(Field(name, Encoding.RFC3339, precision) for name in ("at", "local") for precision in (*range(10), TRIMMED)),
    *(Field(name, encoding) for name in ("at", "local") for encoding in TIMES),
    Field("stored", Encoding.JSON),
    Field("binary_json", Encoding.JSON),
]
FORMS = [
    Form((Field("id"), Field("name"), Field("nothing")), separator=separator, terminated=terminated)
    for separator in (b"", b"|", b"\0", b"\n", b"\\'")
    for terminated in (False, True)
] + [
    Form((Field("id"), Field("name"), Field("raw", Encoding.HEX)), Framing.LENGTH_PREFIXED, prefix=prefix)
    for prefix in LengthPrefix
]


@pytest.fixture
async def connection(postgresql: PostgreSQL, database: str) -> object:
    opened = await asyncpg.connect(postgresql.dsn(database))
    await opened.execute(SCHEMA)
    await opened.execute("SET TimeZone = 'UTC'")
    yield opened
    await opened.close()


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: f"{field.column}-{field.encoding}-{field.precision}")
async def test_a_field_is_the_same_bytes_here_and_on_the_server(connection: asyncpg.Connection, field: Field) -> None:
    rows = await connection.fetch(f"SELECT {field.column} AS value, {field_sql(field)} AS rendered FROM shown")
    assert len(rows) == 4
    for row in rows:
        value = row["value"]
        assert row["rendered"] == encode(field, value), value


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.framing}-{form.prefix}-{form.separator.hex()}")
async def test_a_message_is_the_same_bytes_here_and_on_the_server(connection: asyncpg.Connection, form: Form) -> None:
    for row in await connection.fetch(f"SELECT shown.*, {to_sql(form)} AS rendered FROM shown"):
        assert row["rendered"] == frame(form, [encode(field, row[field.column]) for field in form.fields])

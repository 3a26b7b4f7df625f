"""The canonical form of a row: which bytes its MAC is computed from, as data, in Python and in SQL.

Both renderings must agree; `tests/estate/test_chain_forms.py` holds them together on a real server.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from tocsin_chain import jcs


class Encoding(StrEnum):
    """How one field becomes bytes. ``json`` is the column's text as the server prints it."""

    UTF8 = "utf8"
    RAW = "raw"
    HEX = "hex"
    BASE64 = "base64"
    RFC3339 = "rfc3339"
    UNIX = "unix"
    UNIX_MS = "unix_ms"
    UNIX_US = "unix_us"
    UNIX_NS = "unix_ns"
    INT64 = "int64"
    JSON = "json"
    JCS = "jcs"


class Framing(StrEnum):
    """How the fields' bytes become one message. ``object``: a JSON object of the fields, in their order;
    ``jcs_object``: the same canonicalised by RFC 8785."""

    SEPARATED = "separated"
    LENGTH_PREFIXED = "length_prefixed"
    OBJECT = "object"
    JCS_OBJECT = "jcs_object"


class LengthPrefix(StrEnum):
    """The length of a field in bytes, before it. ``decimal`` is netstring-like: digits and a colon."""

    U32BE = "u32be"
    U32LE = "u32le"
    U64BE = "u64be"
    U64LE = "u64le"
    DECIMAL = "decimal"


class PreviousPlace(StrEnum):
    """Where the stored previous MAC stands in the message. ``none``: the fields or the SQL carry it themselves."""

    FIRST_RAW = "first_raw"
    LAST_RAW = "last_raw"
    FIRST_TEXT = "first_text"
    LAST_TEXT = "last_text"
    NONE = "none"


TRIMMED = -1
"""A precision: as many fractional digits as are needed, none when zero (Go's ``RFC3339Nano``)."""


@dataclass(frozen=True, slots=True)
class Field:
    """One column of the message. ``precision``: fractional digits of an RFC 3339 time (0 to 9, or `TRIMMED`), cut,
    not rounded. ``null``: the text that stands for NULL. ``name``: the member name in an object."""

    column: str
    encoding: Encoding = Encoding.UTF8
    precision: int = 6
    null: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Form:
    """The canonical form: either ``fields`` with a framing, or ``sql``, an expression of type bytea or text.

    ``separator`` stands between fields (``separated``), never after the last, unless ``terminated``.
    """

    fields: tuple[Field, ...] = ()
    framing: Framing = Framing.SEPARATED
    separator: bytes = b"|"
    terminated: bool = False
    prefix: LengthPrefix = LengthPrefix.U32BE
    sql: str = ""
    previous: PreviousPlace = PreviousPlace.FIRST_RAW

    @property
    def on_server(self) -> bool:
        """Whether the server can render the whole payload; RFC 8785 and objects are rendered here."""
        plain = self.framing in (Framing.SEPARATED, Framing.LENGTH_PREFIXED)
        return bool(self.sql) or (plain and all(field.encoding is not Encoding.JCS for field in self.fields))


class FormError(ValueError):
    """A value that the configured encoding cannot render; the text names the column and says what would fit."""


def render(form: Form, row: Mapping[str, Any]) -> bytes:
    """The payload of a row (column name to Python value), without the previous MAC. Needs ``fields``."""
    if form.framing in (Framing.OBJECT, Framing.JCS_OBJECT):
        members = {field.name or field.column: _member(field, row[field.column]) for field in form.fields}
        if form.framing is Framing.JCS_OBJECT:
            return jcs.canonical(members)
        return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()
    return frame(form, [encode(field, row[field.column]) for field in form.fields])


def frame(form: Form, parts: Sequence[bytes]) -> bytes:
    """The encoded fields as one byte string."""
    if form.framing is Framing.LENGTH_PREFIXED:
        return b"".join(_length(form.prefix, part) + part for part in parts)
    return form.separator.join(parts) + (form.separator if form.terminated else b"")


def with_previous(form: Form, payload: bytes, raw: bytes, text: bytes) -> bytes:
    """The whole message: the payload and the stored previous MAC in its place."""
    match form.previous:
        case PreviousPlace.FIRST_RAW:
            return raw + payload
        case PreviousPlace.LAST_RAW:
            return payload + raw
        case PreviousPlace.FIRST_TEXT:
            return text + payload
        case PreviousPlace.LAST_TEXT:
            return payload + text
    return payload


def encode(field: Field, value: Any) -> bytes:
    """One field as bytes. Raises `FormError` when the encoding does not fit the value."""
    if value is None:
        return field.null.encode()
    match field.encoding:
        case Encoding.UTF8 | Encoding.JSON:
            return _text(field, value).encode()
        case Encoding.RAW:
            return _bytes(field, value)
        case Encoding.HEX:
            return _bytes(field, value).hex().encode()
        case Encoding.BASE64:
            return base64.b64encode(_bytes(field, value))
        case Encoding.RFC3339:
            return rfc3339(_time(field, value), field.precision).encode()
        case Encoding.INT64:
            return struct.pack(">q", int(value))
        case Encoding.JCS:
            try:
                return jcs.canonicalise(_text(field, value))
            except ValueError as error:
                raise FormError(f"column {field.column}: not JSON ({error})") from error
    return str(_micros(_time(field, value)) * _UNIX_SCALE[field.encoding][0] // _UNIX_SCALE[field.encoding][1]).encode()


_UNIX_SCALE = {
    Encoding.UNIX: (1, 1_000_000),
    Encoding.UNIX_MS: (1, 1000),
    Encoding.UNIX_US: (1, 1),
    Encoding.UNIX_NS: (1000, 1),
}


def rfc3339(moment: datetime, precision: int) -> str:
    """RFC 3339 in UTC with ``Z``, the fraction cut to ``precision`` digits."""
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    base = f"{moment:%Y-%m-%dT%H:%M:%S}".rjust(19, "0")
    digits = f"{moment.microsecond:06d}000"
    fraction = digits.rstrip("0") if precision == TRIMMED else digits[:precision]
    return f"{base}.{fraction}Z" if fraction else f"{base}Z"


def to_sql(form: Form) -> str:
    """The payload as one SQL expression of type bytea, for forms that are rendered `on_server`.

    The session's TimeZone must be UTC and its client encoding UTF8.
    """
    if form.sql:
        return f"({form.sql})"
    parts = [field_sql(field) for field in form.fields]
    if form.framing is Framing.LENGTH_PREFIXED:
        return " || ".join(f"{_length_sql(form.prefix, part)} || {part}" for part in parts)
    separator = f"'\\x{form.separator.hex()}'::bytea"
    joined = f" || {separator} || ".join(parts) if form.separator else " || ".join(parts)
    return f"{joined} || {separator}" if form.terminated else joined


def field_sql(field: Field) -> str:
    """One field as an SQL expression of type bytea; NULL becomes the field's text for it."""
    name = quote(field.column)
    text = {
        Encoding.UTF8: f"{name}::text",
        Encoding.JSON: f"{name}::text",
        Encoding.HEX: f"encode({name},'hex')",
        Encoding.BASE64: f"translate(encode({name},'base64'),E'\\n','')",
        Encoding.UNIX: f"floor(extract(epoch from {name}))::bigint::text",
        Encoding.UNIX_MS: f"floor(extract(epoch from {name})*1000)::bigint::text",
        Encoding.UNIX_US: f"floor(extract(epoch from {name})*1000000)::bigint::text",
        Encoding.UNIX_NS: f"(floor(extract(epoch from {name})*1000000)*1000)::numeric(38,0)::text",
        Encoding.RFC3339: _rfc3339_sql(name, field.precision),
    }.get(field.encoding)
    raw = {Encoding.RAW: name, Encoding.INT64: f"int8send({name}::bigint)"}.get(field.encoding)
    expression = raw or f"convert_to({text},'UTF8')"
    return f"coalesce({expression},'\\x{field.null.encode().hex()}'::bytea)"


def quote(identifier: str) -> str:
    """A quoted SQL identifier; dots separate schema and name."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in identifier.split("."))


def _rfc3339_sql(name: str, precision: int) -> str:
    seconds = f"""to_char({name},'YYYY-MM-DD"T"HH24:MI:SS')"""
    if precision == TRIMMED:
        trimmed = f"""to_char({name},'YYYY-MM-DD"T"HH24:MI:SS.US')"""
        return f"(rtrim(rtrim({trimmed},'0'),'.')||'Z')"
    if precision == 0:
        return f"({seconds}||'Z')"
    return f"({seconds}||'.'||rpad(left(to_char({name},'US'),{precision}),{precision},'0')||'Z')"


def _length(prefix: LengthPrefix, part: bytes) -> bytes:
    if prefix is LengthPrefix.DECIMAL:
        return f"{len(part)}:".encode()
    return struct.pack(_LENGTH_FORMAT[prefix], len(part))


_LENGTH_FORMAT = {
    LengthPrefix.U32BE: ">I",
    LengthPrefix.U32LE: "<I",
    LengthPrefix.U64BE: ">Q",
    LengthPrefix.U64LE: "<Q",
}


def _length_sql(prefix: LengthPrefix, part: str) -> str:
    length = f"octet_length({part})"
    match prefix:
        case LengthPrefix.U32BE:
            return f"int4send({length})"
        case LengthPrefix.U64BE:
            return f"int8send({length})"
        case LengthPrefix.DECIMAL:
            return f"convert_to({length}::text||':','UTF8')"
    size = 4 if prefix is LengthPrefix.U32LE else 8
    sent = f"int{size}send({length})"
    return "(" + "||".join(f"substr({sent},{at},1)" for at in range(size, 0, -1)) + ")"


def _text(field: Field, value: Any) -> str:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | Decimal() | UUID():
            return str(value)
    raise FormError(f"column {field.column}: {type(value).__name__} has no text form here; use rfc3339, hex or raw")


def _bytes(field: Field, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    raise FormError(f"column {field.column}: {field.encoding} needs bytea, not {type(value).__name__}")


def _time(field: Field, value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    raise FormError(f"column {field.column}: {field.encoding} needs a timestamp, not {type(value).__name__}")


def _micros(moment: datetime) -> int:
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86400 + delta.seconds) * 1_000_000 + delta.microseconds


def _member(field: Field, value: Any) -> Any:
    if value is None:
        return None
    if field.encoding in (Encoding.JSON, Encoding.JCS):
        return json.loads(_text(field, value))
    if field.encoding is Encoding.UTF8 and isinstance(value, bool | int):
        return value
    if field.encoding in _UNIX_SCALE or field.encoding is Encoding.INT64:
        return int(value) if field.encoding is Encoding.INT64 else int(encode(field, value))
    return encode(field, value).decode()

"""Finds the canonical form of a chain from a key and a few of its rows, by trying the reasonable ones. Pure."""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import combinations, permutations, product
from typing import Any

from tocsin_chain.forms import (
    TRIMMED,
    Encoding,
    Field,
    Form,
    FormError,
    Framing,
    LengthPrefix,
    PreviousPlace,
    encode,
    frame,
    render,
    with_previous,
)
from tocsin_chain.macs import MacKey

MAX_COLUMNS = 10
MAX_PERMUTED = 6


@dataclass(frozen=True, slots=True)
class Sample:
    """One row: its columns without the MACs, and the two MACs as bytes and as stored text."""

    columns: Mapping[str, Any]
    previous: bytes
    previous_text: bytes
    mac: bytes


@dataclass(frozen=True, slots=True)
class Guess:
    """A form that verifies every sampled row."""

    form: Form
    tried: int


def infer(key: MacKey, samples: Sequence[Sample], *, previous_column: str) -> Iterator[Guess | int]:
    """Yields how many forms were tried, now and then, and at last the `Guess`, when there is one.

    The first sample is tried with every form, the others with those that fit it. Forms come in the order of how often
    they are met: the columns in the table's order first, then other orders.
    """
    tried = 0
    for columns in _orders(samples[0].columns):
        for form in _forms(samples[0], columns, previous_column):
            tried += 1
            if tried % 20_000 == 0:
                yield tried
            if all(_verifies(key, form, sample, previous_column) for sample in samples):
                yield Guess(form, tried)
                return
    yield tried


def settings_of(form: Form) -> dict[str, Any]:
    """The ``payload`` setting for a form, ready to be written as YAML."""
    fields: list[Any] = []
    for field in form.fields:
        entry: dict[str, Any] = {"column": field.column, "encoding": field.encoding.value}
        if field.encoding is Encoding.RFC3339:
            entry["precision"] = "trimmed" if field.precision == TRIMMED else field.precision
        fields.append(field.column if field.encoding is Encoding.UTF8 else entry)
    payload: dict[str, Any] = {"fields": fields, "framing": form.framing.value, "previous": form.previous.value}
    if form.framing is Framing.SEPARATED:
        payload["separator"] = form.separator.decode("latin-1").encode("unicode_escape").decode()
        if form.terminated:
            payload["terminated"] = True
    if form.framing is Framing.LENGTH_PREFIXED:
        payload["length_prefix"] = form.prefix.value
    return payload


def _orders(columns: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Column lists: all, then fewer, in the table's order; then small ones in any order."""
    names = list(columns)[:MAX_COLUMNS]
    for size in range(len(names), 0, -1):
        yield from combinations(names, size)
    for size in range(2, min(len(names), MAX_PERMUTED) + 1):
        for chosen in combinations(names, size):
            for order in permutations(chosen):
                if order != chosen:
                    yield order


_SEPARATORS = (b"|", b"", b":", b",", b"\n", b"\0", b";", b"-", b".", b"\x1f")
_PLACES = (
    PreviousPlace.FIRST_RAW,
    PreviousPlace.FIRST_TEXT,
    PreviousPlace.LAST_RAW,
    PreviousPlace.LAST_TEXT,
)


def _forms(sample: Sample, columns: tuple[str, ...], previous_column: str) -> Iterator[Form]:
    """Every form over these columns, in this order."""
    choices = [_fields(name, sample.columns[name]) for name in columns]
    for fields in product(*choices):
        base = Form(tuple(fields))
        for place in _PLACES:
            for separator in _SEPARATORS if len(fields) > 1 else _SEPARATORS[:1]:
                yield replace(base, separator=separator, previous=place)
            for prefix in LengthPrefix:
                yield replace(base, framing=Framing.LENGTH_PREFIXED, prefix=prefix, previous=place)
            for framing in (Framing.JCS_OBJECT, Framing.OBJECT):
                yield replace(base, framing=framing, previous=place)
        for encoding in (Encoding.UTF8, Encoding.RAW):
            own = Field(previous_column, encoding)
            for ordered in ((own, *fields), (*fields, own)):
                carried = replace(base, fields=ordered, previous=PreviousPlace.NONE)
                for separator in _SEPARATORS[:1] + _SEPARATORS[2:]:
                    yield replace(carried, separator=separator)
                for prefix in LengthPrefix:
                    yield replace(carried, framing=Framing.LENGTH_PREFIXED, prefix=prefix)
                if encoding is Encoding.UTF8:
                    for framing in (Framing.JCS_OBJECT, Framing.OBJECT):
                        yield replace(carried, framing=framing)


def _fields(name: str, value: Any) -> list[Field]:
    """The encodings that a value of this kind is met in."""
    match value:
        case datetime():
            precise = [Field(name, Encoding.RFC3339, precision) for precision in (6, TRIMMED, 3, 0, 9)]
            plain = [
                Field(name, encoding)
                for encoding in (Encoding.UNIX_MS, Encoding.UNIX, Encoding.UNIX_US, Encoding.UNIX_NS)
            ]
            return precise + plain
        case bytes():
            return [Field(name, encoding) for encoding in (Encoding.RAW, Encoding.HEX, Encoding.BASE64)]
        case bool():
            return [Field(name)]
        case int():
            return [Field(name), Field(name, Encoding.INT64)]
        case str() if value[:1] in ("{", "["):
            return [Field(name), Field(name, Encoding.JCS)]
    return [Field(name)]


def _verifies(key: MacKey, form: Form, sample: Sample, previous_column: str) -> bool:
    row = dict(sample.columns)
    try:
        if form.previous is PreviousPlace.NONE:
            raw = any(field.column == previous_column and field.encoding is Encoding.RAW for field in form.fields)
            row[previous_column] = sample.previous if raw else sample.previous_text.decode()
        if form.framing in (Framing.OBJECT, Framing.JCS_OBJECT):
            payload = render(form, row)
        else:
            payload = frame(form, [encode(field, row[field.column]) for field in form.fields])
    except (FormError, ValueError, TypeError):
        return False
    message = with_previous(form, payload, sample.previous, sample.previous_text)
    return hmac.compare_digest(key.mac(message), sample.mac)

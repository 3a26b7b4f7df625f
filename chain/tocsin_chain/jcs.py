"""JSON canonicalisation, RFC 8785: one byte string for every way of writing the same JSON value."""

from __future__ import annotations

import json
import math
from typing import Any


def canonicalise(text: str | bytes) -> bytes:
    """The canonical UTF-8 form of a JSON document. Raises `ValueError` when ``text`` is not JSON.

    Numbers are IEEE 754 doubles, as RFC 8785 section 3.2.2.3 demands: an integer above 2^53 loses precision here
    exactly as it does in every conforming implementation.
    """
    return canonical(json.loads(text, parse_constant=_refuse, parse_int=float))


def canonical(value: Any) -> bytes:
    """The canonical form of a value made of ``dict``, ``list``, ``str``, numbers, ``bool`` and None."""
    return _render(value).encode("utf-8")


def _render(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return number(float(value))
        case str():
            return _string(value)
        case list() | tuple():
            return "[" + ",".join(map(_render, value)) + "]"
        case dict():
            ordered = sorted(value.items(), key=lambda item: item[0].encode("utf-16-be", "surrogatepass"))
            return "{" + ",".join(f"{_string(key)}:{_render(inner)}" for key, inner in ordered) + "}"
    raise ValueError(f"{type(value).__name__} is not a JSON value")


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def number(value: float) -> str:
    """A double as ECMAScript's Number::toString writes it (ECMA-262 section 6.1.6.1.20), which RFC 8785 adopts."""
    if not math.isfinite(value):
        raise ValueError("NaN and infinities are not JSON values")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if len(digits) <= point <= 21:
        return sign + digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{'+' if point > 0 else '-'}{abs(point - 1)}"


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")

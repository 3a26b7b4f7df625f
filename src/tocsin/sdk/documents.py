"""What a body is, whatever its sender says that it is. Pure."""

from __future__ import annotations

import json
import math
from typing import Any, Final

PDF_MARGIN: Final = 1024
"""Bytes from either end within which a PDF says what it is. ISO 32000-1, annex H, implementation notes 13 and 18."""


def is_pdf(body: bytes) -> bool:
    """Whether it begins and ends as a PDF does: one that was cut off does not."""
    return b"%PDF-" in body[:PDF_MARGIN] and b"%%EOF" in body[-PDF_MARGIN:]


_MOST_DIGITS: Final = 308
"""An integer of more digits may be beyond what a double holds."""


def parse_json(text: str) -> Any:
    """A JSON text (RFC 8259) whose numbers are all finite doubles or integers as large as those at most.

    Raises `ValueError` for what is none, for NaN and infinities, and for numbers beyond a double (section 6 lets a
    reader limit their range): no comparison of those with a limit says anything. Raises `RecursionError` when it is
    nested too deep.
    """
    return json.loads(text, parse_constant=_refuse_constant, parse_float=_double, parse_int=_integer)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _double(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:20]} is beyond what a double holds")
    return number


def _integer(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def is_json(body: bytes) -> bool:
    """Whether it is one JSON value in UTF-8. RFC 8259."""
    try:
        json.loads(body.decode())
    except (ValueError, RecursionError):
        return False
    return True


def is_html(content_type: str, body: bytes) -> bool:
    """Whether it is a page: its media type (in lower case, without parameters) says so, or its beginning."""
    start = body[:64].lstrip().lower()
    return content_type in ("text/html", "application/xhtml+xml") or start.startswith((b"<!doctype", b"<html"))

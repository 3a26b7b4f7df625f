"""What a body is, whatever its sender says that it is. Pure."""

from __future__ import annotations

import json
from typing import Final

PDF_MARGIN: Final = 1024
"""Bytes from either end within which a PDF says what it is. ISO 32000-1, annex H, implementation notes 13 and 18."""


def is_pdf(body: bytes) -> bool:
    """Whether it begins and ends as a PDF does: one that was cut off does not."""
    return b"%PDF-" in body[:PDF_MARGIN] and b"%%EOF" in body[-PDF_MARGIN:]


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

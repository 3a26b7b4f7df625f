"""Runbook pages as text: read, completed with the reasons every kind shares, and indexed by anchor.

Beside a configuration also with its own probes in order (`checks`) and its own values in the commands (`filling`).
"""

from tocsin.runbooks.pages import (
    Heading,
    Page,
    PageError,
    Section,
    find_page,
    list_pages,
    read_page,
    shared_sections,
)

__all__ = ["Heading", "Page", "PageError", "Section", "find_page", "list_pages", "read_page", "shared_sections"]

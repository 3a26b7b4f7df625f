"""Runbook pages as text: read, completed with the reasons every kind shares, and indexed by anchor.

Where nobody has written one, it is made from the probes.

Beside a configuration also with its own probes in order (`checks`) and its own values in the commands (`filling`).
"""

from tocsin.runbooks.making import made_page
from tocsin.runbooks.pages import (
    Heading,
    Page,
    PageError,
    Section,
    find_page,
    folders,
    list_pages,
    read_page,
    shared_sections,
    shared_source,
)
from tocsin.runbooks.patience import Patience

__all__ = [
    "Heading",
    "Page",
    "PageError",
    "Patience",
    "Section",
    "find_page",
    "folders",
    "list_pages",
    "made_page",
    "read_page",
    "shared_sections",
    "shared_source",
]

"""Runbook pages as text: read, completed with the reasons every kind shares, and indexed by anchor."""

from tocsin.runbooks.pages import Heading, Page, PageError, Section, find_page, list_pages, read_page

__all__ = ["Heading", "Page", "PageError", "Section", "find_page", "list_pages", "read_page"]

"""Logs: one event a line, JSON or for a console, every value redacted before it is written."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, MutableMapping
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

from tocsin.model.redaction import NOTHING_SECRET, Redactor


class Veil:
    """Masks what is secret in the configuration that runs, and in the one before: what it began may still end."""

    def __init__(self) -> None:
        self._redactors = (NOTHING_SECRET, NOTHING_SECRET)

    def cover(self, secrets: Iterable[str]) -> None:
        """From now on these values. From any thread."""
        self._redactors = (Redactor.of(secrets), self._redactors[0])

    def __call__(self, text: str) -> str:
        for redactor in self._redactors:
            text = redactor.text(text)
        return text


VEIL = Veil()
"""The process's own, as its logs are."""


class Sink:
    """Where lines go. One that cannot be written (a full disk, a reader that is gone) is lost; nobody fails for it."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._file.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()


def configure_logs(level: str, style: str) -> None:
    """Sets up structlog and the standard library's loggers for the process.

    ``level``: debug, info, warning or error. ``style``: json, console, or auto (console on a terminal). Every text
    goes through `VEIL`, exceptions after they are formatted.
    """
    colours = sys.stderr.isatty()
    renderer: Any
    if style == "json" or (style == "auto" and not colours):
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=colours)

    def clean(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for key, value in event.items():
            if isinstance(value, str):
                event[key] = VEIL(value)
        return event

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    sink = Sink(sys.stderr)
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, clean, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(file=cast("TextIO", sink)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sink)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, clean, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)

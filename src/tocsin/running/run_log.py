"""The logger that a run gets: it knows the run's identifiers and lets no secret of its probe out."""

from __future__ import annotations

import sys
import traceback
from typing import Any

import structlog

from tocsin.model.redaction import one_line
from tocsin.running.active import ActiveProbe

_logger = structlog.get_logger("tocsin.probe")


class RunLog:
    """Takes structlog's keyword style and the ``%s`` style of `logging`."""

    __slots__ = ("_active", "_identity")

    def __init__(self, active: ActiveProbe, trace_id: str, request_id: str) -> None:
        self._active = active
        self._identity = {"probe": active.spec.name, "trace_id": trace_id, "request_id": request_id}

    def debug(self, event: object, *args: object, **fields: Any) -> None:
        self._emit("debug", event, args, fields)

    def info(self, event: object, *args: object, **fields: Any) -> None:
        self._emit("info", event, args, fields)

    def warning(self, event: object, *args: object, **fields: Any) -> None:
        self._emit("warning", event, args, fields)

    def error(self, event: object, *args: object, **fields: Any) -> None:
        self._emit("error", event, args, fields)

    def exception(self, event: object, *args: object, **fields: Any) -> None:
        """Like `error`, with the traceback of the exception that is being handled."""
        self._emit("error", event, args, {**fields, "exc_info": True})

    def _emit(self, level: str, event: object, args: tuple[object, ...], fields: dict[str, Any]) -> None:
        redact = self._active.redactor().text
        text = one_line(redact(_formatted(event, args)))
        if fields.pop("exc_info", None) and (error := sys.exc_info()[1]) is not None:
            fields["exception"] = "".join(traceback.format_exception(error))
        shown = {name: value if isinstance(value, int | float | None) else str(value) for name, value in fields.items()}
        masked = {name: redact(value) if isinstance(value, str) else value for name, value in shown.items()}
        getattr(_logger, level)(text, **{**masked, **self._identity})


def _formatted(event: object, args: tuple[object, ...]) -> str:
    try:
        return str(event) % args if args else str(event)
    except (TypeError, ValueError):
        return f"{event} {args}"

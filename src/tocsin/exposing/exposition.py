"""The two text formats of Prometheus: escaping, numbers, headers.

Text 0.0.4: https://prometheus.io/docs/instrumenting/exposition_formats/. OpenMetrics 1.0:
https://prometheus.io/docs/specs/om/open_metrics_spec/. Sample lines are the same in both; only the header of a counter
and the end of the text differ.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family as documented. ``name`` as in its samples: a counter's ends in ``_total``."""

    name: str
    type: Literal["gauge", "counter", "histogram"]
    help: str
    labels: tuple[str, ...] = ()

    def header(self, openmetrics: bool) -> str:
        """The HELP and TYPE lines. OpenMetrics names a counter without its ``_total``, and escapes quotes in help."""
        name = self.name.removesuffix("_total") if openmetrics and self.type == "counter" else self.name
        text = self.help.translate(_ESCAPES if openmetrics else _HELP_ESCAPES)
        return f"# HELP {name} {text}\n# TYPE {name} {self.type}\n"


def label_set(labels: Mapping[str, str] | Iterable[tuple[str, str]]) -> str:
    """``{a="x",b="y"}``, empty without labels. Lone surrogates, which UTF-8 does not take, become ``?``."""
    pairs = labels.items() if isinstance(labels, Mapping) else labels
    inner = ",".join(f'{name}="{escape(value)}"' for name, value in pairs)
    return f"{{{inner}}}" if inner else ""


def escape(value: str) -> str:
    """A label value between its quotes."""
    return value.translate(_ESCAPES).encode("utf-8", "replace").decode() if not value.isalnum() else value


def number(value: float) -> str:
    """A value as both formats write it."""
    if math.isfinite(value):
        return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
    return "NaN" if math.isnan(value) else ("+Inf" if value > 0 else "-Inf")


def accepts_openmetrics(accept: str) -> bool:
    """Whether an Accept header wants OpenMetrics 1.0 at least as much as plain text. RFC 9110 section 12.5.1."""
    offers: dict[str, float] = {}
    for part in accept.split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        settings = dict(parameter.split("=", 1) for parameter in parameters if "=" in parameter)
        if media == "application/openmetrics-text" and settings.get("version", "1.0.0") not in ("0.0.1", "1.0.0"):
            continue
        try:
            quality = float(settings.get("q", "1"))
        except ValueError:
            continue
        offers[media] = max(quality, offers.get(media, 0.0))
    wanted = offers.get("application/openmetrics-text", 0.0)
    return wanted > 0 and wanted >= max(offers.get("text/plain", 0.0), 0.0)

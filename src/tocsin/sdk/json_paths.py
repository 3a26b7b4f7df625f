"""Values out of JSON documents by JMESPath expressions that a configuration gives. https://jmespath.org/specification"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any

import jmespath
from jmespath.exceptions import JMESPathError, JMESPathTypeError
from jmespath.parser import ParsedResult
from pydantic import AfterValidator

from tocsin.model import CommonReason
from tocsin.sdk.faults import ProbeFault


@lru_cache(maxsize=4096)
def _compiled(expression: str) -> ParsedResult:
    return jmespath.compile(expression)


def _must_compile(expression: str) -> str:
    try:
        if expression:
            _compiled(expression).search(None)
    except JMESPathTypeError:
        pass  # right for a document of another shape
    except JMESPathError as error:
        raise ValueError(f"{expression!r} is not a JMESPath expression: {str(error).splitlines()[0]}") from None
    return expression


JsonPath = Annotated[str, AfterValidator(_must_compile)]
"""A setting that is a JMESPath expression; may be empty where the kind says so."""


def find(expression: str, document: Any) -> Any:
    """What the expression finds; None for nothing. Raises `ProbeFault` (unexpected_body) when it does not fit."""
    try:
        return _compiled(expression).search(document)
    except JMESPathError as error:
        detail = f"{expression}: {' '.join(str(error).split())[:200]}"
        raise ProbeFault(CommonReason.UNEXPECTED_BODY, detail) from error

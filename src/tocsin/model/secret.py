"""Secrets as references that never print, read anew at each use so that rotation needs no restart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

MASK = "********"


class Reference(str):
    """An interpolated configuration value that can be rendered again later.

    It *is* its current text, so that any setting can take it; a `Secret` keeps the ``render`` function and calls it
    for each use. ``render`` raises `OSError` when a file it names cannot be read. ``identity`` is what was configured:
    the text with the names of files in place of their content, so that it stays while a file is rotated. ``parts``:
    each variable that it was made from, with what that brought in.
    """

    render: Callable[[], str]
    source: str
    identity: str
    parts: tuple[tuple[str, str], ...]

    def __new__(
        cls,
        text: str,
        render: Callable[[], str],
        source: str,
        identity: str | None = None,
        parts: tuple[tuple[str, str], ...] = (),
    ) -> Self:
        self = super().__new__(cls, text)
        self.render = render
        self.source = source
        self.identity = text if identity is None else identity
        self.parts = parts
        return self


class Secret:
    """A value that is never shown: ``str``, ``repr``, logs and JSON give a mask. `reveal` reads it."""

    __slots__ = ("_identity", "_render", "source")

    def __init__(self, value: str) -> None:
        text = str(value)
        self._render: Callable[[], str] = value.render if isinstance(value, Reference) else lambda: text
        self.source = value.source if isinstance(value, Reference) else "literal"
        self._identity = value.identity if isinstance(value, Reference) else text

    def reveal(self) -> str:
        """The secret as it is now. Raises `OSError` when the file it refers to cannot be read."""
        return self._render()

    def identity(self) -> str:
        """What was configured (`Reference.identity`), for the digest of a configuration. As secret as the secret."""
        return self._identity

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.source == other.source and self._peek() == other._peek()

    def __hash__(self) -> int:
        return hash(self.source)

    def _peek(self) -> str | None:
        try:
            return self._render()
        except OSError:
            return None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def build(value: object) -> Secret:
            if isinstance(value, Secret):
                return value
            if isinstance(value, str):
                return cls(value)
            raise ValueError("a secret is a string; quote it in YAML")

        return core_schema.no_info_plain_validator_function(
            build,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda _: MASK, when_used="always"),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        return {"type": "string", "writeOnly": True, "format": "password"}

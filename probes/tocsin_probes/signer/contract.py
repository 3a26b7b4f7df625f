"""How a signer is spoken to, as configuration: what is sent, and where the result is in the answer. Pure."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from tocsin.sdk import CommonReason, ProbeFault, Secret
from tocsin.sdk.documents import parse_json
from tocsin.sdk.faults import quoted
from tocsin.sdk.json_paths import JsonPath, find

Encoding = Literal["base64", "base64url", "hex", "raw"]

Values = Mapping[str, bytes | str]
"""What the placeholders of a template stand for: bytes are encoded as the request says, texts stay as they are."""

_PLACEHOLDER = re.compile(r"\{([a-z_]+)(?::(base64url|base64|hex|raw))?\}")


def _one_group(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
    if pattern and groups != 1:
        raise ValueError(f"{pattern!r} has {groups} groups; put exactly the value into ( )")
    return pattern


class Part(BaseModel):
    """Base of the nested settings: strict and frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, arbitrary_types_allowed=True)


class Request(Part):
    """One request. In ``path`` and ``body`` stand placeholders such as ``{message}`` or ``{key_id}``; ``{message:hex}``
    asks for an encoding of its own."""

    method: Annotated[str, Field(pattern=r"^[A-Z]+$")] = "POST"
    path: str = ""
    """What follows the endpoint's address: ``/v1/transit/decrypt/{key_id}``. HTTP only."""
    rpc: str = ""
    """``package.Service/Method``. gRPC only."""
    body: dict[str, Any] | list[Any] | str | None = None
    """A mapping or list is sent as JSON (for gRPC: as the message, by protobuf's JSON mapping), a text as it is.
    Credentials belong into ``auth`` and ``headers``: this is shown."""
    headers: Mapping[str, Secret] = {}
    encoding: Encoding = "base64"
    """How bytes are written in place of a placeholder. ``raw`` is for a body that is a text."""

    def placeholders(self) -> set[str]:
        """The names of all placeholders."""
        text = self.path + (self.body if isinstance(self.body, str) else json.dumps(self.body))
        return {match[1] for match in _PLACEHOLDER.finditer(text)}

    def path_with(self, values: Values) -> str:
        return str(_filled(self.path, values, self.encoding))

    def message_with(self, values: Values) -> Any:
        """The body with its placeholders filled in: a document."""
        return _filled(self.body, values, self.encoding)

    def content_with(self, values: Values) -> bytes | None:
        """The body as it is sent over HTTP."""
        if self.body is None:
            return None
        if isinstance(self.body, str):
            return _filled_bytes(self.body, values, self.encoding)
        return json.dumps(self.message_with(values)).encode()


class Response(Part):
    """Where the result is in the answer."""

    status: Annotated[tuple[int, ...], Field(min_length=1)] = (200,)
    extract: JsonPath = ""
    """JMESPath of the result; empty: the whole body is the result."""
    pattern: Annotated[str, AfterValidator(_one_group)] = ""
    """A regular expression whose group is the result, where more is around it: ``vault:v\\d+:(.+)``."""
    encoding: Encoding = "base64"
    """How the result is written. A whole body is taken as it is unless this is set."""
    key_id: JsonPath = ""
    """JMESPath of the id of the key that was used; it must be the operation's ``key_id``."""

    @model_validator(mode="before")
    @classmethod
    def _whole_body_is_raw(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("extract") and "encoding" not in values:
            return {**values, "encoding": "raw"}
        return values


@dataclass(frozen=True)
class Answer:
    """What came back. ``status`` is HTTP's, or, of a gRPC status, the HTTP status that says the same."""

    status: int
    body: bytes
    truncated: bool = False
    certificate_expires_at: float | None = None

    @cached_property
    def document(self) -> Any:
        """The body as JSON. Raises `ProbeFault` (unexpected_body)."""
        try:
            return parse_json(self.body.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            detail = f"HTTP {self.status}, not JSON; it begins {quoted(self.body)}"
            raise ProbeFault(CommonReason.UNEXPECTED_BODY, detail) from error


@dataclass(frozen=True, slots=True)
class Result:
    """The bytes that an operation gave, and the text they were found in, which some verifiers want back as it was."""

    value: bytes
    text: str
    start: int = 0
    end: int = 0
    encoding: Encoding = "base64"

    def with_value(self, value: bytes) -> Self:
        """The same text around another value."""
        written = str(_written(value, self.encoding))
        text = self.text[: self.start] + written + self.text[self.end :]
        return type(self)(value, text, self.start, self.start + len(written), self.encoding)


def read_result(response: Response, answer: Answer) -> Result:
    """The result in an answer of an expected status. Raises `ProbeFault` (unexpected_body)."""
    if answer.truncated:
        raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"more than {len(answer.body)} bytes of answer")
    if not response.extract and not response.pattern and response.encoding == "raw":
        return Result(answer.body, "", encoding="raw")
    found = find(response.extract, answer.document) if response.extract else answer.body.decode("utf-8", "replace")
    if not isinstance(found, str):
        shown = "nothing" if found is None else f"a JSON {type(found).__name__}"
        raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"`{response.extract}` gives {shown}, not a text")
    start, end = 0, len(found)
    if response.pattern:
        match = re.search(response.pattern, found)
        if match is None or match[1] is None:
            raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"`{response.pattern}` is not in {quoted(found)}")
        start, end = match.span(1)
    try:
        value = decoded(found[start:end].strip(), response.encoding)
    except ValueError as error:
        detail = f"the result is not {response.encoding}; it begins {quoted(found[start:end], 20)}"
        raise ProbeFault(CommonReason.UNEXPECTED_BODY, detail) from error
    return Result(value, found, start, end, response.encoding)


def decoded(text: str, encoding: Encoding) -> bytes:
    """The bytes that a text stands for. Base64 with or without padding (RFC 4648). Raises `ValueError`."""
    if encoding == "raw":
        return text.encode()
    if encoding == "hex":
        return bytes.fromhex(text.removeprefix("0x"))
    if encoding == "base64url":
        text = text.replace("-", "+").replace("_", "/")
    bare = "".join(text.split()).rstrip("=")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error


def _written(value: bytes, encoding: Encoding) -> str:
    match encoding:
        case "base64":
            return base64.b64encode(value).decode()
        case "base64url":
            return base64.urlsafe_b64encode(value).decode().rstrip("=")
        case "hex":
            return value.hex()
    try:
        return value.decode()
    except UnicodeDecodeError:
        detail = "these bytes are no text; choose base64 or hex as the request's encoding"
        raise ProbeFault(CommonReason.CONTRACT_MISSING, detail) from None


def _filled(template: Any, values: Values, encoding: Encoding) -> Any:
    if isinstance(template, str):
        return _PLACEHOLDER.sub(lambda match: _text_of(values[match[1]], match[2] or encoding), template)
    if isinstance(template, Mapping):
        return {key: _filled(inner, values, encoding) for key, inner in template.items()}
    if isinstance(template, list):
        return [_filled(inner, values, encoding) for inner in template]
    return template


def _filled_bytes(template: str, values: Values, encoding: Encoding) -> bytes:
    """As `_filled`, for a body in which raw bytes need not be text."""
    made, rest = b"", 0
    for match in _PLACEHOLDER.finditer(template):
        value, chosen = values[match[1]], match[2] or encoding
        raw = isinstance(value, bytes) and chosen == "raw"
        made += template[rest : match.start()].encode()
        made += value if raw and isinstance(value, bytes) else _text_of(value, chosen).encode()
        rest = match.end()
    return made + template[rest:].encode()


def _text_of(value: bytes | str, encoding: Any) -> str:
    return value if isinstance(value, str) else _written(value, encoding)

"""Keeping secrets and control characters out of what people and files get to see. Pure."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, quote_plus, unquote

from pydantic import BaseModel

from tocsin.model.secret import MASK, Secret

MAX_DETAIL_CHARACTERS = 500
"""How much free text is kept of any one detail."""
MIN_SECRET_CHARACTERS = 3
"""Shorter values are no secrets, and masking them would leave no readable text."""
MIN_START_CHARACTERS = 8
"""How much of the beginning of a secret is one, where a text was cut; less is met by chance."""

_USER_INFO = re.compile(r"[a-z][a-z0-9+.-]*://[^:/@\s]*:([^@/\s]+)@", re.IGNORECASE)
"""The password in the user information of a URI, RFC 3986 section 3.2.1."""
_KEY_VALUE = re.compile(r"(?:password|passwd|pwd|secret|token|key)\s*=\s*(?:'([^']+)'|([^\s;&']+))", re.IGNORECASE)
"""The password in a libpq connection string or the parameters of a URL."""
_PERCENT = re.compile(r"%[0-9A-F]{2}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def one_line(text: str, limit: int = MAX_DETAIL_CHARACTERS) -> str:
    """``text`` on one line, without control characters and lone surrogates, at most ``limit`` characters long."""
    if not text:
        return text
    line = _CONTROL.sub(" ", text[: 4 * limit]).strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"


@dataclass(frozen=True, slots=True)
class Redactor:
    """Masks known secrets: as they are, percent-encoded, in base64, escaped in JSON; passwords inside DSNs too.

    What is masked is masked in text and in bytes alike. In text the beginning of a secret is masked too where the text
    was cut: at its end, and before an ellipsis.
    """

    _text: re.Pattern[str] | None
    _data: re.Pattern[bytes] | None
    _long: tuple[str, ...] = ()

    @classmethod
    def of(cls, secrets: Iterable[str]) -> Self:
        """A redactor for these values. Those shorter than `MIN_SECRET_CHARACTERS` are left alone."""
        parts = {part for secret in secrets for part in _parts(secret)}
        forms = {form for part in parts for form in _forms(part)}
        if not forms:
            return cls(None, None)
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        pattern = "|".join(map(re.escape, longest_first))
        long = tuple(sorted(part for part in parts if len(part) > MIN_START_CHARACTERS))
        return cls(re.compile(pattern), re.compile(pattern.encode("utf-8", "surrogatepass")), long)

    def text(self, text: str) -> str:
        """``text`` with every secret masked."""
        if self._text is None or not text:
            return text
        return "…".join(map(self._without_start, self._text.sub(MASK, text).split("…")))

    def data(self, data: bytes) -> bytes:
        """``data`` with every secret masked, for text in UTF-8 or any superset of ASCII."""
        return self._data.sub(MASK.encode(), data) if self._data is not None and data else data

    def _without_start(self, piece: str) -> str:
        """``piece`` without the beginning of a secret at its end."""
        for secret in self._long:
            at = piece.rfind(secret[:MIN_START_CHARACTERS])
            if at >= 0 and secret.startswith(cut := piece[at:].rstrip("'\"")):
                return piece[:at] + MASK + piece[at + len(cut) :]
        return piece


NOTHING_SECRET = Redactor.of(())


def secrets_in(value: object) -> Iterator[Secret]:
    """Every `Secret` in validated settings, however deep in models, mappings and lists."""
    match value:
        case Secret():
            yield value
        case BaseModel():
            for _, inner in value:
                yield from secrets_in(inner)
        case Mapping():
            for inner in value.values():
                yield from secrets_in(inner)
        case list() | tuple() | set() | frozenset():
            for inner in value:
                yield from secrets_in(inner)


def _parts(secret: str) -> set[str]:
    """The secret, the words of an Authorization header, and the passwords that a DSN or URL carries."""
    parts = {secret, secret.strip()}
    words = secret.split()
    if len(words) > 1:
        parts.update(word for word in words if len(word) >= 2 * MIN_SECRET_CHARACTERS and "=" not in word)
    for match in (*_USER_INFO.finditer(secret), *_KEY_VALUE.finditer(secret)):
        found = next(group for group in match.groups() if group)
        parts.update((found, unquote(found)))
    return {part for part in parts if len(part) >= MIN_SECRET_CHARACTERS}


def _forms(part: str) -> set[str]:
    percent = {quote(part, safe=""), quote(part), quote_plus(part)}
    lower = {_PERCENT.sub(lambda match: match[0].lower(), form) for form in percent}
    forms = {part, *percent, *lower, json.dumps(part)[1:-1], json.dumps(part, ensure_ascii=False)[1:-1]}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        forms.update(_base64_forms(part.encode("utf-8", "surrogatepass"), encode))
    return {form for form in forms if len(form) >= MIN_SECRET_CHARACTERS}


def _base64_forms(data: bytes, encode: Callable[[bytes], bytes]) -> set[str]:
    """How the bytes look inside a longer base64 text, at each of the three alignments (RFC 4648 section 4).

    The characters at either end that also depend on the neighbours are left out.
    """
    forms = set()
    for shift in range(3):
        encoded = encode(b"\0" * shift + data).decode()
        start = (shift * 8 + 5) // 6
        end = (shift + len(data)) * 8 // 6
        inner = encoded[start:end]
        if len(inner) >= 2 * MIN_SECRET_CHARACTERS:
            forms.add(inner)
    whole = encode(data).decode()
    if len(whole.rstrip("=")) >= 2 * MIN_SECRET_CHARACTERS:
        forms.update((whole, whole.rstrip("=")))
    return forms

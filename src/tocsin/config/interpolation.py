"""``${NAME}``, ``${NAME:-default}`` and ``${file:/path}`` in values; ``$$`` is a dollar sign.

Defaults and paths may hold references again: ``${A:-${B}}``, ``${file:${CREDENTIALS_DIRECTORY}/key}``. A dollar sign
before anything but ``{`` or ``$`` is itself, so that regular expressions and SQL parameters need no escape. A
variable that is set to nothing counts as unset: templates of env files list variables with nothing after the ``=``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from tocsin.config.reading import digest, read_secret
from tocsin.model import Reference

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MARK = re.compile(r"[$}]")
_MAX_NESTED = 10
_FORMS = "write ${NAME}, ${NAME:-default}, ${file:/path}, or $$ for a dollar sign"


class UnsetVariable(Exception):
    """A variable without a default is not set, or set to nothing."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class UnreadableFile(Exception):
    """A ``${file:…}`` cannot be read. ``fixed``: its path is written out, no variable chose it."""

    def __init__(self, path: str, why: str, fixed: bool) -> None:
        super().__init__(f"cannot read {path}: {why}")
        self.path = path
        self.fixed = fixed


@dataclass(frozen=True, slots=True)
class Variable:
    """``${NAME}`` or ``${NAME:-default}``."""

    name: str
    default: Template | None


@dataclass(frozen=True, slots=True)
class FileContent:
    """``${file:/path}``."""

    path: Template


Template: TypeAlias = "tuple[str | Variable | FileContent, ...]"


@dataclass(slots=True)
class Variables:
    """Where references are looked up: ``values`` by name; ``read`` gives a file's text or raises `OSError`.

    ``files`` collects every file that was read, with its digest, for the watcher; ``contents`` their texts.
    """

    values: Mapping[str, str] = field(repr=False)
    read: Callable[[Path], str] = read_secret
    files: dict[Path, str | None] = field(default_factory=dict, repr=False)
    contents: dict[Path, str] = field(default_factory=dict, repr=False)

    def content(self, path: Path) -> str:
        """The file's text, read once. Raises `OSError`."""
        if path not in self.contents:
            # The digest first: a change between the two reads is then seen as one, by the watcher.
            self.files[path] = digest(path)
            self.contents[path] = self.read(path)
        return self.contents[path]


@dataclass(frozen=True, slots=True)
class _Rendering:
    """A template with its variables filled in; files stay paths, to be read again for each use."""

    pieces: tuple[str | Path, ...]
    read: Callable[[Path], str]

    def __repr__(self) -> str:
        return "_Rendering()"

    def __call__(self) -> str:
        return "".join(self.read(piece) if isinstance(piece, Path) else piece for piece in self.pieces)

    @property
    def identity(self) -> str:
        return "".join(f"${{file:{piece}}}" if isinstance(piece, Path) else piece for piece in self.pieces)


def interpolate(text: str, variables: Variables) -> str:
    """The text with its references filled in: a `Reference` when it has any, else a plain string.

    The reference's ``source`` names what it was made from, never the value: ``${DB_PASSWORD}``,
    ``${file:/run/secrets/x}``. Raises `UnsetVariable`, `UnreadableFile`, and `ValueError` for a malformed reference.
    """
    template = parse(text)
    if all(isinstance(part, str) for part in template):
        return "".join(part for part in template if isinstance(part, str))
    sources: list[str] = []
    pieces: list[str | Path] = []
    parts: dict[str, str] = {}
    for part in template:
        made = _pieces((part,), variables, sources)
        pieces += made
        if isinstance(part, Variable):
            parts[part.name] = _text(made, variables)
    rendering = _Rendering(tuple(pieces), variables.read)
    source = ", ".join(dict.fromkeys(sources))
    return Reference(_text(pieces, variables), rendering, source, rendering.identity, tuple(parts.items()))


def _text(pieces: Iterable[str | Path], variables: Variables) -> str:
    return "".join(variables.content(piece) if isinstance(piece, Path) else piece for piece in pieces)


def parse(text: str) -> Template:
    """The parts of a value. Raises `ValueError` that says what is malformed, quoting nothing but the forms."""
    template, _ = _parse(text, 0, depth=0)
    return template


def _parse(text: str, start: int, *, depth: int) -> tuple[Template, int]:
    if depth > _MAX_NESTED:
        raise ValueError(f"references inside one another, more than {_MAX_NESTED} deep")
    parts: list[str | Variable | FileContent] = []
    literal = ""
    at = start
    while at < len(text):
        if text.startswith("$$", at):
            literal += "$"
            at += 2
        elif text.startswith("${", at):
            part, at = _parse_reference(text, at + 2, depth + 1)
            parts += [literal, part]
            literal = ""
        elif depth and text[at] == "}":
            return _joined(parts, literal), at + 1
        else:
            mark = _MARK.search(text, at + 1)
            following = mark.start() if mark is not None else len(text)
            literal += text[at:following]
            at = following
    if depth:
        raise ValueError(f"a ${{ is not closed; {_FORMS}")
    return _joined(parts, literal), at


def _parse_reference(text: str, at: int, depth: int) -> tuple[Variable | FileContent, int]:
    if text.startswith("file:", at):
        path, end = _parse(text, at + 5, depth=depth)
        return FileContent(path), end
    name = _NAME.match(text, at)
    if name is not None and text.startswith("}", name.end()):
        return Variable(name[0], None), name.end() + 1
    if name is not None and text.startswith(":-", name.end()):
        default, end = _parse(text, name.end() + 2, depth=depth)
        return Variable(name[0], default), end
    raise ValueError(f"a ${{…}} that is none of the known forms; {_FORMS}")


def _joined(parts: list[str | Variable | FileContent], last: str) -> Template:
    return tuple(part for part in (*parts, last) if part != "")


def _pieces(template: Template, variables: Variables, sources: list[str]) -> list[str | Path]:
    pieces: list[str | Path] = []
    for part in template:
        if isinstance(part, str):
            pieces.append(part)
        elif isinstance(part, FileContent):
            pieces.append(_file(part, variables, sources))
        elif value := variables.values.get(part.name, ""):
            sources.append(f"${{{part.name}}}")
            pieces.append(value)
        elif part.default is None:
            raise UnsetVariable(part.name)
        else:
            sources.append(f"${{{part.name}}} unset, its default")
            try:
                pieces += _pieces(part.default, variables, sources)
            except UnsetVariable:
                # The first of the names is the one that the setting asks for.
                raise UnsetVariable(part.name) from None
    return pieces


def _file(part: FileContent, variables: Variables, sources: list[str]) -> Path:
    written = "".join(str(piece) for piece in _pieces(part.path, variables, []))
    fixed = all(isinstance(piece, str) for piece in part.path)
    path = Path(written)
    if not path.is_absolute():
        raise UnreadableFile("a ${file:…}", "write an absolute path", fixed)
    try:
        variables.content(path)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "not a file name"
        raise UnreadableFile(written, why, fixed) from None
    sources.append(f"${{file:{written}}}")
    return path

"""Files and environment → `Configuration`, in seven steps:

1. read the user's own file and its top level; 2. read the env files; 3. read the profiles; 4. lay the declarations of
each probe over one another; 5. make a spec of each; 6. check what they say of one another; 7. put it all together.

Precedence for one setting of a probe, lowest first: tocsin's default, ``defaults`` of a profile (for the probes it
declares), ``defaults`` of the user's file, the profiles in their order (after those that they name themselves), the
user's file. For a variable: the env file
that the configuration names, the one on the command line, the process environment. No variable is ever exported:
``os.environ`` is only read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from tocsin.config.configuration import Configuration, Sources
from tocsin.config.control_target import ControlTarget
from tocsin.config.declaration import Defaults, DocumentSettings
from tocsin.config.dependencies import check_dependencies
from tocsin.config.document import Located, Origin, parse
from tocsin.config.envfile import parse_env_file
from tocsin.config.errors import MAX_HINTS, ConfigError, Problem, nearest
from tocsin.config.filling import fill
from tocsin.config.interpolation import Variables
from tocsin.config.merging import merge
from tocsin.config.reading import MAX_DOCUMENT_BYTES, digest_of, read_file
from tocsin.config.specifying import Surroundings, problem, specify
from tocsin.config.translation import translate
from tocsin.data import data
from tocsin.model import ProbeSpec
from tocsin.sdk import Probe

_READ_FIRST = ("profiles", "env_file")
"""What has to be known before anything else can be read; of the user's own file only."""


def load(sources: Sources, registry: Mapping[str, type[Probe]]) -> Configuration:
    """The whole configuration, or `ConfigError` with every problem that was found. Reads files: not for a loop."""
    if sources.config_file is None and not sources.profiles:
        raise ConfigError([Problem("tocsin", 0, "", "nothing is configured", "give --config FILE or --profile NAME")])
    reading = _Reading()
    own = reading.document(sources.config_file, str(sources.config_file)) if sources.config_file else None
    process = Variables(sources.environ)
    first = _top_level(own, process, reading, only=_READ_FIRST) if own else DocumentSettings()
    variables = Variables(_variables(sources, first, reading))
    profiles = _profiles(sources, own, first, reading)
    reading.stop_at_problems()

    documents = [*profiles, own] if own else profiles
    top = DocumentSettings()
    for document in documents:
        given = _top_level(document, variables, reading)
        top = top.model_copy(update={key: getattr(given, key) for key in given.model_fields_set})
    vantage = sources.vantage or top.vantage
    written = _written(profiles, own, variables, reading)
    probes = _probes(written, Surroundings(variables, registry, vantage), reading)
    if not probes and not reading.problems:
        reading.problems.append(Problem(documents[-1].at.origin.name, 0, "probes", "no probe is left to run"))
    reading.stop_at_problems()
    files = MappingProxyType({**reading.files, **process.files, **variables.files})
    controls = tuple(map(ControlTarget.parse, top.controls))
    return Configuration(MappingProxyType(probes), controls, top.caps.caps(), vantage, files)


@dataclass(slots=True)
class _Reading:
    """What one load has read so far, and what was wrong with it."""

    files: dict[Path, str | None] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def content(self, path: Path, name: str) -> bytes | None:
        """The file's content; None, and a problem, when it cannot be read."""
        try:
            content = read_file(path, MAX_DOCUMENT_BYTES)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else "not a file name"
            self.problems.append(Problem(name, 0, "", f"cannot be read: {why}"))
            return None
        self.files[path.absolute()] = digest_of(content)
        return content

    def document(self, path: Path, name: str, *, bundled: bool = False) -> Located | None:
        """The file as a document; None, and its problems, when it is none."""
        content = self.content(path, name)
        if content is None:
            return None
        try:
            return parse(content, Origin(name, bundled))
        except ConfigError as error:
            self.problems += error.problems
            return None

    def stop_at_problems(self) -> None:
        if self.problems:
            raise ConfigError(self.problems)


def _top_level(
    document: Located, variables: Variables, reading: _Reading, only: tuple[str, ...] = ()
) -> DocumentSettings:
    """The top level of a document (``only`` these keys of it); tocsin's defaults where it is wrong."""
    written = {key: value for key, value in document.mapping.items() if not only or key in only}
    sections = {key: written.pop(key) for key in ("defaults", "probes") if key in written}
    filled = fill(Located(dict(written), document.at), variables, lenient=False)
    reading.problems += filled.problems
    # What is in the sections is validated probe by probe; here only that they are mappings, or empty.
    shapes: dict[str, Any] = {
        key: {} if isinstance(value.value, dict | None) else value.value for key, value in sections.items()
    }
    try:
        return DocumentSettings.model_validate({**filled.data, **shapes})
    except ValidationError as error:
        reading.problems += translate(error, document, "", (DocumentSettings,), filled.references)
        return DocumentSettings()


def _variables(sources: Sources, first: DocumentSettings, reading: _Reading) -> dict[str, str]:
    """All variables, by precedence."""
    variables: dict[str, str] = {}
    paths = [_beside(sources, first.env_file)] if first.env_file else []
    for path in (*paths, *([sources.env_file] if sources.env_file else [])):
        content = reading.content(path, str(path))
        if content is not None:
            try:
                variables |= parse_env_file(content, str(path), sources.environ)
            except ConfigError as error:
                reading.problems += error.problems
    return {**variables, **sources.environ}


def _profiles(sources: Sources, own: Located | None, first: DocumentSettings, reading: _Reading) -> list[Located]:
    """The profiles in their order, each once: those that the file names, then those of the command line. Bundled ones
    that a profile names come before it, so that it can lay its own over them."""
    named = dict.fromkeys(first.profiles, own) | {name: None for name in sources.profiles if name not in first.profiles}
    profiles: dict[str, Located | None] = {}
    for name, asking in named.items():
        _add_profile(name, asking, sources, profiles, reading)
    return [document for document in profiles.values() if document is not None]


def _add_profile(
    name: str,
    asking: Located | None,
    sources: Sources,
    profiles: dict[str, Located | None],
    reading: _Reading,
    *,
    named_by_profile: bool = False,
) -> None:
    if name in profiles:
        return
    profiles[name] = None
    if not named_by_profile and ("/" in name or name.endswith((".yaml", ".yml"))):
        path = Path(name) if asking is None else _beside(sources, name)
        document = reading.document(path, str(path))
    else:
        document = _bundled(name, asking, reading)
    if document is None:
        return
    if (env_file := document.mapping.get("env_file")) is not None:
        message = "not for a profile; it belongs in your own configuration file"
        reading.problems.append(problem(env_file, "env_file", message))
    for other in _top_level(document, Variables({}), reading, only=("profiles",)).profiles:
        _add_profile(other, document, sources, profiles, reading, named_by_profile=True)
    # Its place is behind those that it names.
    del profiles[name]
    profiles[name] = document


def _bundled(name: str, asking: Located | None, reading: _Reading) -> Located | None:
    """The bundled profile; None, and a problem where it was asked for, when there is none of this name."""
    try:
        folder = Path(str(data("profiles")))
        names = sorted(path.stem for path in folder.glob("*.yaml"))
        message = f"there is no bundled profile `{name}`"
    except FileNotFoundError as error:
        names, message = [], str(error)
    if name in names:
        return reading.document(folder / f"{name}.yaml", f"profiles/{name}.yaml", bundled=True)
    hint = nearest(name, names) or f"bundled are: {', '.join(names) or 'none'}; give a path for one of your own"
    if asking is None:
        reading.problems.append(Problem("--profile", 0, "", message, hint))
    else:
        reading.problems.append(problem(asking.mapping["profiles"], "profiles", message, hint))
    return None


def _beside(sources: Sources, name: str) -> Path:
    """A path in the configuration file counts from that file's folder."""
    return sources.config_file.parent / name if sources.config_file else Path(name)


def _written(
    profiles: list[Located], own: Located | None, variables: Variables, reading: _Reading
) -> dict[str, tuple[Located, Located]]:
    """Name → (the probe with all its layers, its first declaration)."""
    documents = [*profiles, own] if own else profiles
    defaults = {id(document): _defaults(document, variables, reading) for document in documents}
    written = {}
    for name in dict.fromkeys(name for document in documents for name in _section(document, "probes")):
        declaring = [document for document in documents if name in _section(document, "probes")]
        declarations = [_section(document, "probes")[name] for document in declaring]
        probe = merge(declarations)
        assert probe is not None
        if isinstance(probe.value, dict):
            below = [defaults[id(document)] for document in declaring if document is not own]
            base = merge([*below, *([defaults[id(own)]] if own else []), probe])
            assert base is not None
            probe = replace(base, at=probe.at, key=probe.key)
        written[name] = (probe, declarations[0])
    return written


def _section(document: Located, name: str) -> dict[str, Located]:
    section = document.mapping.get(name)
    return section.mapping if section is not None else {}


def _defaults(document: Located, variables: Variables, reading: _Reading) -> Located:
    """The document's ``defaults``; empty where they are wrong, so that each mistake is told once."""
    nothing = Located({}, document.at)
    section = document.mapping.get("defaults")
    if section is None or not isinstance(section.value, dict):
        return nothing
    filled = fill(section, variables, "defaults", lenient=False)
    reading.problems += filled.problems
    try:
        Defaults.model_validate(filled.data)
    except ValidationError as error:
        reading.problems += translate(error, section, "defaults", (Defaults,), filled.references)
        return nothing
    return nothing if filled.problems else section


def _probes(
    written: dict[str, tuple[Located, Located]], around: Surroundings, reading: _Reading
) -> dict[str, ProbeSpec]:
    known = {name for name, (probe, _) in written.items() if "kind" in probe.mapping}
    probes: dict[str, ProbeSpec] = {}
    for name, (probe, declared) in written.items():
        if isinstance(probe.value, dict) and name not in known:
            near = nearest(name, known) if len(reading.problems) < MAX_HINTS else ""
            hint = near or "give it a `kind`, or use the name that a profile declares"
            message = "no probe of this name is declared, and this one has no kind"
            reading.problems.append(problem(probe, f"probes.{name}", message, hint))
            continue
        result = specify(name, probe, declared, around)
        reading.problems += result.problems
        if result.spec is not None:
            probes[name] = result.spec
        # A probe that is switched off explains nothing any more; one that is wrong still has its name.
        if not result.enabled:
            known.discard(name)
    off = {name for name, (probe, _) in written.items() if "kind" in probe.mapping} - known
    graph = {name: spec.depends_on for name, spec in probes.items()}
    reading.problems += check_dependencies(graph, known | off, {name: probe for name, (probe, _) in written.items()})
    return {
        name: replace(spec, depends_on=tuple(other for other in spec.depends_on if other not in off))
        for name, spec in probes.items()
    }

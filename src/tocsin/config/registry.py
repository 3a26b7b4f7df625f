"""The probe kinds that are installed, found through the entry-point group ``tocsin.probes``.

A kind is imported when it is first asked for: a daemon that watches two databases does not load the clients of
twenty protocols, and a broken plugin that nobody uses disturbs nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Self

from tocsin.config.declaration import LENDABLE, Declaration
from tocsin.config.errors import nearest
from tocsin.sdk import Probe, ProbeSettings

GROUP = "tocsin.probes"


class UnknownKind(KeyError):
    """No kind of this name is installed."""

    def __init__(self, name: str, hint: str) -> None:
        super().__init__(name)
        self.message = f"the kind `{name}` is not installed"
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}"


class BrokenKind(Exception):
    """A kind is installed and cannot be used; the message names its package and what is wrong."""


class Registry(Mapping[str, type[Probe]]):
    """Kind name → class. ``registry[name]`` imports the kind; raises `UnknownKind` or `BrokenKind`."""

    def __init__(self, kinds: Mapping[str, type[Probe]] | None = None) -> None:
        self._loaded: dict[str, type[Probe]] = {}
        self._loaders: dict[str, Callable[[], object]] = {}
        self._packages: dict[str, str] = {}
        for name, kind in (kinds or {}).items():
            self._loaders[name] = lambda kind=kind: kind  # type: ignore[misc]
            self._packages[name] = kind.__module__

    @classmethod
    def discover(cls) -> Self:
        """Every kind that an installed distribution announces; none is imported yet."""
        registry = cls()
        for entry_point in entry_points(group=GROUP):
            registry.announce(entry_point)
        return registry

    def announce(self, entry_point: EntryPoint) -> None:
        """Adds the kind of one entry point; two packages that claim one name break that kind, not the others."""
        package = entry_point.dist.name if entry_point.dist is not None else entry_point.module
        name = entry_point.name
        if name in self._loaders and self._packages[name] != package:
            self._packages[name] += f" and {package}"
            self._loaders[name] = _refuse_two
        else:
            self._packages[name] = package
            self._loaders[name] = entry_point.load

    def __getitem__(self, name: str) -> type[Probe]:
        if name not in self._loaded:
            if name not in self._loaders:
                raise UnknownKind(name, nearest(name, self._loaders) or "`tocsin kinds` lists those that are")
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._loaders))

    def __len__(self) -> int:
        return len(self._loaders)

    def __contains__(self, name: object) -> bool:
        return name in self._loaders

    def package(self, name: str) -> str:
        """The distribution that brings the kind. Raises `KeyError`."""
        return self._packages[name]

    def _load(self, name: str) -> type[Probe]:
        # Importing a plugin runs its author's code, which may raise anything.
        try:
            kind = self._loaders[name]()
        except Exception as error:
            raise BrokenKind(self._blame(name, f"cannot be imported: {type(error).__name__}: {error}")) from error
        if not (isinstance(kind, type) and issubclass(kind, Probe)):
            raise BrokenKind(self._blame(name, "is not a subclass of tocsin.sdk.Probe"))
        if kind.kind != name:
            raise BrokenKind(self._blame(name, f"calls itself `{kind.kind}`"))
        if not issubclass(kind.Settings, ProbeSettings):
            raise BrokenKind(self._blame(name, "has Settings that are not tocsin.sdk.ProbeSettings"))
        taken = sorted(kind.Settings.model_fields.keys() & Declaration.model_fields.keys() - LENDABLE)
        if taken:
            raise BrokenKind(self._blame(name, f"has a setting `{taken[0]}`, which every probe has already"))
        return kind

    def _blame(self, name: str, what: str) -> str:
        return f"the kind `{name}` (from {self._packages[name]}) {what}"


def _refuse_two() -> object:
    raise ImportError("more than one package brings it; uninstall one")

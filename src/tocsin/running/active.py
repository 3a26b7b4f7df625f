"""A configured probe, ready to run: its spec, its instance, and what the engine needs to know of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import Self
from urllib.parse import urlsplit

from tocsin.model import ProbeSpec, Secret
from tocsin.model.redaction import Redactor, secrets_in
from tocsin.sdk import Probe

_REMEMBERED = 16
"""Former values of secrets, and values that runs came by, that are masked too: an answer may still quote them."""


class ActiveProbe:
    """One instance of a kind and its spec. Replaced when the settings change, kept when only the rest does."""

    def __init__(self, spec: ProbeSpec, probe: Probe | None, broken: str = "") -> None:
        self.spec = spec
        self.probe = probe
        """None while a contract is missing, while it is off by choice, or when the kind could not make an instance."""
        self.broken = broken
        """Why there is no instance although no contract is missing."""
        kind = type(probe) if probe is not None else None
        self.reasons = frozenset(info.code for info in kind.all_reasons(spec.settings)) if kind else frozenset()
        self.gauges = frozenset(gauge.name for gauge in kind.gauges) if kind else frozenset()
        self.targets: tuple[str, ...] = spec.settings.targets() if kind else ()
        self.is_elsewhere = any(map(_is_elsewhere, self.targets))
        """Whether a target is not on this machine."""
        self.told: set[str] = set()
        """What has been logged once about this probe and need not be repeated at each run."""
        self._secrets: tuple[Secret, ...] = tuple(secrets_in(spec.settings))
        self._current: dict[str, None] = {}
        self._former: list[str] = []
        self._found: list[str] = []
        self._redactor = Redactor.of(())

    @classmethod
    def install(cls, spec: ProbeSpec, kinds: Mapping[str, type[Probe]]) -> Self:
        """Makes the instance. A kind that raises in doing so is a bug in it that each run of the probe will tell."""
        if spec.missing or spec.off_because:
            return cls(spec, None)
        try:
            return cls(spec, kinds[spec.kind](spec.settings))
        except Exception as error:  # noqa: BLE001 - a broken kind must not take the others with it
            return cls(spec, None, f"{type(error).__name__}: {error}")

    def respecified(self, spec: ProbeSpec) -> ActiveProbe:
        """The same instance under another spec, which runs alike."""
        return ActiveProbe(spec, self.probe, self.broken)

    async def close(self) -> BaseException | None:
        """Closes the instance, if there is one; what that raised, if anything."""
        try:
            if self.probe is not None:
                await self.probe.close()
        except BaseException as error:  # noqa: BLE001 - a kind's mistake in closing is no reason not to close others
            return error
        return None

    def runs_alike(self, spec: ProbeSpec) -> bool:
        """Whether the instance serves ``spec`` as well."""
        mine = self.spec
        return (mine.kind, mine.settings, mine.missing, mine.off_because) == (
            spec.kind,
            spec.settings,
            spec.missing,
            spec.off_because,
        )

    def is_unchanged(self, spec: ProbeSpec) -> bool:
        """Whether ``spec`` says the same, wherever it is written."""
        return replace(self.spec, source="") == replace(spec, source="")

    def redactor(self) -> Redactor:
        """Masks this probe's secrets: all as they are now, and some as they were lately."""
        current = dict.fromkeys(value for value in map(_reveal, self._secrets) if value)
        if current != self._current:
            gone = [value for value in self._current if value not in current]
            self._former = [*gone, *self._former][:_REMEMBERED]
            self._current = current
            self._remember()
        return self._redactor

    def conceal(self, secret: str) -> None:
        """From now on also masks what a run came by."""
        if secret not in self._found:
            self._found = [secret, *self._found][:_REMEMBERED]
            self._remember()

    def _remember(self) -> None:
        self._redactor = Redactor.of([*self._current, *self._former, *self._found])

    def first_time(self, what: str) -> bool:
        """True once for each ``what``, so that a probe that is wrong at each run is logged once."""
        if what in self.told or len(self.told) >= 100:
            return False
        self.told.add(what)
        return True


def _reveal(secret: Secret) -> str | None:
    try:
        return secret.reveal()
    except OSError:
        return None


def _is_elsewhere(target: str) -> bool:
    """``target`` as `ProbeSettings.targets` gives it: a URL with a host, a socket or a file."""
    try:
        host = urlsplit(target).hostname
    except ValueError:
        return False
    if not host or urlsplit(target).scheme in ("unix", "file"):
        return False
    try:
        address = ip_address(host)
        return not (address.is_loopback or address.is_unspecified)
    except ValueError:
        return host != "localhost"

"""The probes of all bundled profiles, for what is written and checked about them."""

from __future__ import annotations

from collections.abc import Mapping

from tocsin.config.configuration import Sources
from tocsin.config.loading import load
from tocsin.data import data
from tocsin.model import ProbeSpec
from tocsin.sdk import Probe


def bundled_probes(registry: Mapping[str, type[Probe]]) -> dict[str, ProbeSpec]:
    """By name, without any variable. Each profile is read alone, because variants of one platform lay their own over
    what they share; a probe that several have is as the first of them, by name, has it."""
    probes: dict[str, ProbeSpec] = {}
    for name in sorted(file.name.removesuffix(".yaml") for file in data("profiles").iterdir() if file.is_file()):
        probes = probes | {
            probe: spec
            for probe, spec in load(Sources(profiles=(name,), environ={}), registry).probes.items()
            if probe not in probes
        }
    return probes

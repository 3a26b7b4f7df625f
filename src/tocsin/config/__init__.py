"""Files and environment become validated specs: strict YAML, interpolation, profiles, registry, diff."""

from tocsin.config.bundled import bundled_probes
from tocsin.config.caps import Cap, Caps
from tocsin.config.configuration import Configuration, Sources
from tocsin.config.control_target import ControlTarget
from tocsin.config.describing import PlannedProbe, describe
from tocsin.config.difference import Difference, diff
from tocsin.config.errors import ConfigError, Problem
from tocsin.config.loading import load
from tocsin.config.process import Listen, ProcessSettings, process_settings
from tocsin.config.registry import BrokenKind, Registry, UnknownKind
from tocsin.config.watching import FileWatch

__all__ = [
    "BrokenKind",
    "Cap",
    "Caps",
    "ConfigError",
    "Configuration",
    "ControlTarget",
    "Difference",
    "FileWatch",
    "Listen",
    "PlannedProbe",
    "Problem",
    "ProcessSettings",
    "Registry",
    "Sources",
    "UnknownKind",
    "bundled_probes",
    "describe",
    "diff",
    "load",
    "process_settings",
]

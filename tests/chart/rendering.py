"""The chart as helm renders it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from estate.install import ensure

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "tocsin"
EVERYTHING = Path(__file__).parent / "everything.yaml"
RELEASE, NAMESPACE = "watch", "monitoring"
KUBERNETES = "1.34.4"


class Loader(yaml.SafeLoader):
    """Takes a lone ``=`` for text, as Kubernetes does: YAML 1.1 has a type of its own for it."""


Loader.add_constructor("tag:yaml.org,2002:value", Loader.construct_yaml_str)


@dataclass(frozen=True)
class Answer:
    """What helm said."""

    status: int
    out: str
    error: str


def helm(*arguments: str) -> Answer:
    done = subprocess.run(
        [str(ensure("helm") / "bin" / "helm"), *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def rendered(*options: str, chart: Path = CHART) -> list[dict[str, Any]]:
    """The objects of ``helm template``. Raises AssertionError with what helm said."""
    answer = helm(*("template", RELEASE, str(chart), "--namespace", NAMESPACE, "--kube-version", KUBERNETES), *options)
    assert answer.status == 0, answer.error
    return [document for document in yaml.load_all(answer.out, Loader) if document]


def of_kind(objects: list[dict[str, Any]], kind: str) -> Iterator[dict[str, Any]]:
    return (each for each in objects if each["kind"] == kind)


def only(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = of_kind(objects, kind)
    return found

"""Copy alert rules and dashboards into the chart: ``python helm/sync.py``; with ``--check`` only tell what differs.

Helm reads files below the chart alone. Exit status 1 when the check finds a difference.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHART = ROOT / "helm" / "tocsin" / "files"
COPIED = {"alerts": "*.yaml", "alerts/optional": "*.yaml", "dashboards": "*.json"}


def wanted(root: Path = ROOT) -> Mapping[str, bytes]:
    """What the chart's files are to hold, by their path below its folder ``files``."""
    return {
        f"{folder}/{path.name}": path.read_bytes()
        for folder, pattern in COPIED.items()
        for path in sorted((root / folder).glob(pattern))
    }


def present(chart: Path = CHART) -> Mapping[str, bytes]:
    """What they hold."""
    return {path.relative_to(chart).as_posix(): path.read_bytes() for path in chart.rglob("*") if path.is_file()}


def main(arguments: Sequence[str], root: Path = ROOT, chart: Path = CHART) -> int:
    """Copy and remove, or with ``--check`` compare. The exit status."""
    new, old = wanted(root), present(chart)
    differ = sorted(name for name in new.keys() | old.keys() if new.get(name) != old.get(name))
    if arguments == ["--check"]:
        for name in differ:
            sys.stderr.write(f"helm/tocsin/files/{name} is not what it is copied from; run python helm/sync.py\n")
        return 1 if differ else 0
    for name in differ:
        path = chart / name
        if name in new:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(new[name])
        else:
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

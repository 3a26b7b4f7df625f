"""Write the dashboards: ``python -m dashboards.generate``; with ``--check`` only tell which differ (exit status 1)."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import incident_scope, itself, probe, system
from dashboards.shapes import MARKS

FOLDER = Path(__file__).parent
BUILT = {
    "incident-scope": incident_scope.build,
    "system": system.build,
    "probe": probe.build,
    "itself": itself.build,
}


def rendered(built: Dashboard) -> str:
    """The dashboard as Grafana imports it."""
    document = json.loads(JSONEncoder().encode(built.build()))
    # Grafana numbers panels at the first save; what is provisioned is never saved.
    for number, panel in enumerate(document["panels"], 1):
        panel["id"] = number
    for annotation in document["annotations"].get("list", []):
        annotation.update(MARKS[annotation["name"]])
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write, or with ``--check`` compare. The exit status."""
    differ = []
    for name, build in BUILT.items():
        path, text = FOLDER / f"{name}.json", rendered(build())
        if arguments == ["--check"]:
            if not path.is_file() or path.read_text("utf-8") != text:
                differ.append(path.name)
        else:
            path.write_text(text, "utf-8")
    if differ:
        sys.stderr.write(f"these differ from what makes them; run python -m dashboards.generate: {', '.join(differ)}\n")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

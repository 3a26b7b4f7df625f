"""``python -m docs.pictures [--keep FILE | --from FILE] [NAME…]``: collect real data, draw these dashboards, or all."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from docs.pictures.asking import Answers
from docs.pictures.collecting import ROOT, collect
from docs.pictures.drawing import page, photograph

IMAGES = ROOT / "docs" / "images"


def main() -> None:
    reader = argparse.ArgumentParser(prog="python -m docs.pictures", description="Pictures of the dashboards.")
    reader.add_argument("names", nargs="*", metavar="NAME", help="as the files in dashboards/ are called; all, if none")
    reader.add_argument("--keep", type=Path, metavar="FILE", help="keep what was collected, to draw it again")
    reader.add_argument("--from", type=Path, metavar="FILE", dest="kept", help="draw what was kept")
    given = reader.parse_args()
    files = {file.stem: file for file in sorted((ROOT / "dashboards").glob("*.json"))}
    if given.kept is not None:
        documents = json.loads(given.kept.read_text("utf-8"))
        collected = {name: Answers.read(document) for name, document in documents.items()}
    else:
        collected = collect(list(files.values()), lambda line: print(line, flush=True))
    if given.keep is not None:
        given.keep.write_text(json.dumps({name: each.document() for name, each in collected.items()}), "utf-8")
    for name in given.names or files:
        html, height = page(name, json.loads(files[name].read_text("utf-8")), collected[name])
        target = IMAGES / f"dashboard-{name}.png"
        photograph(html, height, target)
        print(f"{target.relative_to(ROOT)}: {target.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()

"""A page for an incident that nobody has written one for, made from the probes that lead to it.

It is a page as any other, so that a link to it opens at its reason: what each reason of these probes means, and the
sections that every page is completed with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import yaml

from tocsin.model import ProbeSpec
from tocsin.runbooks.pages import Page, read_page, shared_sections, shared_source


def made_page(system: str, incident: str, specs: Iterable[ProbeSpec]) -> Page | None:
    """The page of an incident as these probes tell it; None when none of them leads there."""
    own = sorted((spec for spec in specs if (spec.system, spec.incident) == (system, incident)), key=lambda it: it.name)
    if not own:
        return None
    title = f"{system}: {incident}"
    front = yaml.safe_dump({"title": title, "kinds": list(dict.fromkeys(spec.kind for spec in own))})
    shared = shared_source()
    text = "\n".join(
        (
            f"# {title}\n",
            "Nobody has written this page: it is made from the probes that lead here. Write one as "
            f"`{system}/{incident}.md` in the folder that `TOCSIN_RUNBOOKS_DIR` names, and it takes this one's place; "
            "`docs/deploying.md` says how, under *Runbook pages of your own*.\n",
            "## Check first\n",
            "Run them now, by hand:\n",
            f"```sh\ntocsin probe {' '.join(spec.name for spec in own)}\n```\n",
            *_sections(own, shared),
        )
    )
    return read_page(system, incident, f"---\n{front}---\n{text}", shared)


def _sections(specs: Iterable[ProbeSpec], shared: str) -> Iterator[str]:
    """What each reason means that the shared sections do not explain."""
    explained = {reason for section in shared_sections(shared) for reason in section.reasons}
    meanings = {
        f"{spec.kind}.{info.code}": info.meaning
        for spec in specs
        for info in spec.reasons
        if info.code not in explained
    }
    if meanings:
        yield "## Reasons\n"
    for code, meaning in meanings.items():
        yield f"### `{code}`\n\n{meaning}\n"

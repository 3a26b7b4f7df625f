"""The HTML pages: templates, what they are given, and nothing that needs a script or another host."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from tocsin.exposing import documents, runbooks, views
from tocsin.exposing.site import Health, SelfFacts, Site
from tocsin.model import Entry, ProbeSpec
from tocsin.runbooks import Page, PageError, find_page, made_page
from tocsin.running.graph import Graph
from tocsin.sdk.quantities import format_duration

REFRESH_SECONDS = 15
OPEN_GROUPS_UP_TO = 60
"""Up to this many probes every group is open; beyond, groups in which all is ok are folded."""
_RUNS_SHOWN = 60
_TRANSITIONS_SHOWN = 40

STATIC = {
    "tocsin.css": "text/css",
    "ok.svg": "image/svg+xml",
    "bad.svg": "image/svg+xml",
    "unknown.svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Frame:
    """What the head of every page shows."""

    facts: SelfFacts
    health: Health
    heartbeat: str
    now: str
    notices: tuple[str, ...]


@cache
def static(name: str) -> bytes:
    """A static file's bytes. Raises `KeyError` for anything that is not one of `STATIC`."""
    if name not in STATIC:
        raise KeyError(name)
    return files("tocsin.exposing").joinpath("static", name).read_bytes()


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("tocsin.exposing"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["style"] = f"static/tocsin.css?v={hashlib.sha256(static('tocsin.css')).hexdigest()[:12]}"
    environment.globals["strip_width"] = views.STRIP_WIDTH
    environment.filters["duration"] = format_duration
    return environment


def root_at(depth: int) -> str:
    """The way to the top from a page that lies ``depth`` folders below it. Addresses in pages are relative, so that
    they hold behind a proxy that puts all of this below a path of its own."""
    return "../" * depth or "./"


def _render(template: str, **values: object) -> bytes:
    # A detail may hold a lone surrogate from a target's answer, which UTF-8 does not take.
    return _templates().get_template(template).render(**values).encode("utf-8", "replace")


def status_page(site: Site, *, refresh: bool) -> bytes:
    """The board."""
    entries, now = site.entries(), site.now()
    shown = views.overview(entries, site.history.recent, now, alive=site.health().alive)
    return _render(
        "status.html",
        root=root_at(0),
        frame=_frame(site),
        overview=shown,
        icon=_icon(shown.light),
        refresh=REFRESH_SECONDS if refresh else None,
        refresh_seconds=REFRESH_SECONDS,
        open_all=len(entries) <= OPEN_GROUPS_UP_TO,
    )


def probe_page(site: Site, name: str) -> bytes | None:
    """One probe with its history; None when there is no such probe. Reads the disk."""
    entries, now = site.entries(), site.now()
    entry = entries.get(name)
    if entry is None:
        return None
    row = views.row(entry, site.history.recent(name), now)
    evidence = site.history.evidence(name)
    return _render(
        "probe.html",
        root=root_at(1),
        frame=_frame(site),
        icon=_icon(row.light),
        entry=entry,
        row=row,
        findings=entry.state.findings if row.reason else (),
        alerting_since=views.moment(entry.state.alerting_since, now),
        last_ok=views.moment(entry.state.last_ok_at, now),
        streak=views.streak(entry.state),
        depends_on=[_neighbour(entries, other) for other in entry.spec.depends_on],
        needed_by=[_neighbour(entries, other) for other in views.dependents(entries, name)],
        measurements=entry.run.measurements if entry.run else (),
        runs=[(record, views.moment(record.started_at, now)) for record in site.history.runs(name, _RUNS_SHOWN)],
        transitions=[
            (change, views.moment(change.at, now)) for change in site.history.transitions(name, _TRANSITIONS_SHOWN)
        ],
        runbook=documents.runbook_path,
        evidence=evidence,
        attached_at=views.moment(evidence.started_at, now) if evidence is not None else None,
        text_of=documents.text_of,
    )


def runbook_page(site: Site, system: str, incident: str) -> bytes | None:
    """One incident's page with what is current on it. Where nobody has written one, or it cannot be read, one that is
    made from the probes; None when no probe leads to it either. Reads the disk."""
    entries = site.entries()
    specs = {name: entry.spec for name, entry in entries.items()}
    problem: str | None = None
    try:
        page = site.runbook(system, incident)
    except PageError as error:
        page, problem = _bundled(system, incident), f"The page that was written for this cannot be used: {error}"
    page = page or made_page(system, incident, specs.values())
    if page is None:
        return None if problem is None else message_page(site, "Not readable", problem, 2)
    current = runbooks.current_reasons(entries, system, incident)
    rendered = runbooks.render(page.text, frozenset(current), specs, _checks(site, entries, specs, system, incident))
    watching = [
        (name, views.entry_light(entry))
        for name, entry in entries.items()
        if (entry.spec.system, entry.spec.incident) == (system, incident)
    ]
    return _render(
        "runbook.html",
        root=root_at(2),
        frame=_frame(site, problem),
        icon=_icon(min((light for _, light in watching), key=lambda light: light.rank, default=views.Light.NEVER)),
        page=page,
        rendered=rendered,
        contents=[heading for heading in rendered.headings if heading.level == 2],
        current={
            reason: [(name, views.entry_light(entries[name])) for name in names] for reason, names in current.items()
        },
        watching=watching,
    )


def _bundled(system: str, incident: str) -> Page | None:
    try:
        return find_page(system, incident)
    except PageError:
        return None


def _checks(
    site: Site, entries: Mapping[str, Entry], specs: Mapping[str, ProbeSpec], system: str, incident: str
) -> str | None:
    """What to check first, as HTML: this configuration's probes, causes first, each as it is now. None when no probe
    leads to the page."""
    own = [name for name, spec in specs.items() if (spec.system, spec.incident) == (system, incident)]
    if not own:
        return None
    now = site.now()
    order = Graph(specs.values()).in_order(own)
    rows = [views.row(entries[name], (), now) for name in order]
    shown = [(row, specs[row.name]) for row in rows]
    return _templates().get_template("checks.html").render(root=root_at(2), rows=shown, order=order)


def message_page(site: Site, title: str, text: str, depth: int) -> bytes:
    """A page that says one thing, such as that there is no such page. ``depth``: as of `root_at`."""
    return _render("message.html", root=root_at(depth), frame=_frame(site), icon="unknown", title=title, text=text)


def _frame(site: Site, notice: str | None = None) -> Frame:
    """``notice``: one more, of this page alone."""
    facts, health, now = site.facts(), site.health(), site.now()
    heartbeat = views.moment(facts.heartbeat_at, now)
    shown = views.moment(now, now)
    assert shown is not None
    notices = [*([notice] if notice is not None else []), *facts.notices]
    if facts.state_failing is not None:
        notices.insert(0, f"State is kept in memory only, a restart would forget it: {facts.state_failing}")
    if facts.config_error is not None:
        notices.insert(0, f"The last reload was refused and the configuration before it runs on: {facts.config_error}")
    if not health.alive:
        notices.insert(0, f"The scheduler stands still and what you see is old: {health.detail}")
    return Frame(facts, health, heartbeat.ago if heartbeat else "none yet", shown.iso, tuple(notices))


def _neighbour(entries: Mapping[str, Entry], name: str) -> tuple[str, views.Light | None]:
    entry = entries.get(name)
    return name, views.entry_light(entry) if entry is not None else None


def _icon(light: views.Light) -> str:
    if light is views.Light.OK:
        return "ok"
    return "unknown" if light in (views.Light.UNKNOWN, views.Light.NEVER) else "bad"

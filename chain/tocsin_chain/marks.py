"""What is remembered of each chain outside the audited database: high-water marks, open breaks, accepted ones.

Plain facts and their JSON form; authentication and files: `tocsin_chain.vault`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from tocsin_chain.breaks import Break, BreakKind
from tocsin_chain.fragments import Key

MAX_CHECKPOINTS = 16
MAX_OPEN = 1000
"""How many open breaks are kept one by one; the walk counts further ones but does not list them."""


@dataclass(frozen=True, slots=True)
class Point:
    """A row that was verified. ``rows``: how many rows its chain had up to and with it. ``time``: of the row."""

    key: Key
    mac: bytes
    rows: int = 0
    time: float | None = None


@dataclass(frozen=True, slots=True)
class ChainMark:
    """The high-water mark of one chain. ``checkpoints``: older verified rows, thinned, oldest first.

    ``resume``: where incremental verification goes on while the mark itself is in dispute (the rows it stands for are
    gone or others); None when it goes on from the mark. ``young``: the first row that retention may not take yet.
    """

    first: Point
    head: Point
    checkpoints: tuple[Point, ...] = ()
    resume: Point | None = None
    young: Point | None = None

    @property
    def cursor(self) -> Point:
        """The row after which incremental verification goes on."""
        return self.resume or self.head

    def advanced(self, to: Point) -> ChainMark:
        """Moved on to a newer verified row; a mark in dispute stays where it is."""
        if self.resume is not None:
            return replace(self, resume=to)
        if to.key == self.head.key:
            return self
        return replace(self, head=to, checkpoints=thinned((*self.checkpoints, self.head)))


@dataclass(frozen=True, slots=True)
class OpenBreak:
    """A break that was found and not yet accepted or repaired. ``since``: when it was found first (Unix seconds)."""

    chain: str
    found: Break
    since: float
    evidence: str = ""
    """The name of the capture's folder; empty while none exists."""

    @property
    def identity(self) -> tuple[str, str, Key]:
        return (self.chain, self.found.kind.value, self.found.first)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A break that was accepted with a reason: the same break is not reported again. ``record``: the sequence number
    in the accept log. ``fingerprint``: of the rows as they were accepted; other contents are another break."""

    chain: str
    kind: BreakKind
    first: Key
    fingerprint: str
    record: int


@dataclass(frozen=True, slots=True)
class Identity:
    """Which database was read. ``lsn``: bytes of write-ahead log since its start, which only grows."""

    system: str = ""
    timeline: int = 0
    lsn: int = 0
    version: str = ""

    def restored_since(self, before: Identity) -> bool:
        """Whether this database is, or may be, a restored one compared to ``before``."""
        if not before.system:
            return False
        return self.system != before.system or self.timeline != before.timeline or self.lsn < before.lsn


@dataclass(frozen=True, slots=True)
class Marks:
    """Everything remembered for one probe. ``generations``: how often each writer has written; ``writer``: the last.

    ``witnessed``: a second witness was written at least once, so its absence means something.
    ``accept_records``, ``accept_head``: length and last MAC of the accept log, so that cutting it is seen.
    """

    probe: str
    writer: str
    generations: Mapping[str, int] = field(default_factory=dict)
    chains: Mapping[str, ChainMark] = field(default_factory=dict)
    open: tuple[OpenBreak, ...] = ()
    accepted: tuple[Accepted, ...] = ()
    identity: Identity = Identity()
    scanned: Key | None = None
    """Up to here no late commit is to be expected any more; incremental reading starts here."""
    horizon: tuple[Key, int] | None = None
    """The newest row seen and the first transaction id that was not yet assigned then."""
    witnessed: bool = False
    accept_records: int = 0
    accept_head: str = ""
    full_walk_at: float | None = None
    """When the last complete walk from the start ended, Unix seconds."""
    written_at: float = 0.0


def thinned(points: tuple[Point, ...]) -> tuple[Point, ...]:
    """At most `MAX_CHECKPOINTS` of the points: all gaps grow towards the past, oldest and newest stay."""
    if len(points) <= MAX_CHECKPOINTS:
        return points
    newest = points[-1].rows
    costs = [
        ((points[at + 1].rows - points[at - 1].rows) / max(1, newest - points[at].rows + 1), at)
        for at in range(1, len(points) - 1)
    ]
    drop = min(costs)[1]
    return thinned((*points[:drop], *points[drop + 1 :]))


def to_json(marks: Marks) -> dict[str, Any]:
    """A JSON value with everything in ``marks``."""
    return {
        "format": 1,
        "probe": marks.probe,
        "writer": marks.writer,
        "generations": dict(marks.generations),
        "chains": {name: _chain_json(chain) for name, chain in marks.chains.items()},
        "open": [open_json(item) for item in marks.open],
        "accepted": [
            [item.chain, item.kind.value, key_json(item.first), item.fingerprint, item.record]
            for item in marks.accepted
        ],
        "identity": [marks.identity.system, marks.identity.timeline, marks.identity.lsn, marks.identity.version],
        "scanned": None if marks.scanned is None else key_json(marks.scanned),
        "horizon": None if marks.horizon is None else [key_json(marks.horizon[0]), marks.horizon[1]],
        "witnessed": marks.witnessed,
        "accept_records": marks.accept_records,
        "accept_head": marks.accept_head,
        "full_walk_at": marks.full_walk_at,
        "written_at": marks.written_at,
    }


def from_json(value: dict[str, Any]) -> Marks:
    """The marks of `to_json`. Raises `ValueError`, `KeyError` or `TypeError` when the value is not of that form."""
    if value["format"] != 1:
        raise ValueError(f"format {value['format']!r} is not one that this version reads")
    horizon, scanned = value["horizon"], value["scanned"]
    return Marks(
        probe=value["probe"],
        writer=value["writer"],
        generations=dict(value["generations"]),
        chains={name: _chain(chain) for name, chain in value["chains"].items()},
        open=tuple(open_from(item) for item in value["open"]),
        accepted=tuple(
            Accepted(chain, BreakKind(kind), key_from(first), fingerprint, record)
            for chain, kind, first, fingerprint, record in value["accepted"]
        ),
        identity=Identity(*value["identity"]),
        scanned=None if scanned is None else key_from(scanned),
        horizon=None if horizon is None else (key_from(horizon[0]), int(horizon[1])),
        witnessed=value["witnessed"],
        accept_records=value["accept_records"],
        accept_head=value["accept_head"],
        full_walk_at=value["full_walk_at"],
        written_at=value["written_at"],
    )


def key_json(key: Key) -> list[Any]:
    return [_part_json(part) for part in key]


def key_from(value: list[Any]) -> Key:
    return tuple(_part(part) for part in value)


def key_text(key: Key) -> str:
    """A key as people read it."""
    return ", ".join(part.isoformat() if isinstance(part, datetime) else str(part) for part in key)


def sequence(key: Key) -> float:
    """A key as the number that is exported: the first order column; a time in Unix seconds; 0 for other types."""
    match key[0] if key else None:
        case int() as number:
            return float(number)
        case datetime() as moment:
            return moment.timestamp()
    return 0.0


def point_json(point: Point) -> list[Any]:
    return [key_json(point.key), point.mac.hex(), point.rows, point.time]


def point_from(value: list[Any]) -> Point:
    key, mac, rows, time = value
    return Point(key_from(key), bytes.fromhex(mac), int(rows), time)


def break_json(found: Break) -> dict[str, Any]:
    return {
        "kind": found.kind.value,
        "first": key_json(found.first),
        "last": key_json(found.last),
        "rows": found.rows,
        "first_time": found.first_time,
        "last_time": found.last_time,
        "before": None if found.before is None else key_json(found.before),
        "note": found.note,
    }


def break_from(value: dict[str, Any]) -> Break:
    before = value["before"]
    return Break(
        BreakKind(value["kind"]),
        key_from(value["first"]),
        key_from(value["last"]),
        value["rows"],
        value["first_time"],
        value["last_time"],
        None if before is None else key_from(before),
        value["note"],
    )


def open_json(item: OpenBreak) -> dict[str, Any]:
    return {"chain": item.chain, "since": item.since, "evidence": item.evidence, **break_json(item.found)}


def open_from(value: dict[str, Any]) -> OpenBreak:
    return OpenBreak(value["chain"], break_from(value), value["since"], value["evidence"])


def _chain_json(chain: ChainMark) -> dict[str, Any]:
    return {
        "first": point_json(chain.first),
        "head": point_json(chain.head),
        "checkpoints": [point_json(point) for point in chain.checkpoints],
        "resume": None if chain.resume is None else point_json(chain.resume),
        "young": None if chain.young is None else point_json(chain.young),
    }


def _chain(value: dict[str, Any]) -> ChainMark:
    resume, young = value["resume"], value["young"]
    return ChainMark(
        point_from(value["first"]),
        point_from(value["head"]),
        tuple(point_from(point) for point in value["checkpoints"]),
        None if resume is None else point_from(resume),
        None if young is None else point_from(young),
    )


def _part_json(part: object) -> Any:
    match part:
        case int() | str():
            return part
        case datetime():
            return {"time": part.isoformat()}
        case UUID():
            return {"uuid": str(part)}
    raise ValueError(f"{type(part).__name__} cannot be an order column; use integers, text, timestamps or uuids")


def _part(value: Any) -> int | str | datetime | UUID:
    match value:
        case int() | str():
            return value
        case {"time": str(text)}:
            return datetime.fromisoformat(text)
        case {"uuid": str(text)}:
            return UUID(text)
    raise ValueError(f"{value!r} is not a part of a key")

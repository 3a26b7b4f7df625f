"""A generated chain and every way of tampering with it that the table of what can be seen names."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from tocsin_chain.fragments import Key, Row
from tocsin_chain.macs import ChainKey, KeyRing, MacKey, verify
from tocsin_chain.marks import ChainMark, Point, thinned
from tocsin_chain.seeing import Where

GENESIS = b"\0" * 32
KEYS = {"k1": b"first key of the platform", "k2": b"second key of the platform", "k3": b"a key we were not told of"}
RING = KeyRing(
    (ChainKey("k1", MacKey(KEYS["k1"])), ChainKey("k2", MacKey(KEYS["k2"]))),
    by_id=True,
)


@dataclass(frozen=True)
class Stored:
    """A row as the table holds it."""

    seq: int
    tenant: str
    payload: bytes
    key_id: str
    previous: bytes
    mac: bytes
    time: float

    def message(self, covers_order: bool) -> bytes:
        return self.previous + (b"%d|" % self.seq if covers_order else b"") + self.payload


def made(row: Stored, covers_order: bool) -> Stored:
    """The row with the MAC that the platform would give it."""
    return replace(row, mac=MacKey(KEYS[row.key_id]).mac(row.message(covers_order)))


STEP = 16
"""Sequences of one tenant are this far apart at least: between them are those of others, and room to put rows in."""


@dataclass
class Table:
    """One tenant's chain and what is known about it from outside. ``offset``: keeps its sequences from others'."""

    rows: list[Stored]
    covers_order: bool
    rng: random.Random
    mark: ChainMark | None = None
    older_mark: ChainMark | None = None
    anchor: Point | None = None
    restored: bool = False
    mark_swapped: bool = False
    witness_swapped: bool = False
    offset: int = 0
    expected: list[tuple[Where, Key, Key]] = field(default_factory=list)
    """For each edit: where, and the smallest and largest sequence that may be reported."""

    def next_seq(self) -> int:
        """Sequences have holes, as rolled back transactions leave them."""
        return max((row.seq for row in self.rows), default=self.offset) + STEP * self.rng.choice([1, 1, 1, 2, 5])

    def append(self, previous: bytes | None = None, key_id: str | None = None, seq: int | None = None) -> Stored:
        last = self.rows[-1] if self.rows else None
        row = Stored(
            seq=seq or self.next_seq(),
            tenant=last.tenant if last else f"t{self.offset}",
            payload=self.rng.randbytes(self.rng.choice([8, 40])),
            key_id=key_id or (last.key_id if last else "k1"),
            previous=previous if previous is not None else last.mac if last else GENESIS,
            mac=b"",
            time=(last.time if last else 0.0) + self.rng.choice([0.0, 1.0, 3600.0]),
        )
        row = made(row, self.covers_order)
        self.rows.append(row)
        return row

    def tell(self, where: Where, low: int, high: int | None = None) -> None:
        self.expected.append((where, (low,), (low if high is None else high,)))


def grown(rng: random.Random, length: int, covers_order: bool, offset: int = 0) -> Table:
    """An untouched chain with holes in its sequence and a key rotated in the middle, and a mark at its head."""
    table = Table([], covers_order, rng, offset=offset)
    rotated = rng.randrange(length + 1)
    for at in range(length):
        table.append(key_id="k1" if at < rotated else "k2")
    remember(table, length)
    return table


def remember(table: Table, rows: int) -> None:
    """Mark and anchor stand at the last of the first ``rows`` rows."""
    points = [point(table, at) for at in range(rows)]
    table.mark = table.older_mark = mark_of(points)
    table.anchor = points[-1]


def mark_of(points: list[Point]) -> ChainMark:
    return ChainMark(points[0], points[-1], thinned(tuple(points[:-1])))


def point(table: Table, at: int) -> Point:
    row = table.rows[at]
    return Point((row.seq,), row.mac, at + 1, row.time)


def by_tenant(stored: Sequence[Stored]) -> dict[str, list[Stored]]:
    """One table's rows, chain by chain, as the walk tells them apart."""
    chains: dict[str, list[Stored]] = defaultdict(list)
    for row in sorted(stored, key=lambda one: one.seq):
        chains[row.tenant].append(row)
    return chains


def as_rows(stored: Sequence[Stored], covers_order: bool, hmac: bool) -> list[Row]:
    """What the walk makes of stored rows: in order, with or without recomputed MACs."""
    rows = []
    for row in sorted(stored, key=lambda one: one.seq):
        if hmac:
            verdict = verify(RING, row.key_id, row.time, row.message(covers_order), row.mac)
            rows.append(Row((row.seq,), row.previous, row.mac, verdict.good, verdict.good is not None, row.time))
        else:
            rows.append(Row((row.seq,), row.previous, row.mac, None if row.mac else False, True, row.time))
    return rows


def _inside(table: Table, low: int, high: int, margin: int = 3) -> int:
    """A position in ``[low, high)`` that leaves room before and after."""
    return table.rng.randrange(low + margin, high - margin)


# Each edit takes the table and the stretch [low, high) it may touch, and says what may be reported.


def modify_payload(table: Table, low: int, high: int) -> None:
    at = _inside(table, low, high)
    table.rows[at] = replace(table.rows[at], payload=table.rows[at].payload + b"!")
    table.tell(Where.EDITED, table.rows[at].seq)


def modify_payload_range(table: Table, low: int, high: int) -> None:
    at = _inside(table, low, high - 1)
    for row in (at, at + 1):
        table.rows[row] = replace(table.rows[row], payload=table.rows[row].payload + b"!")
    table.tell(Where.EDITED, table.rows[at].seq)


def modify_mac(table: Table, low: int, high: int) -> None:
    at = _inside(table, low, high)
    table.rows[at] = replace(table.rows[at], mac=table.rng.randbytes(32))
    table.tell(Where.EDITED, table.rows[at].seq, table.rows[at + 1].seq)


def modify_previous(table: Table, low: int, high: int) -> None:
    at = _inside(table, low, high)
    table.rows[at] = replace(table.rows[at], previous=table.rng.randbytes(32))
    table.tell(Where.EDITED, table.rows[at].seq)


def modify_last_mac(table: Table, low: int, high: int) -> None:
    table.rows[-1] = replace(table.rows[-1], mac=table.rng.randbytes(32))
    table.tell(Where.EDITED, table.rows[-1].seq)


def delete_inside(table: Table, low: int, high: int) -> None:
    at = _inside(table, low, high - 2)
    count = table.rng.choice([1, 2])
    after = table.rows[at + count].seq
    del table.rows[at : at + count]
    table.tell(Where.AFTER, after)


def delete_head(table: Table, low: int, high: int) -> None:
    del table.rows[: table.rng.choice([1, 2])]
    table.tell(Where.FIRST_LEFT, table.rows[0].seq)


def delete_head_and_relink(table: Table, low: int, high: int) -> None:
    del table.rows[: table.rng.choice([1, 2])]
    table.rows[0] = replace(table.rows[0], previous=GENESIS)
    table.tell(Where.FIRST_LEFT, table.rows[0].seq)


def _cut_tail(table: Table, high: int) -> int:
    count = table.rng.choice([1, 2, 3])
    del table.rows[len(table.rows) - count :]
    return table.rows[-1].seq + 1


def delete_tail(table: Table, low: int, high: int) -> None:
    missing = _cut_tail(table, high)
    assert table.mark is not None
    table.tell(Where.MISSING, missing)


def empty_table(table: Table, low: int, high: int) -> None:
    first = table.rows[0].seq
    table.rows.clear()
    assert table.mark is not None
    table.tell(Where.MISSING, first, int(table.mark.head.key[0]))


def delete_tail_and_go_on(table: Table, low: int, high: int) -> None:
    missing = _cut_tail(table, high)
    assert table.mark is not None
    seq = int(table.mark.head.key[0])
    for _ in range(table.rng.choice([1, 3])):
        seq += 1
        table.append(seq=seq)
    table.tell(Where.MISSING, missing, int(table.mark.head.key[0]))


def restore_older(table: Table, low: int, high: int) -> None:
    table.restored = True
    delete_tail(table, low, high)


def restore_older_and_go_on(table: Table, low: int, high: int) -> None:
    table.restored = True
    lost = [row.seq for row in table.rows[-2:]]
    del table.rows[-2:]
    for seq in lost:
        table.append(seq=seq)
    table.tell(Where.VERIFIED, lost[0], lost[1])


def _room(table: Table, at: int) -> int:
    """A free sequence number behind the row at ``at``; makes room as a person with database access would."""
    seq = table.rows[at].seq + 1
    assert table.rows[at + 1].seq > seq, "the generator leaves room where rows are put in"
    return seq


def insert_inside(table: Table, low: int, high: int) -> None:
    at = _inside(table, low, high)
    seq = _room(table, at)
    for number in range(table.rng.choice([1, 2])):
        before = table.rows[at + number]
        row = replace(before, seq=seq + number, payload=b"planted", previous=before.mac, mac=table.rng.randbytes(32))
        table.rows.insert(at + number + 1, row)
    table.tell(Where.EDITED, seq)


def insert_stray(table: Table, low: int, high: int) -> None:
    at = _inside(table, low, high)
    seq = _room(table, at)
    row = replace(
        table.rows[at],
        seq=seq,
        payload=b"planted",
        previous=table.rng.randbytes(32),
        mac=table.rng.randbytes(32),
    )
    table.rows.insert(at + 1, row)
    table.tell(Where.EDITED, seq)


def insert_first(table: Table, low: int, high: int) -> None:
    previous = table.rng.choice([GENESIS, table.rng.randbytes(32)])
    seq = table.rows[0].seq - 1
    row = replace(table.rows[0], seq=seq, payload=b"planted", previous=previous, mac=table.rng.randbytes(32))
    table.rows.insert(0, row)
    table.tell(Where.EDITED, seq)


def insert_last(table: Table, low: int, high: int) -> None:
    last = table.rows[-1]
    table.rows.append(
        replace(last, seq=table.next_seq(), payload=b"planted", previous=last.mac, mac=table.rng.randbytes(32))
    )
    table.tell(Where.EDITED, table.rows[-1].seq)


def append_without_mac(table: Table, low: int, high: int) -> None:
    previous, first = table.rows[-1].mac, table.next_seq()
    for number in range(table.rng.choice([1, 2, 3])):
        seq = table.next_seq() if number else first
        table.rows.append(replace(table.rows[-1], seq=seq, payload=b"planted", previous=previous, mac=b""))
        previous = b""
    table.tell(Where.EDITED, first)


def swap(table: Table, low: int, high: int) -> None:
    at = _inside(table, low, high - 2)
    other = at + table.rng.choice([1, 2])
    first, second = table.rows[at], table.rows[other]
    table.rows[at], table.rows[other] = replace(second, seq=first.seq), replace(first, seq=second.seq)
    table.tell(Where.EDITED, first.seq)


def move_range(table: Table, low: int, high: int) -> None:
    at = low + 3
    length, target = 2, high - 4
    seqs = [row.seq for row in table.rows[at : target + length]]
    moved = table.rows[at + length : target + length] + table.rows[at : at + length]
    table.rows[at : target + length] = [replace(row, seq=seq) for row, seq in zip(moved, seqs, strict=True)]
    table.tell(Where.EDITED, seqs[0])


def duplicate(table: Table, low: int, high: int) -> None:
    at = _inside(table, low, high - 1)
    count = table.rng.choice([1, 2])
    behind = table.rng.randrange(at + count - 1, high - 3)
    seq = _room(table, behind)
    copies = [replace(row, seq=seq + number) for number, row in enumerate(table.rows[at : at + count])]
    table.rows[behind + 1 : behind + 1] = copies
    table.tell(Where.EDITED, seq)


def replay_suffix(table: Table, low: int, high: int) -> None:
    start = table.rng.randrange(1, len(table.rows))
    first = 0
    for row in table.rows[start : start + table.rng.choice([1, 2, 4, 40])]:
        table.rows.append(replace(row, seq=table.next_seq()))
        first = first or table.rows[-1].seq
    if table.rng.random() < 0.5:
        table.append()
    table.tell(Where.EDITED, first)


def remac_row(table: Table, low: int, high: int) -> None:
    at = _inside(table, low, high - 1)
    last = at + table.rng.choice([0, 1])
    for position in range(at, last + 1):
        previous = table.rows[position - 1].mac if position > at else table.rows[position].previous
        row = replace(table.rows[position], payload=b"rewritten", previous=previous)
        table.rows[position] = made(row, table.covers_order)
    table.tell(Where.AFTER, table.rows[last + 1].seq)


def remac_suffix(table: Table, low: int, high: int) -> None:
    at = table.rng.randrange(max(1, len(table.rows) - 4), len(table.rows))
    previous = table.rows[at - 1].mac
    for position in range(at, len(table.rows)):
        row = replace(table.rows[position], previous=previous)
        row = made(replace(row, payload=b"rewritten") if position == at else row, table.covers_order)
        table.rows[position] = row
        previous = row.mac
    table.tell(Where.VERIFIED, table.rows[at].seq, table.rows[-1].seq)


def fork(table: Table, low: int, high: int) -> None:
    at = _inside(table, low, high)
    seq = _room(table, at)
    for number in range(table.rng.choice([1, 2])):
        before = table.rows[at + number]
        row = replace(before, seq=seq + number, payload=b"second writer", previous=before.mac)
        table.rows.insert(at + number + 1, made(row, table.covers_order))
    table.tell(Where.EDITED, seq)


def rotate_key(table: Table, low: int, high: int) -> None:
    first = table.append(key_id="k3")
    for _ in range(table.rng.randrange(3)):
        table.append()
    table.tell(Where.EDITED, first.seq)


def wrong_key_id(table: Table, low: int, high: int) -> None:
    at = _inside(table, low, high - 1)
    for row in range(at, at + table.rng.choice([1, 2])):
        table.rows[row] = replace(table.rows[row], key_id="k9")
    table.tell(Where.EDITED, table.rows[at].seq)


def renumber(table: Table, low: int, high: int) -> None:
    at = _inside(table, low, high)
    table.rows[at] = replace(table.rows[at], seq=_room(table, at))
    table.tell(Where.EDITED, table.rows[at].seq)


def to_another_tenant(table: Table, other: Table) -> None:
    """Not of one chain: the row is missing in one and stands in the other."""
    at = _inside(table, 0, len(table.rows))
    moved = table.rows.pop(at)
    other.rows.append(replace(moved, tenant=other.rows[0].tenant))
    table.tell(Where.AFTER, table.rows[at].seq)
    other.tell(Where.EDITED, moved.seq)


def other_key_id(table: Table, low: int, high: int) -> None:
    at = _inside(table, low, high)
    table.rows[at] = replace(table.rows[at], key_id="k1" if table.rows[at].key_id == "k2" else "k2")
    table.tell(Where.EDITED, table.rows[at].seq)


def delete_tail_older_mark(table: Table, low: int, high: int) -> None:
    missing = _cut_tail(table, high)
    table.mark_swapped = True
    points = [point(table, at) for at in range(len(table.rows))]
    table.older_mark = mark_of(points)
    assert table.mark is not None
    table.tell(Where.MISSING, missing, int(table.mark.head.key[0]))


def delete_tail_older_mark_and_witness(table: Table, low: int, high: int) -> None:
    delete_tail_older_mark(table, low, high)
    table.witness_swapped = True


def remac_all_older_mark_and_witness(table: Table, low: int, high: int) -> None:
    remac_suffix(table, low, high)
    table.mark_swapped = table.witness_swapped = True
    table.older_mark = mark_of([point(table, at) for at in range(len(table.rows))])


EDITS: dict[str, Callable[[Table, int, int], None]] = {
    function.__name__: function
    for function in (
        modify_payload,
        modify_payload_range,
        modify_mac,
        modify_previous,
        modify_last_mac,
        delete_inside,
        delete_head,
        delete_head_and_relink,
        delete_tail,
        empty_table,
        delete_tail_and_go_on,
        restore_older,
        restore_older_and_go_on,
        insert_inside,
        insert_stray,
        insert_first,
        insert_last,
        append_without_mac,
        swap,
        move_range,
        duplicate,
        replay_suffix,
        remac_row,
        remac_suffix,
        fork,
        rotate_key,
        wrong_key_id,
        other_key_id,
        renumber,
        delete_tail_older_mark,
        delete_tail_older_mark_and_witness,
        remac_all_older_mark_and_witness,
    )
}
COVERS_ORDER = ("renumber",)
"""Edits that can be seen only where the MAC covers the sequence."""
INSIDE = (
    "modify_payload",
    "modify_payload_range",
    "modify_mac",
    "modify_previous",
    "delete_inside",
    "insert_inside",
    "insert_stray",
    "swap",
    "move_range",
    "duplicate",
    "remac_row",
    "fork",
    "wrong_key_id",
    "other_key_id",
)
"""Edits that stay in their stretch, so that several of them can be made in one chain."""

"""Marks, seals, atomic writes, the accept log and packs, without a database."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.sdk.state_files import write_atomically
from tocsin_chain import acceptlog
from tocsin_chain.against import pruned_lawfully
from tocsin_chain.breaks import Break, BreakKind
from tocsin_chain.capture import whole_records
from tocsin_chain.forms import PreviousPlace
from tocsin_chain.fragments import Row, scan
from tocsin_chain.macs import ChainKey, KeyRing, MacKey
from tocsin_chain.marks import (
    MAX_CHECKPOINTS,
    Accepted,
    ChainMark,
    Identity,
    Marks,
    OpenBreak,
    Point,
    from_json,
    sequence,
    thinned,
    to_json,
)
from tocsin_chain.packs import CopyRows, Pack, integer_pack, verify_pack
from tocsin_chain.recall import Doubt, WitnessUnreachable, next_generation, recall, sealed
from tocsin_chain.vault import KeyMissing, OwnKey, SealBroken, create_key, load_key, seal, unseal
from tocsin_chain.walk import Progress, progress_from, progress_json

KEY = OwnKey(b"k" * 32)
OTHER = OwnKey(b"o" * 32)
POINT = Point((7,), b"\1" * 32, 7, 12.5)
FULL = Marks(
    "audit",
    "me",
    {"me": 3, "you": 1},
    {
        "t1": ChainMark(POINT, POINT, (POINT,), POINT, POINT),
        "t2": ChainMark(
            Point((datetime(2026, 1, 1, tzinfo=UTC), UUID(int=5)), b"\2" * 32),
            Point((datetime(2026, 1, 2, 3, 4, 5, 6, UTC), "id"), b"\3" * 32, 9),
        ),
    },
    (OpenBreak("t1", Break(BreakKind.FORKED, (1,), (2,), 3, 4.0, 5.0, (0,), "note"), 6.0, "bundle"),),
    (Accepted("t1", BreakKind.GAP, (4,), "ab", 2),),
    Identity("7", 1, 1 << 60, "15.1"),
    (5,),
    ((6,), 1 << 40),
    True,
    2,
    "cd",
    8.0,
    9.0,
)


def test_marks_survive_their_json() -> None:
    assert from_json(json.loads(json.dumps(to_json(FULL)))) == FULL


def test_a_seal_holds_for_one_purpose_one_key_and_one_text() -> None:
    text = seal(KEY, "one", {"a": [1, "ä"]})
    assert unseal(KEY, "one", text) == {"a": [1, "ä"]}
    for key, purpose, tampered in (
        (KEY, "another", text),
        (OTHER, "one", text),
        (KEY, "one", text[:-2]),
        (KEY, "one", text + b" "),
        (KEY, "one", text.replace(b"1", b"2", 1)),
        (KEY, "one", b""),
    ):
        with pytest.raises(SealBroken):
            unseal(key, purpose, tampered)


@given(st.integers(0, 5000))
def test_no_edited_byte_of_a_mark_passes(at: int) -> None:
    text = bytearray(sealed(KEY, FULL))
    text[at % len(text)] ^= 1
    assert recall(KEY, "audit", bytes(text), None, has_witness=False, writer="me").doubt is Doubt.MISSING


GENERATION_2 = next_generation(next_generation(Marks("audit", "me"), "me", 1.0), "me", 2.0)
GENERATION_3 = next_generation(GENERATION_2, "me", 3.0)
ELSEWHERE_3 = next_generation(GENERATION_2, "you", 3.0)


@pytest.mark.parametrize(
    ("mark", "witness", "doubt", "trusted"),
    [
        (GENERATION_3, GENERATION_3, None, GENERATION_3),
        (GENERATION_3, GENERATION_2, None, GENERATION_3),
        (GENERATION_2, GENERATION_3, Doubt.ROLLED_BACK, GENERATION_3),
        (GENERATION_2, ELSEWHERE_3, None, ELSEWHERE_3),
        (GENERATION_3, ELSEWHERE_3, Doubt.MISSING, GENERATION_3),
        (GENERATION_3, replace(GENERATION_3, full_walk_at=7.0), Doubt.MISSING, GENERATION_3),
        (GENERATION_3, None, None, GENERATION_3),
        (replace(GENERATION_3, witnessed=True), None, Doubt.MISSING, replace(GENERATION_3, witnessed=True)),
        (None, GENERATION_3, Doubt.MISSING, None),
    ],
)
def test_mark_and_witness_are_held_against_each_other(
    mark: Marks | None, witness: Marks | None, doubt: Doubt | None, trusted: Marks | None
) -> None:
    texts = [None if one is None else sealed(KEY, one) for one in (mark, witness)]
    result = recall(KEY, "audit", texts[0], texts[1], has_witness=True, writer="me")
    assert (result.doubt, result.marks) == (doubt, trusted)


def test_a_witness_that_cannot_be_asked_is_a_doubt_of_its_own() -> None:
    result = recall(KEY, "audit", sealed(KEY, FULL), WitnessUnreachable("down"), has_witness=True, writer="me")
    assert (result.doubt, result.marks) == (Doubt.UNWITNESSED, FULL)


def test_the_own_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "chain" / "key"
    with pytest.raises(KeyMissing, match="tocsin chain bootstrap"):
        load_key(path)
    made = create_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert create_key(path).derive("x") == made.derive("x") == load_key(path).derive("x")
    assert made.derive("x") != made.derive("y")
    assert path.read_text().strip() not in repr(made)


def test_an_atomic_write_leaves_nothing_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").touch()
    with pytest.raises(OSError, match="folder"):
        write_atomically(tmp_path / "folder", b"x")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder"]


def _second_line_gone(lines: list[str]) -> list[str]:
    return [lines[0], lines[2]]


def _swapped(lines: list[str]) -> list[str]:
    return [lines[1], lines[0], lines[2]]


def _edited(lines: list[str]) -> list[str]:
    return [lines[0], lines[1].replace("because", "becouse"), lines[2]]


@pytest.mark.parametrize("edit", [_second_line_gone, _swapped, _edited])
def test_the_accept_log_is_chained(tmp_path: Path, edit: object) -> None:
    path = tmp_path / "log"
    for number in range(3):
        state = acceptlog.append(path, KEY, {"reason": f"because {number}"})
    assert acceptlog.verify(path, KEY) == state
    assert state.records == 3
    path.write_text("\n".join(edit(path.read_text().splitlines())) + "\n")  # type: ignore[operator]
    with pytest.raises(acceptlog.LogBroken, match=r"log, line [12]"):
        acceptlog.append(path, KEY, {})


@given(st.integers(1, 300))
def test_checkpoints_are_few_keep_both_ends_and_are_dense_near_the_head(count: int) -> None:
    points: tuple[Point, ...] = ()
    for rows in range(1, count + 1):
        points = thinned((*points, Point((rows,), b"", rows)))
    assert len(points) <= MAX_CHECKPOINTS
    assert (points[0].rows, points[-1].rows) == (1, count)
    if count > 50:
        assert points[-1].rows - points[-2].rows <= points[1].rows - points[0].rows


DAY = 86400.0


def _mark(*times: float, young: float | None = None) -> ChainMark:
    points = [Point((at,), b"", at, time) for at, time in enumerate(times, 1)]
    kept = None if young is None else Point((int(young),), b"", 0, times[int(young) - 1])
    return ChainMark(points[0], points[-1], tuple(points[:-1]), None, kept)


@pytest.mark.parametrize(
    ("mark", "first", "removed", "lawful"),
    [
        (None, Point((9,), b"", 0, 5 * DAY), 0, True),
        (None, Point((9,), b"", 0, 20 * DAY), 0, False),
        (_mark(DAY, 2 * DAY, 30 * DAY), Point((3,), b"", 0, 30 * DAY), 2, True),
        (_mark(DAY, 20 * DAY, 30 * DAY), Point((3,), b"", 0, 30 * DAY), 2, False),
        (_mark(DAY, 2 * DAY), None, 2, True),
        (_mark(DAY, 20 * DAY), None, 2, False),
        (_mark(DAY, 20 * DAY, 30 * DAY, young=2), Point((3,), b"", 0, 30 * DAY), 1, False),
    ],
)
def test_retention_takes_what_is_old_and_nothing_else(
    mark: ChainMark | None, first: Point | None, removed: int, lawful: bool
) -> None:
    assert pruned_lawfully(mark, first, removed, 10 * DAY, 0.0) is lawful


def test_a_database_is_known_again() -> None:
    before = Identity("7", 1, 100, "15")
    assert not replace(before, lsn=200, version="16").restored_since(before)
    assert replace(before, lsn=99).restored_since(before)
    assert replace(before, timeline=2).restored_since(before)
    assert replace(before, system="8").restored_since(before)
    assert not before.restored_since(Identity())


def test_a_walk_survives_its_json() -> None:
    rows = [Row((at,), bytes([at - 1]), bytes([at]), at != 3, at != 5, float(at)) for at in (1, 2, 3, 5, 6)]
    walk = Progress(1.0, (9,), ("a",), True, (4,), 7, {"a": scan(rows)}, 5, 6, False, (8,))
    assert progress_from(json.loads(json.dumps(progress_json(walk)))) == walk


def test_a_sequence_is_a_number_for_export() -> None:
    assert sequence((7, "x")) == 7.0
    assert sequence((datetime(1970, 1, 2, tzinfo=UTC), UUID(int=1))) == 86400.0


def _pack(count: int = 4, key: bytes = b"k", first: bytes = b"") -> Pack:
    mac, previous, macs, lengths, payloads = MacKey(key), first, [], b"", b""
    chained = []
    for number in range(count):
        payload = b"p" * number
        chained.append(previous)
        previous = mac.mac(previous + payload)
        macs.append(previous)
        lengths += struct.pack(">i", len(payload))
        payloads += payload
    return Pack("", count, (1,), (count,), b"".join(chained), b"".join(macs), lengths, payloads)


RING = KeyRing((ChainKey("a", MacKey(b"k")),))


def test_a_whole_pack_is_one_fragment() -> None:
    for first in (b"", b"\0" * 32, b"\7" * 32):
        summary = verify_pack(_pack(first=first), RING, PreviousPlace.FIRST_RAW, zero_is_genesis=True)
        assert summary is not None
        assert summary.intact
        assert summary.fragments[0].previous == (b"" if first == b"\0" * 32 else first)


@given(st.sampled_from(["previous", "macs", "lengths", "payloads"]), st.integers(0, 1000))
def test_a_pack_with_any_flipped_bit_has_to_be_looked_at(part: str, at: int) -> None:
    pack = _pack(first=b"\7" * 32)
    content = bytearray(getattr(pack, part))
    content[at % len(content)] ^= 1
    damaged = replace(pack, **{part: bytes(content)})
    assert verify_pack(damaged, RING, PreviousPlace.FIRST_RAW, zero_is_genesis=True) is None


def test_a_pack_of_several_keys_has_to_be_looked_at() -> None:
    ring = KeyRing((ChainKey("a", MacKey(b"k"), None, 50.0), ChainKey("b", MacKey(b"l"), 50.0)), by_id=True)
    place = PreviousPlace.FIRST_RAW
    assert verify_pack(replace(_pack(), key_ids=("a", "a"), times=(1.0, 2.0)), ring, place, True) is not None
    assert verify_pack(replace(_pack(), key_ids=("a", "b"), times=(1.0, 2.0)), ring, place, True) is None
    assert verify_pack(replace(_pack(), key_ids=("a", "a"), times=(1.0, 60.0)), ring, place, True) is None
    assert verify_pack(replace(_pack(), key_ids=(None, None), times=(1.0, 2.0)), ring, place, True) is None


CSV = b'a,b\n1,"x\ny ""z"""\n'


def _copied(values: list[bytes | None]) -> bytes:
    row = struct.pack(">h", len(values))
    for value in values:
        row += struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value
    return row


@given(st.lists(st.integers(1, 60), max_size=20))
def test_a_copy_that_arrives_in_pieces_is_the_copy(cuts: list[int]) -> None:
    number = struct.Struct(">q").pack
    rows = [
        [b"t1", number(2), number(at), number(at + 1), b"p", b"m", b"l", b"b", None, None, None, None] for at in (1, 3)
    ]
    content = b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"".join(map(_copied, rows)) + struct.pack(">h", -1)
    parser, found, at = CopyRows(), [], 0
    for size in [*cuts, len(content)]:
        found += [integer_pack(values) for values in parser.feed(content[at : at + size])]
        at += size
    assert [(pack.chain, pack.rows, pack.first, pack.last) for pack in found] == [
        ("t1", 2, (1,), (2,)),
        ("t1", 2, (3,), (4,)),
    ]


@pytest.mark.parametrize(("limit", "kept"), [(3, b""), (4, b"a,b\n"), (9, b"a,b\n"), (12, b"a,b\n"), (99, CSV)])
def test_a_csv_file_is_cut_between_records_only(limit: int, kept: bytes) -> None:
    assert whole_records(CSV, limit) == kept

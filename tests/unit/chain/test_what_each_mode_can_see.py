"""The table of what can be seen (`tocsin_chain.seeing`), tried on generated chains."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.chain import chain_tampering as tampering
from tocsin_chain.breaks import Break, BreakKind
from tocsin_chain.fragments import scan
from tocsin_chain.inspect_rows import inspect_rows
from tocsin_chain.marks import ChainMark, Marks
from tocsin_chain.recall import Doubt, next_generation, recall, sealed
from tocsin_chain.seeing import SEEING, Case, Mode, Where
from tocsin_chain.vault import OwnKey

pytestmark = pytest.mark.thorough

OWN = OwnKey(b"tocsin's own key, 32 bytes long!")
CASES = {case.name: case for case in SEEING}
INSIDE = [CASES[name] for name in tampering.INSIDE]

few = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
many = settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
seeds = st.integers(0, 2**48)


def remembered(table: tampering.Table, mode: Mode) -> tuple[ChainMark | None, bool]:
    """The mark to judge by and whether the state is known to be rolled back, as the vault decides it."""
    if mode in (Mode.LINKAGE, Mode.HMAC):
        return None, table.restored
    first = next_generation(Marks("p", "me", chains={"": table.older_mark}, witnessed=True), "me", 1.0)
    newer = next_generation(replace(first, chains={"": table.mark}), "me", 2.0)
    file = sealed(OWN, first if table.mark_swapped else newer)
    has_witness = mode in (Mode.WITNESS, Mode.ANCHOR)
    witness = sealed(OWN, first if table.witness_swapped else newer) if has_witness else None
    result = recall(OWN, "p", file, witness, has_witness=has_witness, writer="me")
    assert result.marks is not None
    return result.marks.chains[""], table.restored or result.doubt is Doubt.ROLLED_BACK


def found_by(table: tampering.Table, rows: Sequence[tampering.Stored], mode: Mode) -> list[Break]:
    mark, restored = remembered(table, mode)
    recomputed = mode not in (Mode.LINKAGE, Mode.LINKAGE_MARK)
    judged = tampering.as_rows(rows, table.covers_order, recomputed)
    anchor = table.anchor if mode is Mode.ANCHOR else None
    return inspect_rows(judged, tampering.GENESIS, mark=mark, restored=restored, anchor=anchor)


def check(case: Case, table: tampering.Table, mode: Mode, found: list[Break]) -> None:
    kind = case.seen[mode]
    if kind is None:
        assert found == []
        return
    assert [item.kind for item in found] == [kind]
    where, low, high = table.expected[0]
    assert where is case.where
    assert low <= found[0].first <= high


@pytest.mark.parametrize("name", sorted(set(CASES) | set(tampering.EDITS)))
def test_every_line_of_the_table_has_an_edit_and_every_edit_a_line(name: str) -> None:
    assert name in CASES
    assert name in tampering.EDITS


def tenants(rng: random.Random, length: int, covers_order: bool) -> list[tampering.Table]:
    """One table with the rows of several tenants interleaved; the first is as long as asked."""
    others = [rng.randrange(8, 40) for _ in range(rng.randrange(3))]
    return [tampering.grown(rng, each, covers_order, 4 * at) for at, each in enumerate([length, *others])]


def found_in(tables: list[tampering.Table], mode: Mode) -> list[list[Break]]:
    """The breaks of each tenant, after everything has gone through one table."""
    chains = tampering.by_tenant([row for table in tables for row in table.rows])
    return [found_by(table, chains[f"t{table.offset}"], mode) for table in tables]


def one_edit(seed: int, case: Case, mode: Mode) -> None:
    rng = random.Random(seed)
    covers_order = case.name in tampering.COVERS_ORDER or rng.random() < 0.5
    table, *others = tenants(rng, rng.randrange(12, 40), covers_order)
    tampering.EDITS[case.name](table, 0, len(table.rows))
    found, *elsewhere = found_in([table, *others], mode)
    check(case, table, mode, found)
    assert elsewhere == [[] for _ in others]


def several_edits(seed: int, cases: list[Case], mode: Mode) -> None:
    rng = random.Random(seed)
    table, *others = tenants(rng, 14 * len(cases) + rng.randrange(20), rng.random() < 0.5)
    for at in reversed(range(len(cases))):
        tampering.EDITS[cases[at].name](table, 14 * at, 14 * at + 14)
    found, *elsewhere = found_in([table, *others], mode)
    expected = [
        (case.seen[mode], low, high)
        for case, (_, low, high) in zip(cases, reversed(table.expected), strict=True)
        if case.seen[mode]
    ]
    assert [item.kind for item in found] == [kind for kind, _, _ in expected]
    assert all(low <= item.first <= high for item, (_, low, high) in zip(found, expected, strict=True))
    assert elsewhere == [[] for _ in others]


def untouched(seed: int, mode: Mode) -> None:
    """Several tenants in one table, interleaved, with holes, rotated keys, pruned heads and rows since the mark. What
    one tenant committed late has lower sequences than what others had committed when the marks were made."""
    rng = random.Random(seed)
    for table in tenants(rng, rng.randrange(1, 40), rng.random() < 0.5):
        committed = rng.randrange(1, len(table.rows) + 1)
        tampering.remember(table, committed)
        shown = table.rows[: rng.randrange(committed, len(table.rows) + 1)]
        rows = tampering.as_rows(shown, table.covers_order, mode not in (Mode.LINKAGE, Mode.LINKAGE_MARK))
        mark, _ = remembered(table, mode)
        anchor = table.anchor if mode is Mode.ANCHOR else None
        cutoff = None
        if rng.random() < 0.3 and mark is not None:
            cutoff = rng.choice([row.time or 0.0 for row in rows])
            rows = [row for row in rows if row.time is None or row.time >= cutoff]
        assert inspect_rows(rows, tampering.GENESIS, mark=mark, anchor=anchor, cutoff=cutoff) == []


@pytest.mark.parametrize("case", SEEING, ids=lambda case: case.name)
def test_every_line_of_the_table_holds_in_every_mode(case: Case) -> None:
    for mode in Mode:
        for seed in range(4):
            one_edit(seed, case, mode)


def test_an_empty_table_is_untouched_where_nothing_was_verified() -> None:
    assert inspect_rows([], tampering.GENESIS) == []


@few
@given(seeds, st.sampled_from(SEEING), st.sampled_from(Mode))
def test_each_edit_is_one_break_of_the_kind_and_at_the_sequence_that_the_table_says(
    seed: int, case: Case, mode: Mode
) -> None:
    one_edit(seed, case, mode)


@few
@given(seeds, st.lists(st.sampled_from(INSIDE), min_size=2, max_size=4), st.sampled_from(Mode))
def test_several_edits_in_one_chain_are_as_many_breaks(seed: int, cases: list[Case], mode: Mode) -> None:
    several_edits(seed, cases, mode)


@few
@given(seeds, st.sampled_from(Mode))
def test_a_row_that_is_given_to_another_tenant_is_missing_in_one_chain_and_beside_the_other(
    seed: int, mode: Mode
) -> None:
    rng = random.Random(seed)
    table = tampering.grown(rng, rng.randrange(12, 30), False)
    other = tampering.grown(rng, 20, False, 4)
    while other.rows[-2].seq < table.rows[-1].seq:
        other.append()
    tampering.remember(other, len(other.rows))
    tampering.to_another_tenant(table, other)
    for each, found, kind in zip((table, other), found_in([table, other], mode), ("gap", "forked"), strict=True):
        ((_, low, high),) = each.expected
        assert [item.kind for item in found] == [kind]
        assert low <= found[0].first <= high


@few
@given(seeds, st.sampled_from(Mode))
def test_an_untouched_chain_is_never_reported(seed: int, mode: Mode) -> None:
    untouched(seed, mode)


@few
@given(seeds, st.lists(st.sampled_from(INSIDE), max_size=3), st.integers(0, 80))
def test_a_chain_summarised_in_two_parts_is_the_chain_summarised_at_once(
    seed: int, cases: list[Case], cut: int
) -> None:
    from tocsin_chain.fragments import join

    rng = random.Random(seed)
    table = tampering.grown(rng, 14 * len(cases) + 20, False)
    for at in reversed(range(len(cases))):
        tampering.EDITS[cases[at].name](table, 14 * at, 14 * at + 14)
    rows = tampering.as_rows(table.rows, False, True)
    assert join(scan(rows[:cut]), scan(rows[cut:])) == scan(rows)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_ten_thousand_tampered_chains_without_a_miss() -> None:
    many(given(seeds, st.sampled_from(SEEING), st.sampled_from(Mode))(one_edit))()
    many(
        given(seeds, st.lists(st.sampled_from(INSIDE), min_size=2, max_size=4), st.sampled_from(Mode))(several_edits)
    )()


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_ten_thousand_untouched_chains_without_a_false_alarm() -> None:
    many(given(seeds, st.sampled_from(Mode))(untouched))()


def test_where_is_told_for_every_case() -> None:
    assert {case.where for case in SEEING} == set(Where)
    assert {kind for case in SEEING for kind in case.seen.values() if kind} == set(BreakKind)

"""What can be seen by which mode: the table that the docs print and that the tests take their expectations from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from tocsin_chain.breaks import BreakKind


class Mode(StrEnum):
    """What the walk has to go by; each but the second has all that the one two before it has."""

    LINKAGE = "linkage"
    HMAC = "hmac"
    LINKAGE_MARK = "linkage + mark"
    HMAC_MARK = "hmac + mark"
    WITNESS = "hmac + mark + witness"
    ANCHOR = "hmac + mark + witness + anchor"


class Walk(StrEnum):
    """Which walk finds it: the incremental one within one interval, or only a full one from the start.

    ``tail``: the incremental one when it happens behind the mark, a full walk when before it.
    """

    INCREMENTAL = "incremental"
    FULL = "full walk"
    TAIL = "incremental behind the mark, full walk before it"


class Where(StrEnum):
    """Which sequence is reported."""

    EDITED = "the edited row"
    AFTER = "the row after it"
    FIRST_LEFT = "the first row left"
    MISSING = "the first missing row"
    VERIFIED = "a verified row that is another now"


@dataclass(frozen=True, slots=True)
class Case:
    """One way of tampering (or of a fault that looks like it), and what each mode says. None: it cannot be seen.

    ``name`` is the function in the tests that does it. ``why`` says why the blind modes are blind, or which walk
    finds it.
    """

    name: str
    what: str
    where: Where
    walk: Walk
    seen: Mapping[Mode, BreakKind | None]
    why: str


_K = BreakKind


def _by(
    linkage: BreakKind | None,
    hmac: BreakKind | None,
    linkage_mark: BreakKind | None = None,
    hmac_mark: BreakKind | None = None,
    witness: BreakKind | None = None,
    anchor: BreakKind | None = None,
) -> Mapping[Mode, BreakKind | None]:
    """A line of the table: what a richer mode does not say anew, it takes from the poorer one."""
    linkage_mark = linkage_mark or linkage
    hmac_mark = hmac_mark or hmac
    witness = witness or hmac_mark
    return dict(zip(Mode, (linkage, hmac, linkage_mark, hmac_mark, witness, anchor or witness), strict=True))


SEEING: tuple[Case, ...] = (
    Case(
        "modify_payload",
        "a column that the MAC covers is changed",
        Where.EDITED,
        Walk.TAIL,
        _by(None, _K.MODIFIED),
        "linkage never looks at the payload",
    ),
    Case(
        "modify_payload_range",
        "the same in several rows next to one another: one break",
        Where.EDITED,
        Walk.TAIL,
        _by(None, _K.MODIFIED),
        "linkage never looks at the payload",
    ),
    Case(
        "modify_mac",
        "a stored MAC is changed",
        Where.EDITED,
        Walk.TAIL,
        _by(_K.GAP, _K.MODIFIED),
        "linkage sees that the next row names a MAC that is not there, and reports that row",
    ),
    Case(
        "modify_previous",
        "a stored previous MAC is changed",
        Where.EDITED,
        Walk.TAIL,
        _by(_K.GAP, _K.MODIFIED),
        "to linkage it is a row whose predecessor is missing",
    ),
    Case(
        "modify_last_mac",
        "the stored MAC of the last row is changed",
        Where.EDITED,
        Walk.INCREMENTAL,
        _by(None, _K.MODIFIED, _K.FORKED),
        "no row names it yet; a mark does",
    ),
    Case(
        "delete_inside",
        "rows are deleted between others",
        Where.AFTER,
        Walk.TAIL,
        _by(_K.GAP, _K.GAP),
        "the next row names a MAC that is not there",
    ),
    Case(
        "delete_head",
        "the oldest rows are deleted",
        Where.FIRST_LEFT,
        Walk.INCREMENTAL,
        _by(_K.HEAD_TRUNCATED, _K.HEAD_TRUNCATED),
        "the first row left does not begin at the genesis value; the first row is read in every run",
    ),
    Case(
        "delete_head_and_relink",
        "the oldest rows are deleted and the first row left is made to name the genesis value, without the key",
        Where.FIRST_LEFT,
        Walk.INCREMENTAL,
        _by(None, _K.MODIFIED, _K.HEAD_TRUNCATED),
        "linkage has nothing to compare the new first row with; a mark remembers the old one",
    ),
    Case(
        "delete_tail",
        "the newest rows are deleted",
        Where.MISSING,
        Walk.INCREMENTAL,
        _by(None, None, _K.TAIL_TRUNCATED, _K.TAIL_TRUNCATED),
        "what is left is a whole, shorter chain: only something kept outside of the database knows better",
    ),
    Case(
        "empty_table",
        "all rows are deleted",
        Where.MISSING,
        Walk.INCREMENTAL,
        _by(None, None, _K.TAIL_TRUNCATED, _K.TAIL_TRUNCATED),
        "an empty chain may be a new one; a mark knows that it is not",
    ),
    Case(
        "delete_tail_and_go_on",
        "the newest rows are deleted and the platform appends new ones to what is left",
        Where.MISSING,
        Walk.INCREMENTAL,
        _by(None, None, _K.ROLLED_BACK, _K.ROLLED_BACK),
        "linkage and MACs are whole; the verified row is gone and the chain goes on from an older one",
    ),
    Case(
        "restore_older",
        "an older backup of the database is restored",
        Where.MISSING,
        Walk.INCREMENTAL,
        _by(None, None, _K.ROLLED_BACK, _K.ROLLED_BACK),
        "told from a deletion by the identity of the database: its timeline or position in the write-ahead log",
    ),
    Case(
        "restore_older_and_go_on",
        "an older backup is restored and new rows take the numbers of the lost ones",
        Where.VERIFIED,
        Walk.INCREMENTAL,
        _by(None, None, _K.ROLLED_BACK, _K.ROLLED_BACK),
        "the row at the mark is another one, and the database is an earlier state of itself",
    ),
    Case(
        "insert_inside",
        "a row is inserted between others, with a right previous MAC but without the key",
        Where.EDITED,
        Walk.TAIL,
        _by(_K.FORKED, _K.MODIFIED),
        "to linkage it is a branch that leads nowhere",
    ),
    Case(
        "insert_stray",
        "a row is inserted between others that names no row at all",
        Where.EDITED,
        Walk.TAIL,
        _by(_K.FORKED, _K.MODIFIED),
        "the chain goes on past it",
    ),
    Case(
        "insert_first",
        "a row is put before the first one, without the key",
        Where.EDITED,
        Walk.FULL,
        _by(_K.FORKED, _K.MODIFIED),
        "the chain begins behind it; the incremental walk looks whether the first row is there, not for one before it",
    ),
    Case(
        "insert_last",
        "a row is appended with a right previous MAC but without the key",
        Where.EDITED,
        Walk.INCREMENTAL,
        _by(None, _K.MODIFIED),
        "linkage takes any MAC in the last row; once the platform appends behind it, it is part of the chain",
    ),
    Case(
        "append_without_mac",
        "rows are appended without a MAC",
        Where.EDITED,
        Walk.INCREMENTAL,
        _by(_K.MODIFIED, _K.MODIFIED),
        "a row without a MAC is never part of the chain, though the next one names none either",
    ),
    Case(
        "swap",
        "two rows change places",
        Where.EDITED,
        Walk.TAIL,
        _by(_K.REORDERED, _K.REORDERED),
        "the links lead through the same rows in another order",
    ),
    Case(
        "move_range",
        "rows are moved to another place",
        Where.EDITED,
        Walk.TAIL,
        _by(_K.REORDERED, _K.REORDERED),
        "the links lead through the same rows in another order",
    ),
    Case(
        "duplicate",
        "a row is copied to another place",
        Where.EDITED,
        Walk.TAIL,
        _by(_K.DUPLICATED, _K.DUPLICATED),
        "the same MAC stands in two rows",
    ),
    Case(
        "replay_suffix",
        "rows, old or new, are appended once more",
        Where.EDITED,
        Walk.INCREMENTAL,
        _by(_K.DUPLICATED, _K.DUPLICATED),
        "the same MACs stand in two rows each",
    ),
    Case(
        "remac_row",
        "a row is changed and its MAC made anew with the right key",
        Where.AFTER,
        Walk.TAIL,
        _by(_K.GAP, _K.GAP),
        "the row after it names the old MAC; the row itself is flawless",
    ),
    Case(
        "remac_suffix",
        "a row is changed and it and all later ones are made anew with the right key",
        Where.VERIFIED,
        Walk.INCREMENTAL,
        _by(None, None, _K.FORKED, _K.FORKED),
        "a flawless chain, but not the one that was verified",
    ),
    Case(
        "fork",
        "two rows follow the same row, both with right MACs",
        Where.EDITED,
        Walk.TAIL,
        _by(_K.FORKED, _K.FORKED),
        "two rows name the same previous MAC",
    ),
    Case(
        "rotate_key",
        "the newest rows carry a key id that is not configured",
        Where.EDITED,
        Walk.INCREMENTAL,
        _by(None, _K.KEY_UNKNOWN),
        "linkage needs no key",
    ),
    Case(
        "wrong_key_id",
        "the key id of a row is changed to one that is not configured",
        Where.EDITED,
        Walk.TAIL,
        _by(None, _K.KEY_UNKNOWN),
        "linkage needs no key",
    ),
    Case(
        "other_key_id",
        "the key id of a row is changed to another configured key",
        Where.EDITED,
        Walk.TAIL,
        _by(None, _K.MODIFIED),
        "linkage needs no key",
    ),
    Case(
        "renumber",
        "a row gets another sequence number and keeps its place, where the MAC covers the number",
        Where.EDITED,
        Walk.TAIL,
        _by(None, _K.MODIFIED),
        "linkage only looks at the order, which stays; so does a MAC that does not cover the number",
    ),
    Case(
        "delete_tail_older_mark",
        "the newest rows are deleted and the mark is replaced by an older valid one",
        Where.MISSING,
        Walk.INCREMENTAL,
        _by(None, None, None, None, _K.ROLLED_BACK),
        "the older mark agrees with the shorter chain; the witness holds a newer mark of the same writer",
    ),
    Case(
        "delete_tail_older_mark_and_witness",
        "the newest rows are deleted and mark and witness are replaced by older valid ones",
        Where.MISSING,
        Walk.INCREMENTAL,
        _by(None, None, None, None, None, _K.TAIL_TRUNCATED),
        "nothing that the intruder reached knows better; a value anchored on a public chain does",
    ),
    Case(
        "remac_all_older_mark_and_witness",
        "the whole chain is made anew with the right key, mark and witness are replaced by matching ones",
        Where.VERIFIED,
        Walk.INCREMENTAL,
        _by(None, None, None, None, None, _K.FORKED),
        "whoever holds both keys can write any history but the anchored one",
    ),
)


def markdown() -> str:
    """The table as the docs print it."""
    modes = list(Mode)
    lines = [
        "| what is done | " + " | ".join(modes) + " | sequence reported | found by | why |",
        "|---|" + "---|" * (len(modes) + 3),
    ]
    for case in SEEING:
        told = [f"`{case.seen[mode]}`" if case.seen[mode] else "–" for mode in modes]
        lines.append(f"| {case.what} | {' | '.join(told)} | {case.where} | {case.walk} | {case.why} |")
    return "\n".join(lines) + "\n"

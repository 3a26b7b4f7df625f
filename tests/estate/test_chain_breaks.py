"""`hash_chain` on a real PostgreSQL: each break caused by SQL, as a person with database access would."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from estate.servers.postgresql import PostgreSQL
from tests.estate.chain_platform import Platform, mac_of
from tests.probing import Probed

pytestmark = pytest.mark.estate


@pytest.fixture
async def platform(
    postgresql: PostgreSQL, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    monkeypatch.setenv("TOCSIN_STATE_DIR", str(tmp_path))
    made = Platform(postgresql, database, tmp_path)
    yield made
    await made.close()


async def test_an_untouched_chain_is_ok_and_measured(platform: Platform) -> None:
    await platform.write(60, "t1", "t2", "t3")
    await platform.bootstrap()
    last = (await platform.write(30, "t1", "t2", "t3"))[-1]
    probed = await platform.run()
    assert probed.verdict == ("ok", None)
    assert probed.detail == "30 new rows verified"
    assert probed.measured("tocsin_audit_chain_head_sequence", chain="t3") == last
    assert probed.measured("tocsin_audit_chain_verified_sequence", chain="t3") == last
    assert (await platform.full_walk()).verdict == ("ok", None)


async def test_without_a_mark_a_chain_is_never_ok(platform: Platform) -> None:
    await platform.write(5)
    probed = await platform.run()
    assert probed.verdict == ("unknown", "mark_missing")


def sole(probed: Probed) -> tuple[str, str]:
    """The reason and component of the only finding."""
    findings = probed.outcome.findings
    assert len(findings) == 1, [(one.reason, one.component, one.detail) for one in findings]
    return (findings[0].reason, findings[0].component)


@dataclass(frozen=True)
class Tampering:
    """SQL over the sequences of tenant t1 (``{0}`` the first row touched and so on), and what is told of it.

    ``told``: reason and the position, among t1's rows, of the sequence that is told.
    """

    sql: str
    reason: str
    told: int


# Positions are counted in t1's twenty rows: the mark stands at the tenth or at the twentieth.
WITHIN = {
    "modify_payload": Tampering("UPDATE audit_logs SET action = 'nothing' WHERE seq = {4}", "modified", 4),
    "modify_range": Tampering("UPDATE audit_logs SET principal = 'nobody' WHERE seq IN ({4},{5},{6})", "modified", 4),
    "modify_mac": Tampering("UPDATE audit_logs SET hmac = md5('x') || md5('y') WHERE seq = {4}", "modified", 4),
    "unreadable_mac": Tampering("UPDATE audit_logs SET hmac = 'not hexadecimal' WHERE seq = {4}", "modified", 4),
    "empty_mac": Tampering("UPDATE audit_logs SET hmac = '' WHERE seq = {4}", "modified", 4),
    "modify_previous": Tampering(
        "UPDATE audit_logs SET prev_hmac = md5('x') || md5('y') WHERE seq = {4}", "modified", 4
    ),
    "delete_one": Tampering("DELETE FROM audit_logs WHERE seq = {4}", "gap", 5),
    "delete_range": Tampering("DELETE FROM audit_logs WHERE seq IN ({3},{4},{5})", "gap", 6),
    "swap": Tampering(
        "UPDATE audit_logs SET seq = -1 WHERE seq = {4}; UPDATE audit_logs SET seq = {4} WHERE seq = {6};"
        "UPDATE audit_logs SET seq = {6} WHERE seq = -1",
        "reordered",
        4,
    ),
    "insert": Tampering(
        "INSERT INTO audit_logs (seq, tenant_id, principal, action, prev_hmac, hmac) "
        "SELECT seq + 1, tenant_id, 'intruder', 'planted', hmac, md5('x') || md5('z') FROM audit_logs WHERE seq = {4}",
        "modified",
        4,
    ),
    "duplicate": Tampering(
        "INSERT INTO audit_logs (seq, tenant_id, principal, action, prev_hmac, hmac) "
        "SELECT seq + 1, tenant_id, principal, action, prev_hmac, hmac FROM audit_logs WHERE seq = {4}",
        "duplicated",
        4,
    ),
    "wrong_key_id": Tampering("UPDATE audit_logs SET key_id = 'k7' WHERE seq = {4}", "key_unknown", 4),
}


async def _twenty(platform: Platform, marked: int) -> list[int]:
    """Twenty rows of t1, interleaved with as many of t2, with room between sequences; the mark after ``marked``."""
    platform.execute("ALTER SEQUENCE audit_logs_seq_seq INCREMENT BY 3")
    first = await platform.write(2 * marked, "t1", "t2")
    await platform.bootstrap()
    second = await platform.write(40 - 2 * marked, "t1", "t2")
    return [*first, *second][::2]


@pytest.mark.parametrize("name", sorted(WITHIN))
async def test_tampering_behind_the_mark_is_found_by_the_next_incremental_run(platform: Platform, name: str) -> None:
    platform.settings["key_id_column"] = "key_id"
    platform.probe = platform._probe()
    case, seqs = WITHIN[name], await _twenty(platform, 10)
    assert seqs == sorted(seqs)
    platform.execute(case.sql.format(*seqs[10:]))
    probed = await platform.run()
    assert sole(probed) == (case.reason, "t1")
    told = probed.measured("tocsin_audit_chain_break_sequence", chain="t1")
    assert seqs[10 + case.told] <= told <= seqs[10 + case.told] + 1
    assert sole(await platform.run()) == (case.reason, "t1")


@pytest.mark.parametrize("name", sorted(WITHIN))
async def test_tampering_before_the_mark_is_found_by_one_full_walk(platform: Platform, name: str) -> None:
    platform.settings["key_id_column"] = "key_id"
    platform.probe = platform._probe()
    case, seqs = WITHIN[name], await _twenty(platform, 20)
    assert (await platform.run()).verdict == ("ok", None)
    platform.execute(case.sql.format(*seqs))
    probed = await platform.full_walk()
    assert sole(probed) == (case.reason, "t1")
    told = probed.measured("tocsin_audit_chain_break_sequence", chain="t1")
    assert seqs[case.told] <= told <= seqs[case.told] + 1


async def test_a_truncated_tail_is_found_at_once_and_its_return_too(platform: Platform) -> None:
    seqs = await _twenty(platform, 10)
    await platform.run()
    platform.execute(f"CREATE TABLE kept AS SELECT * FROM audit_logs WHERE seq >= {seqs[17]} AND tenant_id = 't1'")
    platform.execute(f"DELETE FROM audit_logs WHERE seq >= {seqs[17]} AND tenant_id = 't1'")
    probed = await platform.run()
    assert sole(probed) == ("tail_truncated", "t1")
    assert probed.measured("tocsin_audit_chain_break_sequence", chain="t1") == seqs[16] + 1
    platform.execute("INSERT INTO audit_logs SELECT * FROM kept")
    assert (await platform.run()).verdict == ("ok", None)


async def test_an_emptied_table_is_a_truncation_of_every_chain(platform: Platform) -> None:
    await _twenty(platform, 10)
    platform.execute("TRUNCATE audit_logs")
    findings = (await platform.run()).outcome.findings
    assert {(one.reason, one.component) for one in findings} == {("tail_truncated", "t1"), ("tail_truncated", "t2")}


async def test_a_dropped_table_is_told(platform: Platform) -> None:
    await _twenty(platform, 10)
    platform.execute("DROP TABLE audit_logs")
    assert (await platform.run()).verdict == ("failed", "table_missing")


async def test_a_truncated_head_is_found_at_once(platform: Platform) -> None:
    seqs = await _twenty(platform, 10)
    platform.execute(f"DELETE FROM audit_logs WHERE seq <= {seqs[2]} AND tenant_id = 't1'")
    probed = await platform.run()
    assert sole(probed) == ("head_truncated", "t1")
    assert probed.measured("tocsin_audit_chain_break_sequence", chain="t1") == seqs[3]


async def test_a_cut_tail_that_the_platform_appends_to_is_a_rollback(platform: Platform) -> None:
    seqs = await _twenty(platform, 20)
    platform.execute(f"DELETE FROM audit_logs WHERE seq >= {seqs[15]} AND tenant_id = 't1'")
    await platform.write(3, "t1")
    assert sole(await platform.run()) == ("rolled_back", "t1")


async def test_a_suffix_made_anew_with_the_right_key_is_a_fork(platform: Platform) -> None:
    seqs = await _twenty(platform, 20)
    platform.execute(f"DELETE FROM audit_logs WHERE seq >= {seqs[18]} AND tenant_id = 't1'")
    for seq in seqs[18:]:
        platform.execute(f"SELECT setval('audit_logs_seq_seq', {seq}, false)")
        await platform.write(1, "t1")
    assert sole(await platform.run()) == ("forked", "t1")


async def test_two_rows_behind_the_same_row_are_a_fork(platform: Platform) -> None:
    seqs = await _twenty(platform, 10)
    (tail,) = platform.execute(f"SELECT prev_hmac FROM audit_logs WHERE seq = {seqs[15]}")
    mac = mac_of(tail[0], "t1", "second", "writer")
    platform.execute(
        f"INSERT INTO audit_logs (seq, tenant_id, principal, action, prev_hmac, hmac) "
        f"VALUES ({seqs[15] - 1}, 't1', 'second', 'writer', '{tail[0]}', '{mac}')"
    )
    assert sole(await platform.run()) == ("forked", "t1")


async def test_a_replayed_suffix_is_a_duplication(platform: Platform) -> None:
    seqs = await _twenty(platform, 20)
    platform.execute(
        "INSERT INTO audit_logs (tenant_id, principal, action, prev_hmac, hmac) SELECT tenant_id, principal, action, "
        f"prev_hmac, hmac FROM audit_logs WHERE tenant_id = 't1' AND seq >= {seqs[17]} ORDER BY seq"
    )
    assert sole(await platform.run()) == ("duplicated", "t1")


async def test_several_breaks_in_one_walk_are_told_one_by_one_and_do_not_stop_it(platform: Platform) -> None:
    seqs = await _twenty(platform, 20)
    platform.execute(f"UPDATE audit_logs SET action = 'x' WHERE seq = {seqs[3]}")
    platform.execute(f"DELETE FROM audit_logs WHERE seq = {seqs[8]}")
    platform.execute(f"UPDATE audit_logs SET hmac = md5('a') || md5('b') WHERE seq = {seqs[14]}")
    findings = (await platform.full_walk()).outcome.findings
    assert [one.reason for one in findings] == ["modified", "gap", "modified"]


async def test_a_repaired_row_resolves_the_break_in_the_next_run(platform: Platform) -> None:
    seqs = await _twenty(platform, 20)
    platform.execute(f"UPDATE audit_logs SET action = action || '!' WHERE seq = {seqs[3]}")
    assert sole(await platform.full_walk()) == ("modified", "t1")
    platform.execute(f"UPDATE audit_logs SET action = rtrim(action, '!') WHERE seq = {seqs[3]}")
    assert (await platform.run()).verdict == ("ok", None)


async def test_declared_retention_may_take_the_head_but_not_more(platform: Platform) -> None:
    platform.settings["retention"] = {"max_age": "30d", "slack": "1h"}
    platform.probe = platform._probe()
    seqs = await _twenty(platform, 20)
    platform.execute(f"UPDATE audit_logs SET created_at = now() - interval '40 days' WHERE seq <= {seqs[6]}")
    await platform.run()
    platform.execute(f"DELETE FROM audit_logs WHERE seq < {seqs[5]}")
    assert (await platform.run()).verdict == ("ok", None)
    assert (await platform.full_walk()).verdict == ("ok", None)
    platform.execute(f"DELETE FROM audit_logs WHERE seq < {seqs[12]}")
    assert {one.reason for one in (await platform.run()).outcome.findings} == {"head_truncated"}


async def test_linkage_alone_sees_a_hole_but_no_edit(platform: Platform) -> None:
    platform.settings |= {"mode": "linkage", "payload": None, "keys": []}
    platform.probe = platform._probe()
    seqs = await _twenty(platform, 20)
    platform.execute(f"UPDATE audit_logs SET action = 'x' WHERE seq = {seqs[3]}")
    assert (await platform.full_walk()).verdict == ("ok", None)
    platform.execute(f"DELETE FROM audit_logs WHERE seq = {seqs[8]}")
    assert sole(await platform.full_walk()) == ("gap", "t1")


async def test_a_chain_ordered_by_time_and_id_is_walked_too(platform: Platform) -> None:
    platform.settings["order_by"] = ["created_at", "seq"]
    platform.execute("CREATE INDEX ON audit_logs (created_at, seq)")
    platform.probe = platform._probe()
    seqs = await _twenty(platform, 20)
    assert (await platform.run()).verdict == ("ok", None)
    platform.execute(f"DELETE FROM audit_logs WHERE seq = {seqs[8]}")
    assert sole(await platform.full_walk()) == ("gap", "t1")


async def test_chains_that_an_index_keeps_apart_are_walked_one_by_one(platform: Platform) -> None:
    platform.execute("CREATE INDEX ON audit_logs (tenant_id, seq)")
    seqs = await _twenty(platform, 20)
    platform.execute(f"DELETE FROM audit_logs WHERE seq = {seqs[8]}")
    assert sole(await platform.full_walk()) == ("gap", "t1")
    await platform.write(3, "new")
    assert sole(await platform.run()) == ("gap", "t1")

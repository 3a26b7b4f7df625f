"""`hash_chain` on a real PostgreSQL: each break caused by SQL, as a person with database access would."""

from __future__ import annotations

import hmac
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from estate.servers.postgresql import PostgreSQL
from tests.estate.chain_platform import GENESIS, KEY, Platform, emptied, mac_of, own_database, without_processes
from tests.probing import Probed
from tocsin_chain.seeing import SEEING, Mode, Walk

pytestmark = pytest.mark.estate


@pytest.fixture(scope="module")
def audited(postgresql: PostgreSQL) -> Iterator[str]:
    with own_database(postgresql) as name:
        yield name


@pytest.fixture
async def platform(
    postgresql: PostgreSQL, audited: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    monkeypatch.setenv("TOCSIN_STATE_DIR", str(tmp_path))
    without_processes(monkeypatch)
    made = Platform(postgresql, emptied(postgresql, audited), tmp_path)
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
    """SQL over the sequences of tenant t1 (``{0}`` the first row touched and so on; ``{again}`` the right MAC of
    {4} with another action, ``{branch}`` of a row that follows {4}), and what is told of it.

    ``told``: the position, among t1's rows, of the sequence that is told.
    """

    sql: str
    reason: str
    told: int


# Positions are counted in t1's twenty rows: the mark stands at the tenth or at the twentieth.
WITHIN = {
    "modify_payload": Tampering("UPDATE audit_logs SET action = 'nothing' WHERE seq = {4}", "modified", 4),
    "modify_payload_range": Tampering(
        "UPDATE audit_logs SET principal = 'nobody' WHERE seq IN ({4},{5},{6})", "modified", 4
    ),
    "modify_mac": Tampering("UPDATE audit_logs SET hmac = md5('x') || md5('y') WHERE seq = {4}", "modified", 4),
    "unreadable_mac": Tampering("UPDATE audit_logs SET hmac = 'not hexadecimal' WHERE seq = {4}", "modified", 4),
    "empty_mac": Tampering("UPDATE audit_logs SET hmac = '' WHERE seq = {4}", "modified", 4),
    "modify_previous": Tampering(
        "UPDATE audit_logs SET prev_hmac = md5('x') || md5('y') WHERE seq = {4}", "modified", 4
    ),
    "delete_one": Tampering("DELETE FROM audit_logs WHERE seq = {4}", "gap", 5),
    "delete_inside": Tampering("DELETE FROM audit_logs WHERE seq IN ({3},{4},{5})", "gap", 6),
    "swap": Tampering(
        "UPDATE audit_logs SET seq = -1 WHERE seq = {4}; UPDATE audit_logs SET seq = {4} WHERE seq = {6};"
        "UPDATE audit_logs SET seq = {6} WHERE seq = -1",
        "reordered",
        4,
    ),
    "insert_inside": Tampering(
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
    "insert_stray": Tampering(
        "INSERT INTO audit_logs (seq, tenant_id, principal, action, prev_hmac, hmac) "
        "SELECT seq + 1, tenant_id, 'intruder', 'planted', md5('w') || md5('x'), md5('y') || md5('z') "
        "FROM audit_logs WHERE seq = {4}",
        "modified",
        4,
    ),
    "move_range": Tampering(
        "UPDATE audit_logs SET seq = -seq WHERE seq IN ({4},{5},{6},{7}); UPDATE audit_logs SET seq = {6} WHERE "
        "seq = -{4}; UPDATE audit_logs SET seq = {7} WHERE seq = -{5}; UPDATE audit_logs SET seq = {4} WHERE "
        "seq = -{6}; UPDATE audit_logs SET seq = {5} WHERE seq = -{7}",
        "reordered",
        4,
    ),
    "remac_row": Tampering("UPDATE audit_logs SET action = 'rewritten', hmac = '{again}' WHERE seq = {4}", "gap", 5),
    "fork": Tampering(
        "INSERT INTO audit_logs (seq, tenant_id, principal, action, prev_hmac, hmac) "
        "SELECT seq + 1, tenant_id, 'second', 'writer', hmac, '{branch}' FROM audit_logs WHERE seq = {4}",
        "forked",
        4,
    ),
    "wrong_key_id": Tampering("UPDATE audit_logs SET key_id = 'k7' WHERE seq = {4}", "key_unknown", 4),
    "other_key_id": Tampering("UPDATE audit_logs SET key_id = 'k2' WHERE seq = {4}", "modified", 4),
}

# Of what the docs say that only a full walk finds.
BEFORE = {
    "insert_first": Tampering(
        "INSERT INTO audit_logs (seq, tenant_id, principal, action, prev_hmac, hmac) "
        "SELECT 0, tenant_id, 'intruder', 'planted', repeat('0', 64), md5('x') || md5('z') "
        "FROM audit_logs WHERE seq = {0}",
        "modified",
        0,
    ),
}

# Of what the docs say that the incremental walk finds before the mark, too: all twenty rows were verified.
AT_THE_ENDS = {
    "modify_last_mac": Tampering("UPDATE audit_logs SET hmac = md5('x') || md5('y') WHERE seq = {19}", "modified", 19),
    "delete_head": Tampering("DELETE FROM audit_logs WHERE tenant_id = 't1' AND seq <= {2}", "head_truncated", 3),
    "delete_head_and_relink": Tampering(
        "DELETE FROM audit_logs WHERE tenant_id = 't1' AND seq <= {2};"
        "UPDATE audit_logs SET prev_hmac = repeat('0', 64) WHERE seq = {3}",
        "modified",
        3,
    ),
    "insert_last": Tampering(
        "INSERT INTO audit_logs (seq, tenant_id, principal, action, prev_hmac, hmac) "
        "SELECT seq + 4, tenant_id, 'intruder', 'planted', hmac, md5('x') || md5('z') FROM audit_logs WHERE seq = {19}",
        "modified",
        19,
    ),
    "append_without_mac": Tampering(
        "ALTER TABLE audit_logs ALTER prev_hmac DROP NOT NULL, ALTER hmac DROP NOT NULL;"
        "INSERT INTO audit_logs (seq, tenant_id, principal, action, prev_hmac, hmac) "
        "SELECT seq + 4 + n, tenant_id, 'intruder', 'planted', (ARRAY[hmac, NULL, ''])[n + 1], (ARRAY[NULL, NULL, ''])[n + 1] "
        "FROM audit_logs, generate_series(0, 2) n WHERE seq = {19}",
        "modified",
        19,
    ),
}


async def _twenty(platform: Platform, marked: int) -> list[int]:
    """Twenty rows of t1, interleaved with as many of t2, with room between sequences; the mark after ``marked``."""
    platform.execute("ALTER SEQUENCE audit_logs_seq_seq INCREMENT BY 3")
    first = await platform.write(2 * marked, "t1", "t2")
    await platform.bootstrap()
    second = await platform.write(40 - 2 * marked, "t1", "t2")
    return [*first, *second][::2]


def _cause(platform: Platform, case: Tampering, seqs: list[int]) -> None:
    (row,) = platform.execute(f"SELECT prev_hmac, principal, hmac FROM audit_logs WHERE seq = {seqs[4]}")
    again = mac_of(row[0], "t1", row[1], "rewritten")
    platform.execute(case.sql.format(*seqs, again=again, branch=mac_of(row[2], "t1", "second", "writer")))


def _with_keys(platform: Platform) -> None:
    platform.settings["key_id_column"] = "key_id"
    platform.settings["keys"] = [{"id": "k1", "secret": KEY}, {"id": "k2", "secret": "another key"}]
    platform.probe = platform._probe()


def _told(probed: Probed, case: Tampering, seqs: list[int]) -> None:
    assert sole(probed) == (case.reason, "t1")
    told = probed.measured("tocsin_audit_chain_break_sequence", chain="t1")
    assert -1 <= told - seqs[case.told] <= 4


@pytest.mark.parametrize("name", sorted(WITHIN))
async def test_tampering_behind_the_mark_is_found_by_the_next_incremental_run_and_is_the_same_in_a_full_walk(
    platform: Platform, name: str
) -> None:
    _with_keys(platform)
    seqs = await _twenty(platform, 10)
    assert seqs == sorted(seqs)
    _cause(platform, WITHIN[name], seqs[10:])
    _told(await platform.run(), WITHIN[name], seqs[10:])
    _told(await platform.full_walk(), WITHIN[name], seqs[10:])
    _told(await platform.run(), WITHIN[name], seqs[10:])


@pytest.mark.parametrize("name", sorted({**WITHIN, **BEFORE}))
async def test_tampering_before_the_mark_is_found_by_one_full_walk_only(platform: Platform, name: str) -> None:
    _with_keys(platform)
    seqs = await _twenty(platform, 20)
    case = {**WITHIN, **BEFORE}[name]
    _cause(platform, case, seqs)
    assert (await platform.run()).verdict == ("ok", None)
    _told(await platform.full_walk(), case, seqs)


@pytest.mark.parametrize("name", sorted(AT_THE_ENDS))
async def test_tampering_at_the_ends_of_what_was_verified_is_found_by_the_next_incremental_run(
    platform: Platform, name: str
) -> None:
    _with_keys(platform)
    seqs = await _twenty(platform, 20)
    _cause(platform, AT_THE_ENDS[name], seqs)
    _told(await platform.run(), AT_THE_ENDS[name], seqs)
    _told(await platform.full_walk(), AT_THE_ENDS[name], seqs)
    _told(await platform.run(), AT_THE_ENDS[name], seqs)


SEEN_WITHOUT_A_KEY = {
    case.name: case.seen[Mode.LINKAGE_MARK] for case in SEEING if case.name in {**WITHIN, **BEFORE, **AT_THE_ENDS}
}


@pytest.mark.parametrize("name", sorted(SEEN_WITHOUT_A_KEY))
async def test_without_a_key_the_walks_tell_what_the_docs_say_and_go_on_telling_it(
    platform: Platform, name: str
) -> None:
    platform.settings |= {"mode": "linkage", "payload": None, "keys": []}
    platform.probe = platform._probe()
    seqs = await _twenty(platform, 20)
    _cause(platform, {**WITHIN, **BEFORE, **AT_THE_ENDS}[name], seqs)
    expected = SEEN_WITHOUT_A_KEY[name]
    for walk in (platform.full_walk, platform.run, platform.run, platform.full_walk, platform.run):
        probed = await walk()
        if expected is None:
            assert probed.verdict == ("ok", None)
        else:
            assert sole(probed) == (expected, "t1")


@pytest.mark.parametrize("index", [False, True])
async def test_a_row_planted_at_the_end_of_a_quiet_chain_below_what_others_wrote_is_found_at_once_only_with_an_index(
    platform: Platform, index: bool
) -> None:
    if index:
        platform.execute("CREATE INDEX ON audit_logs (tenant_id, seq)")
    seqs = await _twenty(platform, 20)
    planted = (
        "INSERT INTO audit_logs (seq, tenant_id, principal, action, prev_hmac, hmac) SELECT seq + 1, tenant_id, "
        f"'intruder', 'planted', hmac, md5('x') || md5('z') FROM audit_logs WHERE seq = {seqs[19]}"
    )
    platform.execute(planted)
    assert (await platform.run()).verdict == (("failed", "modified") if index else ("ok", None))
    await platform.write(1, "t1")
    assert sole(await platform.run()) == ("modified", "t1")


async def test_rows_of_a_key_that_is_not_configured_are_told_and_fine_once_it_is(platform: Platform) -> None:
    platform.settings["key_id_column"] = "key_id"
    platform.probe = platform._probe()
    await _twenty(platform, 20)
    rotated = await platform.write(3, "t1", key_id="k2", key="another key")
    probed = await platform.run()
    assert sole(probed) == ("key_unknown", "t1")
    assert probed.measured("tocsin_audit_chain_break_sequence", chain="t1") == rotated[0]
    _with_keys(platform)
    assert (await platform.run()).verdict == ("ok", None)
    assert (await platform.full_walk()).verdict == ("ok", None)


async def test_keys_may_be_told_apart_by_the_time_of_the_row(platform: Platform) -> None:
    platform.execute("ALTER TABLE audit_logs ALTER created_at SET DEFAULT '2026-01-01T00:00:00Z'")
    first = await platform.write(300, "t1", "t2")
    platform.execute("ALTER TABLE audit_logs ALTER created_at SET DEFAULT '2026-02-01T00:00:00Z'")
    await platform.write(300, "t1", "t2", key="the key since February")
    february = "2026-02-01T00:00:00Z"
    platform.settings["keys"] = [
        {"secret": KEY, "to": february},
        {"secret": "the key since February", "from": february},
    ]
    platform.probe = platform._probe()
    await platform.bootstrap()
    assert (await platform.full_walk()).verdict == ("ok", None)
    platform.execute(f"UPDATE audit_logs SET created_at = '2026-03-01T00:00:00Z' WHERE seq = {first[7]}")
    assert {one.reason for one in (await platform.full_walk()).outcome.findings} == {"modified"}


async def test_a_truncated_tail_is_found_at_once_and_its_return_too(platform: Platform) -> None:
    seqs = await _twenty(platform, 10)
    await platform.run()
    platform.execute(f"CREATE TABLE kept AS SELECT * FROM audit_logs WHERE seq >= {seqs[17]} AND tenant_id = 't1'")
    platform.execute(f"DELETE FROM audit_logs WHERE seq >= {seqs[17]} AND tenant_id = 't1'")
    probed = await platform.run()
    assert sole(probed) == ("tail_truncated", "t1")
    assert probed.measured("tocsin_audit_chain_break_sequence", chain="t1") == seqs[16] + 1
    assert sole(await platform.full_walk()) == ("tail_truncated", "t1")
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


async def test_a_cut_tail_that_the_platform_appends_to_is_a_rollback(platform: Platform) -> None:
    seqs = await _twenty(platform, 20)
    platform.execute(f"DELETE FROM audit_logs WHERE seq >= {seqs[15]} AND tenant_id = 't1'")
    await platform.write(3, "t1")
    assert sole(await platform.run()) == ("rolled_back", "t1")
    assert sole(await platform.full_walk()) == ("rolled_back", "t1")


async def test_a_suffix_made_anew_with_the_right_key_is_a_fork(platform: Platform) -> None:
    seqs = await _twenty(platform, 20)
    platform.execute(f"DELETE FROM audit_logs WHERE seq >= {seqs[18]} AND tenant_id = 't1'")
    for seq in seqs[18:]:
        platform.execute(f"SELECT setval('audit_logs_seq_seq', {seq}, false)")
        await platform.write(1, "t1")
    assert sole(await platform.run()) == ("forked", "t1")
    assert sole(await platform.full_walk()) == ("forked", "t1")


async def test_a_replayed_suffix_is_a_duplication(platform: Platform) -> None:
    seqs = await _twenty(platform, 20)
    platform.execute(
        "INSERT INTO audit_logs (tenant_id, principal, action, prev_hmac, hmac) SELECT tenant_id, principal, action, "
        f"prev_hmac, hmac FROM audit_logs WHERE tenant_id = 't1' AND seq >= {seqs[17]} ORDER BY seq"
    )
    assert sole(await platform.run()) == ("duplicated", "t1")
    assert sole(await platform.full_walk()) == ("duplicated", "t1")


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


async def test_a_chain_that_never_had_a_mac_is_not_one_without_a_key_either(platform: Platform) -> None:
    platform.settings |= {"mode": "linkage", "payload": None, "keys": []}
    platform.probe = platform._probe()
    await _twenty(platform, 20)
    platform.execute(
        "INSERT INTO audit_logs (tenant_id, principal, action, prev_hmac, hmac) "
        "SELECT 'new', 'intruder', 'planted', '', '' FROM generate_series(1, 3)"
    )
    assert sole(await platform.run()) == ("modified", "new")
    assert sole(await platform.full_walk()) == ("modified", "new")
    assert sole(await platform.run()) == ("modified", "new")


async def test_a_head_that_was_cut_and_made_to_look_like_one_stays_told_by_the_mark_alone(platform: Platform) -> None:
    platform.settings |= {"mode": "linkage", "payload": None, "keys": []}
    platform.probe = platform._probe()
    seqs = await _twenty(platform, 20)
    platform.execute(f"CREATE TABLE kept AS SELECT * FROM audit_logs WHERE tenant_id = 't1' AND seq <= {seqs[3]}")
    platform.execute(f"DELETE FROM audit_logs WHERE tenant_id = 't1' AND seq <= {seqs[2]}")
    platform.execute(f"UPDATE audit_logs SET prev_hmac = '{GENESIS}' WHERE seq = {seqs[3]}")
    for _ in range(3):
        assert sole(await platform.run()) == ("head_truncated", "t1")
    assert sole(await platform.full_walk()) == ("head_truncated", "t1")
    assert sole(await platform.run()) == ("head_truncated", "t1")
    platform.execute(f"DELETE FROM audit_logs WHERE seq = {seqs[3]}; INSERT INTO audit_logs SELECT * FROM kept")
    assert (await platform.run()).verdict == ("ok", None)
    assert (await platform.full_walk()).verdict == ("ok", None)


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


async def test_rows_without_a_tenant_are_a_chain_too(platform: Platform) -> None:
    platform.execute(
        "ALTER TABLE audit_logs ALTER tenant_id DROP NOT NULL; CREATE INDEX ON audit_logs (tenant_id, seq)"
    )
    await platform.write(20, "", "t1")
    platform.execute("UPDATE audit_logs SET tenant_id = NULL WHERE tenant_id = ''")
    await platform.bootstrap()
    assert (await platform.run()).verdict == ("ok", None)
    assert (await platform.full_walk()).verdict == ("ok", None)
    platform.execute("UPDATE audit_logs SET action = 'x' WHERE seq = 5")
    assert sole(await platform.full_walk()) == ("modified", "audit_logs")
    platform.execute("DELETE FROM audit_logs WHERE tenant_id IS NULL AND seq > 10")
    reasons = {(one.reason, one.component) for one in (await platform.run()).outcome.findings}
    assert reasons == {("modified", "audit_logs"), ("tail_truncated", "audit_logs")}


async def test_a_row_that_gets_another_number_is_told_where_the_mac_covers_it(platform: Platform) -> None:
    """The platform's MAC does not cover the number; this one covers nothing else."""
    platform.settings["payload"] = {"fields": ["prev_hmac", "seq"]}
    platform.probe = platform._probe()
    previous, rows = GENESIS, []
    for seq in range(3, 63, 3):
        mac = hmac.digest(KEY.encode(), f"{previous}|{seq}".encode(), "sha256").hex()
        rows.append(f"({seq}, 't1', 'p', 'a', '{previous}', '{mac}')")
        previous = mac
    columns = "seq, tenant_id, principal, action, prev_hmac, hmac"
    platform.execute(f"INSERT INTO audit_logs ({columns}) VALUES {', '.join(rows)}")
    await platform.bootstrap()
    assert (await platform.full_walk()).verdict == ("ok", None)
    platform.execute("UPDATE audit_logs SET seq = 31 WHERE seq = 30")
    probed = await platform.full_walk()
    assert sole(probed) == ("modified", "t1")
    assert probed.measured("tocsin_audit_chain_break_sequence", chain="t1") == 31


async def test_an_older_backup_that_is_restored_is_a_rollback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_STATE_DIR", str(tmp_path))
    without_processes(monkeypatch)
    with PostgreSQL() as server:
        server.create_database("audited")
        platform = Platform(server, "audited", tmp_path)
        await platform.write(20, "t1", "t2")
        await platform.bootstrap()
        server.stop()
        backup = server.folder / "backup"
        subprocess.run(["cp", "-a", str(server.data), str(backup)], check=True)  # noqa: ASYNC221 - nothing else runs
        server.start()
        lost = await platform.write(6, "t1")
        assert (await platform.run()).verdict == ("ok", None)
        server.stop()
        shutil.rmtree(server.data)
        backup.rename(server.data)
        server.start()
        probed = await platform.run()
        assert sole(probed) == ("rolled_back", "t1")
        assert probed.measured("tocsin_audit_chain_break_sequence", chain="t1") <= lost[0]
        await platform.write(9, "t1", word="did something else")
        assert sole(await platform.run()) == ("rolled_back", "t1")
        await platform.close()


ELSEWHERE = {
    "delete_tail": test_a_truncated_tail_is_found_at_once_and_its_return_too,
    "empty_table": test_an_emptied_table_is_a_truncation_of_every_chain,
    "delete_tail_and_go_on": test_a_cut_tail_that_the_platform_appends_to_is_a_rollback,
    "restore_older": test_an_older_backup_that_is_restored_is_a_rollback,
    "restore_older_and_go_on": test_an_older_backup_that_is_restored_is_a_rollback,
    "replay_suffix": test_a_replayed_suffix_is_a_duplication,
    "remac_suffix": test_a_suffix_made_anew_with_the_right_key_is_a_fork,
    "rotate_key": test_rows_of_a_key_that_is_not_configured_are_told_and_fine_once_it_is,
    "renumber": test_a_row_that_gets_another_number_is_told_where_the_mac_covers_it,
}
IN_OTHER_FILES = {
    "delete_tail_older_mark": "test_an_older_valid_mark_is_a_rollback_even_when_the_table_was_cut_to_match",
    "delete_tail_older_mark_and_witness": "test_an_anchored_value_shows_what_mark_and_witness_cannot",
    "remac_all_older_mark_and_witness": "test_an_anchored_value_shows_what_mark_and_witness_cannot",
}


def test_every_line_of_the_docs_table_is_caused_on_a_real_server() -> None:
    assert {case.name for case in SEEING if case.walk is Walk.TAIL} <= {*WITHIN, "renumber"}
    assert {case.name for case in SEEING if case.walk is Walk.FULL} == {*BEFORE}
    assert {case.name for case in SEEING} <= {*WITHIN, *BEFORE, *AT_THE_ENDS, *ELSEWHERE, *IN_OTHER_FILES}
    others = "".join(path.read_text() for path in Path(__file__).parent.glob("test_chain_m*.py"))
    assert [name for name in IN_OTHER_FILES.values() if f"def {name}(" not in others] == []

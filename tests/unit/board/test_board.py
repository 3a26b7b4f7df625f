"""The board: entries replaced one by one, what survives a change of configuration, a restart, a broken disk."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tocsin.board import Board, Pace, Retention, Store
from tocsin.board.codec import decode_state, encode_state
from tocsin.board.database import Batch, Database, open_database
from tocsin.model import Attachment, CommonReason, Finding, Outcome, ProbeSpec, ProbeState, Run, Severity, Status

IMPATIENT = Pace(batch=0.001, first_retry=0.001, last_retry=0.002)
FAILED = Outcome.bad(CommonReason.TIMEOUT, "no answer", "queue-a")


def spec(name: str = "api", kind: str = "http", **changes: object) -> ProbeSpec:
    return replace(ProbeSpec(name, kind, "wipe", "api-down", settings={"url": "http://127.0.0.1"}), **changes)


def run(number: int, outcome: Outcome = FAILED, probe: str = "api") -> Run:
    return Run(probe, outcome, 1000.0 + number, 0.25, f"trace-{number}", f"request-{number}")


def alerting(number: int = 1) -> ProbeState:
    return ProbeState(
        status=Status.FAILED,
        since=1000.0,
        findings=FAILED.findings,
        detail=f"run {number}",
        failed_streak=number,
        alerting=True,
        alerting_since=1000.0,
        severity=Severity.PAGE,
        last_run_at=1000.0 + number,
        last_status=Status.FAILED,
    )


def opened(path: Path, *specs: ProbeSpec, retention: Retention | None = None) -> Board:
    board = Board(Store(path, pace=IMPATIENT, retention=retention or Retention(), wall=lambda: 5000.0))
    board.open()
    board.configure(specs)
    return board


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.mark.parametrize(
    "state",
    [
        ProbeState(),
        alerting(),
        replace(
            alerting(), caused_by="database", waiting_since=3.5, last_ok_at=1.0, first_failure_at=2.0, confirmed_at=2.5
        ),
        ProbeState(findings=(Finding("timeout", Status.UNKNOWN, Severity.TICKET, "ü", 'a "quoted" \udc80 line\n'),)),
    ],
)
def test_a_state_comes_back_from_json_as_it_was(state: ProbeState) -> None:
    assert decode_state(encode_state(state)) == state


def test_a_state_that_was_written_before_its_confirmation_was_dated_is_read() -> None:
    written = (
        '{"status":"failed","detail":"refused","alerting":true,"severity":"page","caused_by":null,"last_status":"failed",'
        '"findings":[["down","failed","page","",""]],"since":2.0,"first_failure_at":1.0,"first_page_at":1.0,'
        '"alerting_since":2.0,"waiting_since":null,"last_run_at":2.0,"last_ok_at":null,"failed_streak":2,"page_streak":2,'
        '"ok_streak":0,"unknown_streak":0}'
    )
    state = decode_state(written)
    assert (state.alerting, state.first_failure_at, state.confirmed_at) == (True, 1.0, None)


@pytest.mark.parametrize("text", ["", "[]", "{}", "nul", '{"status":"fine"}'])
def test_text_that_is_no_state_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="not a stored probe state"):
        decode_state(text)


async def test_a_snapshot_does_not_change_when_the_board_does() -> None:
    board = Board()
    board.configure([spec()])
    before = board.entries()
    await board.record(run(1), alerting(), {})
    assert before["api"].run is None
    assert board.entries()["api"].state.alerting
    with pytest.raises(TypeError):
        before["api"] = board.entries()["api"]  # type: ignore[index]


async def test_runs_are_counted_by_outcome_and_skips_by_cause() -> None:
    board = Board()
    board.configure([spec()])
    await board.record(run(1), alerting(), {})
    await board.record(run(2), alerting(), {})
    await board.record(run(3, Outcome.ok()), ProbeState(status=Status.OK, since=3.0), {})
    board.skipped("api", "overlap")
    board.skipped("api", "overlap")
    board.skipped("nobody", "overlap")
    counts = board.entries()["api"].counts
    assert counts.runs == {Status.FAILED: 2, Status.OK: 1}
    assert counts.skipped == {"overlap": 2}


async def test_an_unchanged_probe_keeps_its_entry_and_a_removed_one_is_gone() -> None:
    board = Board()
    board.configure([spec("a"), spec("b")])
    await board.record(run(1, probe="a"), alerting(), {})
    kept = board.entries()["a"]
    board.configure([spec("c"), spec("a")])
    assert list(board.entries()) == ["c", "a"]
    assert board.entries()["a"] is kept


async def test_other_settings_keep_the_alert_and_drop_what_was_measured_with_the_old_ones() -> None:
    board = Board()
    board.configure([spec()])
    await board.record(run(1), alerting(), {})
    board.configure([spec(every=60.0)])
    assert board.entries()["api"].run is not None
    board.configure([spec(settings={"url": "http://127.0.0.2"})])
    entry = board.entries()["api"]
    assert entry.run is None
    assert entry.state.alerting
    assert entry.counts.runs == {Status.FAILED: 1}


async def test_a_probe_that_is_removed_and_put_back_still_alerts_and_remembers() -> None:
    board = Board()
    board.configure([spec()])
    await board.record(run(1), alerting(), {"etag": "x"})
    board.configure([])
    board.configure([spec(kind="tcp")])
    assert board.state("api") == ProbeState()
    board.configure([spec()])
    assert board.state("api") == alerting()
    assert board.memory("api") == {"etag": "x"}


async def test_memory_is_a_copy_and_what_is_not_json_is_refused() -> None:
    board = Board()
    board.configure([spec()])
    await board.record(run(1), alerting(), {"seen": [1]})
    board.memory("api")["seen"].append(2)
    assert board.memory("api") == {"seen": [1]}
    await board.record(run(2), alerting(2), {"seen": object()})
    await board.record(run(3), alerting(3), {"seen": "x" * 70_000})
    assert board.memory("api") == {"seen": [1]}


async def test_a_restart_restores_states_memory_and_history_before_the_first_run(path: Path) -> None:
    board = opened(path, spec())
    await board.record(run(1), alerting(), {"cursor": 7})
    board.close()

    again = opened(path, spec())
    entry = again.entries()["api"]
    assert entry.state == alerting()
    assert entry.run is None
    assert again.memory("api") == {"cursor": 7}
    assert [record.trace_id for record in again.runs("api")] == ["trace-1"]
    assert [record.trace_id for record in again.recent("api")] == ["trace-1"]
    assert [(change.status, change.alerting, change.reason) for change in again.transitions("api")] == [
        (Status.FAILED, True, "timeout")
    ]
    again.close()


async def test_a_transition_is_on_disk_before_anybody_sees_it(path: Path) -> None:
    board = opened(path, spec())
    seen_when_committed: list[bool] = []
    write = Database.write

    def watched(database: Database, batch: Batch) -> None:
        write(database, batch)
        if batch.transitions:
            seen_when_committed.append(board.entries()["api"].state.alerting)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "write", watched)
        await board.record(run(1), alerting(), {})
    assert seen_when_committed == [False]
    assert board.entries()["api"].state.alerting
    board.close()


async def test_the_state_file_is_for_its_owner_only(path: Path) -> None:
    board = opened(path, spec())
    await board.record(run(1), alerting(), {})
    modes = {found.name: found.stat().st_mode & 0o777 for found in path.parent.iterdir()}
    board.close()
    assert modes["state.db"] == modes["state.db-wal"] == 0o600


async def test_an_ordinary_run_does_not_wait_for_the_disk(path: Path) -> None:
    store = Store(path, pace=Pace(batch=3600.0))
    board = Board(store)
    board.open()
    board.configure([spec()])
    await board.record(run(1), alerting(), {})
    await board.record(run(2), alerting(2), {})
    assert len(board.runs("api")) == 1
    assert len(board.recent("api")) == 2
    board.close()
    assert len(board.runs("api")) == 2


async def test_a_transition_waits_for_a_disk_that_hangs_only_so_long(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin.board.board._PATIENCE_SECONDS", 0.01)
    board = opened(path, spec())
    hangs = threading.Event()
    write = Database.write

    def slow(database: Database, batch: Batch) -> None:
        hangs.wait(10)
        write(database, batch)

    monkeypatch.setattr(Database, "write", slow)
    await board.record(run(1), alerting(), {})
    assert board.state("api").alerting
    assert board.condition().failed_writes == 1
    hangs.set()
    board.close()
    assert opened_states(path) == {"api": alerting()}


async def test_a_run_that_ends_after_its_probe_was_removed_is_remembered_and_not_shown(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = opened(path, spec())
    await board.record(run(1), alerting(1), {})
    gate = threading.Event()
    write = Database.write

    def gated(database: Database, batch: Batch) -> None:
        gate.wait(10)
        write(database, batch)

    monkeypatch.setattr(Database, "write", gated)
    recording = asyncio.create_task(board.record(run(2), replace(alerting(2), caused_by="db"), {}))
    await asyncio.sleep(0)
    board.configure([])
    gate.set()
    await recording
    assert not board.entries()
    board.configure([spec()])
    assert board.state("api").caused_by == "db"
    board.close()


async def test_a_state_revised_without_a_run_is_a_transition_and_no_run(path: Path) -> None:
    board = opened(path, spec())
    await board.record(run(1), alerting(), {"cursor": 1})
    await board.revise("api", replace(alerting(), caused_by="db"))
    await board.revise("nobody", alerting())
    entry = board.entries()["api"]
    assert entry.state.caused_by == "db"
    assert entry.counts.runs == {Status.FAILED: 1}
    assert entry.run == run(1)
    board.close()
    assert opened_states(path)["api"].caused_by == "db"
    assert len(board.runs("api")) == 1
    assert [change.caused_by for change in board.transitions("api")] == ["db", None]


@pytest.mark.parametrize("damage", [b"this is no database at all, and long enough to be looked at" * 20, b"\0" * 4096])
async def test_a_damaged_file_is_kept_aside_and_a_new_one_is_opened(path: Path, damage: bytes) -> None:
    path.write_bytes(damage)
    board = opened(path, spec())
    await board.record(run(1), alerting(), {})
    board.close()
    assert board.condition().failing is None
    aside = board.condition().moved_aside
    assert aside is not None
    assert aside.read_bytes() == damage
    assert board.condition().failed_writes == 1
    assert opened_states(path) == {"api": alerting()}


async def test_a_file_damaged_in_the_middle_is_kept_aside(path: Path) -> None:
    board = opened(path, spec())
    for number in range(50):
        await board.record(run(number), alerting(number), {})
    board.close()
    content = bytearray(path.read_bytes())
    content[4096 : len(content) - 4096] = b"\xa5" * (len(content) - 8192)
    path.write_bytes(content)
    again = opened(path, spec())
    again.close()
    assert again.condition().moved_aside is not None
    assert again.condition().failing is None


async def test_a_file_from_a_newer_version_is_kept_aside(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    board = opened(path, spec())
    board.close()
    assert board.condition().moved_aside == path.with_name("state.db.unusable-5000")


async def test_a_file_that_breaks_while_open_is_replaced_and_filled_with_all_that_is_known(path: Path) -> None:
    board = opened(path, spec("a"), spec("b"))
    await board.record(run(1, probe="a"), alerting(1), {"cursor": 1})
    breaker = sqlite3.connect(path)
    breaker.execute("DROP TABLE states")
    breaker.close()
    await board.record(run(2, probe="b"), alerting(2), {})
    board.close()
    assert board.condition().moved_aside is not None
    assert opened_states(path) == {"a": alerting(1), "b": alerting(2)}


async def test_only_the_latest_unusable_files_are_kept(path: Path) -> None:
    for time in range(6):
        path.write_bytes(b"broken" * 1000)
        database, _ = open_database(path, Retention(), float(time))
        database.close()
    kept = sorted(found.name for found in path.parent.glob("*unusable*") if not found.name.endswith(("wal", "shm")))
    assert kept == ["state.db.unusable-3", "state.db.unusable-4", "state.db.unusable-5"]


async def test_without_a_disk_the_board_goes_on_in_memory_and_says_so(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    board = Board(Store(blocked / "state.db", pace=Pace(first_openings=(), first_retry=3600.0)))
    board.open()
    board.configure([spec()])
    await board.record(run(1), alerting(), {"cursor": 1})
    assert board.state("api").alerting
    assert [record.trace_id for record in board.runs("api")] == ["trace-1"]
    assert [change.alerting for change in board.transitions("api")] == [True]
    assert board.condition().failing is not None
    assert board.condition().failed_writes == 1
    board.close()


async def test_a_file_that_can_be_opened_a_moment_later_is_waited_for(path: Path) -> None:
    board = opened(path, spec())
    await board.record(run(1), alerting(), {})
    board.close()
    away = path.rename(path.with_name("away"))
    path.mkdir()

    def mount() -> None:
        path.rmdir()
        away.rename(path)

    mounting = threading.Timer(0.1, mount)
    mounting.start()
    again = Board(Store(path, pace=Pace(first_openings=(0.5, 5.0))))
    again.open()
    mounting.join()
    again.configure([spec()])
    assert again.state("api").alerting
    assert not again.condition().unread
    again.close()


async def test_what_was_remembered_in_a_file_that_cannot_be_opened_at_the_start_is_said_to_be_unknown(
    path: Path,
) -> None:
    board = opened(path, spec())
    assert not board.condition().unread
    await board.record(run(1), alerting(), {})
    board.close()
    away = path.rename(path.with_name("away"))
    path.mkdir()
    again = Board(Store(path, pace=replace(IMPATIENT, first_openings=(0.01,))))
    again.open()
    again.configure([spec()])
    path.rmdir()
    away.rename(path)
    await again.record(run(2), ProbeState(), {})
    again.close()
    assert again.condition().failing is None
    assert again.condition().unread
    assert opened_states(path) == {"api": ProbeState()}


async def test_a_disk_that_comes_back_gets_all_that_is_known_and_the_history_that_waited(path: Path) -> None:
    board = opened(path, spec("a"), spec("b"))
    await board.record(run(1, probe="a"), alerting(1), {"cursor": 1})
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL  # type: ignore[misc]
    attempts = threading.Semaphore(0)

    def refuse(database: Database, batch: Batch) -> None:
        attempts.release()
        raise full

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "write", refuse)
        await board.record(run(2, probe="b"), alerting(2), {})
        await board.record(run(3, probe="b"), alerting(3), {})
        for _ in range(3):
            assert attempts.acquire(timeout=10)
        assert board.condition().failing == "database or disk is full"
        assert board.state("b") == alerting(3)
    board.close()
    assert board.condition().failing is None
    assert board.condition().failed_writes >= 3
    assert opened_states(path) == {"a": alerting(1), "b": alerting(3)}
    assert [record.trace_id for record in board.runs("b")] == ["trace-3", "trace-2"]
    assert len(board.transitions("b")) == 1


async def test_nothing_that_happens_in_the_writers_thread_ends_it_or_leaves_a_transition_waiting(path: Path) -> None:
    board = opened(path, spec())
    surprises = threading.Semaphore(0)

    def surprise(database: Database, batch: Batch) -> None:
        surprises.release()
        raise RuntimeError("nobody foresaw this")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "write", surprise)
        async with asyncio.timeout(1.5):
            await board.record(run(1), alerting(1), {})
        assert board.condition().failing == "nobody foresaw this"
        assert all(surprises.acquire(timeout=10) for _ in range(3))
    board.close()
    assert board.condition().failing is None
    assert opened_states(path) == {"api": alerting(1)}
    assert [record.trace_id for record in board.runs("api")] == ["trace-1"]


async def test_the_memory_of_probes_that_went_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tocsin.board.board.MAX_RETIRED", 3)
    board = Board()
    for number in range(5):
        board.configure([spec(f"p{number}")])
        await board.record(run(1, probe=f"p{number}"), alerting(1), {})
    board.configure([spec(f"p{number}") for number in range(5)])
    assert [name for name, entry in board.entries().items() if entry.state.alerting] == ["p1", "p2", "p3", "p4"]


def attached(number: int, content: bytes = b"a line", outcome: Outcome = FAILED) -> Run:
    return replace(run(number, outcome), attachments=(Attachment("a.txt", "text/plain", content),))


async def test_what_the_latest_bad_run_attached_is_kept_over_a_restart(path: Path) -> None:
    board = opened(path, spec())
    assert board.evidence("api") is None
    await board.record(attached(1, b"an older line"), alerting(1), {})
    await board.record(attached(2), alerting(2), {})
    await board.record(run(3), alerting(3), {})
    await board.record(attached(4, b"all is well", Outcome.ok()), alerting(4), {})
    board.close()
    again = opened(path, spec())
    again.close()
    for evidence in (board.evidence("api"), again.evidence("api")):
        assert evidence is not None
        assert (evidence.trace_id, evidence.attachments) == ("trace-2", attached(2).attachments)
    assert board.entries()["api"].run == run(4, Outcome.ok())


async def test_what_is_kept_of_attachments_is_bounded_with_and_without_a_disk(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for board in (Board(), opened(tmp_path / "state.db", spec()), opened(tmp_path / "file" / "no.db", spec())):
        board.configure([spec()])
        both = (Attachment("a", "text/plain", b"a" * 10_000), Attachment("b", "text/plain", b"b" * 100_000))
        await board.record(replace(run(1), attachments=both), alerting(1), {})
        board.close()
        evidence = board.evidence("api")
        assert evidence is not None
        assert [(each.name, len(each.content)) for each in evidence.attachments] == [("a", 10_000), ("b", 6_384)]


async def test_a_file_of_the_first_version_is_taken_up(path: Path) -> None:
    board = opened(path, spec())
    await board.record(attached(1), alerting(1), {})
    board.close()
    with sqlite3.connect(path) as connection:
        connection.executescript("DROP TABLE evidence; PRAGMA user_version = 1")
    connection.close()
    again = opened(path, spec())
    await again.record(attached(2, b"new"), alerting(2), {})
    again.close()
    assert again.condition().moved_aside is None
    evidence = Board(Store(path)).evidence("api")
    assert evidence is not None
    assert evidence.attachments[0].content == b"new"


async def test_history_is_bounded_and_failures_are_kept_longer(path: Path) -> None:
    board = opened(path, spec(), retention=Retention(runs=10, bad_runs=20, transitions=5))
    ok = ProbeState(status=Status.OK, since=1.0, last_run_at=1.0)
    for number in range(40):
        await board.record(run(number), alerting(1), {})
    for number in range(40, 200):
        await board.record(run(number, Outcome.ok()), ok, {})
    for number in range(200, 264):
        await board.record(run(number, Outcome.ok()), replace(ok, alerting=number % 2 == 0), {})
    board.close()
    records = board.runs("api", 1000)
    bad = [record for record in records if record.status is not Status.OK]
    assert len(bad) == 20
    assert 10 <= len(records) - len(bad) <= 10 + 64
    assert 5 <= len(board.transitions("api", 1000)) <= 5 + 64


def test_removed_probes_are_forgotten_after_retention_and_configured_ones_never(path: Path) -> None:
    database, _ = open_database(path, Retention(removed_seconds=100.0), 0.0)
    states = {
        ("gone", "http"): (alerting(), 10.0),
        ("here", "http"): (alerting(), 10.0),
        ("new", "http"): (alerting(), 950.0),
    }
    database.write(Batch(states=states, memory=dict.fromkeys(states, "{}")))
    database.forget_removed([("here", "http")], now=1000.0)
    known, complaints = database.restore()
    database.close()
    assert set(known) == {("here", "http"), ("new", "http")}
    assert complaints == []


async def test_one_row_that_cannot_be_read_costs_only_itself(path: Path) -> None:
    board = opened(path, spec("a"), spec("b"))
    await board.record(run(1, probe="a"), alerting(1), {})
    await board.record(run(1, probe="b"), alerting(1), {})
    board.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE states SET state = 'x' WHERE probe = 'a'")
    connection.close()
    again = opened(path, spec("a"), spec("b"))
    again.close()
    assert again.state("a") == ProbeState()
    assert again.state("b") == alerting(1)
    assert again.condition().failed_writes == 1


async def test_text_that_is_no_utf8_does_not_stop_the_store(path: Path) -> None:
    board = opened(path, spec())
    outcome = Outcome.bad(CommonReason.TIMEOUT, "bytes \udc80 here" + "x" * 9000)
    await board.record(run(1, outcome), replace(alerting(), detail="bytes \udc80 here"), {})
    board.close()
    assert board.condition().failed_writes == 0
    assert board.runs("api")[0].detail.startswith("bytes ? here")
    assert len(board.runs("api")[0].detail) == 2000


def opened_states(path: Path) -> dict[str, ProbeState]:
    database = Database(path, Retention())
    known, _ = database.restore()
    database.close()
    return {probe: remembered.state for (probe, _), remembered in known.items()}

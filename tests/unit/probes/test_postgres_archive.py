"""How old WAL is that waits for the archive, from one run to the next."""

from __future__ import annotations

from tocsin_probes.postgres import IDLE_WAL_BYTES, MAX_WRITTEN, archived_up_to, still_waiting

MIB = 1 << 20


def test_the_oldest_wal_above_the_archived_position_counts_and_not_the_archiver_s_last_move() -> None:
    waiting = still_waiting((), archived=0, written=MIB, now=0)
    waiting = still_waiting(waiting, archived=0, written=2 * MIB, now=100)
    assert waiting == ((MIB, 0), (2 * MIB, 100))
    assert still_waiting(waiting, archived=MIB, written=3 * MIB, now=200) == ((2 * MIB, 100), (3 * MIB, 200))


def test_what_an_idle_server_writes_waits_for_nothing() -> None:
    assert still_waiting((), archived=0, written=IDLE_WAL_BYTES, now=0) == ()
    waiting = still_waiting((), archived=0, written=MIB, now=0)
    assert still_waiting(waiting, archived=0, written=MIB, now=9000) == ((MIB, 0),)
    assert still_waiting(waiting, archived=MIB - IDLE_WAL_BYTES, written=MIB, now=9000) == ()


def test_a_server_that_was_set_back_starts_anew() -> None:
    waiting = still_waiting((), archived=0, written=9 * MIB, now=0)
    assert still_waiting(waiting, archived=0, written=MIB, now=50) == ((MIB, 50),)


def test_what_is_remembered_is_bounded_and_keeps_the_oldest() -> None:
    waiting: tuple[tuple[float, float], ...] = ()
    for minute in range(1, 10_000):
        waiting = still_waiting(waiting, archived=0, written=minute * MIB, now=minute * 60)
        assert len(waiting) <= MAX_WRITTEN
        assert waiting[0] == (MIB, 60)
    assert list(waiting) == sorted(waiting)


def test_only_a_segment_s_name_says_up_to_where_it_is_archived() -> None:
    size = 16 * MIB
    assert archived_up_to("000000010000000000000005", size) == 6 * size
    for name in (
        "000000010000000000000002.00000028.backup",
        "00000002.history",
        "000000010000000000000005.partial",
        None,
    ):
        assert archived_up_to(name, size) is None

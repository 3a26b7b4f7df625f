"""What the PostgreSQL client makes of dsns and times, without a server."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from tocsin.model import Reference
from tocsin.sdk import ProbeFault, Secret
from tocsin.sdk.postgres import targets_of, unix_time

NOON = datetime.datetime(2026, 7, 1, 12, 0, tzinfo=datetime.UTC).timestamp()


@pytest.mark.parametrize(
    ("dsn", "targets"),
    [
        ("postgresql://u:p@db:6432/app", ("postgresql://db:6432",)),
        ("postgres://u:p@db/app", ("postgresql://db:5432",)),
        ("postgresql+psycopg://u:p@db/app", ("postgresql://db:5432",)),
        ("postgresql://u:p%40ss@a:1,b:2/app", ("postgresql://a:1", "postgresql://b:2")),
        ("postgresql://u:p@ss@db/app", ("postgresql://db:5432",)),
        ("postgresql://[::1]:6432/app", ("postgresql://[::1]:6432",)),
        ("postgresql:///app?host=/run/pg&port=6432", ("unix:///run/pg/.s.PGSQL.6432",)),
        ("postgresql://u:p@%2Frun%2Fpg/app", ("unix:///run/pg/.s.PGSQL.5432",)),
        ("host=db port=6432 user=u password='p w' dbname=app", ("postgresql://db:6432",)),
        ("postgresql:///app", ("postgresql://localhost:5432",)),
    ],
)
def test_targets_are_hosts_and_ports_without_credentials(dsn: str, targets: tuple[str, ...]) -> None:
    assert targets_of(Secret(dsn)) == targets


@pytest.mark.parametrize(
    "dsn", ["", "db", "mysql://u:p@db/app", "postgresql://u:pa/ss@db/app", "postgresql://u:p@db:x/app"]
)
def test_a_dsn_that_cannot_be_read_has_no_targets(dsn: str) -> None:
    assert targets_of(Secret(dsn)) == ()


def test_a_dsn_in_a_file_that_is_missing_has_no_targets(tmp_path: Path) -> None:
    absent = tmp_path / "dsn"
    assert targets_of(Secret(Reference("", absent.read_text, f"file:{absent}"))) == ()


@pytest.mark.parametrize(
    ("value", "zone", "seconds"),
    [
        (None, "UTC", None),
        (datetime.datetime(2026, 7, 1, 12, 0, tzinfo=datetime.UTC), "Asia/Tokyo", NOON),
        (datetime.datetime(2026, 7, 1, 12, 0), "UTC", NOON),
        (datetime.datetime(2026, 7, 1, 14, 0), "Europe/Paris", NOON),
        ("2026-07-01T14:00:00+02:00", "UTC", NOON),
        ("2026-07-01T14:00:00.5", "Europe/Paris", NOON + 0.5),
        ("1782907200", "UTC", 1_782_907_200.0),
        (datetime.date(2026, 7, 1), "UTC", NOON - 12 * 3600),
        (datetime.date(2026, 7, 1), "Europe/Paris", NOON - 14 * 3600),
        (1_782_907_200, "UTC", 1_782_907_200.0),
        (1_782_907_200_500, "UTC", 1_782_907_200.5),
        (Decimal("1782907200.25"), "UTC", 1_782_907_200.25),
    ],
)
def test_a_value_of_a_time_column_is_unix_time(value: object, zone: str, seconds: float | None) -> None:
    assert unix_time(value, zone) == seconds


@pytest.mark.parametrize("value", ["yesterday", "NaN", float("nan"), Decimal("Infinity")])
def test_what_is_no_time_is_an_unexpected_body(value: object) -> None:
    with pytest.raises(ProbeFault, match=f"{type(value).__name__} is not a time"):
        unix_time(value)

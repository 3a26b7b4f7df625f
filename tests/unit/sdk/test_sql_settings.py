"""Which settings a server's complaint about a name leads to."""

from __future__ import annotations

import pytest

from tocsin.model import Reference
from tocsin.sdk import ProbeSettings, Secret
from tocsin.sdk.sql_settings import to_change


class Settings(ProbeSettings):
    dsn: Secret = Secret("postgresql://u:status@db/app")
    table: str = "jobs"
    status_column: str = "status"
    statuses: tuple[str, ...] = ("queued", "retry")
    query: str = "SELECT id, d.status FROM app.letters d WHERE kind = 'queued'"


def made(**parts: tuple[str, str]) -> Settings:
    settings = Settings()
    settings._references = {setting: Reference("", lambda: "", "", None, (part,)) for setting, part in parts.items()}
    return settings


@pytest.mark.parametrize(
    ("message", "settings"),
    [
        ('relation "jobs" does not exist', ("table",)),
        ('relation "app.letters" does not exist', ("query",)),
        ("column d.status does not exist", ("status_column", "query")),
        ('column "id" does not exist', ("query",)),
        ('invalid input value for enum job_status: "queued"', ("statuses",)),
        ('column "elsewhere" does not exist', ()),
        ("operator does not exist: bigint = uuid", ()),
    ],
)
def test_a_name_leads_to_what_contains_it_and_never_to_a_secret(message: str, settings: tuple[str, ...]) -> None:
    assert to_change(message, Settings()) == settings


def test_a_variable_is_named_where_it_brought_the_name_in_and_not_where_it_did_not() -> None:
    letters = made(query=("LETTERS", "app.letters"), status_column=("STATUS", "status"))
    assert to_change('relation "app.letters" does not exist', letters) == ("LETTERS (query)",)
    assert to_change("column d.status does not exist", letters) == ("STATUS (status_column)", "query")

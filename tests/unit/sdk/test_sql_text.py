"""Names and queries from a configuration, before any server sees them."""

from __future__ import annotations

import pytest

from tocsin.sdk.sql_text import quoted, single_select


@pytest.mark.parametrize(
    ("name", "sql"),
    [
        ("jobs", '"jobs"'),
        ("Jobs", '"jobs"'),
        ("audit.jobs", '"audit"."jobs"'),
        ('"Odd ""Name"""', '"Odd ""Name"""'),
        ('work."Odd.Name"', '"work"."Odd.Name"'),
        ("a$1", '"a$1"'),
    ],
)
def test_a_name_is_quoted_as_the_server_would_fold_it(name: str, sql: str) -> None:
    assert quoted(name) == sql


@pytest.mark.parametrize(
    "name", ["", "jobs; DROP TABLE jobs", 'a"b', '"a', '"a"b"', "a b", "a.b.c.d", "a..b", "count(*)", '"a\x00b"', "a\n"]
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        quoted(name)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1",
        "select 1 -- all; of them",
        "SELECT ';' /* ; */",
        "SELECT $$;$$, $a$ ; $b$ $a$",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "(SELECT 1) UNION (SELECT 2)",
        "SELECT E'\\';', ')'",
        "-- first a word\nSELECT 1",
        "VALUES (1)",
    ],
)
def test_a_single_select_is_kept_as_it_is(query: str) -> None:
    assert single_select(query) == query


def test_a_final_semicolon_is_taken_off() -> None:
    assert single_select("SELECT 1 ;\n") == "SELECT 1 "
    assert single_select("SELECT ';';") == "SELECT ';'"
    assert single_select("SELECT 1; -- done") == "SELECT 1"


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("SELECT 1; DELETE FROM jobs", "one statement only"),
        ("SELECT 1;;", "one statement only"),
        ("DELETE FROM jobs", "begins with SELECT or WITH"),
        ("SELECTED", "begins with SELECT or WITH"),
        ("", "begins with SELECT or WITH"),
        ("/* SELECT */ UPDATE jobs SET a = 1", "begins with SELECT or WITH"),
        ("SELECT 1) AS q, (SELECT 2", "parentheses do not match"),
        ("SELECT (1", "parentheses do not match"),
    ],
)
def test_anything_else_is_refused_at_load(query: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        single_select(query)

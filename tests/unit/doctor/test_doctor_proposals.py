"""Which names and values are proposed, what is said about the others, and how it is written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from tocsin.config import Registry, Sources, load
from tocsin.config.envfile import parse_env_file
from tocsin.data import data
from tocsin.doctor.catalogue import Table
from tocsin.doctor.examining import Findings
from tocsin.doctor.proposing import (
    Proposal,
    find_table,
    missing_index,
    propose_column,
    propose_table,
    propose_values,
)
from tocsin.doctor.questions import (
    ColumnQuestion,
    IndexQuestion,
    TableQuestion,
    ValuesQuestion,
    questions_of,
)
from tocsin.doctor.rendering import env_file

TIME, TEXT, NUMBER = "timestamp with time zone", "text", "bigint"
JOBS = Table("public", "jobs", {"id": NUMBER, "queue": TEXT, "status": TEXT, "run_at": TIME, "created_at": TIME})
OLD = Table("archive", "jobs", {"id": NUMBER, "queue": TEXT, "status": TEXT, "created_at": TIME})
TWIN = Table("public", "q_jobs", {"msg_id": NUMBER, "vt": TIME})
ODD = Table("public", "work_items", {"queue": TEXT, "status": TEXT})


@pytest.mark.parametrize(
    ("tables", "value", "others"),
    [
        ([TWIN, JOBS, OLD], "jobs", ("archive.jobs",)),
        ([TWIN, OLD], "archive.jobs", ()),
        ([TWIN, ODD], "work_items", ()),
        ([TWIN], "", ()),
        ([Table("public", "jobs", {"id": NUMBER})], "", ()),
    ],
)
def test_a_table_is_found_by_its_name_and_must_have_the_columns(
    tables: list[Table], value: str, others: tuple[str, ...]
) -> None:
    question = TableQuestion(ask="table", names=("jobs", "job"), columns=("queue", "status"))
    found = propose_table("V", question, tables)
    assert (found.value, found.others) == (value, others)


def test_a_column_is_the_likeliest_one_of_the_right_type() -> None:
    names = ("status", "run_at", "created_at")
    found = propose_column("V", ColumnQuestion(ask="column", table="T", names=names, type="time"), JOBS)
    assert (found.value, found.others) == ("run_at", ("created_at",))


def test_the_only_time_of_a_table_is_proposed_whatever_it_is_called() -> None:
    question = ColumnQuestion(ask="column", table="T", names=("created_at",), type="time")
    assert propose_column("V", question, TWIN) == Proposal("V", "vt", "the only time in q_jobs")
    two = Table("public", "t", {"a": TIME, "b": TIME})
    assert propose_column("V", question, two) == Proposal("V", "", "t has no column created_at", ("a", "b"))


@pytest.mark.parametrize(
    ("found", "value", "others", "why"),
    [
        (["done", "queued", "RETRY"], "queued,RETRY", ("done",), "values in jobs.status"),
        (["new"], "", ("new",), "jobs.status holds none of the likely values (queued, retry)"),
        ([], "", (), "jobs.status has no row to tell (queued, retry)"),
    ],
)
def test_values_are_those_among_the_likely_ones_and_the_rest_is_shown(
    found: list[str], value: str, others: tuple[str, ...], why: str
) -> None:
    question = ValuesQuestion(ask="values", table="T", column="status", names=("queued", "retry"))
    assert propose_values("V", question, JOBS, found) == Proposal("V", value, why, others)


def test_a_table_is_named_with_or_without_its_schema() -> None:
    assert find_table("jobs", [OLD, JOBS]) is JOBS
    assert find_table("Archive.Jobs", [OLD, JOBS]) is OLD
    assert find_table("", [JOBS]) is None


@pytest.mark.parametrize(
    ("indexes", "statement"),
    [
        ((), "CREATE INDEX CONCURRENTLY ON jobs (queue, status, run_at);"),
        ((("id",),), "CREATE INDEX CONCURRENTLY ON jobs (queue, status, run_at);"),
        ((("id", "queue"),), "CREATE INDEX CONCURRENTLY ON jobs (queue, status, run_at);"),
        ((("status", "id"),), "CREATE INDEX CONCURRENTLY ON jobs (queue, status, run_at);"),
        ((("queue", "status", "id"),), "CREATE INDEX CONCURRENTLY ON jobs (queue, status, run_at);"),
        ((("status", "queue", "run_at", "id"),), ""),
        ((("queue", "status", "run_at"),), ""),
    ],
)
def test_an_index_is_missing_when_none_begins_with_the_columns(
    indexes: tuple[tuple[str, ...], ...], statement: str
) -> None:
    question = IndexQuestion(probe="q", table="T", columns=("queue", "status", "TIME_COLUMN"))
    table = Table("public", "jobs", JOBS.columns, indexes)
    assert missing_index(question, table, {"TIME_COLUMN": "run_at"}) == statement


def test_what_is_written_is_an_env_file_with_nothing_set_that_was_not_found() -> None:
    findings = Findings(
        [
            Proposal("A_TABLE", "jobs", "a table of this name", ("archive.jobs",)),
            Proposal("B_VALUES", "it's, queued", "values in jobs.status"),
            Proposal("C_COLUMN", "", "jobs has no column x", ("y",)),
        ],
        [("wipe-queues", "CREATE INDEX CONCURRENTLY ON jobs (queue);")],
        ["the database of D: timeout: no answer"],
    )
    text = env_file(findings, ["E_URL"])
    assert parse_env_file(text.replace("'\\''", "").encode(), "proposal.env", {}) == {
        "A_TABLE": "jobs",
        "B_VALUES": "its, queued",
    }
    for line in (
        "# a table of this name; also there: archive.jobs",
        "# Could not look: the database of D: timeout: no answer",
        "# C_COLUMN=   jobs has no column x (there: y)",
        "#   CREATE INDEX CONCURRENTLY ON jobs (queue);   -- wipe-queues",
        "# E_URL=",
    ):
        assert line in text.splitlines()


def test_every_question_is_about_a_variable_and_a_probe_of_its_profile() -> None:
    profile = data("profiles").joinpath("wipe.yaml").read_text("utf-8")
    questions = questions_of("wipe")
    assert questions is not None
    about = [questions.database, *questions.questions, *(index.table for index in questions.indexes)]
    assert [variable for variable in about if f"${{{variable}" not in profile] == []
    probes = load(Sources(profiles=("wipe",), environ={}), Registry.discover()).probes
    assert [index.probe for index in questions.indexes if index.probe not in probes] == []
    for question in questions.questions.values():
        if isinstance(question, ColumnQuestion | ValuesQuestion):
            assert question.table in questions.questions


def test_a_profile_without_questions_has_none_and_a_wrong_file_says_where(tmp_path: Path) -> None:
    assert questions_of("nobody", tmp_path) is None
    (tmp_path / "questions").mkdir()
    (tmp_path / "questions" / "wrong.yaml").write_text("database: D\nquestions: {V: {ask: star}}\n")
    with pytest.raises(ValueError, match=r"profiles/questions/wrong\.yaml"):
        questions_of("wrong", tmp_path)

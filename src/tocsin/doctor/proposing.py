"""Which answer fits a question best. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tocsin.doctor.catalogue import Table
from tocsin.doctor.questions import ColumnQuestion, IndexQuestion, LatestQuestion, TableQuestion, ValuesQuestion


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a variable may be set to. ``value`` empty: nothing was found; ``why`` says what was looked for then.

    ``others``: what would fit as well, for the reader to judge.
    """

    variable: str
    value: str
    why: str
    others: tuple[str, ...] = ()


def find_table(name: str, tables: Iterable[Table]) -> Table | None:
    """The table that a setting names, with or without its schema."""
    schema, _, bare = name.lower().rpartition(".")
    return next(
        (t for t in tables if t.name.lower() == bare and t.schema.lower() == (schema or "public")),
        None,
    )


def propose_table(variable: str, question: TableQuestion, tables: Sequence[Table]) -> Proposal:
    """By its name first; a table with a likely name that lacks the columns is none."""
    fitting = [table for table in tables if _lower(question.columns) <= _lower(table.columns)]
    named = [table for name in question.names for table in fitting if table.name.lower() == name.lower()]
    if named:
        why = f"a table of this name{_with(question.columns)}"
        return Proposal(variable, named[0].written, why, _written(named[1:]))
    if question.columns and fitting:
        why = f"the name is not a known one; it{_with(question.columns)}"
        return Proposal(variable, fitting[0].written, why, _written(fitting[1:]))
    return Proposal(variable, "", f"no table is called {', '.join(question.names)}{_with(question.columns)}")


def propose_column(variable: str, question: ColumnQuestion, table: Table) -> Proposal:
    """By its name first; otherwise the only one of the right type."""
    fitting = [column for column in table.columns if table.of_type(column, question.type)]
    named = [column for name in question.names for column in fitting if column.lower() == name.lower()]
    if named:
        others = tuple(column for column in named if column != named[0])
        return Proposal(variable, named[0], f"a column of {table.written}", others)
    if question.type == "time" and len(fitting) == 1:
        return Proposal(variable, fitting[0], f"the only time in {table.written}")
    looked = f"{table.written} has no column {', '.join(question.names)}"
    return Proposal(variable, "", looked, tuple(fitting[:5]) if question.type != "any" else ())


def propose_values(variable: str, question: ValuesQuestion, table: Table, found: Sequence[str]) -> Proposal:
    """All values that are among the likely ones; the rest is shown, since one of them may belong there too."""
    likely = [value for value in found if value.lower() in _lower(question.names)]
    rest = tuple(value for value in found if value not in likely)
    where = f"{table.written}.{question.column}"
    if likely:
        return Proposal(variable, ",".join(likely), f"values in {where}", rest)
    seen = "has no row to tell" if not found else "holds none of the likely values"
    return Proposal(variable, "", f"{where} {seen} ({', '.join(question.names)})", rest)


def missing_index(question: IndexQuestion, table: Table, named: Mapping[str, str]) -> str:
    """The statement that makes the index; empty when there is one. ``named``: the values of variables by name."""
    columns = [named.get(column, column) for column in question.columns]
    known = [column for column in columns if column in table.columns]
    if not known or any(_serves(index, known) for index in table.indexes):
        return ""
    if len(known) == 1 and any(known[0] in predicate for predicate in table.predicates):
        return ""
    return f"CREATE INDEX CONCURRENTLY ON {table.written} ({', '.join(known)});"


def _serves(index: Sequence[str], columns: Sequence[str]) -> bool:
    """All but the last are compared for equality, in which their order does not matter."""
    *equal, last = columns
    return set(index[: len(equal)]) == set(equal) and list(index[len(equal) : len(columns)]) == [last]


def propose_latest(variable: str, question: LatestQuestion, tables: Sequence[Table]) -> Proposal:
    """The newest time in the first table that has one of the names and one of the columns."""
    for name in question.names:
        for table in tables:
            times = [column for column in question.columns if column in table.columns and table.of_type(column, "time")]
            if table.name.lower() == name.lower() and times:
                return Proposal(variable, f"SELECT {times[0]} FROM {table.written}", f"the times in {table.written}")
    return Proposal(variable, "", f"no table is called {', '.join(question.names)} with a time")


def _lower(names: Iterable[str]) -> set[str]:
    return {name.lower() for name in names}


def _with(columns: Sequence[str]) -> str:
    return f" with the columns {', '.join(columns)}" if columns else ""


def _written(tables: Iterable[Table]) -> tuple[str, ...]:
    return tuple(table.written for table in tables)[:5]

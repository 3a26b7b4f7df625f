"""One look at a platform: every open question asked once, nothing written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp
import asyncpg

from tocsin.doctor.catalogue import Database, Table, opened
from tocsin.doctor.proposing import (
    Proposal,
    find_table,
    missing_index,
    propose_column,
    propose_latest,
    propose_table,
    propose_values,
)
from tocsin.doctor.questions import (
    AddressQuestion,
    ColumnQuestion,
    LatestQuestion,
    Questions,
    TableQuestion,
    ValuesQuestion,
)
from tocsin.sdk import ProbeFault
from tocsin.sdk.faults import explain

ADDRESS_SECONDS = 5.0


@dataclass(slots=True)
class Findings:
    """``proposals`` in the order of the questions; ``indexes``: (probe, statement); ``troubles``: what kept a part of
    the platform from being looked at, in words."""

    proposals: list[Proposal] = field(default_factory=list)
    indexes: list[tuple[str, str]] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


async def examine(questions: Questions, values: Mapping[str, str]) -> Findings:
    """Proposals for every question whose variable is not set in ``values``."""
    found = Findings()
    dsn = values.get(questions.database, "")
    if not dsn:
        found.troubles.append(f"{questions.database} is not set, so no table could be looked at")
    else:
        try:
            async with opened(dsn) as database:
                await _tables(questions, values, database, found)
        except (ProbeFault, OSError, asyncpg.PostgresError) as error:
            finding = explain(error)
            found.troubles.append(f"the database of {questions.database}: {finding.reason}: {finding.detail}")
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ADDRESS_SECONDS), trust_env=False) as session:
        for variable, question in questions.questions.items():
            if isinstance(question, AddressQuestion) and not values.get(variable):
                found.proposals.append(await _address(session, variable, question, values))
    return found


async def _tables(questions: Questions, values: Mapping[str, str], database: Database, found: Findings) -> None:
    tables = await database.tables()
    named = {**questions.fallbacks, **{name: value for name, value in values.items() if value}}
    # Tables first: what is asked of a column waits for them.
    for variable, question in questions.questions.items():
        if isinstance(question, TableQuestion) and not values.get(variable):
            proposal = propose_table(variable, question, tables)
            found.proposals.append(proposal)
            named[variable] = proposal.value or named.get(variable, "")
        elif isinstance(question, LatestQuestion) and not values.get(variable):
            found.proposals.append(propose_latest(variable, question, tables))
    for variable, question in questions.questions.items():
        if not isinstance(question, ColumnQuestion | ValuesQuestion) or values.get(variable):
            continue
        table = find_table(named.get(question.table, ""), tables)
        proposal = (
            Proposal(variable, "", f"the table of {question.table} is not known")
            if table is None
            else await _of_table(variable, question, table, database)
        )
        found.proposals.append(proposal)
        named[variable] = proposal.value or named.get(variable, "")
    for index in questions.indexes:
        table = find_table(named.get(index.table, ""), tables)
        statement = missing_index(index, table, named) if table is not None else ""
        if statement:
            found.indexes.append((index.probe, statement))


async def _of_table(
    variable: str, question: ColumnQuestion | ValuesQuestion, table: Table, database: Database
) -> Proposal:
    if isinstance(question, ColumnQuestion):
        return propose_column(variable, question, table)
    if question.column not in table.columns:
        return Proposal(variable, "", f"{table.written} has no column {question.column}")
    try:
        return propose_values(variable, question, table, await database.values(table.written, question.column))
    except asyncpg.InsufficientPrivilegeError:
        return Proposal(variable, "", f"the role may not read {table.written}")


async def _address(
    session: aiohttp.ClientSession, variable: str, question: AddressQuestion, values: Mapping[str, str]
) -> Proposal:
    near = values.get(question.near, "")
    if not near:
        return Proposal(variable, "", f"{question.near} is not set")
    tried = list(_addresses(near, question))
    for url in tried:
        try:
            async with session.get(url, allow_redirects=False) as answer:
                if answer.status == 200:
                    return Proposal(variable, url, "it answers 200")
        except (aiohttp.ClientError, TimeoutError, ValueError):
            continue
    return Proposal(variable, "", f"nothing answers 200 at {', '.join(tried)}")


def _addresses(near: str, question: AddressQuestion) -> Iterable[str]:
    parts = urlsplit(near)
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname
    own = parts.port
    for port in dict.fromkeys((own, *question.ports)):
        authority = f"{host}:{port}" if port else f"{host}"
        for path in question.paths:
            yield f"{parts.scheme}://{authority}{path}"

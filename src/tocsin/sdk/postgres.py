"""PostgreSQL as probes need it: one read-only, bounded session a run, and the one place where its errors get reasons.

Every session is a connection of its own, so that accepting and authenticating are proven each time and none stays
open between runs. It runs one READ ONLY, REPEATABLE READ transaction (one snapshot for all queries of the run) with
``statement_timeout``, ``lock_timeout`` and ``idle_in_transaction_session_timeout`` a little below what is left of the
run, without JIT and parallel workers, under ``application_name`` ``tocsin/PROBE``. A query ends with the run even when
the server could not be told: by its own timeout. The limits are set inside the transaction and no statement is kept
prepared, so that transaction-pooling PgBouncer works too.
"""

from __future__ import annotations

import datetime
import math
import re
import shlex
import zoneinfo
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import asyncpg
from pydantic import BaseModel

from tocsin.model import CommonReason, ReasonEnum, Secret, Severity, Status
from tocsin.sdk.faults import ProbeFault
from tocsin.sdk.postgres_bound import bound
from tocsin.sdk.sql_settings import NAMES_SOMETHING, to_change

if TYPE_CHECKING:
    from tocsin.sdk.context import ProbeContext

Reasons = Mapping[str, ReasonEnum]
"""A kind's own reasons by SQLSTATE (``42P01``) or its class (``42``); the code wins over the class."""

CLOSE_GRACE = 0.25
"""Seconds given to cancel what runs and to say goodbye; after that the socket is closed as it is."""

MAX_SESSION_BYTES = 8 << 20
"""What a server may send in one run; a session that gets more is cut."""

_COMMON: Reasons = {
    "08": CommonReason.CONNECTION_RESET,
    "28": CommonReason.CREDENTIALS_REJECTED,
    "3D000": CommonReason.NOT_FOUND,
    "42501": CommonReason.CREDENTIALS_REJECTED,
    "42": CommonReason.UNEXPECTED_BODY,
    "22": CommonReason.UNEXPECTED_BODY,
    "53300": CommonReason.RATE_LIMITED,
    "53": CommonReason.SERVER_ERROR,
    "55P03": CommonReason.TIMEOUT,
    "55": CommonReason.SERVER_ERROR,
    "57014": CommonReason.TIMEOUT,
    "57P01": CommonReason.CONNECTION_RESET,
    "57P02": CommonReason.CONNECTION_RESET,
    "57P04": CommonReason.CONNECTION_RESET,
    "57P05": CommonReason.CONNECTION_RESET,
    "57P03": CommonReason.SERVER_ERROR,
    "57": CommonReason.SERVER_ERROR,
    "58": CommonReason.SERVER_ERROR,
    "40": CommonReason.SERVER_ERROR,
    "XX": CommonReason.SERVER_ERROR,
}
"""PostgreSQL 17 documentation, appendix A "PostgreSQL Error Codes"."""

TABLE_MISSING = (
    "table_missing",
    "A table that the query names does not exist; the detail says which setting to change.",
    Severity.TICKET,
    Status.UNKNOWN,
)
COLUMN_MISSING = (
    "column_missing",
    "A column that the query names does not exist, or has another type; the detail says which setting to change.",
    Severity.TICKET,
    Status.UNKNOWN,
)
QUERY_ERROR = "query_error", "The database cannot run the query.", Severity.TICKET, Status.UNKNOWN
"""The members that the ``Reason`` of a kind has which is given a query; `reasons_of_query` leads to them."""

_EXPLAINED = {
    "57014": "the statement did not finish within the run",
    "55P03": "a lock was not granted within the run",
    "57P01": "the server ended the session (administrator command or shutdown)",
    "57P02": "the server ended the session (crash of another one)",
}

_NOT_POSTGRES = re.compile(r"pool_\w+|statement_cache_\w+|description_cache_\w+|default_query_exec_mode|prepared_\w+")
"""Parameters that Go's and Python's clients read from a URL and no server knows; the platforms' own URLs have them."""

_BAD_DSN = (
    "the dsn is not a PostgreSQL URL; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE and percent-encode "
    "special characters in the password"
)


def reasons_of_query(reason: type[ReasonEnum]) -> Reasons:
    """What a kind makes of a query that the server does not run; ``reason`` has the three members above.

    ``permission_denied`` is of the kind too, where it has that; else these are its rejected credentials.
    """
    return {
        "42P01": reason("table_missing"),
        "3F000": reason("table_missing"),
        "42703": reason("column_missing"),
        "42704": reason("column_missing"),
        "42883": reason("column_missing"),
        "42501": next((own for own in reason if own == "permission_denied"), CommonReason.CREDENTIALS_REJECTED),
        "42": reason("query_error"),
        "22": reason("query_error"),
    }


@asynccontextmanager
async def read_only(
    ctx: ProbeContext, dsn: Secret, reasons: Reasons | None = None, settings: BaseModel | None = None
) -> AsyncIterator[Any]:
    """An `asyncpg.Connection` inside the transaction described above.

    Raises `ProbeFault` for everything that the server, the network or the dsn does wrong, also inside the block, with
    the kind's own ``reasons`` first. What does not exist is told with those of the ``settings`` that name it.
    """
    url = _url_of(dsn)
    target = _targets(url)[0]
    async with ctx.permits.request(target):
        connection = await _open(url, target, f"tocsin/{ctx.probe}", _budget(ctx), reasons or {})
        bound(connection, MAX_SESSION_BYTES)
        try:
            await connection.execute(_begin(_budget(ctx)))
            yield connection
            # A session that just ends counts as a rollback in the server's own statistics, which people alert on.
            await connection.execute("COMMIT")
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            raise _fault(error, reasons or {}, settings) from error
        finally:
            await _close(connection)


@asynccontextmanager
async def evidence(ctx: ProbeContext, connection: Any, name: str) -> AsyncIterator[None]:
    """For queries inside `read_only`'s block whose answers are only shown beside a verdict that was found already.

    They get half of the time that is left. What the server does not answer becomes the attachment ``NAME.txt``, which
    says why, and the run goes on in the same transaction.
    """
    milliseconds = max(1, round(_budget(ctx) * 500))
    await connection.execute(f"SAVEPOINT evidence; SET LOCAL statement_timeout = {milliseconds}")
    try:
        yield
    except asyncpg.PostgresError as error:
        ctx.attach(f"{name}.txt", f"not gathered: {_fault(error, {}).finding.detail}\n")
    await connection.execute("ROLLBACK TO SAVEPOINT evidence")


async def connect(dsn: Secret, *, application: str, timeout: float, reasons: Reasons | None = None) -> Any:
    """A bare `asyncpg.Connection`, for those who manage transactions themselves, and read any number of bytes.

    Raises `ProbeFault`.
    """
    url = _url_of(dsn)
    connection = await _open(url, _targets(url)[0], application, timeout, reasons or {})
    bound(connection, None)
    return connection


def fault_of(error: Exception, reasons: Reasons | None = None) -> ProbeFault:
    """The fault for what such a connection raised, with the kind's own ``reasons`` first."""
    return _fault(error, reasons or {})


def targets_of(dsn: Secret) -> tuple[str, ...]:
    """What a dsn leads to, as ``postgresql://host:port`` or ``unix:///path``; empty while it cannot be read."""
    try:
        return _targets(_url_of(dsn))
    except ProbeFault:
        return ()


def unix_time(value: object, zone: str = "UTC") -> float | None:
    """Unix seconds of a value of a time column; None for NULL.

    ``timestamp with time zone`` says its zone; ``timestamp`` and ``date`` (its first instant) are read in ``zone``;
    numbers are Unix time in seconds, or in milliseconds when they would lie beyond the year 5138; a text is any of
    these (ISO 8601 for times). Raises `ProbeFault` with ``unexpected_body`` for anything else.
    """
    if isinstance(value, str):
        with suppress(ValueError):
            value = datetime.datetime.fromisoformat(value)
    match value:
        case None:
            return None
        case datetime.datetime():
            aware = value if value.tzinfo else value.replace(tzinfo=zoneinfo.ZoneInfo(zone))
            return aware.timestamp()
        case datetime.date():
            midnight = datetime.datetime.combine(value, datetime.time(), zoneinfo.ZoneInfo(zone))
            return midnight.timestamp()
    try:
        number = float(str(value))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ProbeFault(CommonReason.UNEXPECTED_BODY, f"{type(value).__name__} is not a time")
    return number / 1000 if abs(number) > 1e11 else number


async def _open(url: str, target: str, application: str, budget: float, reasons: Reasons) -> Any:
    try:
        return await asyncpg.connect(
            url,
            timeout=budget,
            statement_cache_size=0,
            server_settings={"application_name": application[:63]},
        )
    except asyncpg.ClientConfigurationError as error:
        raise ProbeFault(CommonReason.CREDENTIALS_MISSING, f"the dsn cannot be used: {error}") from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise _fault(error, reasons) from error
    except TimeoutError as error:
        raise ProbeFault(CommonReason.TIMEOUT, f"no session at {target} within {budget:.1f} s") from error
    except (FileNotFoundError, PermissionError) as error:
        if target.startswith("unix:"):
            raise ProbeFault(CommonReason.CONNECTION_REFUSED, f"{target}: {error.strerror}") from error
        raise ProbeFault(CommonReason.CREDENTIALS_MISSING, f"a file that the dsn names: {error.strerror}") from error
    except ConnectionError as error:
        if error.errno is not None:
            raise
        # asyncpg's own, when the server declines what sslmode demands.
        raise ProbeFault(CommonReason.TLS_ERROR, str(error)) from error
    except OSError as error:
        first = re.search(r"\[Errno (\d+)\]", str(error))
        if error.errno is not None or first is None:
            raise
        # asyncio's "Multiple exceptions: …" of a name with several addresses carries its numbers only as text.
        raise OSError(int(first[1]), str(error)) from error
    except ValueError as error:
        raise ProbeFault(CommonReason.CREDENTIALS_MISSING, _BAD_DSN) from error


async def _close(connection: Any) -> None:
    """Cancels what still runs and ends the session; cuts the socket when the server does not answer."""
    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
        try:
            await connection.close(timeout=CLOSE_GRACE)
        finally:
            connection.terminate()


def _budget(ctx: ProbeContext) -> float:
    """Seconds that the server gets: less than the run has, so that its own timeout is heard before the deadline."""
    left = ctx.remaining()
    return max(0.05, left - min(CLOSE_GRACE, left / 10))


def _begin(budget: float) -> str:
    milliseconds = round(budget * 1000)
    return f"""
        BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
        SET LOCAL statement_timeout = {milliseconds};
        SET LOCAL lock_timeout = {max(1, milliseconds // 2)};
        SET LOCAL idle_in_transaction_session_timeout = {milliseconds};
        SET LOCAL max_parallel_workers_per_gather = 0;
        SET LOCAL jit = off;
    """


def _fault(error: Exception, reasons: Reasons, settings: BaseModel | None = None) -> ProbeFault:
    if not isinstance(error, asyncpg.PostgresError):
        return ProbeFault(CommonReason.CONNECTION_RESET, f"the session broke: {error}")
    code = error.sqlstate or "XX000"
    message = getattr(error, "message", None) or str(error)
    for known in (reasons, _COMMON):
        reason = known.get(code) or known.get(code[:2])
        if reason is not None:
            guilty = to_change(message, settings) if settings is not None and code in NAMES_SOMETHING else ()
            change = f"; set {' or '.join(guilty)}" if guilty else ""
            return ProbeFault(reason, f"{_EXPLAINED.get(code, message)} (SQLSTATE {code}){change}")
    return ProbeFault(CommonReason.PROBE_ERROR, f"{message} (SQLSTATE {code})")


def _url_of(dsn: Secret) -> str:
    """The dsn as asyncpg takes it. No part of it is ever in an error."""
    try:
        text = dsn.reveal().strip()
    except OSError as error:
        raise ProbeFault(CommonReason.CREDENTIALS_MISSING, f"cannot read the dsn: {error.strerror}") from error
    try:
        if not text:
            raise ValueError("empty")
        if "://" not in text:
            pairs = dict(word.split("=", 1) for word in shlex.split(text))
            return "postgresql://?" + urlencode(pairs)
        scheme, netloc, path, query, _ = urlsplit(text)
        if scheme.partition("+")[0] not in ("postgresql", "postgres"):
            raise ValueError("not PostgreSQL's scheme")
        user, _, hosts = netloc.rpartition("@")
        netloc = f"{user.replace('@', '%40')}@{hosts}" if user else hosts
        kept = [(name, value) for name, value in parse_qsl(query) if not _NOT_POSTGRES.fullmatch(name)]
        url = urlunsplit(("postgresql", netloc, path, urlencode(kept), ""))
        _targets(url)
    except ValueError:
        raise ProbeFault(CommonReason.CREDENTIALS_MISSING, _BAD_DSN) from None
    return url


def _targets(url: str) -> tuple[str, ...]:
    """``scheme://host:port`` of each host of a URL. Raises `ValueError`. PostgreSQL 17 documentation, 34.1.1.2."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    hosts = parts.netloc.rpartition("@")[2] or query.get("host", "") or "localhost"
    ports = query.get("port", "5432").split(",")
    found = []
    for index, host in enumerate(hosts.split(",")):
        match = re.fullmatch(r"(\[[^\]]+\]|[^:]*)(?::(\d+))?", unquote(host))
        if match is None:
            raise ValueError("not a host and port")
        port = match[2] or ports[min(index, len(ports) - 1)]
        name = match[1] or "localhost"
        found.append(f"unix://{name}/.s.PGSQL.{port}" if name.startswith("/") else f"postgresql://{name}:{port}")
    return tuple(found)

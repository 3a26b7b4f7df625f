"""The reasons of ``hash_chain``: every kind of break, and why a chain could not be judged."""

from __future__ import annotations

from tocsin.model import ReasonEnum, Severity, Status

_CANNOT_TELL = (Severity.TICKET, Status.UNKNOWN)


class ChainReason(ReasonEnum):
    """Breaks page; what keeps the walk from telling is a ticket."""

    MODIFIED = "modified", "Rows of the chain were changed after they were written."
    GAP = "gap", "Rows are missing between others."
    REORDERED = "reordered", "Rows stand in another order than they were chained in."
    DUPLICATED = "duplicated", "Rows of the chain are there twice."
    HEAD_TRUNCATED = "head_truncated", "The oldest rows are missing, beyond the declared retention."
    TAIL_TRUNCATED = "tail_truncated", "The newest verified rows are missing."
    ROLLED_BACK = "rolled_back", "The chain, or what is remembered of it, is in an older state than was verified."
    FORKED = "forked", "The chain has two histories: rows beside it, or others than those that were verified."
    KEY_UNKNOWN = "key_unknown", "Rows carry a key id that is not configured, or not valid at their time."
    MARK_MISSING = (
        "mark_missing",
        "The high-water mark is missing, damaged or contradicted; nothing proves what was verified before.",
        Severity.PAGE,
        Status.UNKNOWN,
    )
    TABLE_MISSING = "table_missing", "The table of the chain is not there."
    COLUMN_MISSING = (
        "column_missing",
        "The table has other columns or types than are configured.",
        *_CANNOT_TELL,
    )
    INDEX_MISSING = (
        "index_missing",
        "No index gives the rows in the order of the chain, and the table is too large to sort.",
        *_CANNOT_TELL,
    )
    QUERY_ERROR = "query_error", "The database cannot compute the configured canonical form.", *_CANNOT_TELL
    WALK_LATE = (
        "walk_late",
        "No full walk has ended for more than twice the configured interval.",
        *_CANNOT_TELL,
    )
    EVIDENCE_FAILED = "evidence_failed", "A break was found and its evidence could not be kept.", *_CANNOT_TELL

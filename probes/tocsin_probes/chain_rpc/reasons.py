"""What can be wrong with a chain, as its user sees it through its providers."""

from __future__ import annotations

from tocsin.sdk import ReasonEnum, Severity, Status


class Reason(ReasonEnum):
    WRONG_CHAIN = "wrong_chain", "The provider serves another chain than the configured one."
    HEAD_STALE = "head_stale", "The newest block is older than the limit: the chain or the provider stands still."
    SYNCING = "syncing", "The provider is still catching up with its chain."
    PROVIDERS_DISAGREE = "providers_disagree", "Providers have different blocks at the same height: a fork."
    PROVIDER_BEHIND = "provider_behind", "A provider lags behind the others by too many blocks.", Severity.TICKET
    PROVIDER_ERROR = "provider_error", "The provider answered a call with an error."
    BALANCE_LOW = "balance_low", "The sender's balance is below the limit."
    BALANCE_ENDING = "balance_ending", "At its recent spend the sender's balance ends soon.", Severity.TICKET
    SENDER_NOT_AUTHORIZED = "sender_not_authorized", "The contract says that the sender may not act."
    NONCE_STUCK = "nonce_stuck", "Transactions of the sender wait, and none was mined for a while."
    ANCHOR_NOT_FOUND = "anchor_not_found", "The chain does not have the transaction of a recorded anchor."
    ANCHOR_REVERTED = "anchor_reverted", "The transaction of a recorded anchor was mined and failed."
    ANCHOR_DIFFERS = "anchor_differs", "The transaction of a recorded anchor does not carry its payload."
    ANCHOR_UNCONFIRMED = (
        "anchor_unconfirmed",
        "The transaction of a recorded anchor has too few confirmations.",
        Severity.TICKET,
    )
    QUERY_ERROR = "query_error", "The database cannot run the anchor query.", Severity.TICKET, Status.UNKNOWN

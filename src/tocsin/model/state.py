"""What is remembered of a probe across its runs, as plain facts. The rules that change it: `tocsin.running`."""

from __future__ import annotations

from dataclasses import dataclass, field

from tocsin.model.outcome import Finding
from tocsin.model.run import Run
from tocsin.model.spec import ProbeSpec
from tocsin.model.status import Severity, Status


@dataclass(frozen=True, slots=True)
class ProbeState:
    """The confirmed view of one probe. All times in Unix seconds.

    ``status``: the confirmed status; ``unknown`` before the first result (``since`` is None then).
    ``findings``: those of the latest run that agrees with the confirmed status, worst first.
    ``failed_streak``, ``ok_streak``, ``unknown_streak``: consecutive runs towards the next confirmation.
    ``first_failure_at``, ``confirmed_at``: when the first failed run of the current failed streak ended, and the one
    that confirmed it; None without one. What a dependency says counts only from a run that started then or later.
    ``page_streak``, ``first_page_at``, ``page_confirmed_at``: the same three for failed runs of page severity alone,
    so that a ticket that has been open for weeks does not turn into a page by one lost packet.
    ``alerting``: latched from confirmed failed until confirmed ok; ``severity`` is the worst since then.
    ``caused_by``: the failing dependency that explains this failure; while it is set, alerting neither starts nor
    rises to a page.
    ``waiting_since``: when its cause recovered while this probe was still bad, so that it gets fresh runs before it
    alerts; None otherwise.
    ``last_run_at``, ``last_ok_at``: when the latest run, the latest ok run, started.
    """

    status: Status = Status.UNKNOWN
    since: float | None = None
    findings: tuple[Finding, ...] = ()
    detail: str = ""
    failed_streak: int = 0
    ok_streak: int = 0
    unknown_streak: int = 0
    first_failure_at: float | None = None
    confirmed_at: float | None = None
    page_streak: int = 0
    first_page_at: float | None = None
    page_confirmed_at: float | None = None
    alerting: bool = False
    alerting_since: float | None = None
    severity: Severity | None = None
    caused_by: str | None = None
    waiting_since: float | None = None
    last_run_at: float | None = None
    last_ok_at: float | None = None
    last_status: Status | None = None
    """The status of the latest run, confirmed or not."""

    @property
    def reason(self) -> str | None:
        """The reason of the worst finding; None when ok or never run."""
        return self.findings[0].reason if self.findings else None


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of the confirmed status, of alerting, or of the reason: what history shows and annotations mark."""

    probe: str
    at: float
    status_before: Status
    status: Status
    reason: str | None
    alerting: bool
    detail: str = ""
    caused_by: str | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """How often a probe ran, by the outcome of the run, and was skipped, by cause, since the daemon started."""

    runs: dict[Status, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """All that is known about one probe now: what the metrics, the status page and the API are made from."""

    spec: ProbeSpec
    state: ProbeState = ProbeState()
    run: Run | None = None
    """The latest run; None before the first one of this process. Its measurements are what is exported."""
    counts: Counts = Counts()

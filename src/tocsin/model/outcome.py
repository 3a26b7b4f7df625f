"""What one run returned. What is remembered across runs lives elsewhere (`tocsin.running.confirmation`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self

from tocsin.model.reason import ReasonEnum, ReasonInfo
from tocsin.model.status import Severity, Status


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or could not be told.

    ``reason``: a bounded code, declared by the kind. ``component``: which part of the target (a queue, an
    operation, a pod); bounded by the configuration or by the target's own small vocabulary.
    ``detail``: free text for people; never a label.
    """

    reason: str
    status: Status
    severity: Severity
    component: str = ""
    detail: str = ""

    @classmethod
    def of(cls, reason: ReasonEnum | ReasonInfo, detail: str = "", component: str = "") -> Self:
        """A finding with the severity and status that its reason declares."""
        info = reason.info if isinstance(reason, ReasonEnum) else reason
        return cls(info.code, info.status, info.severity, component, detail)

    @property
    def rank(self) -> tuple[int, int]:
        """Sort key: a failed page is worst, an unknown ticket least."""
        return (self.status.rank, self.severity.rank)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict of one run: findings, worst first. No findings means ``ok``.

    ``detail`` says why in one line, also when ok ("anchoring is off by policy").
    """

    findings: tuple[Finding, ...] = ()
    detail: str = ""

    @classmethod
    def ok(cls, detail: str = "") -> Self:
        return cls((), detail)

    @classmethod
    def of(cls, findings: Iterable[Finding], detail: str = "") -> Self:
        """Ranks the findings (stable: the first of equals stays first); ok when there are none."""
        ranked = tuple(sorted(findings, key=lambda finding: finding.rank, reverse=True))
        return cls(ranked, ranked[0].detail if ranked else detail)

    @classmethod
    def bad(cls, reason: ReasonEnum | ReasonInfo, detail: str = "", component: str = "") -> Self:
        """A single finding: failed or unknown, as the reason declares."""
        return cls.of([Finding.of(reason, detail, component)])

    @property
    def status(self) -> Status:
        return self.findings[0].status if self.findings else Status.OK

    @property
    def reason(self) -> str | None:
        """The reason of the worst finding; None when ok."""
        return self.findings[0].reason if self.findings else None

    @property
    def severity(self) -> Severity | None:
        """The severity of the worst finding; None when ok."""
        return self.findings[0].severity if self.findings else None

    def graded(self, ceiling: Severity, overrides: Mapping[str, Severity]) -> Outcome:
        """This outcome with the probe's own severities: overrides by reason win, the ceiling caps the rest."""
        if not self.findings:
            return self

        def grade(finding: Finding) -> Finding:
            natural = Severity.TICKET if ceiling is Severity.TICKET else finding.severity
            return replace(finding, severity=overrides.get(finding.reason, natural))

        return Outcome.of(map(grade, self.findings), self.detail)

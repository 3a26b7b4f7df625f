"""Findings as an env file that a person reviews before it is used. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from tocsin.doctor.examining import Findings


def env_file(findings: Findings, open_contracts: Iterable[str]) -> str:
    """``open_contracts``: variables that stay unset and about which the doctor knows nothing to ask."""
    proposed = [proposal for proposal in findings.proposals if proposal.value]
    unanswered = [proposal for proposal in findings.proposals if not proposal.value]
    lines = ["# Proposed by tocsin doctor from one read-only look. Review each line before you use it."]
    for trouble in findings.troubles:
        lines.append(f"# Could not look: {trouble}")
    for proposal in proposed:
        also = f"; also there: {', '.join(proposal.others)}" if proposal.others else ""
        lines += ["", f"# {proposal.why}{also}", f"{proposal.variable}={_quoted(proposal.value)}"]
    if unanswered:
        lines += ["", "# Not found:"]
        for proposal in unanswered:
            also = f" (there: {', '.join(proposal.others)})" if proposal.others else ""
            lines.append(f"# {proposal.variable}=   {proposal.why}{also}")
    if findings.indexes:
        lines += ["", "# Indexes that these probes' queries need, for the owner of the tables:"]
        lines += [f"#   {statement}   -- {probe}" for probe, statement in findings.indexes]
    rest = sorted(set(open_contracts))
    if rest:
        lines += ["", "# Only people can say these (`tocsin plan` lists what each is for):"]
        lines += [f"# {variable}=" for variable in rest]
    return "\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    plain = all(character.isalnum() or character in "_.,:/-" for character in value)
    return value if plain else "'" + value.replace("'", "'\\''") + "'"

"""`setting`: what the platform was configured with, as the environment that tocsin was given says it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tocsin.sdk import Finding, Outcome, Probe, ProbeContext, ProbeSettings, ReasonEnum, Secret, Severity, Words


class Rule(BaseModel):
    """What one setting must be. Words are compared without regard to case; no value is ever shown."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, arbitrary_types_allowed=True)

    value: Secret | None = None
    """The setting as it is: ``${DATABASE_SEED_DEV:-}``. Empty counts as unset."""
    required: bool = False
    """Whether it must be set."""
    allowed: Words = ()
    """When given, the only values that are right."""
    forbidden: Words = ()
    """Values that are wrong: well-known test keys, defaults of a quick start."""
    at_least: float | None = None
    at_most: float | None = None
    """For a number."""

    @model_validator(mode="after")
    def _demands_something(self) -> Self:
        if not (
            self.required or self.allowed or self.forbidden or self.at_least is not None or self.at_most is not None
        ):
            raise ValueError("set at least one of: required, allowed, forbidden, at_least, at_most")
        return self


class Setting(Probe):
    """Settings that must, or must not, have a value in production have it.

    It sees the environment that tocsin was given (``env_file``), not that of the running processes: it proves what the
    platform gets at its next start.
    """

    kind = "setting"

    class Settings(ProbeSettings):
        settings: Annotated[Mapping[str, Rule], Field(min_length=1)]
        """By the name that people know it by, what the setting must be."""

    class Reason(ReasonEnum):
        SETTING_FORBIDDEN = "setting_forbidden", "A setting has a value that it must not have here."
        SETTING_MISSING = "setting_missing", "A setting that must be set is not.", Severity.TICKET
        SETTING_OUT_OF_RANGE = (
            "setting_out_of_range",
            "A setting is no number, or not one that makes sense here.",
            Severity.TICKET,
        )

    settings: Settings

    async def run(self, ctx: ProbeContext) -> Outcome:
        rules = self.settings.settings
        found = [finding for name, rule in rules.items() for finding in self._judge(name, rule)]
        return Outcome.of(found, f"{', '.join(rules)}: as they must be")

    def _judge(self, name: str, rule: Rule) -> Iterator[Finding]:
        value = rule.value.reveal().strip().lower() if rule.value is not None else ""
        if not value:
            if rule.required:
                yield Finding.of(self.Reason.SETTING_MISSING, f"{name} is not set", name)
            return
        if rule.allowed and value not in map(str.lower, rule.allowed):
            detail = f"{name} is not one of {', '.join(rule.allowed)}"
            yield Finding.of(self.Reason.SETTING_FORBIDDEN, detail, name)
        if value in map(str.lower, rule.forbidden):
            yield Finding.of(self.Reason.SETTING_FORBIDDEN, f"{name} has a value that everybody knows", name)
        if detail := _out_of_range(value, rule):
            yield Finding.of(self.Reason.SETTING_OUT_OF_RANGE, f"{name} is {detail}", name)


def _out_of_range(value: str, rule: Rule) -> str:
    if rule.at_least is None and rule.at_most is None:
        return ""
    try:
        number = float(value)
    except ValueError:
        return "not a number"
    if rule.at_least is not None and not number >= rule.at_least:
        return f"less than {rule.at_least:g}"
    if rule.at_most is not None and number > rule.at_most:
        return f"more than {rule.at_most:g}"
    return ""

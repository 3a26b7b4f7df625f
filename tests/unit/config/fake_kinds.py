"""Small probe kinds for tests of the configuration."""

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tocsin.sdk import Outcome, Probe, ProbeContext, ProbeSettings, ReasonEnum, ReasonInfo, Seconds, Secret


class Limits(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    slowest: Seconds = 1.0
    smallest: int = 0


class Web(Probe):
    """A web page."""

    kind = "web"

    class Settings(ProbeSettings):
        url: str
        statuses: tuple[int, ...] = (200,)
        follow: bool = False
        password: Secret | None = None
        headers: dict[str, Secret] = Field(default_factory=dict)
        limits: Limits = Limits()
        checked: str = ""

        @field_validator("checked")
        @classmethod
        def _is_short(cls, value: str) -> str:
            if len(value) > 3:
                raise ValueError(f"<{value}> is too long")
            return value

        def targets(self) -> tuple[str, ...]:
            return (self.url,)

    class Reason(ReasonEnum):
        TOO_SLOW = "too_slow", "The page took too long."

    async def run(self, ctx: ProbeContext) -> Outcome:
        return Outcome.ok()


class Log(Probe):
    """A log with patterns for reasons; writes, and costs."""

    kind = "log"
    writes = True
    costly = True

    class Settings(ProbeSettings):
        path: str
        table: dict[str, str] | str = ""
        patterns: dict[str, str] = Field(default_factory=dict)

    class Reason(ReasonEnum):
        SILENT = "silent", "Nothing was written."

    @classmethod
    def reasons(cls, settings: ProbeSettings | None = None) -> tuple[ReasonInfo, ...]:
        own = settings.patterns if isinstance(settings, Log.Settings) else {}
        return (*super().reasons(settings), *(ReasonInfo(code, text) for code, text in own.items()))

    async def run(self, ctx: ProbeContext) -> Outcome:
        return Outcome.ok()

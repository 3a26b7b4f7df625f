"""Kind ``http``: one request, and what its answer must be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

import jmespath
from jmespath.exceptions import JMESPathError, JMESPathTypeError
from jmespath.parser import ParsedResult
from jmespath.visitor import TreeInterpreter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from tocsin.model import CommonReason, Finding, Outcome, ReasonEnum, ReasonInfo, Secret, Status
from tocsin.sdk import ByteCount, HttpResponse, Probe, ProbeContext, ProbeSettings, TlsSettings
from tocsin.sdk.faults import explain, quoted, status_finding
from tocsin.sdk.http import CERTIFICATE_EXPIRY, HttpUrl, certificate_finding, origin, shown_url
from tocsin.sdk.patterns import Patterns, ReasonCode

_NO_CREDENTIALS = frozenset(
    {"accept", "accept-language", "cache-control", "content-type", "host", "origin", "referer", "user-agent"}
)
"""Headers that carry no credential; with any other one, a 401 may be the probe's own fault."""

END_GRACE = 0.25
"""Seconds before the end of a run at which waiting for an answer ends, where that is no failure."""


@lru_cache(maxsize=4096)
def _compiled(expression: str) -> ParsedResult:
    return jmespath.compile(expression)


def _must_compile(expression: str) -> str:
    try:
        _compiled(expression).search(None)
    except JMESPathTypeError:
        pass  # right for a document of another shape
    except JMESPathError as error:
        raise ValueError(f"{expression!r} is not a JMESPath expression: {str(error).splitlines()[0]}") from None
    return expression


class Expect(BaseModel):
    """What the answer must be."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    status: Annotated[tuple[int, ...], Field(min_length=1)] = (200,)
    """The statuses that are right."""
    content_type: str | None = None
    """The media type, without parameters: ``application/json``."""
    assertions: tuple[Annotated[str, AfterValidator(_must_compile)], ...] = Field((), alias="json")
    """JMESPath expressions over the JSON body. Each must give something that is true: not false, null or empty."""
    header: Mapping[str, str] = {}
    """By header name, the text that its value must contain; an empty text asks only that the header is there."""
    not_html: bool = False
    """HTML is wrong, whatever else is not known of the body: a web server's own page came, not the target's answer."""
    status_reasons: Mapping[int, ReasonCode] = {}
    """What a wrong status means for this target, as a reason of its own: ``{503: orchestrator_down}``. With
    ``not_html`` a proxy's own page of that status does not count."""

    absent: Patterns = {}
    """By reason, texts that the body must not hold, whatever its status: ``{leaks_internals: [tenant_id, SQLSTATE]}``.
    Capitals count."""

    @model_validator(mode="after")
    def _not_both_right_and_wrong(self) -> Self:
        if both := self.status_reasons.keys() & set(self.status):
            raise ValueError(f"{min(both)} is an expected status and has a reason in status_reasons")
        return self

    @property
    def wants_json(self) -> bool:
        return bool(self.assertions) or (self.content_type or "").lower().endswith(("/json", "+json"))


class Http(Probe):
    """One HTTP request: status, media type, headers, JSON assertions and the certificate's end of validity."""

    kind = "http"
    gauges = (CERTIFICATE_EXPIRY,)

    class Settings(ProbeSettings):
        url: HttpUrl
        method: Annotated[str, Field(pattern=r"^[A-Z]+$")] = "GET"
        headers: Mapping[str, Secret] = {}
        """Request headers. The values are secrets: they are never shown. ``{request_id}`` is the run's own id, for an
        ``Idempotency-Key``."""
        body: Secret | None = None
        expect: Expect = Expect()
        unanswered: Literal["failed", "unknown"] = "failed"
        """What it means when no answer comes, or another than JSON with an expected status. ``unknown``: only what the
        answer says is judged here, because another probe watches that it comes."""
        follow_redirects: bool = False
        """Follow up to five redirects; another origin gets none of ``headers``."""
        max_bytes: ByteCount = 1 << 20
        """An answer that is larger is refused; no more than this is held in memory."""
        tls: TlsSettings = TlsSettings()
        certificate_days: Annotated[float, Field(ge=0)] = 14
        """A certificate with fewer days left is ``certificate_expiring``."""

        def targets(self) -> tuple[str, ...]:
            return (origin(self.url),)

    class Reason(ReasonEnum):
        HTML_INSTEAD_OF_JSON = (
            "html_instead_of_json",
            "A page of HTML came where JSON was expected: a proxy or a single-page application answered instead.",
        )
        ASSERTION_FAILED = "assertion_failed", "The answer is well-formed, and does not say what it must."
        BODY_TOO_LARGE = "body_too_large", "The answer is larger than `max_bytes`."
        REDIRECTED = "redirected", "The answer is a redirect, and none (or no further one) is to be followed."

    settings: Settings

    @classmethod
    def reasons(cls, settings: ProbeSettings | None = None) -> tuple[ReasonInfo, ...]:
        """Those of the kind, and what `status_reasons` and `absent` name."""
        expect = settings.expect if isinstance(settings, cls.Settings) else Expect()
        given = expect.status_reasons
        own = super().reasons(settings)
        known = {info.code for info in own} | {member.value for member in CommonReason}
        named = {code: ReasonInfo(code, f"The target answered HTTP {status}.") for status, code in given.items()}
        named |= {code: ReasonInfo(code, "The target's answer holds what it must not.") for code in expect.absent}
        return (*own, *(info for code, info in named.items() if code not in known))

    async def run(self, ctx: ProbeContext) -> Outcome:
        if self.settings.unanswered == "failed":
            return await self._look(ctx)
        left = ctx.remaining()
        try:
            # Sooner than the run's own end, which would make it a failure of the target.
            async with asyncio.timeout(left - min(END_GRACE, left / 10)):
                outcome = await self._look(ctx)
        except Exception as error:  # noqa: BLE001 - as the engine does: what nothing explains is probe_error
            outcome = Outcome.of([explain(error, self.unauthorized)])
        return Outcome.of(map(self._untold, outcome.findings), outcome.detail)

    def _untold(self, finding: Finding) -> Finding:
        own = {self.Reason.ASSERTION_FAILED, CommonReason.CERTIFICATE_EXPIRING, *self.settings.expect.absent}
        if finding.status is Status.UNKNOWN or finding.reason in own:
            return finding
        return Finding.of(CommonReason.DEPENDENCY_UNKNOWN, f"{finding.reason}: {finding.detail}", finding.component)

    async def _look(self, ctx: ProbeContext) -> Outcome:
        settings = self.settings
        given = settings.headers
        answer = await ctx.http.fetch(
            settings.method,
            settings.url,
            headers={name: value.reveal().replace("{request_id}", ctx.request_id) for name, value in given.items()},
            body=settings.body.reveal() if settings.body else None,
            max_bytes=settings.max_bytes,
            follow_redirects=settings.follow_redirects,
            tls=settings.tls,
        )
        if answer.certificate_expires_at is not None:
            ctx.measure(CERTIFICATE_EXPIRY, answer.certificate_expires_at)
        found = (
            self._judge(answer),
            *self._present(answer),
            certificate_finding(answer.certificate_expires_at, ctx.now(), settings.certificate_days),
        )
        return Outcome.of(filter(None, found), f"HTTP {answer.status}, {len(answer.body)} bytes")

    def _judge(self, answer: HttpResponse) -> Finding | None:
        """The first thing that is wrong with the answer, the most telling first."""
        reason, expect = self.Reason, self.settings.expect
        if answer.status not in expect.status:
            return self._wrong_status(answer)
        if (expect.wants_json or expect.not_html) and _is_html(answer):
            page = f"{answer.content_type or 'no media type'}; it begins {quoted(answer.body)}; is this the API's port?"
            return Finding.of(reason.HTML_INSTEAD_OF_JSON, page)
        if expect.content_type and answer.content_type != expect.content_type.lower():
            shown = quoted(answer.headers.get("Content-Type", ""))
            return Finding.of(CommonReason.UNEXPECTED_BODY, f"Content-Type is {shown}, not {expect.content_type}")
        if answer.truncated:
            return Finding.of(reason.BODY_TOO_LARGE, f"more than {self.settings.max_bytes} bytes")
        wrong = list(_wrong_headers(expect, answer))
        if expect.wants_json:
            wrong += _failed_assertions(expect.assertions, answer.json())
        if wrong:
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            return Finding.of(reason.ASSERTION_FAILED, wrong[0] + more)
        return None

    def _present(self, answer: HttpResponse) -> Iterator[Finding]:
        """What must be absent and is there. The text itself is what must not be spread, so only its pattern is told."""
        known = {info.code: info for info in self.all_reasons(self.settings)}
        for code, texts in self.settings.expect.absent.items():
            for text in (texts,) if isinstance(texts, str) else texts:
                if text.encode() in answer.body:
                    yield Finding.of(known[code], f"HTTP {answer.status}, and its body holds {text!r}")
                    break

    def _wrong_status(self, answer: HttpResponse) -> Finding:
        said = f"HTTP {answer.status} from {shown_url(answer.url)}"
        if 300 <= answer.status <= 399 and "Location" in answer.headers:
            return Finding.of(self.Reason.REDIRECTED, f"{said}, to {quoted(_place(answer.headers['Location']), 200)}")
        expect = self.settings.expect
        code = expect.status_reasons.get(answer.status)
        if code and not (expect.not_html and _is_html(answer)):
            known = {info.code: info for info in self.all_reasons(self.settings)}
            return Finding.of(known[code], said)
        own = any(name.lower() not in _NO_CREDENTIALS for name in self.settings.headers)
        own = own or self.settings.tls.client_cert_file is not None
        return status_finding(answer.status, said, Status.UNKNOWN if own else Status.FAILED)


def _is_html(answer: HttpResponse) -> bool:
    start = answer.body[:64].lstrip().lower()
    return answer.content_type in ("text/html", "application/xhtml+xml") or start.startswith((b"<!doctype", b"<html"))


def _place(location: str) -> str:
    """A redirect's target without its query, which may hold a token."""
    return location.partition("?")[0].partition("#")[0]


def _wrong_headers(expect: Expect, answer: HttpResponse) -> Iterator[str]:
    for name, text in expect.header.items():
        value = answer.headers.get(name)
        if value is None:
            yield f"the header {name} is absent"
        elif text not in value:
            yield f"the header {name} is {quoted(value)}, without {text!r}"


def _failed_assertions(expressions: tuple[str, ...], document: Any) -> Iterator[str]:
    for expression in expressions:
        try:
            result = _compiled(expression).search(document)
        except JMESPathError as error:
            yield f"{expression}: {quoted(' '.join(str(error).split()), 200)}"
            continue
        if result is None or result is False or result in ("", [], {}):
            yield f"{expression} gave {_shown(result)}{_left_side(expression, document)}"


def _left_side(expression: str, document: Any) -> str:
    """What stood on the left of a comparison: more telling than that it gave false."""
    tree = _compiled(expression).parsed
    if tree["type"] != "comparator":
        return ""
    return f"; its left side is {_shown(TreeInterpreter().visit(tree['children'][0], document))}"


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else text[:120] + "…"
